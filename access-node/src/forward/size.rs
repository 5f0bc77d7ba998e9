//! The size of a picture.

/// Width and height in pixels.
pub type Size = (u32, u32);
