//! The GStreamer elements that this node needs, and the Debian packages that have them.

use gst::prelude::PluginFeatureExtManual;
use gstreamer as gst;

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const UGLY: &str = "gstreamer1.0-plugins-ugly";
const LIBAV: &str = "gstreamer1.0-libav";

/// Element and package.
const NEEDED: [(&str, &str); 18] = [
    ("appsrc", BASE),
    ("appsink", BASE),
    ("videoconvert", BASE),
    ("rtpjitterbuffer", GOOD),
    ("rtpvp8depay", GOOD),
    ("rtpvp9depay", GOOD),
    ("rtph264depay", GOOD),
    ("rtpvp8pay", GOOD),
    ("rtpvp9pay", GOOD),
    ("rtph264pay", GOOD),
    ("vp8dec", GOOD),
    ("vp9dec", GOOD),
    ("vp8enc", GOOD),
    ("vp9enc", GOOD),
    ("capsfilter", "libgstreamer1.0-0"),
    ("h264parse", BAD),
    ("avdec_h264", LIBAV),
    ("x264enc", UGLY),
];

/// An element that is not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub element: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// Elements that are not installed; call after `gst::init`.
#[must_use]
pub fn missing() -> Vec<Missing> {
    missing_by(|element| gst::ElementFactory::find(element).is_some())
}

/// Loads what is installed, which may take seconds where the libraries have to be read from a slow disk first: who brings the first picture
/// of a codec is not to wait for that.
pub fn load() {
    for (element, _) in NEEDED {
        if let Some(Err(error)) = gst::ElementFactory::find(element).map(|factory| factory.load()) {
            tracing::warn!(element, %error, "a plugin can't be loaded");
        }
    }
}

fn missing_by(installed: impl Fn(&str) -> bool) -> Vec<Missing> {
    let absent = |(element, package): &(&'static str, &'static str)| Missing { element, package };
    NEEDED.iter().filter(|(element, _)| !installed(element)).map(absent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        assert_eq!(missing_by(|_| true), []);
        let missing = missing_by(|element| element != "x264enc");
        assert_eq!(missing, [Missing { element: "x264enc", package: "gstreamer1.0-plugins-ugly" }]);
    }
}
