//! RTP headers ([`rtp`]) and the SRTP media link between nodes ([`link`]), without I/O: bytes and times in, bytes out.

pub mod link;
pub mod rtp;
