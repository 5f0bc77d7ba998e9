//! Why a request is refused.

use rtc_stun::attributes::AttrType;

/// The error responses of STUN and TURN that this server gives (RFC 8489 §14.8, RFC 8656 §19).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Without credentials, as every client asks first: it is told realm and nonce. No trouble.
    #[error("Unauthorized")]
    Challenge,
    /// Malformed, or something that it needs is missing.
    #[error("Bad Request")]
    BadRequest,
    /// A user who is unknown or whose time is over, a wrong credential.
    #[error("Unauthorized")]
    Unauthorized,
    /// A peer that may not be reached.
    #[error("Forbidden")]
    Forbidden,
    /// Attributes that would have to be understood.
    #[error("Unknown Attribute")]
    UnknownAttributes(Vec<AttrType>),
    /// There is an allocation already, or there is none.
    #[error("Allocation Mismatch")]
    AllocationMismatch,
    /// The nonce is old, or another's.
    #[error("Stale Nonce")]
    StaleNonce,
    /// There are no relayed addresses of that family.
    #[error("Address Family not Supported")]
    AddressFamily,
    /// The allocation is another user's.
    #[error("Wrong Credentials")]
    WrongCredentials,
    /// Another transport than UDP towards peers.
    #[error("Unsupported Transport Protocol")]
    Transport,
    /// A peer of another family than the relayed address.
    #[error("Peer Address Family Mismatch")]
    PeerAddressFamily,
    /// The user has as many allocations as one may have.
    #[error("Allocation Quota Reached")]
    Quota,
    /// There is no room for more of something, or the server is about to end.
    #[error("Insufficient Capacity")]
    Capacity,
}

impl Refusal {
    /// Its number.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Challenge | Self::Unauthorized => 401,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::UnknownAttributes(_) => 420,
            Self::AllocationMismatch => 437,
            Self::StaleNonce => 438,
            Self::AddressFamily => 440,
            Self::WrongCredentials => 441,
            Self::Transport => 442,
            Self::PeerAddressFamily => 443,
            Self::Quota => 486,
            Self::Capacity => 508,
        }
    }

    /// All codes of trouble.
    pub const CODES: [u16; 11] = [400, 401, 403, 420, 437, 440, 441, 442, 443, 486, 508];
}
