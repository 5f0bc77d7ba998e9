//! What is drawn over the inputs of a view, and in place of those that have no picture.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kaigi_proto::ids::StreamId;
use parking_lot::Mutex;

use super::{
    Canvas, Colour, Rect, Size, Still,
    lettering::Lettering,
    pictures::within,
    sprite::{Easel, Sprite, frame},
};

const WHITE: Colour = Colour([235, 128, 128]);
const BLACK: Colour = Colour([16, 128, 128]);
/// What is behind letters.
const SHADE: f32 = 0.55;
/// Height of a line as a part of its region's, and its bounds in pixels: smaller ones can't be read, larger ones hide too much.
const LINE: (u32, u32, u32) = (10, 12, 40);
/// Sprites kept at most: those of all regions, and some that were there before.
const MAX_SPRITES: usize = 400;

/// What of it a view has.
#[derive(Clone, Debug, Default)]
pub struct Decoration {
    /// Whether names are written in the regions.
    pub captions: bool,
    /// Around the region of the loudest input.
    pub border: Option<Colour>,
    /// Who that is.
    pub active: ActiveInput,
    /// Whether the time of day (UTC) is shown.
    pub clock: bool,
    /// Shown over everything.
    pub logo: Option<Logo>,
    /// What a change of the layout takes; none = at once.
    pub animation: Duration,
}

/// A picture over everything.
#[derive(Clone, Debug)]
pub struct Logo {
    /// Which.
    pub picture: Arc<Still>,
    /// Where.
    pub corner: Corner,
    /// Hundredths of the whole picture's height.
    pub height: u32,
}

/// Of the whole picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Corner {
    #[default]
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

impl Corner {
    /// The left upper corner of something of size `inner` in that corner of `whole`, `margin` away from the edges; even.
    fn place(self, inner: Size, whole: Size, margin: u32) -> (u32, u32) {
        let far = |whole: u32, inner: u32| whole.saturating_sub(inner + margin) & !1;
        let (right, below) = (far(whole.width, inner.width), far(whole.height, inner.height));
        let near = margin & !1;
        match self {
            Self::TopLeft => (near, near),
            Self::TopRight => (right, near),
            Self::BottomLeft => (near, below),
            Self::BottomRight => (right, below),
        }
    }
}

/// Whose region it is.
#[derive(Clone, Debug)]
pub struct Badge {
    /// The input.
    pub stream: StreamId,
    /// For the caption and the avatar.
    pub name: Arc<str>,
    /// Whether an avatar is shown where the input has no picture.
    pub avatar: bool,
    /// The avatar, in place of initials.
    pub still: Option<Arc<Still>>,
}

/// The loudest input, as the thread that hears tells it to the one that draws.
#[derive(Clone, Debug, Default)]
pub struct ActiveInput(Arc<Mutex<Option<StreamId>>>);

impl ActiveInput {
    /// It is this one now.
    pub fn set(&self, stream: StreamId) {
        *self.0.lock() = Some(stream);
    }

    fn get(&self) -> Option<StreamId> {
        self.0.lock().clone()
    }
}

/// What a sprite is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// Of a name, in a region of that size.
    Caption(Arc<str>, (u32, u32)),
    Avatar(Arc<str>, (u32, u32)),
    /// A configured picture, by its name, within a size.
    Still(String, (u32, u32)),
}

/// Draws it.
#[derive(Default)]
pub(super) struct Decorator {
    /// `None` where nothing can be drawn.
    sprites: HashMap<Subject, Option<Sprite>>,
    /// Seconds since 1970, and what shows them.
    clock: Option<(u64, Option<Sprite>)>,
    active: Option<StreamId>,
}

impl Decorator {
    /// Looks at the time and at who speaks. Whether something has to be drawn otherwise than before.
    pub(super) fn refresh(&mut self, decoration: &Decoration, whole: Size, wall: SystemTime) -> bool {
        let active = decoration.border.and_then(|_| decoration.active.get());
        let mut changed = active != self.active;
        self.active = active;
        let second = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let shown = self.clock.as_ref().map(|(second, _)| *second);
        if decoration.clock && shown != Some(second) {
            let (hours, minutes) = (second / 3600 % 24, second / 60 % 60);
            let text = format!("{hours:02}:{minutes:02}:{:02} UTC", second % 60);
            // As high as the lines of a region that is a third of the picture.
            let line = line_height(whole.height / 3);
            self.clock = Some((second, plate(&text, line, whole.width)));
            changed = true;
        } else if !decoration.clock && shown.is_some() {
            self.clock = None;
            changed = true;
        }
        changed
    }

