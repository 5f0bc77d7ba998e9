//! The GStreamer elements that this node needs, and the Debian packages that have them.

use gstreamer as gst;

const CORE: &str = "libgstreamer1.0-0";
const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const UGLY: &str = "gstreamer1.0-plugins-ugly";
const RTSP: &str = "gstreamer1.0-rtsp";
const LIBAV: &str = "gstreamer1.0-libav";

/// Element and package.
const NEEDED: [(&str, &str); 56] = [
    ("appsrc", BASE),
    ("opusdec", BASE),
    ("audioconvert", BASE),
    ("audioresample", BASE),
    ("capsfilter", CORE),
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
    ("appsink", BASE),
    ("filesrc", CORE),
    ("fakesink", CORE),
    ("queue", CORE),
    ("parsebin", BASE),
    ("rtspsrc", GOOD),
    ("rtph264depay", GOOD),
    ("rtmp2src", BAD),
    ("srtsrc", BAD),
    ("flvdemux", GOOD),
    ("tsdemux", BAD),
    ("qtdemux", GOOD),
    ("matroskademux", GOOD),
    ("opusparse", BAD),
    ("h265parse", BAD),
    ("avdec_h264", LIBAV),
    ("avdec_h265", LIBAV),
    ("avdec_aac", LIBAV),
    ("deinterlace", GOOD),
    ("videorate", BASE),
    ("opusenc", BASE),
    ("mulawenc", GOOD),
    ("alawenc", GOOD),
    ("avenc_g722", LIBAV),
    ("vp8enc", GOOD),
    ("vp9enc", GOOD),
    ("rtpopuspay", GOOD),
    ("rtppcmupay", GOOD),
    ("rtppcmapay", GOOD),
    ("rtpg722pay", GOOD),
    ("rtpvp8pay", GOOD),
    ("rtpvp9pay", GOOD),
];

/// Elements that are not installed, with their packages; call after `gst::init`.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    NEEDED.into_iter().filter(|(element, _)| gst::ElementFactory::find(element).is_none()).collect()
}
