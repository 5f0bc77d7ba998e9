//! Lines of text as coverage of pixels, in DejaVu Sans.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};

/// What stands where a text was cut.
const ELLIPSIS: char = '…';
/// Characters looked at, at most: more never fit in a picture.
const MAX_CHARACTERS: usize = 200;

/// How much of each pixel the letters cover, 0..=1, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lettering {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) coverage: Vec<f32>,
}

impl Lettering {
    /// A line of that height in pixels, cut where it would be wider than `most`. Of what the font does not have, and of control
    /// characters, nothing is seen. `None` if nothing fits.
    pub(super) fn line(text: &str, height: u32, most: u32) -> Option<Self> {
        let font = FontRef::try_from_slice(dejavu::sans::bold()).ok()?;
        let visible = text.chars().filter(|c| !c.is_control() && font.glyph_id(*c).0 != 0);
        let mut letters: Vec<char> = visible.take(MAX_CHARACTERS).collect();
        let scale = PxScale::from(height as f32);
        let most = most as f32;
        let (mut end, mut places) = places(&font, scale, &letters);
        if end > most {
            letters.push(ELLIPSIS);
            while end > most {
                letters.remove(letters.len().checked_sub(2)?);
                (end, places) = self::places(&font, scale, &letters);
            }
        }
        let width = end.ceil() as u32;
        if width == 0 || height == 0 {
            return None;
        }
        let mut coverage = vec![0.0f32; (width * height) as usize];
        let base = font.as_scaled(scale).ascent();
        for (letter, x) in letters.into_iter().zip(places) {
            let glyph = font.glyph_id(letter).with_scale_and_position(scale, point(x, base));
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            outline.draw(|x, y, covered| {
                let (x, y) = (bounds.min.x as i64 + i64::from(x), bounds.min.y as i64 + i64::from(y));
                let inside = (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y);
                if inside && let Some(pixel) = coverage.get_mut((y * i64::from(width) + x) as usize) {
                    *pixel = (*pixel + covered).min(1.0);
                }
            });
        }
        Some(Self { width, height, coverage })
    }
}

/// Where the line ends and each letter begins.
fn places(font: &FontRef<'_>, scale: PxScale, letters: &[char]) -> (f32, Vec<f32>) {
    let font = font.as_scaled(scale);
    let (mut x, mut last, mut places) = (0.0, None, Vec::with_capacity(letters.len()));
    for letter in letters {
        let glyph = font.glyph_id(*letter);
        x += last.map_or(0.0, |last| font.kern(last, glyph));
        places.push(x);
        x += font.h_advance(glyph);
        last = Some(glyph);
    }
    (x, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(lettering: &Lettering) -> f32 {
        lettering.coverage.iter().sum()
    }

    #[test]
    fn different_texts_look_different() {
        let [one, two] = ["Ann", "Änn"].map(|text| Lettering::line(text, 20, 300).unwrap());
        assert_eq!((one.width, one.height), (two.width, 20));
        assert_ne!(one.coverage, two.coverage);
        assert!(one.coverage.iter().any(|covered| *covered > 0.9));
        assert!(ink(&one) > 50.0 && ink(&one) < one.coverage.len() as f32 / 2.0);
    }

    #[test]
    fn long_texts_are_cut_with_an_ellipsis() {
        let long = "Maximiliane von und zu Hinterwalden".repeat(20);
        let cut = Lettering::line(&long, 16, 100).unwrap();
        assert!(cut.width <= 100 && cut.width > 80, "{}", cut.width);
        let dots = Lettering::line("…", 16, 100).unwrap();
        let end: f32 = (0..16).map(|y| cut.coverage[((y + 1) * cut.width - 3) as usize]).sum();
        assert!(end < ink(&dots), "the end is no letter");
        assert_eq!(Lettering::line(&long, 16, 2), None);
    }

    #[test]
    fn what_cannot_be_seen_is_nothing() {
        for text in ["", "\n\u{7}", "\u{10ffff}"] {
            assert_eq!(Lettering::line(text, 16, 100), None, "{text:?}");
        }
    }
}