    /// Draws what belongs to a region.
    pub(super) fn region(
        &mut self,
        canvas: &mut Canvas,
        decoration: &Decoration,
        badge: &Badge,
        place: Rect,
        has_picture: bool,
    ) {
        let Rect { x, y, size: Size { width, height } } = place;
        let size = (width, height);
        let avatar = match (&badge.still, badge.avatar && !has_picture) {
            (_, false) => None,
            (Some(still), true) => self.still(still, Size { width: width * 2 / 3, height: height * 2 / 3 }),
            (None, true) => self.sprite(Subject::Avatar(Arc::clone(&badge.name), size)),
        };
        if let Some(avatar) = avatar {
            let Size { width: own, height: high } = avatar.size();
            let centre = |outer: u32, inner: u32| (outer.saturating_sub(inner) / 2) & !1;
            avatar.draw(canvas, x + centre(width, own), y + centre(height, high));
        }
        if decoration.captions
            && let Some(caption) = self.sprite(Subject::Caption(Arc::clone(&badge.name), size))
        {
            caption.draw(canvas, x, y + height.saturating_sub(caption.size().height));
        }
        if let Some(colour) = decoration.border
            && self.active.as_ref() == Some(&badge.stream)
        {
            frame(canvas, place, (height / 60).max(2).next_multiple_of(2), colour);
        }
    }

    /// Draws what lies over everything.
    pub(super) fn over(&mut self, canvas: &mut Canvas, decoration: &Decoration) {
        let whole = canvas.size();
        if let Some(Logo { picture, corner, height }) = &decoration.logo {
            let most = Size { width: whole.width / 2, height: (whole.height * height / 100).max(2) };
            if let Some(sprite) = self.still(picture, most) {
                let (x, y) = corner.place(sprite.size(), whole, whole.height / 50);
                sprite.draw(canvas, x, y);
            }
        }
        if let Some((_, Some(clock))) = &self.clock {
            let x = canvas.size().width.saturating_sub(clock.size().width);
            clock.draw(canvas, x & !1, 0);
        }
    }

    fn sprite(&mut self, of: Subject) -> Option<&Sprite> {
        self.sprite_or(of, |of| match of {
            Subject::Caption(name, (width, height)) => plate(name, line_height(*height), *width),
            Subject::Avatar(name, (width, height)) => avatar(name, *width, *height),
            Subject::Still(..) => None,
        })
    }

    /// A picture, as large as it fits into a size.
    fn still(&mut self, still: &Still, most: Size) -> Option<&Sprite> {
        let size = within(still.size(), most);
        let of = Subject::Still(still.name().to_owned(), (size.width, size.height));
        self.sprite_or(of, |_| Some(Easel::new(size).copy(&still.scaled(size)?, size).finish()))
    }

    fn sprite_or(&mut self, of: Subject, make: impl Fn(&Subject) -> Option<Sprite>) -> Option<&Sprite> {
        if self.sprites.len() >= MAX_SPRITES && !self.sprites.contains_key(&of) {
            self.sprites.clear();
        }
        self.sprites.entry(of).or_insert_with_key(make).as_ref()
    }
}

fn line_height(region: u32) -> u32 {
    let (part, least, most) = LINE;
    (region / part).clamp(least, most)
}

/// A line of text on a shade.
fn plate(text: &str, line: u32, most: u32) -> Option<Sprite> {
    let margin = line / 3;
    let letters = Lettering::line(text, line, most.saturating_sub(2 * margin))?;
    let size = Size { width: letters.width + 2 * margin, height: line + margin };
    let shade = Easel::new(size).paint(BLACK, |_, _| SHADE);
    Some(shade.write(&letters, WHITE, margin, margin / 2).finish())
}

/// A disc in a colour of the name's own, with its initials.
fn avatar(name: &str, width: u32, height: u32) -> Option<Sprite> {
    let side = (width.min(height) / 2).next_multiple_of(2);
    if side < 8 {
        return None;
    }
    let radius = side as f32 / 2.0;
    let disc = move |x: f32, y: f32| radius - (x - radius).hypot(y - radius);
    let easel = Easel::new(Size { width: side, height: side }).paint(tint(name), disc);
    let letters = Lettering::line(&initials(name), side * 2 / 5, side);
    let easel = match &letters {
        Some(letters) => {
            let centre = |inner: u32| side.saturating_sub(inner) / 2;
            easel.write(letters, WHITE, centre(letters.width), centre(letters.height))
        }
        None => easel,
    };
    Some(easel.finish())
}

