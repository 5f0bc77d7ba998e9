//! Filters of pictures: [what they are and take](spec), and what they do with pixels.
//!
//! The cores work on planes of eight bits (slices with a stride) with integers alone, so that the same picture gives the same bytes on
//! every machine. They keep their memory from picture to picture. The crate `kaigi-gst-filters` makes GStreamer elements of them.

pub mod canny;
pub mod cartoon;
pub mod gradient;
pub mod rotate;
pub mod sobel;
pub mod spec;

pub use canny::{Canny, Thresholds};
pub use cartoon::Cartoonist;
pub use gradient::{Aperture, Gradients, Norm};
pub use rotate::Rotation;
pub use spec::{Cartoon, EdgeDetect, EdgeMethod, Filter, FilterError, Flip, Rotate};

/// Luma of black and of white (BT.601 limited range), and chroma without colour.
pub mod luma {
    /// Of black.
    pub const BLACK: u8 = 16;
    /// Of white.
    pub const WHITE: u8 = 235;
    /// Of either chroma plane.
    pub const GREY: u8 = 128;
}

/// A plane that is looked at: rows of `width` bytes, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
}

impl<'a> Plane<'a> {
    /// `None` if it is empty, or the data are shorter than they have to be.
    #[must_use]
    pub fn new(data: &'a [u8], stride: usize, width: usize, height: usize) -> Option<Self> {
        let needed = stride.checked_mul(height.checked_sub(1)?)?.checked_add(width)?;
        (width > 0 && stride >= width && data.len() >= needed).then_some(Self { data, stride, width, height })
    }

    /// Pixels of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Row `y`, counted from the top.
    #[must_use]
    pub fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..][..self.width]
    }

    /// Row `y`, the first or last one in place of those that are beyond.
    fn clamped_row(&self, y: isize) -> &'a [u8] {
        self.row(y.clamp(0, self.height as isize - 1) as usize)
    }
}
