//! Layouts that change smoothly: each input glides from where it was to where it is to be.

use std::time::{Duration, Instant};

use kaigi_proto::ids::StreamId;

use super::{Rect, Region, Size};

/// Where regions are, while they move and when they have come to rest.
#[derive(Debug, Default)]
pub(super) struct Glide {
    from: Vec<Rect>,
    places: Vec<Rect>,
    begun: Option<Instant>,
    duration: Duration,
}

impl Glide {
    /// Everything is where it is to be.
    pub(super) fn still(regions: &[Region]) -> Self {
        Self { places: regions.iter().map(|region| region.rect).collect(), ..Self::default() }
    }

    /// Inputs glide from their places in `old` regions to the new ones; those that were not there grow from the middle of theirs.
    pub(super) fn begin(&mut self, old: &[Region], new: &[Region], duration: Duration, now: Instant) {
        let seen = |stream: &StreamId| {
            let of_it = |region: &Region| region.badge.as_ref().is_some_and(|badge| badge.stream == *stream);
            old.iter().position(of_it).and_then(|index| self.places.get(index).copied())
        };
        let from = |region: &Region| {
            region
                .badge
                .as_ref()
                .map_or(region.rect, |badge| seen(&badge.stream).unwrap_or(middle(region.rect)))
        };
        let from: Vec<Rect> = new.iter().map(from).collect();
        let moves = from.iter().zip(new).any(|(from, region)| *from != region.rect);
        *self = if duration.is_zero() || !moves {
            Self::still(new)
        } else {
            Self { places: from.clone(), from, begun: Some(now), duration }
        };
    }

    /// Goes on. Whether something moved.
    pub(super) fn step(&mut self, regions: &[Region], now: Instant) -> bool {
        let Some(begun) = self.begun else { return false };
        let part = now.saturating_duration_since(begun).as_secs_f64() / self.duration.as_secs_f64();
        if part >= 1.0 {
            *self = Self::still(regions);
            return true;
        }
        // Begins and ends slowly.
        let eased = part * part * (3.0 - 2.0 * part);
        self.places =
            self.from.iter().zip(regions).map(|(from, region)| between(*from, region.rect, eased)).collect();
        true
    }

    /// The place of each region now.
    pub(super) fn places(&self) -> &[Rect] {
        &self.places
    }
}

fn middle(Rect { x, y, size: Size { width, height } }: Rect) -> Rect {
    let size = Size { width: (width / 4).max(2) & !1, height: (height / 4).max(2) & !1 };
    Rect { x: (x + (width - size.width) / 2) & !1, y: (y + (height - size.height) / 2) & !1, size }
}

fn between(from: Rect, to: Rect, part: f64) -> Rect {
    let mix = |from: u32, to: u32| {
        ((f64::from(from) + (f64::from(to) - f64::from(from)) * part).round() as u32) & !1
    };
    let size = |from: u32, to: u32| mix(from, to).max(2);
    Rect {
        x: mix(from.x, to.x),
        y: mix(from.y, to.y),
        size: Size {
            width: size(from.size.width, to.size.width),
            height: size(from.size.height, to.size.height),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Badge, *};

    const LONG: Duration = Duration::from_millis(400);

    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, size: Size { width, height } }
    }
    fn region(stream: &str, rect: Rect) -> Region {
        let stream = StreamId::new(stream).unwrap();
        Region {
            rect,
            source: None,
            badge: Some(Badge { stream, name: "".into(), avatar: false, still: None }),
        }
    }

    #[test]
    fn inputs_glide_to_their_new_places() {
        let old = [region("a", rect(0, 0, 640, 360))];
        let new = [region("b", rect(0, 0, 320, 180)), region("a", rect(320, 0, 320, 180))];
        let (now, mut glide) = (Instant::now(), Glide::still(&old));
        glide.begin(&old, &new, LONG, now);
        assert_eq!(glide.places(), [rect(120, 68, 80, 44), rect(0, 0, 640, 360)]);
        assert!(glide.step(&new, now + LONG / 2));
        assert_eq!(glide.places()[1], rect(160, 0, 480, 270));
        assert!(glide.step(&new, now + LONG));
        assert_eq!(glide.places(), [new[0].rect, new[1].rect]);
        assert!(!glide.step(&new, now + LONG * 2), "it is there");
    }

    #[test]
    fn a_change_in_between_goes_on_from_there() {
        let [left, right] = [rect(0, 0, 320, 180), rect(320, 0, 320, 180)];
        let (old, new) = ([region("a", left)], [region("a", right)]);
        let (now, mut glide) = (Instant::now(), Glide::still(&old));
        glide.begin(&old, &new, LONG, now);
        glide.step(&new, now + LONG / 2);
        glide.begin(&new, &old, LONG, now + LONG / 2);
        assert_eq!(glide.places(), [rect(160, 0, 320, 180)]);
    }

    #[test]
    fn without_a_duration_it_is_at_once() {
        let (old, new) = ([region("a", rect(0, 0, 320, 180))], [region("a", rect(320, 0, 320, 180))]);
        let (now, mut glide) = (Instant::now(), Glide::still(&old));
        glide.begin(&old, &new, Duration::ZERO, now);
        assert_eq!(glide.places(), [new[0].rect]);
        assert!(!glide.step(&new, now));
    }

    #[test]
    fn nothing_moves_where_nothing_changes() {
        let old = [region("a", rect(0, 0, 320, 180))];
        let (now, mut glide) = (Instant::now(), Glide::still(&old));
        glide.begin(&old, &old, LONG, now);
        assert!(!glide.step(&old, now + LONG / 2));
    }
}