/// The first letters of the first and the last word.
fn initials(name: &str) -> String {
    let mut firsts = name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric()));
    let (first, last) = (firsts.next(), firsts.next_back());
    first.into_iter().chain(last).flat_map(char::to_uppercase).collect()
}

/// One of the colours around the circle, as dark as white letters need it.
fn tint(name: &str) -> Colour {
    // FNV-1a: the same name has the same colour everywhere.
    let hash =
        name.bytes().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let angle = (hash >> 16) as f32 / 65_536.0 * std::f32::consts::TAU;
    let chroma = |part: f32| (128.0 + 45.0 * part).round() as u8;
    Colour([95, chroma(angle.cos()), chroma(angle.sin())])
}

#[cfg(test)]
mod tests {
    use super::{super::Frame, *};

    const PLACE: Rect = Rect { x: 320, y: 180, size: Size { width: 320, height: 180 } };
    const WHOLE: Size = Size { width: 640, height: 360 };

    fn badge(name: &str) -> Badge {
        Badge { stream: StreamId::new("s").unwrap(), name: name.into(), avatar: true, still: None }
    }
    /// The region with its decoration, luma by rows; and the rest of the picture must be as it was.
    fn drawn(
        decorator: &mut Decorator,
        decoration: &Decoration,
        badge: &Badge,
        has_picture: bool,
    ) -> Vec<Vec<u8>> {
        let mut canvas = Canvas::new(WHOLE, BLACK);
        decorator.region(&mut canvas, decoration, badge, PLACE, has_picture);
        let luma = canvas.picture().unwrap().planes[0];
        for y in 0..WHOLE.height {
            let until = if y < PLACE.y { WHOLE.width } else { PLACE.x };
            assert!(luma.row(0, y, until).iter().all(|value| *value == 16), "outside of the region");
        }
        (0..180).map(|y| luma.row(320, 180 + y, 320).to_vec()).collect()
    }
    fn is_black(rows: &[Vec<u8>]) -> bool {
        rows.iter().flatten().all(|luma| *luma == 16)
    }

    #[test]
    fn captions_are_white_letters_at_the_lower_edge() {
        let captions = Decoration { captions: true, ..Decoration::default() };
        let mut decorator = Decorator::default();
        let rows = drawn(&mut decorator, &captions, &badge("Ann"), true);
        assert!(is_black(&rows[..150]));
        assert!(rows[156..].iter().flatten().any(|luma| *luma > 200));
        let other = drawn(&mut decorator, &captions, &badge("Bob"), true);
        assert_ne!(rows, other);
        assert!(is_black(&drawn(&mut decorator, &Decoration::default(), &badge("Ann"), true)));
    }

    #[test]
    fn avatars_are_where_there_is_no_picture() {
        let mut decorator = Decorator::default();
        let plain = Decoration::default();
        let rows = drawn(&mut decorator, &plain, &badge("Ann Other"), false);
        assert_eq!(rows[60][160], 95, "above the letters there is the disc");
        assert!(rows[80..100].iter().flatten().any(|luma| *luma > 200), "initials");
        assert!(rows.iter().all(|row| row[..100].iter().all(|luma| *luma == 16)));
        assert!(is_black(&drawn(&mut decorator, &plain, &badge("Ann Other"), true)));
        let none = Badge { avatar: false, ..badge("Ann Other") };
        assert!(is_black(&drawn(&mut decorator, &plain, &none, false)));
    }

    #[test]
    fn a_configured_picture_takes_the_place_of_initials() {
        let mut decorator = Decorator::default();
        let still = Still::of_colour("ann.png", Size { width: 20, height: 40 }, [255, 255, 255, 255]);
        let pictured = Badge { still: Some(Arc::new(still)), ..badge("Ann Other") };
        let rows = drawn(&mut decorator, &Decoration::default(), &pictured, false);
        // Two thirds as high as the region, half as wide as high, in the middle.
        assert_eq!([rows[90][128], rows[90][132], rows[90][188], rows[90][192]], [16, 235, 235, 16]);
        assert_eq!([rows[28][160], rows[32][160], rows[147][160], rows[152][160]], [16, 235, 235, 16]);
        assert!(is_black(&drawn(&mut decorator, &Decoration::default(), &pictured, true)));
        let none = Badge { avatar: false, ..pictured };
        assert!(is_black(&drawn(&mut decorator, &Decoration::default(), &none, false)));
    }

