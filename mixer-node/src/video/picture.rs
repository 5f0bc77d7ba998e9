//! Pictures in I420: a luma plane and two chroma planes of half its width and height, 8 bits, BT.601 limited range.

use super::{Rect, Size};

/// One plane of a picture; `data` holds at least `stride × (size.height − 1) + size.width` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    size: Size,
}

impl<'a> Plane<'a> {
    /// None if `data` is too short for the size, or the stride for the width.
    #[must_use]
    pub fn new(data: &'a [u8], stride: usize, size: Size) -> Option<Self> {
        let (width, height) = (size.width as usize, size.height as usize);
        let needed = stride.checked_mul(height.saturating_sub(1))?.checked_add(width)?;
        (stride >= width && data.len() >= needed).then_some(Self { data, stride, size })
    }

    /// Pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Bytes from one row to the next.
    pub(crate) fn stride(&self) -> u32 {
        u32::try_from(self.stride).unwrap_or(u32::MAX)
    }

    /// `stride × height` bytes; none if the last row's padding is missing.
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        self.data.get(..self.stride * self.size.height as usize)
    }

    /// Row `y` of the part that begins at `x`, `width` pixels; empty if that is outside.
    #[must_use]
    pub fn row(&self, x: u32, y: u32, width: u32) -> &'a [u8] {
        let start = y as usize * self.stride + x as usize;
        self.data.get(start..start + width as usize).unwrap_or_default()
    }
}

/// A picture that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Luma, then U, then V.
    pub planes: [Plane<'a>; 3],
}

impl Picture<'_> {
    /// Pixels of the luma plane.
    #[must_use]
    pub fn size(&self) -> Size {
        self.planes[0].size()
    }
}

/// The chroma planes' size for a luma size.
#[must_use]
pub(crate) fn chroma(size: Size) -> Size {
    Size { width: size.width.div_ceil(2), height: size.height.div_ceil(2) }
}

/// The part of plane `index` that belongs to a part of the luma plane.
#[must_use]
pub(crate) fn plane_rect(rect: Rect, index: usize) -> Rect {
    if index == 0 { rect } else { Rect { x: rect.x / 2, y: rect.y / 2, size: chroma(rect.size) } }
}

/// Something decoded that can be looked at.
pub trait Frame: Send + Sync {
    /// The picture; none if the memory behind it is not laid out as it should be.
    fn picture(&self) -> Option<Picture<'_>>;
}

/// Y, U, V.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// From 0xRRGGBB, by BT.601 limited range.
    #[must_use]
    pub fn from_rgb(rgb: u32) -> Self {
        let part = |shift: u32| f64::from((rgb >> shift) & 0xff) / 255.0;
        let (r, g, b) = (part(16), part(8), part(0));
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        let y = 16.0 + 219.0 * luma;
        let u = 128.0 + 224.0 * (b - luma) / 1.772;
        let v = 128.0 + 224.0 * (r - luma) / 1.402;
        Self([y, u, v].map(|value| value.round().clamp(0.0, 255.0) as u8))
    }
}

/// A picture that is drawn on. Its memory is laid out as GStreamer lays out I420 by default (strides are multiples of
/// four), so that it becomes a buffer by one copy.
#[derive(Clone, Debug)]
pub struct Canvas {
    size: Size,
    strides: [usize; 3],
    offsets: [usize; 3],
    data: Vec<u8>,
}

/// GStreamer's default for I420: bytes from row to row and first bytes of the planes, and of all together.
fn layout(size: Size) -> ([usize; 3], [usize; 3], usize) {
    let four = |n: u32| (n as usize).next_multiple_of(4);
    let rows = (size.height as usize).next_multiple_of(2);
    let (y, c) = (four(size.width), four(chroma(size).width));
    ([y, c, c], [0, y * rows, y * rows + c * rows / 2], y * rows + c * rows)
}

impl Canvas {
    /// A picture of one colour.
    #[must_use]
    pub fn new(size: Size, colour: Colour) -> Self {
        let (strides, offsets, bytes) = layout(size);
        let mut canvas = Self { size, strides, offsets, data: vec![0; bytes] };
        canvas.fill(Rect { x: 0, y: 0, size }, colour);
        canvas
    }

