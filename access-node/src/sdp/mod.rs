//! Offers and answers: a typed offer ([`Offer`]), what formats mean ([`Format`]), and the answers ([`Negotiation`]).

mod agreement;
mod answer;
mod format;
mod negotiation;
mod offer;
mod simulcast;
#[cfg(test)]
mod tests;

pub use agreement::{
    Binding, Change, DtlsRole, Extensions, LocalDescription, Negotiated, Outcome, SendStream, Wish,
};
pub use format::{Codec, Format, H264Profile};
pub use negotiation::Negotiation;
pub use offer::{Direction, Fingerprint, MAX_M_LINES, MAX_SDP, Offer, Payload, RemoteCredentials, SdpError};

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

impl Kind {
    /// The media name of an m-line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

impl From<Kind> for kaigi_proto::v1::MediaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Audio => Self::Audio,
            Kind::Video => Self::Video,
        }
    }
}