    #[test]
    fn the_logo_is_in_its_corner_and_as_high_as_it_is_to_be() {
        let picture = Arc::new(Still::of_colour("l", Size { width: 60, height: 30 }, [255, 255, 255, 255]));
        for (corner, x, y) in [
            (Corner::TopLeft, 6, 6),
            (Corner::TopRight, 640 - 7 - 73, 6),
            (Corner::BottomLeft, 6, 360 - 7 - 37),
            (Corner::BottomRight, 640 - 7 - 73, 360 - 7 - 37),
        ] {
            let logo = Some(Logo { picture: Arc::clone(&picture), corner, height: 10 });
            let mut canvas = Canvas::new(WHOLE, BLACK);
            Decorator::default().over(&mut canvas, &Decoration { logo, ..Decoration::default() });
            let luma = canvas.picture().unwrap().planes[0];
            let white: Vec<(u32, u32)> = (0..360)
                .flat_map(|y| (0..640).map(move |x| (x, y)))
                .filter(|(x, y)| luma.row(*x, *y, 1)[0] > 200)
                .collect();
            assert_eq!(white.len(), 72 * 36, "a tenth as high as the picture");
            assert_eq!(white[0], (x, y), "{corner:?}");
        }
    }

    #[test]
    fn initials_are_those_of_the_first_and_the_last_word() {
        let all = ["Ann", "ann marie other", "  ", "(x) é", "李 小龍"].map(initials);
        assert_eq!(all, ["A", "AO", "", "XÉ", "李小"]);
    }

    #[test]
    fn the_border_is_around_the_loudest() {
        let bordered = Decoration { border: Some(Colour([200, 128, 128])), ..Decoration::default() };
        let mut decorator = Decorator::default();
        let wall = SystemTime::now();
        assert!(!decorator.refresh(&bordered, WHOLE, wall));
        assert!(is_black(&drawn(&mut decorator, &bordered, &badge("Ann"), true)));
        bordered.active.set(StreamId::new("s").unwrap());
        assert!(decorator.refresh(&bordered, WHOLE, wall));
        assert!(!decorator.refresh(&bordered, WHOLE, wall), "nothing has changed since");
        let rows = drawn(&mut decorator, &bordered, &badge("Ann"), true);
        assert_eq!(
            [rows[0][0], rows[0][160], rows[179][319], rows[90][0], rows[90][160]],
            [200, 200, 200, 200, 16]
        );
        bordered.active.set(StreamId::new("other").unwrap());
        assert!(decorator.refresh(&bordered, WHOLE, wall));
        assert!(is_black(&drawn(&mut decorator, &bordered, &badge("Ann"), true)));
    }

    #[test]
    fn the_clock_changes_each_second() {
        let clock = Decoration { clock: true, ..Decoration::default() };
        let mut decorator = Decorator::default();
        let at = |ms: u64| UNIX_EPOCH + Duration::from_millis(1_000_000 + ms);
        let changed: Vec<bool> =
            [0, 500, 1000, 1999].into_iter().map(|ms| decorator.refresh(&clock, WHOLE, at(ms))).collect();
        assert_eq!(changed, [true, false, true, false]);
        let mut canvas = Canvas::new(WHOLE, BLACK);
        decorator.over(&mut canvas, &clock);
        let luma = canvas.picture().unwrap().planes[0];
        assert!((0..20).any(|y| luma.row(500, y, 140).iter().any(|value| *value > 200)));
        assert!(decorator.refresh(&Decoration::default(), WHOLE, at(2000)), "it goes away");
        assert!(!decorator.refresh(&Decoration::default(), WHOLE, at(3000)));
    }

    #[test]
    fn sprites_are_bounded() {
        let captions = Decoration { captions: true, ..Decoration::default() };
        let mut decorator = Decorator::default();
        let mut canvas = Canvas::new(WHOLE, BLACK);
        for number in 0..MAX_SPRITES + 10 {
            decorator.region(&mut canvas, &captions, &badge(&number.to_string()), PLACE, true);
        }
        assert!(decorator.sprites.len() <= MAX_SPRITES);
    }
}
