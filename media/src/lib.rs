//! RTP headers ([`rtp`]), what frames depend on ([`dependency_descriptor`]), redundancy of sound ([`red`]) and pictures ([`flexfec`]),
//! parameter sets ([`h264_sps`]), SRTP in place ([`srtp`]), the media link between nodes ([`link`]) and what is counted of a track
//! ([`tally`]), without I/O: bytes and times in, bytes out.

pub mod bits;
pub mod dependency_descriptor;
pub mod flexfec;
pub mod h264_sps;
pub mod link;
pub mod red;
pub mod rtp;
pub mod srtp;
pub mod tally;
