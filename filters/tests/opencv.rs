//! Edges compared with those that OpenCV finds. OpenCV is in an environment that `scripts/setup.sh --test` makes (.cache/opencv).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

use kaigi_filters::{Aperture, Canny, Norm, Plane, Thresholds};

/// Of all pixels.
const EQUAL: f64 = 0.99;
/// Of the pixels that are edges for either: empty pictures agree about nearly everything.
const EDGES_EQUAL: f64 = 0.98;

#[test]
fn canny_finds_the_edges_that_opencv_finds() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.join("../.cache/opencv/bin/python");
    assert!(python.exists(), "OpenCV is not installed here: run scripts/setup.sh --test");
    let directory = tempfile::tempdir().unwrap();
    let output =
        Command::new(python).arg(here.join("tests/opencv.py")).arg(directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut compared = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let [name, width, height] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
        let luma = std::fs::read(directory.path().join(format!("{name}.luma"))).unwrap();
        let plane = Plane::new(&luma, width, width, height).unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let file = file.unwrap().path();
            let setting = file.file_name().unwrap().to_str().unwrap().to_owned();
            let Some(setting) =
                setting.strip_prefix(&format!("{name}.")).and_then(|s| s.strip_suffix(".edges"))
            else {
                continue;
            };
            let [aperture, norm, low, high] =
                setting.split('.').map(|number| number.parse::<u32>().unwrap()).collect::<Vec<_>>()[..]
            else {
                panic!("{setting}")
            };
            let norm = if norm == 2 { Norm::L2 } else { Norm::L1 };
            let mut canny = Canny::default();
            canny.detect(plane, Aperture::new(aperture).unwrap(), norm, Thresholds { low, high });
            let ours: Vec<bool> = (0..height).flat_map(|y| canny.row(y).collect::<Vec<_>>()).collect();
            let theirs: Vec<bool> =
                std::fs::read(&file).unwrap().into_iter().map(|pixel| pixel != 0).collect();
            assert_eq!(ours.len(), theirs.len());
            let count = |which: &dyn Fn(bool, bool) -> bool| {
                ours.iter().zip(&theirs).filter(|(ours, theirs)| which(**ours, **theirs)).count() as f64
            };
            let equal = count(&|ours, theirs| ours == theirs) / ours.len() as f64;
            let (both, either) =
                (count(&|ours, theirs| ours && theirs), count(&|ours, theirs| ours || theirs));
            println!("{name} {setting}: {equal:.5} of the pixels, {both} of {either} edges");
            assert!(equal >= EQUAL, "{name} {setting}: {equal} of the pixels are equal");
            assert!(both >= EDGES_EQUAL * either, "{name} {setting}: {both} of {either} edges are equal");
            compared += 1;
        }
    }
    assert_eq!(compared, 6 * 10);
}
