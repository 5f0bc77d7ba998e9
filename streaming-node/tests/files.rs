//! What is recorded can be played: files are read back by GStreamer's demuxer and decoders.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, time::Duration};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;
use kaigi_streaming_node::{
    container::Container,
    frame::{Codec, Format, Frame},
    lanes::{Kind, LaneFrame},
    recording::Recording,
};

const SECONDS: u64 = 4;

/// Frames that an encoder makes, with the buffers' times.
fn encoded(launch: &str) -> Vec<Frame> {
    gst::init().unwrap();
    let launch = format!("{launch} ! appsink name=sink sync=false");
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut frames = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        frames.push(Frame {
            time: Duration::from_nanos(buffer.pts().unwrap().nseconds()),
            key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            data: Bytes::from(buffer.map_readable().unwrap().to_vec()),
        });
    }
    pipeline.set_state(gst::State::Null).unwrap();
    frames
}

fn picture(width: u32, height: u32) -> Vec<LaneFrame> {
    let frames = encoded(&format!(
        "videotestsrc num-buffers={} pattern=ball ! video/x-raw,width={width},height={height},framerate=25/1 \
         ! vp8enc deadline=1 keyframe-max-dist=25",
        SECONDS * 25
    ));
    let format = Format { codec: Codec::Vp8, size: (width, height), config: Bytes::new() };
    let lane =
        |frame: Frame| LaneFrame { kind: Kind::Video, format: frame.key.then(|| format.clone()), frame };
    frames.into_iter().map(lane).collect()
}

/// As a depacketizer gives it: lengths before NAL units, parameter sets apart.
fn h264_picture(width: u32, height: u32) -> Vec<LaneFrame> {
    gst::init().unwrap();
    let launch = format!(
        "videotestsrc num-buffers={} pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! video/x-h264,stream-format=avc,alignment=au \
         ! appsink name=sink sync=false",
        SECONDS * 25
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut lanes = Vec::new();
    let mut first = None;
    while let Ok(sample) = sink.pull_sample() {
        let (buffer, caps) = (sample.buffer().unwrap(), sample.caps().unwrap());
        let config = caps.structure(0).unwrap().get::<gst::Buffer>("codec_data").unwrap();
        let config = Bytes::copy_from_slice(&config.map_readable().unwrap());
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let time = Duration::from_nanos(buffer.pts().unwrap().nseconds());
        // The encoder counts from an hour.
        let time = time - *first.get_or_insert(time);
        let format = key.then_some(Format { codec: Codec::H264, size: (width, height), config });
        let data = Bytes::copy_from_slice(&buffer.map_readable().unwrap());
        lanes.push(LaneFrame { kind: Kind::Video, frame: Frame { time, key, data }, format });
    }
    pipeline.set_state(gst::State::Null).unwrap();
    lanes
}

fn sound() -> Vec<LaneFrame> {
    let frames = encoded(&format!(
        "audiotestsrc num-buffers={} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! opusenc",
        SECONDS * 50
    ));
    let lane = |frame| LaneFrame { kind: Kind::Audio, frame, format: Some(Format::audio(Codec::Opus)) };
    frames.into_iter().map(lane).collect()
}

fn later(mut frames: Vec<LaneFrame>, by: Duration) -> Vec<LaneFrame> {
    for lane in &mut frames {
        lane.frame.time += by;
    }
    frames
}

fn together(mut frames: Vec<LaneFrame>) -> Vec<LaneFrame> {
    frames.sort_by_key(|lane| lane.frame.time);
    frames
}

/// How many pictures and how many seconds of sound a file has.
fn played(file: &Path) -> (usize, f64) {
    let is_mp4 = file.extension().unwrap() == "mp4";
    played_as(file, if is_mp4 { Codec::H264 } else { Codec::Vp8 })
}

fn played_as(file: &Path, codec: Codec) -> (usize, f64) {
    gst::init().unwrap();
    let demux = if file.extension().unwrap() == "mp4" { "qtdemux" } else { "matroskademux" };
    let decoder = if codec == Codec::H264 { "video/x-h264 ! avdec_h264" } else { "video/x-vp8 ! vp8dec" };
    let launch = format!(
        "filesrc location={} ! {demux} name=demux \
         demux. ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! {decoder} ! appsink name=video sync=false \
         demux. ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! audio/x-opus ! opusdec ! audio/x-raw,rate=48000 ! appsink name=audio sync=false",
        file.display()
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let sink = |name| pipeline.by_name(name).unwrap().downcast::<AppSink>().unwrap();
    let (video, audio) = (sink("video"), sink("audio"));
    let count = std::thread::spawn(move || {
        std::iter::from_fn(|| video.try_pull_sample(gst::ClockTime::from_seconds(10))).count()
    });
    let mut heard = 0.0;
    while let Some(sample) = audio.try_pull_sample(gst::ClockTime::from_seconds(10)) {
        heard += sample.buffer().unwrap().duration().unwrap_or_default().nseconds() as f64 / 1e9;
    }
    let pictures = count.join().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    (pictures, heard)
}

fn segments(folder: &Path) -> Vec<serde_json::Value> {
    let manifest = std::fs::read(folder.join("r.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["segments"].as_array().unwrap().clone()
}

fn recorded(frames: Vec<LaneFrame>, folder: &Path) -> Recording {
    recorded_in(Container::Matroska, frames, folder)
}

fn recorded_in(container: Container, frames: Vec<LaneFrame>, folder: &Path) -> Recording {
    let mut recording = Recording::new(folder.join("r"), container, Kind::ALL.to_vec(), 1_000);
    for lane in frames {
        recording.write(lane).unwrap();
    }
    recording
}

#[test]
fn a_recording_has_every_picture_and_all_of_the_sound() {
    let folder = tempfile::tempdir().unwrap();
    let frames = together([picture(320, 240), sound()].concat());
    recorded(frames, folder.path()).finish().unwrap();
    let (pictures, heard) = played(&folder.path().join("r.mkv"));
    assert_eq!(pictures as u64, SECONDS * 25);
    assert!((heard - SECONDS as f64).abs() < 0.1, "{heard} s");
    let [segment] = &segments(folder.path())[..] else { panic!("not one file") };
    assert_eq!((&segment["file"], segment["begin"].as_f64()), (&"r.mkv".into(), Some(0.0)));
    let picture = segment["tracks"].as_array().unwrap().iter().find(|track| track["codec"] == "vp8").unwrap();
    assert_eq!((&picture["width"], &picture["height"]), (&320.into(), &240.into()));
}

#[test]
fn what_is_on_the_disk_can_be_played_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let frames = together([picture(320, 240), sound()].concat());
    let mut recording = recorded(frames, folder.path());
    recording.flush().unwrap();
    // As after a SIGKILL: never finished.
    let file = folder.path().join("r.mkv");
    let copy = folder.path().join("copy.mkv");
    std::fs::copy(&file, &copy).unwrap();
    let (pictures, heard) = played(&copy);
    assert_eq!(pictures as u64, SECONDS * 25);
    assert!((heard - SECONDS as f64).abs() < 0.1, "{heard} s");
    // Cut in the middle of whatever is there.
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&copy, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let (pictures, _) = played(&copy);
    assert!(pictures > 25, "{pictures} pictures");
}

#[test]
fn mp4_has_every_picture_and_all_of_the_sound_and_can_be_played_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let frames = together([h264_picture(320, 240), sound()].concat());
    let mut recording = recorded_in(Container::Mp4, frames, folder.path());
    recording.flush().unwrap();
    let (file, copy) = (folder.path().join("r.mp4"), folder.path().join("copy.mp4"));
    // As after a SIGKILL: the last frame of each kind has no end yet.
    std::fs::copy(&file, &copy).unwrap();
    let (pictures, heard) = played(&copy);
    assert_eq!(pictures as u64, SECONDS * 25 - 1);
    assert!((heard - SECONDS as f64).abs() < 0.1, "{heard} s");
    recording.finish().unwrap();
    let (pictures, heard) = played(&file);
    assert_eq!(pictures as u64, SECONDS * 25);
    assert!((heard - SECONDS as f64).abs() < 0.1, "{heard} s");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&copy, &bytes[..bytes.len() * 6 / 10]).unwrap();
    assert!(played(&copy).0 > 25);
}

#[test]
fn what_mp4_can_not_have_ends_the_recording_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut recording = Recording::new(folder.path().join("r"), Container::Mp4, Kind::ALL.to_vec(), 1_000);
    let refused = picture(320, 240).into_iter().map(|lane| recording.write(lane)).find_map(Result::err);
    assert_eq!(refused.unwrap().to_string(), "vp8 can't be in mp4");
    assert!(!folder.path().join("r.mp4").exists());
}

