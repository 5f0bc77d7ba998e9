//! What of a forward stream is transcoded.

use kaigi_proto::ids::{IdError, TrackId};
use serde::{Deserialize, Serialize};

use super::{outputs::digest, state::Origin};

/// Bytes of a transcoder's id: with the room's id and an output's it has to fit into a track's.
const MAX_ID: usize = 48;
/// Before the track's id, where a transcoder is of all layers. No access node's ids begin with it.
const LAYERS: char = '~';

/// A track, or whichever layer of its picture suits best.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Transcoded {
    pub(crate) track: TrackId,
    pub(crate) layered: bool,
}

impl Transcoded {
    /// `None` for views, which have outputs of their own, and for what is forwarded only.
    pub(crate) fn of(origin: &Origin) -> Option<Self> {
        match origin {
            Origin::Track { track, layered, .. } => Some(Self { track: track.clone(), layered: *layered }),
            Origin::View(_) | Origin::Selected(_) => None,
        }
    }

    /// Of the transcoder: as short as it has to be.
    pub(crate) fn id(&self) -> String {
        let id = String::from(self.clone());
        if id.len() <= MAX_ID { id } else { format!("track-{:016x}", digest(&id)) }
    }
}

impl From<Transcoded> for String {
    fn from(Transcoded { track, layered }: Transcoded) -> Self {
        if layered { format!("{LAYERS}{track}") } else { track.to_string() }
    }
}

impl TryFrom<String> for Transcoded {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        let layers = text.strip_prefix(LAYERS);
        Ok(Self { track: TrackId::new(layers.unwrap_or(&text))?, layered: layers.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(track: &str, layered: bool) -> Transcoded {
        Transcoded { track: TrackId::new(track).unwrap(), layered }
    }

    #[test]
    fn a_transcoders_id_is_short() {
        assert_eq!(of("0123-1:q", false).id(), "0123-1:q");
        let long = |end: &str| of(&format!("{}{end}", "x".repeat(100)), false).id();
        assert!(long("1").len() <= MAX_ID);
        assert_ne!(long("1"), long("2"));
    }

    #[test]
    fn a_layer_and_all_layers_are_transcoded_apart() {
        let (one, all) = (of("0123-1:q", false), of("0123-1:q", true));
        assert_ne!(one.id(), all.id());
        for transcoded in [one, all] {
            assert_eq!(Transcoded::try_from(String::from(transcoded.clone())), Ok(transcoded));
        }
    }
}
