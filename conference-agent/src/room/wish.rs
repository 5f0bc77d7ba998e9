//! Whether what a subscriber wants of a track is offered, and whether the track is that already.

use kaigi_room_config::RoomConfig;

use super::{
    media::{Format, Kind, VideoParameters},
    refusal::{Refusal, Unsatisfied},
    stream_info::{audio_options, video_options},
};

/// What a subscriber wants of a track; `None` = as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish {
    pub(crate) format: Option<Format>,
    pub(crate) parameters: VideoParameters,
    /// "x0.6"
    pub(crate) bitrate_multiplier: Option<String>,
}

/// Checks a wish against a track.
///
/// # Errors
/// [`Refusal::Unsatisfied`] if OWT's rules do not offer it, [`Refusal::NeedsTranscoder`] if they do but the track is not that now.
pub(crate) fn check(
    wish: &Wish,
    kind: Kind,
    room: &RoomConfig,
    current: &Format,
    parameters: &VideoParameters,
) -> Result<(), Refusal> {
    let mut conversion = None;
    let mut want = |same: bool, offered: bool, what: Unsatisfied, name: &'static str| {
        if !same && !offered {
            return Err(Refusal::Unsatisfied(kind, what));
        }
        if !same {
            conversion.get_or_insert(name);
        }
        Ok(())
    };
    let options = video_options(room, current, parameters);
    if let Some(format) = &wish.format {
        let offered = match kind {
            Kind::Audio => audio_options(room, current),
            Kind::Video => options.formats.clone(),
        };
        let offered = offered.iter().any(|option| format.is_met_by(option));
        want(format.is_met_by(current), offered, Unsatisfied::Format, "format")?;
    }
    if kind == Kind::Video {
        if let Some(size) = wish.parameters.resolution {
            let offered = parameters.resolution.is_none() || options.resolutions.contains(&size);
            want(parameters.resolution == Some(size), offered, Unsatisfied::Resolution, "resolution")?;
        }
        if let Some(rate) = wish.parameters.framerate {
            let offered = options.framerates.contains(&rate);
            want(parameters.framerate == Some(rate), offered, Unsatisfied::Framerate, "framerate")?;
        }
        if let Some(bitrate) = wish.parameters.bitrate {
            want(parameters.bitrate == Some(bitrate), false, Unsatisfied::Bitrate, "bitrate")?;
        }
        if let Some(multiplier) = wish.bitrate_multiplier.as_deref().filter(|m| !matches!(*m, "x1" | "x1.0"))
        {
            let offered = options.bitrates.iter().any(|b| b == multiplier);
            want(false, offered, Unsatisfied::Bitrate, "bitrate")?;
        }
        if let Some(interval) = wish.parameters.key_frame_interval {
            let offered = options.key_frame_intervals.contains(&interval);
            let same = parameters.key_frame_interval == Some(interval);
            want(same, offered, Unsatisfied::KeyFrameInterval, "keyFrameInterval")?;
        }
    }
    match conversion {
        Some(what) => Err(Refusal::NeedsTranscoder(kind, what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kaigi_room_config::Resolution;

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

    fn ask(change: impl FnOnce(&mut Wish)) -> Result<(), Refusal> {
        let mut wish = Wish::default();
        change(&mut wish);
        check(&wish, Kind::Video, &RoomConfig::new("0", "r", "s"), &vp8(), &mixed())
    }

    fn unsatisfied(what: Unsatisfied) -> Result<(), Refusal> {
        Err(Refusal::Unsatisfied(Kind::Video, what))
    }

    #[test]
    fn values_equal_to_the_current_ones_are_fine() {
        assert_eq!(ask(|_| {}), Ok(()));
        assert_eq!(ask(|w| w.parameters = mixed()), Ok(()));
        assert_eq!(ask(|w| w.format = Some(vp8())), Ok(()));
        assert_eq!(ask(|w| w.bitrate_multiplier = Some("x1.0".into())), Ok(()));
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
    fn what_is_offered_but_not_current_needs_a_transcoder() {
        let needs = |what| Err(Refusal::NeedsTranscoder(Kind::Video, what));
        let size = Resolution { width: 320, height: 240 };
        assert_eq!(ask(|w| w.parameters.resolution = Some(size)), needs("resolution"));
        assert_eq!(ask(|w| w.bitrate_multiplier = Some("x0.6".into())), needs("bitrate"));
        let h264 = Format { codec: "h264".into(), profile: "CB".into(), ..Format::default() };
        assert_eq!(ask(|w| w.format = Some(h264)), needs("format"));
    }

    #[test]
    fn what_is_not_offered_goes_before_what_needs_a_transcoder() {
        let asked = ask(|w| {
            w.parameters.resolution = Some(Resolution { width: 320, height: 240 });
            w.parameters.framerate = Some(50);
        });
        assert_eq!(asked, unsatisfied(Unsatisfied::Framerate));
    }
}
