//! What the elements have in common.

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_video::{VideoFormat, VideoFrameExt, VideoFrameRef};
use kaigi_filters::Plane;

/// Formats that all elements take: a luma plane, and chroma of half its width and height.
pub(crate) const FORMATS: [VideoFormat; 2] = [VideoFormat::I420, VideoFormat::Nv12];

/// A pad for each direction, of [`FORMATS`].
pub(crate) fn pad_templates() -> Vec<gst::PadTemplate> {
    let caps = gstreamer_video::VideoCapsBuilder::new().format_list(FORMATS).build();
    [("src", gst::PadDirection::Src), ("sink", gst::PadDirection::Sink)]
        .into_iter()
        .filter_map(|(name, direction)| {
            gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
        })
        .collect()
}

/// What an element says of itself.
pub(crate) fn metadata(name: &str, description: &str) -> gst::subclass::ElementMetadata {
    gst::subclass::ElementMetadata::new(name, "Filter/Effect/Video", description, "Kaigi")
}

/// A whole number that may be set while the element works.
pub(crate) fn number(
    name: &'static str,
    nick: &'static str,
    blurb: &'static str,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
) -> glib::ParamSpec {
    use gst::prelude::*;
    glib::ParamSpecUInt::builder(name)
        .nick(nick)
        .blurb(blurb)
        .minimum(*range.start())
        .maximum(*range.end())
        .default_value(default)
        .mutable_playing()
        .build()
}

/// Bytes from one row of a plane to the next.
pub(crate) fn stride<T>(frame: &VideoFrameRef<T>, plane: u32) -> Result<usize, gst::FlowError>
where
    VideoFrameRef<T>: VideoFrameExt,
{
    let stride = frame.plane_stride().get(plane as usize).copied().unwrap_or_default();
    usize::try_from(stride).ok().filter(|stride| *stride > 0).ok_or(gst::FlowError::NotNegotiated)
}

/// The luma of a frame.
pub(crate) fn luma(data: &[u8], stride: usize, size: (u32, u32)) -> Result<Plane<'_>, gst::FlowError> {
    Plane::new(data, stride, size.0 as usize, size.1 as usize).ok_or(gst::FlowError::Error)
}

/// The planes beside the luma.
pub(crate) fn chroma_planes(format: VideoFormat) -> std::ops::Range<u32> {
    if format == VideoFormat::Nv12 { 1..2 } else { 1..3 }
}
