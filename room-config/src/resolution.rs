//! Picture sizes and OWT's names for them.

use serde::{Deserialize, Serialize};

/// Pixels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Resolution {
    /// Columns.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 7680)))]
    pub width: u32,
    /// Rows.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 4320)))]
    pub height: u32,
}

/// The size that OWT's name stands for, given the size of the source: `vga`…, `r<W>x<H>`, or `x<a>/<b>` of the source with
/// each side floored to an even number. `None` for a name that stands for nothing.
#[must_use]
pub fn named_resolution(name: &str, base: Resolution) -> Option<Resolution> {
    let fixed = match name {
        "xga" => (1024, 768),
        "svga" => (800, 600),
        "vga" => (640, 480),
        "hvga" => (480, 320),
        "cif" => (352, 288),
        "qvga" => (320, 240),
        "qcif" => (176, 144),
        "hd720p" => (1280, 720),
        "hd1080p" => (1920, 1080),
        _ => {
            if let Some((width, height)) = name.strip_prefix('r').and_then(|r| r.split_once('x')) {
                (width.parse().ok()?, height.parse().ok()?)
            } else {
                let (a, b) = name.strip_prefix('x')?.split_once('/')?;
                let (a, b): (u32, u32) = (a.parse().ok()?, b.parse().ok()?);
                let scale = |side: u32| Some(side.checked_mul(a)?.checked_div(b)? & !1);
                (scale(base.width)?, scale(base.height)?)
            }
        }
    };
    Some(Resolution { width: fixed.0, height: fixed.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_sizes() {
        let vga = Resolution { width: 640, height: 480 };
        let size = |name| named_resolution(name, vga).map(|r| (r.width, r.height));
        assert_eq!(size("hd720p"), Some((1280, 720)));
        assert_eq!(size("x2/3"), Some((426, 320)));
        assert_eq!(size("x1/3"), Some((212, 160)));
        assert_eq!(size("r100x50"), Some((100, 50)));
        assert_eq!(size("x1/0"), None);
        assert_eq!(size("huge"), None);
    }
}
