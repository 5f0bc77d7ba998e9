//! The elements in pipelines: what they make of frames, as bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::{VideoFrame, VideoFrameExt, VideoInfo, video_frame::Readable};
use kaigi_filters::Filter;
use serde_json::json;

/// The last of some frames of a red square, 64×64, on black, 96×80.
fn filtered(format: &str, filter: &str) -> VideoFrame<Readable> {
    gst::init().unwrap();
    gstkaigi::register().unwrap();
    let launch = format!(
        "videotestsrc num-buffers=3 pattern=red ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 \
         ! videobox border-alpha=1 left=-16 right=-16 top=-8 bottom=-8 ! video/x-raw,format=I420,width=96,height=80 \
         ! videoconvert ! video/x-raw,format={format} ! {filter} ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut last = None;
    while let Ok(sample) = sink.pull_sample() {
        last = Some(sample);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let sample = last.expect("no frame came through");
    let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    VideoFrame::from_buffer_readable(sample.buffer_owned().unwrap(), &info).unwrap()
}

/// Pixels of a plane, without what is beside them.
fn plane(frame: &VideoFrame<Readable>, index: u32, bytes: usize, rows: usize) -> Vec<u8> {
    let stride = frame.plane_stride()[index as usize] as usize;
    let data = frame.plane_data(index).unwrap();
    (0..rows).flat_map(|y| data[y * stride..][..bytes].to_vec()).collect()
}
fn luma(frame: &VideoFrame<Readable>) -> Vec<u8> {
    plane(frame, 0, frame.width() as usize, frame.height() as usize)
}

#[test]
fn edges_are_the_outline_white_on_black_without_colour() {
    for format in ["I420", "NV12"] {
        let frame = filtered(format, "kaigiedgedetect low-threshold=50 high-threshold=100");
        let luma = luma(&frame);
        assert!(luma.iter().all(|value| [16, 235].contains(value)));
        let row: Vec<usize> = (0..96).filter(|x| luma[40 * 96 + x] == 235).collect();
        assert_eq!(row.len(), 2, "{format} {row:?}");
        assert!((15..=16).contains(&row[0]) && (79..=80).contains(&row[1]), "{row:?}");
        assert!(plane(&frame, 1, 48, 40).iter().all(|value| *value == 128));
    }
}

#[test]
fn thresholds_decide_what_is_an_edge() {
    let frame = filtered("I420", "kaigiedgedetect low-threshold=2039 high-threshold=2040");
    assert!(luma(&frame).iter().all(|value| *value == 16));
    let frame = filtered(
        "I420",
        "kaigiedgedetect aperture=7 l2-gradient=true low-threshold=326399 high-threshold=326400",
    );
    assert!(luma(&frame).iter().all(|value| *value == 16));
}

#[test]
fn the_gradient_is_grey_where_it_is_not_steep() {
    // From 16 to 81 is a magnitude of 4 × 65.
    let frame = filtered("I420", "kaigiedgedetect method=sobel low-threshold=0 high-threshold=520");
    let luma = luma(&frame);
    assert_eq!(luma[40 * 96 + 16], 16 + 219 / 2);
    assert_eq!(luma[40 * 96 + 48], 16);
}

#[test]
fn a_filter_that_is_off_leaves_pictures_untouched() {
    let frame = filtered("I420", "kaigiedgedetect enabled=false");
    let luma = luma(&frame);
    assert_eq!((luma[0], luma[40 * 96 + 48]), (16, 81));
    assert_eq!(plane(&frame, 2, 48, 40)[20 * 48 + 24], 240);
}

#[test]
fn a_cartoon_has_few_tones_strong_colours_and_outlines() {
    for format in ["I420", "NV12"] {
        let frame = filtered(format, "kaigicartoon levels=4 outline=100 saturation=50");
        let luma = luma(&frame);
        assert_eq!(luma[40 * 96 + 48], 89, "the nearest of 16, 89, 162 and 235");
        assert_eq!(luma[40 * 96 + 16], 16, "the outline");
        let chroma = if format == "NV12" {
            plane(&frame, 1, 96, 40)[20 * 96 + 49]
        } else {
            plane(&frame, 2, 48, 40)[20 * 48 + 24]
        };
        assert_eq!(chroma, 184, "half as far from 128 as 240");
    }
}

#[test]
fn a_quarter_of_a_turn_exchanges_width_and_height() {
    for format in ["I420", "NV12"] {
        let frame = filtered(format, "videocrop right=16 ! kaigirotate angle=90");
        assert_eq!((frame.width(), frame.height()), (80, 80));
        let luma = luma(&frame);
        // The square reaches down to what was the right rim.
        assert_eq!([luma[5 * 80 + 40], luma[40 * 80 + 40], luma[79 * 80 + 40]], [16, 81, 81]);
    }
    let frame = filtered("I420", "kaigirotate angle=270");
    assert_eq!((frame.width(), frame.height()), (80, 96));
}

#[test]
fn a_mirrored_picture_and_a_crooked_one_keep_their_size() {
    let frame = filtered("NV12", "videocrop right=16 ! kaigirotate flip=horizontal");
    let pixels = luma(&frame);
    assert_eq!((frame.width(), pixels[40 * 80], pixels[40 * 80 + 79]), (80, 81, 16));
    let frame = filtered("I420", "kaigirotate angle=45");
    let pixels = luma(&frame);
    assert_eq!((frame.width(), frame.height()), (96, 80));
    assert_eq!(
        [pixels[0], pixels[40 * 96 + 48], pixels[40 * 96 + 10]],
        [16, 81, 81],
        "a corner of the square is at the left"
    );
}

#[test]
fn elements_have_the_parameters_of_their_filters() {
    gst::init().unwrap();
    gstkaigi::register().unwrap();
    let make = |name, parameters| gstkaigi::element(&Filter::new(name, parameters).unwrap()).unwrap();
    let edges = make(
        "edgedetect",
        json!({"method": "sobel", "lowThreshold": 7, "highThreshold": 9, "aperture": 5, "l2Gradient": true}),
    );
    assert_eq!(edges.property::<gstkaigi::Method>("method"), gstkaigi::Method::Sobel);
    assert_eq!(
        [
            edges.property::<u32>("low-threshold"),
            edges.property("high-threshold"),
            edges.property("aperture")
        ],
        [7, 9, 5]
    );
    assert!(edges.property::<bool>("l2-gradient"));
    let cartoon = make("cartoon", json!({"levels": 3, "outline": 4, "saturation": 5}));
    assert_eq!(
        [cartoon.property::<u32>("levels"), cartoon.property("outline"), cartoon.property("saturation")],
        [3, 4, 5]
    );
    let rotate = make("rotate", json!({"angle": 33, "flip": "vertical"}));
    assert_eq!(rotate.property::<u32>("angle"), 33);
    assert_eq!(rotate.property::<gstkaigi::Mirror>("flip"), gstkaigi::Mirror::Vertical);
}
