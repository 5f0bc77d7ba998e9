//! Where regions lie in the picture, and how a frame is fitted into one.
//!
//! Pixel position = floor(size × numerator / denominator); all values are made even, because chroma has half the
//! resolution of luma; regions are clipped to the picture.

use std::str::FromStr;

/// Pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// Size of the rectangle.
    pub size: Size,
}

/// Why an area is none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GeometryError {
    /// Not `numerator/denominator` with a positive denominator, or outside of 0..=1.
    #[error("{0:?} is no fraction between 0/1 and 1/1")]
    Fraction(String),
}

/// A part of the picture's width or height, 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// `numerator / denominator`; none if that is not between 0 and 1.
    #[must_use]
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator > 0 && numerator <= denominator).then_some(Self { numerator, denominator })
    }

    /// floor(`length` × fraction).
    #[must_use]
    pub fn of(self, length: u32) -> u32 {
        let product = u64::from(length) * u64::from(self.numerator) / u64::from(self.denominator);
        u32::try_from(product).unwrap_or(length)
    }
}

impl FromStr for Fraction {
    type Err = GeometryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once('/')
            .and_then(|(n, d)| Self::new(n.trim().parse().ok()?, d.trim().parse().ok()?))
            .ok_or_else(|| GeometryError::Fraction(text.chars().take(40).collect()))
    }
}

/// A region as fractions of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Of the width.
    pub left: Fraction,
    /// Of the height.
    pub top: Fraction,
    /// Of the width.
    pub width: Fraction,
    /// Of the height.
    pub height: Fraction,
}

impl Area {
    /// The area's pixels in a picture; none if nothing of it is left after rounding and clipping.
    #[must_use]
    pub fn place(&self, picture: Size) -> Option<Rect> {
        let even = |value: u32| value & !1;
        let (x, y) = (even(self.left.of(picture.width)), even(self.top.of(picture.height)));
        let width = even(self.width.of(picture.width).min(picture.width.saturating_sub(x)));
        let height = even(self.height.of(picture.height).min(picture.height.saturating_sub(y)));
        (width > 0 && height > 0).then_some(Rect { x, y, size: Size { width, height } })
    }
}

/// Which part of a frame goes where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Part of the frame that is shown.
    pub source: Rect,
    /// Where it lies in the picture.
    pub target: Rect,
}

/// Bars not wider than this many pixels, left over by rounding, are covered by stretching the frame.
const NO_BARS_BELOW: u32 = 4;

impl Fit {
    /// The whole frame centred in the region, with bars where the shapes differ. None if the frame is empty.
    #[must_use]
    pub fn letterbox(frame: Size, region: Rect) -> Option<Self> {
        if frame.width == 0 || frame.height == 0 {
            return None;
        }
        let Size { width, height } = region.size;
        let wide = u64::from(frame.width) * u64::from(height) > u64::from(frame.height) * u64::from(width);
        let (width, height) = if wide {
            (width, settle(scaled(width, frame.height, frame.width), height))
        } else {
            (settle(scaled(height, frame.width, frame.height), width), height)
        };
        let size = Size { width, height };
        let centre = |outer: u32, inner: u32| ((outer - inner) / 2) & !1;
        let target = Rect {
            x: region.x + centre(region.size.width, width),
            y: region.y + centre(region.size.height, height),
            size,
        };
        Some(Self { source: Rect { x: 0, y: 0, size: frame }, target })
    }

    /// The middle of the frame, as much of it as fills the region. None if the frame is empty.
    #[must_use]
    pub fn crop(frame: Size, region: Rect) -> Option<Self> {
        if frame.width < 2 || frame.height < 2 {
            return Self::letterbox(frame, region);
        }
        let Size { width, height } = region.size;
        let wide = u64::from(frame.width) * u64::from(height) > u64::from(frame.height) * u64::from(width);
        let size = if wide {
            Size { width: settle(scaled(frame.height, width, height), frame.width), height: frame.height }
        } else {
            Size { width: frame.width, height: settle(scaled(frame.width, height, width), frame.height) }
        };
        let centre = |outer: u32, inner: u32| ((outer - inner) / 2) & !1;
        let source = Rect { x: centre(frame.width, size.width), y: centre(frame.height, size.height), size };
        Some(Self { source, target: region })
    }
}

