//! RTP, RTCP, codecs and the SRTP media link between nodes, all without I/O.
