//! Whether what a subscriber wants of a track is offered, and what of it the track is not already.

use kaigi_room_config::{Resolution, RoomConfig};
use serde::{Deserialize, Serialize};

use super::{
    input::TrackUpdate,
    media::{Format, Kind, VideoParameters},
    outputs::Factor,
    refusal::{Refusal, Unsatisfied},
    stream_info::{audio_options, video_options},
};

/// What a subscriber wants of a track; `None` = as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) format: Option<Format>,
    pub(crate) parameters: VideoParameters,
    /// "x0.6"
    pub(crate) bitrate_multiplier: Option<String>,
    /// See [`LayerWish::priority`](super::media::LayerWish::priority).
    pub(crate) priority: u32,
}

impl Wish {
    /// Takes what is given over the wish before.
    pub(crate) fn change(&mut self, change: &TrackUpdate) {
        let TrackUpdate { parameters, bitrate_multiplier, priority, from: _ } = change;
        self.priority = priority.unwrap_or(self.priority);
        let wanted = &mut self.parameters;
        wanted.resolution = parameters.resolution.or(wanted.resolution);
        wanted.framerate = parameters.framerate.or(wanted.framerate);
        wanted.key_frame_interval = parameters.key_frame_interval.or(wanted.key_frame_interval);
        // A bitrate is one or the other.
        if parameters.bitrate.is_some() {
            wanted.bitrate = parameters.bitrate;
            self.bitrate_multiplier = None;
        }
        if let Some(multiplier) = bitrate_multiplier {
            wanted.bitrate = None;
            self.bitrate_multiplier = Some(multiplier.clone());
        }
    }
}

/// How a subscription differs from what it is made of. What the track was already when it was asked for is not kept: a size that a
/// camera changes later is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversion {
    /// Whether the format wanted is another than the track's.
    pub(crate) format: bool,
    pub(crate) resolution: Option<Resolution>,
    /// Frames per second.
    pub(crate) framerate: Option<u32>,
    pub(crate) bitrate: Option<Factor>,
    /// Seconds.
    pub(crate) key_frame_interval: Option<u32>,
    /// No difference in what is received but in when it is left out.
    pub(crate) priority: u32,
}

impl Conversion {
    /// Whether only the format may differ.
    pub(crate) fn keeps_parameters(&self) -> bool {
        *self == Self { format: self.format, priority: self.priority, ..Self::default() }
    }

    /// Whether nothing differs, as far as the subscriber has a say.
    pub(crate) fn is_none(&self) -> bool {
        !self.format && self.keeps_parameters()
    }
}