    /// A picture whose memory is laid out so already. None if it is too short or too long.
    #[must_use]
    pub fn from_bytes(size: Size, data: Vec<u8>) -> Option<Self> {
        let (strides, offsets, bytes) = layout(size);
        (data.len() == bytes).then_some(Self { size, strides, offsets, data })
    }

    /// Bytes of a picture of that size.
    #[must_use]
    pub fn bytes_of(size: Size) -> usize {
        layout(size).2
    }

    /// All planes, as [`bytes`](Self::bytes) tells them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.data
    }

    /// Pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// All planes, in GStreamer's default layout for I420.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Plane `index` and the bytes from one of its rows to the next.
    pub(crate) fn plane_mut(&mut self, index: usize) -> (&mut [u8], usize) {
        let end = self.offsets.get(index + 1).copied().unwrap_or(self.data.len());
        (&mut self.data[self.offsets[index]..end], self.strides[index])
    }

    /// Row `y` of plane `index`, `width` pixels from `x`; empty if outside.
    pub(crate) fn row_mut(&mut self, index: usize, x: u32, y: u32, width: u32) -> &mut [u8] {
        let start = self.offsets[index] + y as usize * self.strides[index] + x as usize;
        self.data.get_mut(start..start + width as usize).unwrap_or_default()
    }

    /// Paints a rectangle.
    pub fn fill(&mut self, rect: Rect, colour: Colour) {
        for index in 0..3 {
            let part = plane_rect(rect, index);
            for y in part.y..part.y + part.size.height {
                self.row_mut(index, part.x, y, part.size.width).fill(colour.0[index]);
            }
        }
    }

    /// Copies a part of `picture`, without scaling, to (`x`, `y`).
    pub fn blit(&mut self, picture: &Picture<'_>, source: Rect, x: u32, y: u32) {
        let target = Rect { x, y, size: source.size };
        for (index, plane) in picture.planes.iter().enumerate() {
            let (from, to) = (plane_rect(source, index), plane_rect(target, index));
            for row in 0..to.size.height {
                let pixels = plane.row(from.x, from.y + row, to.size.width);
                let place = self.row_mut(index, to.x, to.y + row, to.size.width);
                if pixels.len() == place.len() {
                    place.copy_from_slice(pixels);
                }
            }
        }
    }
}

impl Frame for Canvas {
    fn picture(&self) -> Option<Picture<'_>> {
        let plane =
            |index: usize, size| Plane::new(self.data.get(self.offsets[index]..)?, self.strides[index], size);
        let small = chroma(self.size);
        Some(Picture { planes: [plane(0, self.size)?, plane(1, small)?, plane(2, small)?] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_bt601() {
        assert_eq!(Colour::from_rgb(0x000000), Colour([16, 128, 128]));
        assert_eq!(Colour::from_rgb(0xffffff), Colour([235, 128, 128]));
        assert_eq!(Colour::from_rgb(0xff0000), Colour([81, 90, 240]));
        assert_eq!(Colour::from_rgb(0x00ff00), Colour([145, 54, 34]));
        assert_eq!(Colour::from_rgb(0x0000ff), Colour([41, 240, 110]));
    }

    #[test]
    fn planes_that_are_too_short_are_refused() {
        let size = Size { width: 4, height: 3 };
        assert!(Plane::new(&[0; 12], 4, size).is_some());
        assert!(Plane::new(&[0; 11], 4, size).is_none());
        assert!(Plane::new(&[0; 99], 3, size).is_none());
    }

    #[test]
    fn filling_touches_nothing_else() {
        let mut canvas = Canvas::new(Size { width: 8, height: 8 }, Colour([16, 128, 128]));
        canvas.fill(Rect { x: 2, y: 4, size: Size { width: 4, height: 2 } }, Colour([200, 1, 2]));
        let picture = canvas.picture().unwrap();
        let painted = |index: usize, value: u8| {
            let plane = picture.planes[index];
            (0..plane.size().height)
                .flat_map(|y| plane.row(0, y, plane.size().width))
                .filter(|p| **p == value)
                .count()
        };
        assert_eq!((painted(0, 200), painted(1, 1), painted(2, 2)), (8, 2, 2));
        assert_eq!(picture.planes[0].row(1, 4, 6), [16, 200, 200, 200, 200, 16]);
    }
}
