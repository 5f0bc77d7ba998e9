//! The GStreamer elements that this node needs, and the Debian packages that have them.

use gstreamer as gst;

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const UGLY: &str = "gstreamer1.0-plugins-ugly";
const RTSP: &str = "gstreamer1.0-rtsp";
const LIBAV: &str = "gstreamer1.0-libav";

/// Element and package.
const NEEDED: [(&str, &str); 24] = [
    ("appsrc", BASE),
    ("opusdec", BASE),
    ("audioconvert", BASE),
    ("audioresample", BASE),
    ("capsfilter", "libgstreamer1.0-0"),
    ("mulawdec", GOOD),
    ("alawdec", GOOD),
    ("aacparse", GOOD),
    ("flvmux", GOOD),
    ("rtmp2sink", BAD),
    ("h264parse", BAD),
    ("mpegtsmux", BAD),
    ("srtsink", BAD),
    ("rtspclientsink", RTSP),
    ("rtph264pay", GOOD),
    ("rtpmp4gpay", GOOD),
    ("avenc_aac", LIBAV),
    ("videotestsrc", BASE),
    ("videoconvert", BASE),
    ("videoscale", BASE),
    ("decodebin", BASE),
    ("imagefreeze", GOOD),
    ("pngdec", GOOD),
    ("x264enc", UGLY),
];

/// Elements that are not installed, with their packages; call after `gst::init`.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    NEEDED.into_iter().filter(|(element, _)| gst::ElementFactory::find(element).is_none()).collect()
}
