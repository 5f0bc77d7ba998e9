//! The built plug-in in GStreamer's own tools.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What cargo has built beside this test.
fn library() -> PathBuf {
    let beside = std::env::current_exe().unwrap();
    let beside = beside.parent().unwrap();
    let name = "libgstkaigi.so";
    let places = [beside.join(name), beside.parent().unwrap().join(name)];
    places.into_iter().find(|path| path.exists()).expect("the plug-in is not built")
}

/// Runs a tool that finds the plug-in in a directory of its own; what it wrote.
fn run(tool: &str, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let plugins: &Path = directory.path();
    std::fs::copy(library(), plugins.join("libgstkaigi.so")).unwrap();
    let output = Command::new(tool)
        .args(arguments)
        .env("GST_PLUGIN_PATH", plugins)
        .env("GST_REGISTRY", plugins.join("registry.bin"))
        .output()
        .unwrap_or_else(|error| panic!("{tool} (Debian's gstreamer1.0-tools): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{tool} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn gst_inspect_tells_the_elements_and_their_properties() {
    let plugin = run("gst-inspect-1.0", &["kaigi"]);
    for element in ["kaigiedgedetect", "kaigicartoon", "kaigirotate"] {
        assert!(plugin.contains(element), "{plugin}");
    }
    let element = run("gst-inspect-1.0", &["kaigiedgedetect"]);
    for property in ["low-threshold", "high-threshold", "aperture", "l2-gradient", "method", "enabled"] {
        assert!(element.contains(property), "{property}: {element}");
    }
    assert!(element.contains("Range: 0 - 326400 Default: 100"), "{element}");
}

#[test]
fn gst_launch_filters_frames() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("frame");
    let location = format!("location={}", file.display());
    let line = "videotestsrc num-buffers=1 pattern=smpte ! video/x-raw,format=I420,width=320,height=240,framerate=1/1 \
                ! kaigicartoon ! kaigiedgedetect ! kaigirotate angle=90 ! filesink";
    let mut arguments: Vec<&str> = vec!["-q"];
    arguments.extend(line.split_whitespace());
    arguments.push(&location);
    run("gst-launch-1.0", &arguments);
    let frame = std::fs::read(file).unwrap();
    assert_eq!(frame.len(), 320 * 240 * 3 / 2);
    let (luma, chroma) = frame.split_at(320 * 240);
    assert!(luma.iter().all(|value| [16, 235].contains(value)) && luma.contains(&235));
    assert!(chroma.iter().all(|value| *value == 128));
}
