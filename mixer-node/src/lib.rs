//! Mixed streams.
pub mod video;
