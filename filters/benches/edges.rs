//! Edges of pictures of 1280×720 beside OpenCV's with one thread, of the same pictures. OpenCV is in an environment that
//! `scripts/setup.sh --test` makes (.cache/opencv).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking")]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use kaigi_filters::{Aperture, Canny, Norm, Plane, Thresholds};

const SIZE: (usize, usize) = (1280, 720);
const TIMES: usize = 100;
/// Rounds, of which the median counts: the machine's speed drifts.
const ROUNDS: usize = 5;

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = here.join("../.cache/opencv/bin/python");
    assert!(python.exists(), "OpenCV is not installed here: run scripts/setup.sh --test");
    println!(
        "| Canny of 1280×720, aperture 3 | OpenCV, ms | kaigi-filters, ms | times as fast | equal pixels |"
    );
    println!("|---|---|---|---|---|");
    let rounds: Vec<Vec<Line>> = (0..ROUNDS).map(|_| round(here, &python)).collect();
    for (index, first) in rounds[0].iter().enumerate() {
        let mut lines: Vec<&Line> = rounds.iter().map(|round| &round[index]).collect();
        lines.sort_by(|a, b| (a.theirs / a.ours).total_cmp(&(b.theirs / b.ours)));
        let Line { name, ours, theirs, equal } = lines[ROUNDS / 2];
        assert_eq!(*name, first.name);
        println!("| {name} | {theirs:.2} | {ours:.2} | {:.2} | {:.3} % |", theirs / ours, equal * 100.0);
    }
}

struct Line {
    name: String,
    /// Milliseconds.
    ours: f64,
    theirs: f64,
    /// Of all pixels.
    equal: f64,
}

fn round(here: &Path, python: &Path) -> Vec<Line> {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(python)
        .arg(here.join("benches/opencv.py"))
        .arg(directory.path())
        .arg(TIMES.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (name, theirs) = line.split_once(' ').unwrap();
        let luma = std::fs::read(directory.path().join(format!("{name}.luma"))).unwrap();
        let edges = std::fs::read(directory.path().join(format!("{name}.edges"))).unwrap();
        let (ours, found) = time(&luma);
        let equal = found.iter().zip(&edges).filter(|(ours, theirs)| **ours == (**theirs != 0)).count();
        let equal = equal as f64 / edges.len() as f64;
        Line { name: name.to_owned(), ours, theirs: theirs.parse().unwrap(), equal }
    };
    lines.lines().map(line).collect()
}

/// Median milliseconds, and the edges.
fn time(luma: &[u8]) -> (f64, Vec<bool>) {
    let plane = Plane::new(luma, SIZE.0, SIZE.0, SIZE.1).unwrap();
    let mut canny = Canny::default();
    let mut detect = || {
        let begun = Instant::now();
        canny.detect(plane, Aperture::Three, Norm::L1, Thresholds { low: 100, high: 200 });
        begun.elapsed()
    };
    let mut taken: Vec<Duration> = (0..TIMES).map(|_| detect()).collect();
    taken.sort();
    let edges = (0..SIZE.1).flat_map(|y| canny.row(y).collect::<Vec<_>>()).collect();
    (taken[TIMES / 2].as_secs_f64() * 1000.0, edges)
}
