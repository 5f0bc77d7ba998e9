//! RTP headers ([`rtp`]), parameter sets ([`h264_sps`]), redundant sound ([`red`]), the SRTP media link between nodes ([`link`]) and what
//! is counted of a track ([`tally`]), without I/O: bytes and times in, bytes out.

pub mod bits;
pub mod h264_sps;
pub mod link;
pub mod red;
pub mod rtp;
pub mod tally;
