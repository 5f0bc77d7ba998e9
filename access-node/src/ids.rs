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

/// One of the workers of a process, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerNumber(pub u16);

impl fmt::Display for WorkerNumber {
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

/// Longest rid accepted, in bytes: what the one-byte form of header extensions can carry (RFC 8285 §4.2).
const MAX_RID: usize = 16;

/// The name of a simulcast layer (RFC 8851 §10).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rid(Arc<str>);

impl Rid {
    /// Takes a text for a rid; `None` if it is empty, too long or has other characters than a rid may have.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (!text.is_empty() && text.len() <= MAX_RID && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// The rid as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rid({})", self.0)
    }
}
