//! What is shown while the picture's source is away: a still picture, encoded as long as it is needed.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

use super::connection::PipelineError;
use crate::frame::{Codec, Format};

/// Frames per second: enough for players to take it for a live picture.
const RATE: i32 = 5;
/// Frames from one key frame to the next.
const KEY_FRAMES: u32 = 10;
/// kbit/s
const BITRATE: u32 = 300;
/// Without a picture of the operator's: dark grey (ARGB).
const PLAIN: u32 = 0xff20_2020;

/// One run of it.
pub(super) struct Slate {
    pipeline: gst::Pipeline,
    sink: AppSink,
    size: (u32, u32),
}

/// A frame of it.
pub(super) struct SlateFrame {
    pub(super) key: bool,
    pub(super) data: Bytes,
    pub(super) format: Format,
}

impl Slate {
    /// A picture of that size, of that file (PNG or JPEG) within black borders, or a plain one.
    pub(super) fn start(picture: Option<&Path>, size: (u32, u32)) -> Result<Self, PipelineError> {
        let pipeline = gst::Pipeline::new();
        let raw = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", size.0 as i32)
            .field("height", size.1 as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("framerate", gst::Fraction::new(RATE, 1))
            .build();
        let encoded = gst::Caps::builder("video/x-h264")
            .field("profile", "constrained-baseline")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .build();
        let make = |name: &str| gst::ElementFactory::make(name).build();
        let filter = |caps: gst::Caps| gst::ElementFactory::make("capsfilter").property("caps", caps).build();
        let encoder = gst::ElementFactory::make("x264enc")
            .property("key-int-max", KEY_FRAMES)
            .property("bitrate", BITRATE)
            .property("threads", 1_u32)
            .build()?;
        encoder.set_property_from_str("tune", "zerolatency");
        encoder.set_property_from_str("speed-preset", "ultrafast");
        let sink = AppSink::builder().sync(false).max_buffers(RATE as u32).drop(true).build();
        let chain = match picture {
            Some(file) => still(&pipeline, file)?,
            None => {
                let source = gst::ElementFactory::make("videotestsrc")
                    .property("is-live", true)
                    .property("foreground-color", PLAIN)
                    .build()?;
                source.set_property_from_str("pattern", "solid-color");
                pipeline.add(&source)?;
                source
            }
        };
        let rest = [filter(raw)?, encoder, make("h264parse")?, filter(encoded)?, sink.clone().upcast()];
        pipeline.add_many(&rest)?;
        chain.link(&rest[0])?;
        gst::Element::link_many(&rest)?;
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self { pipeline, sink, size })
    }

    /// What is due. Never waits.
    pub(super) fn next(&self) -> Option<SlateFrame> {
        let sample = self.sink.try_pull_sample(gst::ClockTime::ZERO)?;
        let buffer = sample.buffer()?;
        let config = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
        let config = Bytes::copy_from_slice(&config.map_readable().ok()?);
        Some(SlateFrame {
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            data: Bytes::copy_from_slice(&buffer.map_readable().ok()?),
            format: Format { codec: Codec::H264, size: self.size, config },
        })
    }
}

impl Drop for Slate {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "the slate does not stop");
        }
    }
}

/// One picture of a file, again and again.
fn still(pipeline: &gst::Pipeline, file: &Path) -> Result<gst::Element, PipelineError> {
    let source = gst::ElementFactory::make("filesrc").property("location", file).build()?;
    let decoder = gst::ElementFactory::make("decodebin").build()?;
    let convert = gst::ElementFactory::make("videoconvert").build()?;
    let scale = gst::ElementFactory::make("videoscale").property("add-borders", true).build()?;
    let freeze = gst::ElementFactory::make("imagefreeze").property("is-live", true).build()?;
    pipeline.add_many([&source, &decoder, &convert, &scale, &freeze])?;
    source.link(&decoder)?;
    gst::Element::link_many([&convert, &scale, &freeze])?;
    let into = convert.static_pad("sink");
    decoder.connect_pad_added(move |_, pad| {
        if let Some(into) = into.as_ref().filter(|into| !into.is_linked())
            && let Err(error) = pad.link(into)
        {
            tracing::warn!(%error, "the slate's file has no picture");
        }
    });
    Ok(freeze)
}

/// Whether a file can be shown; for when the process starts.
///
/// # Errors
/// What is wrong with it.
pub fn check(picture: &Path) -> Result<(), String> {
    std::fs::File::open(picture).map_err(|error| error.to_string())?;
    let slate = Slate::start(Some(picture), (64, 48)).map_err(|error| error.to_string())?;
    match slate.sink.try_pull_sample(gst::ClockTime::from_seconds(5)) {
        Some(_) => Ok(()),
        None => Err("it is no picture that can be decoded".to_owned()),
    }
}

/// The picture is away for so long before the slate is shown.
pub(super) const SHOWN_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn frames(slate: &Slate, count: usize) -> Vec<SlateFrame> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut frames = Vec::new();
        while frames.len() < count && Instant::now() < deadline {
            match slate.next() {
                Some(frame) => frames.push(frame),
                None => std::thread::yield_now(),
            }
        }
        frames
    }

    #[test]
    fn it_begins_with_a_key_frame_and_has_what_decoders_need() {
        gst::init().unwrap();
        let slate = Slate::start(None, (320, 240)).unwrap();
        let frames = frames(&slate, 3);
        assert_eq!(frames.len(), 3);
        assert!(frames[0].key);
        assert_eq!(frames[0].format.size, (320, 240));
        // AVCDecoderConfigurationRecord: version 1, profile 66 (Baseline).
        assert_eq!(frames[0].format.config[..2], [1, 66]);
    }

    #[test]
    fn a_picture_is_shown_within_the_size_of_what_it_stands_for() {
        gst::init().unwrap();
        let file = std::env::temp_dir().join(format!("kaigi-slate-{}.png", std::process::id()));
        let launch = format!("videotestsrc num-buffers=1 ! pngenc ! filesink location={}", file.display());
        let pipeline = gst::parse::launch(&launch).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let done = pipeline.bus().unwrap().timed_pop_filtered(
            gst::ClockTime::from_seconds(10),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        assert!(done.is_some_and(|message| message.type_() == gst::MessageType::Eos));
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(check(&file), Ok(()));
        let slate = Slate::start(Some(&file), (640, 360)).unwrap();
        let frames = frames(&slate, 2);
        std::fs::remove_file(&file).unwrap();
        assert_eq!((frames.len(), frames[0].key), (2, true));
        // Not the plain one: there is something to encode.
        assert!(frames[0].data.len() > 2_000, "{}", frames[0].data.len());
    }

    #[test]
    fn a_file_that_is_no_picture_is_said_to_be_none() {
        gst::init().unwrap();
        assert!(check(Path::new("/nowhere")).is_err());
        assert!(check(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()).is_err());
    }
}
