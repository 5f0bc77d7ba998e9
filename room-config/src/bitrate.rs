//! Default bitrate of an encoded picture by its size, rate and codec, as OWT computes it.

use crate::Resolution;

/// (pixels of a picture at 30 frames per second, kbit/s); linear between the points.
const POINTS: [(f64, f64); 6] = [
    (76_800.0, 400.0),
    (307_200.0, 800.0),
    (921_600.0, 2_000.0),
    (2_073_600.0, 4_000.0),
    (8_294_400.0, 16_000.0),
    (33_177_600.0, 64_000.0),
];

/// kbit/s for a picture of that size and rate. `motion_factor` is the view's, 1.0 where there is none.
#[must_use]
pub fn default_bitrate(size: Resolution, framerate: u32, codec: &str, motion_factor: f64) -> u32 {
    let pixels = f64::from(size.width) * f64::from(size.height) * f64::from(framerate) / 30.0;
    let codec_factor = match codec {
        "vp8" => 1.2,
        "vp9" => 0.8,
        "h265" => 0.9,
        _ => 1.0,
    };
    let motion_factor = if motion_factor.is_finite() && motion_factor > 0.0 { motion_factor } else { 1.0 };
    // Float to integer casts saturate, so that no factor, however wild, overflows.
    ((base(pixels) * codec_factor * motion_factor).round() as u32).max(1)
}

fn base(pixels: f64) -> f64 {
    let (first, last) = (POINTS[0], POINTS[POINTS.len() - 1]);
    if pixels <= first.0 {
        return first.1 * pixels / first.0;
    }
    POINTS.windows(2).find(|pair| pixels <= pair[1].0).map_or(last.1, |pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        y0 + (y1 - y0) * (pixels - x0) / (x1 - x0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_table() {
        let table = [
            ((176, 144), [132, 106, 66]),
            ((320, 240), [400, 320, 200]),
            ((352, 288), [443, 407, 264]),
            ((480, 320), [533, 480, 400]),
            ((640, 480), [800, 693, 533]),
            ((800, 600), [1138, 950, 683]),
            ((1024, 768), [1736, 1429, 968]),
            ((1280, 720), [2000, 1640, 1100]),
            ((1920, 1080), [4000, 3280, 2200]),
            ((3840, 2160), [16000, 12800, 8000]),
        ];
        for ((width, height), expected) in table {
            for (framerate, expected) in [30, 24, 15].into_iter().zip(expected) {
                let got = default_bitrate(Resolution { width, height }, framerate, "h264", 1.0);
                assert!(
                    got.abs_diff(expected) <= 1,
                    "{width}x{height}@{framerate}: {got}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn the_default_view() {
        assert_eq!(default_bitrate(Resolution { width: 640, height: 480 }, 24, "vp8", 0.8), 666);
    }

    #[test]
    fn a_wild_motion_factor_stays_finite() {
        let vga = Resolution { width: 640, height: 480 };
        assert_eq!(default_bitrate(vga, 30, "h264", f64::NAN), 800);
        assert_eq!(default_bitrate(vga, 30, "h264", 1e300), u32::MAX);
    }
}
