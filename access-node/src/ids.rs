//! Identifiers that live inside one access node.

use std::{fmt, sync::Arc};

/// An RTP synchronisation source (RFC 3550 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longest mid accepted, in bytes. Browsers use one or two digits.
const MAX_MID: usize = 32;

/// The name of an m-line (RFC 8843 §15.1), an SDP token.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mid(Arc<str>);

impl Mid {
    /// Takes a text for a mid; `None` if it is empty, too long or has other characters than an SDP token may have.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b);
        (!text.is_empty() && text.len() <= MAX_MID && text.bytes().all(token)).then(|| Self(text.into()))
    }

    /// The mid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mid({})", self.0)
    }
}