/// Checks a wish against a track, or against the largest of `layers` of these sizes, each of which can be had.
///
/// # Errors
/// [`Refusal::Unsatisfied`] if OWT's rules do not offer it.
pub(crate) fn check(
    wish: &Wish,
    kind: Kind,
    room: &RoomConfig,
    current: &Format,
    parameters: &VideoParameters,
    layers: &[Resolution],
) -> Result<Conversion, Refusal> {
    let mut conversion = Conversion { priority: wish.priority, ..Conversion::default() };
    let offer = |offered: bool, what| if offered { Ok(()) } else { Err(Refusal::Unsatisfied(kind, what)) };
    let options = video_options(room, current, parameters);
    if let Some(format) = wish.format.as_ref().filter(|format| !format.is_met_by(current)) {
        let offered = match kind {
            Kind::Audio => audio_options(room, current),
            Kind::Video => options.formats.clone(),
        };
        offer(offered.iter().any(|option| format.is_met_by(option)), Unsatisfied::Format)?;
        conversion.format = true;
    }
    if kind == Kind::Audio {
        return Ok(conversion);
    }
    let wanted = &wish.parameters;
    if let Some(size) = wanted.resolution.filter(|size| parameters.resolution != Some(*size)) {
        let offered =
            parameters.resolution.is_none() || options.resolutions.contains(&size) || layers.contains(&size);
        offer(offered, Unsatisfied::Resolution)?;
        conversion.resolution = Some(size);
    }
    if let Some(rate) = wanted.framerate.filter(|rate| parameters.framerate != Some(*rate)) {
        offer(options.framerates.contains(&rate), Unsatisfied::Framerate)?;
        conversion.framerate = Some(rate);
    }
    if wanted.bitrate.is_some() {
        offer(parameters.bitrate == wanted.bitrate, Unsatisfied::Bitrate)?;
    }
    if let Some(multiplier) =
        wish.bitrate_multiplier.as_ref().filter(|m| !matches!(m.as_str(), "x1" | "x1.0"))
    {
        let factor = Factor::parse(multiplier).filter(|_| options.bitrates.contains(multiplier));
        offer(factor.is_some(), Unsatisfied::Bitrate)?;
        conversion.bitrate = factor;
    }
    let interval = wanted.key_frame_interval;
    if let Some(interval) = interval.filter(|interval| parameters.key_frame_interval != Some(*interval)) {
        offer(options.key_frame_intervals.contains(&interval), Unsatisfied::KeyFrameInterval)?;
        conversion.key_frame_interval = Some(interval);
    }
    Ok(conversion)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vp8() -> Format {
        Format { codec: "vp8".into(), ..Format::default() }
    }

    fn mixed() -> VideoParameters {
        VideoParameters {
            resolution: Some(Resolution { width: 640, height: 480 }),
            framerate: Some(24),
            bitrate: None,
            key_frame_interval: Some(100),
        }
    }

    fn ask(change: impl FnOnce(&mut Wish)) -> Result<Conversion, Refusal> {
        let mut wish = Wish::default();
        change(&mut wish);
        check(&wish, Kind::Video, &RoomConfig::new("0", "r", "s"), &vp8(), &mixed(), &[])
    }

    fn unsatisfied(what: Unsatisfied) -> Result<Conversion, Refusal> {
        Err(Refusal::Unsatisfied(Kind::Video, what))
    }

    #[test]
    fn values_equal_to_the_current_ones_are_fine() {
        assert_eq!(ask(|_| {}), Ok(Conversion::default()));
        assert_eq!(ask(|w| w.parameters = mixed()), Ok(Conversion::default()));
        assert_eq!(ask(|w| w.format = Some(vp8())), Ok(Conversion::default()));
        assert_eq!(ask(|w| w.bitrate_multiplier = Some("x1.0".into())), Ok(Conversion::default()));
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let av1 = Format { codec: "av1".into(), ..Format::default() };
        assert_eq!(ask(|w| w.format = Some(av1)), unsatisfied(Unsatisfied::Format));
        let size = Resolution { width: 641, height: 480 };
        assert_eq!(ask(|w| w.parameters.resolution = Some(size)), unsatisfied(Unsatisfied::Resolution));
        assert_eq!(ask(|w| w.parameters.framerate = Some(30)), unsatisfied(Unsatisfied::Framerate));
        assert_eq!(ask(|w| w.bitrate_multiplier = Some("x0.7".into())), unsatisfied(Unsatisfied::Bitrate));
        assert_eq!(
            ask(|w| w.parameters.key_frame_interval = Some(7)),
            unsatisfied(Unsatisfied::KeyFrameInterval)
        );
    }

    #[test]
    fn what_is_offered_but_not_current_is_to_be_converted() {
        let size = Resolution { width: 320, height: 240 };
        let asked = ask(|w| {
            w.parameters = VideoParameters { resolution: Some(size), framerate: Some(24), ..mixed() };
            w.bitrate_multiplier = Some("x0.6".into());
        });
        let expected =
            Conversion { resolution: Some(size), bitrate: Factor::parse("x0.6"), ..Conversion::default() };
        assert_eq!(asked, Ok(expected));
        let h264 = Format { codec: "h264".into(), profile: "CB".into(), ..Format::default() };
        let asked = ask(|w| w.format = Some(h264)).unwrap();
        assert!(asked.format && asked.keeps_parameters() && !asked.is_none());
    }

    #[test]
    fn any_size_is_fine_while_the_sources_is_unknown() {
        let mut wish = Wish::default();
        wish.parameters.resolution = Some(Resolution { width: 1000, height: 600 });
        let room = RoomConfig::new("0", "r", "s");
        let conversion = check(&wish, Kind::Video, &room, &vp8(), &VideoParameters::default(), &[]).unwrap();
        assert_eq!(conversion.resolution, wish.parameters.resolution);
    }
}
