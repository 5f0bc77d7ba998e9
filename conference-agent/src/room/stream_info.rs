//! What a stream can be had as: the optional formats and parameters that clients are shown, from the room's `mediaOut` and
//! `transcoding` and what the stream is now.

use kaigi_proto::v1;
use kaigi_room_config::{Resolution, RoomConfig, named_resolution};

use super::media::{Format, VideoParameters, resolution_to_wire};

/// What the lists are computed from while the real size and rate are unknown.
const BASE_RESOLUTION: Resolution = Resolution { width: 640, height: 480 };
/// Frames per second; see [`BASE_RESOLUTION`].
const BASE_FRAMERATE: u32 = 30;

/// Alternatives to what a video track is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VideoOptions {
    pub(crate) formats: Vec<Format>,
    pub(crate) resolutions: Vec<Resolution>,
    /// Frames per second.
    pub(crate) framerates: Vec<u32>,
    /// Multipliers: "x0.8".
    pub(crate) bitrates: Vec<String>,
    /// Seconds.
    pub(crate) key_frame_intervals: Vec<u32>,
}

impl VideoOptions {
    /// Always there, all four lists, empty where nothing is offered: some SDKs need them.
    pub(crate) fn parameters_to_wire(&self) -> v1::OptionalParameters {
        v1::OptionalParameters {
            resolutions: self.resolutions.iter().copied().map(resolution_to_wire).collect(),
            framerates: self.framerates.clone(),
            bitrates: self.bitrates.clone(),
            key_frame_intervals: self.key_frame_intervals.clone(),
        }
    }
}

/// The audio formats beside `current`.
pub(crate) fn audio_options(room: &RoomConfig, current: &Format) -> Vec<Format> {
    if !room.transcoding.audio {
        return Vec::new();
    }
    room.media_out.audio.iter().map(Format::from).filter(|format| format != current).collect()
}

/// What a video track can be had as beside what it is.
pub(crate) fn video_options(
    room: &RoomConfig,
    current: &Format,
    parameters: &VideoParameters,
) -> VideoOptions {
    let Some(transcoding) = &room.transcoding.video else { return VideoOptions::default() };
    let offered = &room.media_out.video;
    let flags = transcoding.parameters.unwrap_or_default();
    let mut options = VideoOptions::default();
    if transcoding.format {
        options.formats =
            offered.format.iter().map(Format::from).filter(|format| format != current).collect();
    }
    if flags.resolution {
        let base = parameters.resolution.unwrap_or(BASE_RESOLUTION);
        let smaller = |size: &Resolution| size.width < base.width && size.height < base.height;
        for size in offered.parameters.resolution.iter().filter_map(|name| named_resolution(name, base)) {
            if smaller(&size) && size.width > 0 && size.height > 0 && !options.resolutions.contains(&size) {
                options.resolutions.push(size);
            }
        }
    }
    if flags.framerate {
        let base = parameters.framerate.unwrap_or(BASE_FRAMERATE);
        options.framerates =
            offered.parameters.framerate.iter().copied().filter(|&rate| rate < base).collect();
    }
    if flags.bitrate {
        options.bitrates = offered.parameters.bitrate.clone();
    }
    if flags.key_frame_interval {
        options.key_frame_intervals = offered.parameters.key_frame_interval.clone();
    }
    options
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn size(width: u32, height: u32) -> Resolution {
        Resolution { width, height }
    }

    fn format(codec: &str) -> Format {
        Format { codec: codec.into(), ..Format::default() }
    }

    fn room(attributes: serde_json::Value) -> RoomConfig {
        let attributes = attributes.as_object().cloned().unwrap_or_default();
        RoomConfig::from_options(&"0".repeat(24), "room", "service", &attributes).unwrap()
    }

    #[test]
    fn the_mixed_stream_of_the_default_room() {
        let room = room(json!({}));
        let parameters = VideoParameters {
            resolution: Some(size(640, 480)),
            framerate: Some(24),
            key_frame_interval: Some(100),
            bitrate: None,
        };
        let options = video_options(&room, &format("vp8"), &parameters);
        let sizes = [(480, 360), (426, 320), (320, 240), (212, 160), (160, 120), (352, 288)];
        assert_eq!(options.resolutions, sizes.map(|(w, h)| size(w, h)));
        assert_eq!(options.framerates, [6, 12, 15]);
        assert_eq!(options.bitrates, ["x0.8", "x0.6", "x0.4", "x0.2"]);
        assert_eq!(options.key_frame_intervals, [100, 30, 5, 2, 1]);
        let formats: Vec<_> =
            options.formats.iter().map(|f| (f.codec.as_str(), f.profile.as_str())).collect();
        assert_eq!(formats, [("h264", "CB"), ("h264", "B"), ("vp9", "")]);

        let opus = Format { codec: "opus".into(), sample_rate: 48000, channels: 2, profile: String::new() };
        let audio = audio_options(&room, &opus);
        assert_eq!(audio.len(), room.media_out.audio.len() - 1);
        assert!(!audio.contains(&opus));
    }

    #[test]
    fn a_forward_stream_is_first_announced_on_the_base_of_vga_at_30() {
        let options = video_options(&room(json!({})), &format("vp8"), &VideoParameters::default());
        assert_eq!(options.resolutions[0], size(480, 360));
        assert_eq!(options.framerates, [6, 12, 15, 24]);
    }

    #[test]
    fn a_known_size_changes_the_list() {
        let parameters = VideoParameters { resolution: Some(size(1280, 720)), ..VideoParameters::default() };
        let options = video_options(&room(json!({})), &format("vp8"), &parameters);
        let sizes = [
            (960, 540),
            (852, 480),
            (640, 360),
            (426, 240),
            (320, 180),
            (800, 600),
            (640, 480),
            (320, 240),
            (352, 288),
        ];
        assert_eq!(options.resolutions, sizes.map(|(w, h)| size(w, h)));
    }

    #[test]
    fn without_transcoding_all_lists_are_empty() {
        let room = room(json!({"transcoding": {"audio": false, "video": false}}));
        assert_eq!(
            video_options(&room, &format("vp8"), &VideoParameters::default()),
            VideoOptions::default()
        );
        assert!(audio_options(&room, &format("opus")).is_empty());
    }

    #[test]
    fn each_flag_counts_alone() {
        let parameters =
            json!({"resolution": false, "framerate": true, "bitrate": false, "keyFrameInterval": false});
        let room = room(
            json!({"transcoding": {"audio": true, "video": {"format": false, "parameters": parameters}}}),
        );
        let options = video_options(&room, &format("vp8"), &VideoParameters::default());
        assert_eq!(options.framerates, [6, 12, 15, 24]);
        assert_eq!(
            options,
            VideoOptions { framerates: options.framerates.clone(), ..VideoOptions::default() }
        );
    }
}
