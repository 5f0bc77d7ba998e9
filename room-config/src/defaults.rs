//! OWT's default room (REST API, "Default room").

use crate::{
    KindFlags, Role,
    media::{
        AudioFormat, MediaIn, MediaOut, Transcoding, TranscodingVideo, VideoFormat, VideoOut,
        VideoParameterFlags, VideoParameterLists, View,
    },
};

pub(crate) fn unlimited() -> i64 {
    -1
}

pub(crate) fn roles() -> Vec<Role> {
    let role = |name: &str, publish: (bool, bool), subscribe: (bool, bool)| Role {
        role: name.to_owned(),
        publish: KindFlags { audio: publish.0, video: publish.1 },
        subscribe: KindFlags { audio: subscribe.0, video: subscribe.1 },
    };
    vec![
        role("presenter", (true, true), (true, true)),
        role("viewer", (false, false), (true, true)),
        role("audio_only_presenter", (true, false), (true, false)),
        role("video_only_viewer", (false, false), (false, true)),
        role("sip", (true, true), (true, true)),
    ]
}

pub(crate) fn views() -> Vec<View> {
    vec![View::default()]
}

fn audio_formats(aac: AudioFormat) -> Vec<AudioFormat> {
    let format = |codec: &str, sample_rate, channel_num| AudioFormat {
        codec: codec.to_owned(),
        sample_rate,
        channel_num,
    };
    vec![
        AudioFormat::opus(),
        format("isac", Some(16000), None),
        format("isac", Some(32000), None),
        format("g722", Some(16000), Some(1)),
        format("pcma", None, None),
        format("pcmu", None, None),
        aac,
        format("ac3", None, None),
        format("nellymoser", None, None),
        format("ilbc", None, None),
    ]
}

fn video(codec: &str, profile: Option<&str>) -> VideoFormat {
    VideoFormat { codec: codec.to_owned(), profile: profile.map(str::to_owned) }
}

pub(crate) fn media_in() -> MediaIn {
    MediaIn {
        audio: audio_formats(AudioFormat { codec: "aac".to_owned(), sample_rate: None, channel_num: None }),
        video: vec![video("h264", None), video("vp8", None), video("vp9", None)],
    }
}

pub(crate) fn media_out() -> MediaOut {
    let names = |list: &[&str]| list.iter().map(|&n| n.to_owned()).collect();
    MediaOut {
        audio: audio_formats(AudioFormat {
            codec: "aac".to_owned(),
            sample_rate: Some(48000),
            channel_num: Some(2),
        }),
        video: VideoOut {
            format: vec![
                video("vp8", None),
                video("h264", Some("CB")),
                video("h264", Some("B")),
                video("vp9", None),
            ],
            parameters: VideoParameterLists {
                resolution: names(&[
                    "x3/4", "x2/3", "x1/2", "x1/3", "x1/4", "hd1080p", "hd720p", "svga", "vga", "qvga", "cif",
                ]),
                framerate: vec![6, 12, 15, 24, 30, 48, 60],
                bitrate: names(&["x0.8", "x0.6", "x0.4", "x0.2"]),
                key_frame_interval: vec![100, 30, 5, 2, 1],
            },
        },
    }
}

pub(crate) fn transcoding() -> Transcoding {
    Transcoding {
        audio: true,
        video: Some(TranscodingVideo {
            format: true,
            parameters: Some(VideoParameterFlags {
                resolution: true,
                framerate: true,
                bitrate: true,
                key_frame_interval: true,
            }),
        }),
    }
}
