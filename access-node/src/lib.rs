//! WebRTC termination and selective forwarding.
