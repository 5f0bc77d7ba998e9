//! Mixed streams.
pub mod audio;
pub mod video;
