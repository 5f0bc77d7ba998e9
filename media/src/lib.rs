//! RTP headers ([`rtp`]), the SRTP media link between nodes ([`link`]) and what is counted of a track ([`tally`]), without I/O: bytes and
//! times in, bytes out.

pub mod link;
pub mod rtp;
pub mod tally;
