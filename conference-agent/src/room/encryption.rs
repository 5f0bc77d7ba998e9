//! Streams that are encrypted end to end: nobody but their subscribers can look into them, so they are forwarded as they are, or not at all.

use kaigi_proto::ids::StreamId;

use super::{
    Room,
    feeds::is_had_by_layers,
    refusal::Refusal,
    state::{Origin, Publication},
    wish::Conversion,
};

/// The attribute by which a publisher says it: anything but `null` and `false`.
const ATTRIBUTE: &str = "e2ee";

impl Publication {
    pub(super) fn is_encrypted(&self) -> bool {
        // Most attributes don't even mention it.
        let mentioning = self.attributes.as_deref().filter(|text| text.contains(ATTRIBUTE));
        let attributes = mentioning.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let value = attributes.as_ref().and_then(|attributes| attributes.get(ATTRIBUTE));
        value.is_some_and(|value| !value.is_null() && value != &serde_json::Value::Bool(false))
    }
}

impl Room {
    /// Whether what is of that origin is of a stream that is encrypted.
    pub(super) fn is_encrypted(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Track { stream, .. } => self.is_stream_encrypted(stream),
            Origin::View(_) | Origin::Selected(_) => false,
        }
    }

    pub(super) fn is_stream_encrypted(&self, stream: &StreamId) -> bool {
        self.state.publications.get(stream).is_some_and(Publication::is_encrypted)
    }

    /// # Errors
    /// If something would have to be made of an encrypted stream. Which of its layers is forwarded can be chosen without looking into it.
    pub(super) fn check_encrypted(&self, origin: &Origin, conversion: &Conversion) -> Result<(), Refusal> {
        if conversion.is_none() || !self.is_encrypted(origin) {
            return Ok(());
        }
        let own = match origin {
            Origin::Track { track, .. } => self.publication_of(track).map(|(_, own)| own),
            Origin::View(_) | Origin::Selected(_) => None,
        };
        let had = self.is_layered(origin)
            && !conversion.format
            && own.is_some_and(|own| is_had_by_layers(conversion, own));
        if had { Ok(()) } else { Err(Refusal::StreamIsEncrypted) }
    }
}