/// `length` × `a` / `b`, rounded to the nearest.
fn scaled(length: u32, a: u32, b: u32) -> u32 {
    let (length, a, b) = (u64::from(length), u64::from(a), u64::from(b.max(1)));
    u32::try_from((length * a + b / 2) / b).unwrap_or(u32::MAX)
}

/// An even length of at least 2 and at most `whole`; all of it if next to nothing would be left.
fn settle(length: u32, whole: u32) -> u32 {
    if length + NO_BARS_BELOW > whole { whole } else { (length & !1).max(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(left: &str, top: &str, width: &str, height: &str) -> Area {
        let f = |t: &str| t.parse().unwrap();
        Area { left: f(left), top: f(top), width: f(width), height: f(height) }
    }
    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, size: Size { width, height } }
    }
    const HD: Size = Size { width: 1280, height: 720 };

    #[test]
    fn positions_are_floored_and_even() {
        assert_eq!(area("1/3", "2/3", "1/3", "1/3").place(HD), Some(rect(426, 480, 426, 240)));
        assert_eq!(area("2/3", "0/1", "1/3", "1/3").place(HD), Some(rect(852, 0, 426, 240)));
        assert_eq!(area("0/1", "0/1", "1/1", "1/1").place(HD), Some(rect(0, 0, 1280, 720)));
    }

    #[test]
    fn areas_are_clipped_to_the_picture() {
        assert_eq!(area("3/4", "1/2", "1/2", "1/1").place(HD), Some(rect(960, 360, 320, 360)));
        assert_eq!(area("1/1", "0/1", "1/2", "1/1").place(HD), None);
        assert_eq!(area("0/1", "0/1", "1/1000", "1/1").place(HD), None);
    }

    #[test]
    fn what_is_no_fraction_is_refused() {
        for bad in ["", "1", "1/0", "2/1", "-1/2", "1/2/3", "a/b", "99999999999/99999999999"] {
            assert!(bad.parse::<Fraction>().is_err(), "{bad}");
        }
        assert_eq!("2/4".parse::<Fraction>().unwrap().of(100), 50);
    }

    #[test]
    fn letterbox_keeps_the_shape() {
        let region = rect(640, 0, 640, 360);
        let fit = Fit::letterbox(Size { width: 480, height: 360 }, region).unwrap();
        assert_eq!((fit.source, fit.target), (rect(0, 0, 480, 360), rect(720, 0, 480, 360)));
        let fit = Fit::letterbox(Size { width: 1920, height: 540 }, region).unwrap();
        assert_eq!(fit.target, rect(640, 90, 640, 180));
    }

    #[test]
    fn rounding_leaves_no_bars() {
        let fit = Fit::letterbox(HD, rect(0, 0, 426, 240)).unwrap();
        assert_eq!(fit.target, rect(0, 0, 426, 240));
    }

    #[test]
    fn crop_fills_the_region() {
        let fit = Fit::crop(HD, rect(0, 0, 240, 240)).unwrap();
        assert_eq!((fit.source, fit.target), (rect(280, 0, 720, 720), rect(0, 0, 240, 240)));
        let fit = Fit::crop(Size { width: 480, height: 640 }, rect(0, 0, 640, 360)).unwrap();
        assert_eq!(fit.source, rect(0, 184, 480, 270));
    }

    #[test]
    fn odd_and_tiny_frames_are_fitted_too() {
        for frame in [(1, 1), (3, 5), (321, 181), (4096, 2), (2, 2304)] {
            let frame = Size { width: frame.0, height: frame.1 };
            for region in [rect(0, 0, 2, 2), rect(2, 4, 320, 180), rect(0, 0, 6, 400)] {
                for fit in [Fit::letterbox(frame, region).unwrap(), Fit::crop(frame, region).unwrap()] {
                    assert!(fit.source.x + fit.source.size.width <= frame.width);
                    assert!(fit.source.y + fit.source.size.height <= frame.height);
                    assert!(fit.target.x >= region.x && fit.target.y >= region.y);
                    assert!(fit.target.x + fit.target.size.width <= region.x + region.size.width);
                    assert!(fit.target.y + fit.target.size.height <= region.y + region.size.height);
                    assert_eq!((fit.target.size.width % 2, fit.target.x % 2), (0, 0));
                }
            }
        }
        assert_eq!(Fit::crop(Size { width: 0, height: 9 }, rect(0, 0, 2, 2)), None);
    }
}