#[test]
fn another_size_begins_another_file_and_the_manifest_tells_when() {
    let folder = tempfile::tempdir().unwrap();
    let seconds = Duration::from_secs(SECONDS);
    let frames = together(
        [picture(320, 240), later(picture(160, 120), seconds), sound(), later(sound(), seconds)].concat(),
    );
    recorded(frames, folder.path()).finish().unwrap();
    for (file, tolerance) in [("r.mkv", 2), ("r-2.mkv", 2)] {
        let (pictures, heard) = played(&folder.path().join(file));
        assert!((pictures as u64).abs_diff(SECONDS * 25) <= tolerance, "{file}: {pictures} pictures");
        assert!((heard - SECONDS as f64).abs() < 0.2, "{file}: {heard} s");
    }
    let all = segments(folder.path());
    assert_eq!((&all[1]["file"], all[1]["begin"].as_f64()), (&"r-2.mkv".into(), Some(4.0)));
}

#[test]
fn another_codec_begins_another_file_and_the_manifest_tells_which() {
    let folder = tempfile::tempdir().unwrap();
    let seconds = Duration::from_secs(SECONDS);
    let second = [later(h264_picture(320, 240), seconds), later(sound(), seconds)].concat();
    let frames = together([picture(320, 240), sound(), second].concat());
    recorded(frames, folder.path()).finish().unwrap();
    for (file, codec) in [("r.mkv", Codec::Vp8), ("r-2.mkv", Codec::H264)] {
        let (pictures, heard) = played_as(&folder.path().join(file), codec);
        assert!((pictures as u64).abs_diff(SECONDS * 25) <= 2, "{file}: {pictures} pictures");
        assert!((heard - SECONDS as f64).abs() < 0.2, "{file}: {heard} s");
    }
    let codecs = segments(folder.path()).into_iter().map(|segment| {
        let tracks = segment["tracks"].as_array().unwrap().clone();
        tracks.iter().map(|track| track["codec"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    });
    assert_eq!(codecs.collect::<Vec<_>>(), [["opus", "vp8"], ["opus", "h264"]]);
}

#[test]
fn a_kind_that_does_not_come_is_not_waited_for_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    recorded(sound(), folder.path()).finish().unwrap();
    assert!(folder.path().join("r.mkv").metadata().unwrap().len() > 10_000);
}

#[test]
fn what_another_process_has_recorded_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let first = recorded(sound(), folder.path());
    // As after a SIGKILL.
    drop(first);
    recorded(sound(), folder.path()).finish().unwrap();
    let files: Vec<_> = segments(folder.path()).iter().map(|segment| segment["file"].clone()).collect();
    assert_eq!(files, ["r.mkv", "r-2.mkv"]);
}
