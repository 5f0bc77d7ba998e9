//! Pipelines of the operator, in processes of their own: what works, and what crashes, hangs or ends.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kaigi_mixer_node::{
    external::{Algorithms, Pipeline, PipelinePlan},
    video::{Canvas, Colour, FrameSlot, Rect, Size},
};

/// The machine that runs the tests may be busy.
const DEADLINE: Duration = Duration::from_secs(60);
const SIZE: Size = Size { width: 64, height: 48 };

/// Gives the source a picture, bright on the left, every now and then, until dropped.
struct Camera {
    slot: Arc<FrameSlot>,
    stop: Arc<AtomicBool>,
}

impl Camera {
    fn start() -> Self {
        let this = Self { slot: Arc::default(), stop: Arc::default() };
        let (slot, stop) = (Arc::clone(&this.slot), Arc::clone(&this.stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut canvas = Canvas::new(SIZE, Colour([16, 128, 128]));
                let half = Size { width: 32, height: 48 };
                canvas.fill(Rect { x: 0, y: 0, size: half }, Colour([235, 128, 128]));
                slot.put(Arc::new(canvas), Instant::now());
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        this
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn algorithms(pipeline: &str, more: &str) -> Algorithms {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("algorithms.toml");
    std::fs::write(&file, format!("[[algorithm]]\nid = 'own'\npipeline = '{pipeline}'\n{more}")).unwrap();
    Algorithms::read(&file).unwrap().with_worker(PathBuf::from(env!("CARGO_BIN_EXE_kaigi-mixer-node")))
}

fn start(pipeline: &str, more: &str, camera: &Camera) -> Pipeline {
    let algorithms = algorithms(pipeline, more);
    let own = algorithms.get("own").unwrap();
    let plan = PipelinePlan { source: Arc::clone(&camera.slot), audience: None };
    Pipeline::start(algorithms.worker().unwrap(), Arc::clone(own), algorithms.enter(own).unwrap(), plan)
        .unwrap()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn reason(pipeline: &Pipeline) -> Option<String> {
    pipeline.failure().borrow().as_ref().map(ToString::to_string)
}

/// Processes of this one that are pipelines.
fn processes() -> Vec<u32> {
    let own = std::process::id().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut rest = status.rsplit_once(')')?.1.split_whitespace();
        (rest.next()? != "Z" && rest.next()? == own).then_some(id)
    })
    .collect()
}

/// One after the other: they count processes.
#[test]
fn pipelines_work_and_fail_alone() {
    let camera = Camera::start();
    works_and_ends_with_its_owner(&camera);
    keeps_failing_and_is_started_again(&camera);
    hangs_and_is_killed(&camera);
    is_killed_from_outside_and_comes_back(&camera);
    what_is_no_pipeline_says_why(&camera);
    memory_is_bounded(&camera);
}

fn works_and_ends_with_its_owner(camera: &Camera) {
    let flip = "appsrc name=input ! kaigirotate flip=horizontal ! queue ! appsink name=output";
    let pipeline = start(flip, "max_framerate = 30", camera);
    let started = Instant::now();
    let mirrored = || {
        let newest = pipeline.slot().newest()?;
        assert!(newest.at >= started - Duration::from_secs(1) && newest.at <= Instant::now());
        let picture = newest.frame.picture()?;
        Some((picture.planes[0].row(10, 10, 1)[0], picture.planes[0].row(50, 10, 1)[0]))
    };
    until("mirrored", || mirrored() == Some((16, 235)));
    let before = pipeline.slot().newest().unwrap().number;
    until("going on", || pipeline.slot().newest().is_some_and(|newest| newest.number > before + 20));
    assert_eq!(reason(&pipeline), None);
    assert_eq!(processes().len(), 1);
    drop(pipeline);
    until("without a process", || processes().is_empty());
}

fn keeps_failing_and_is_started_again(camera: &Camera) {
    let pipeline = start("appsrc name=input ! identity error-after=5 ! appsink name=output", "", camera);
    until("told", || reason(&pipeline).is_some());
    let seen = pipeline.slot().newest().map_or(0, |newest| newest.number);
    until("started again", || pipeline.slot().newest().is_some_and(|newest| newest.number > seen));
    drop(pipeline);
    until("without a process", || processes().is_empty());
}

fn hangs_and_is_killed(camera: &Camera) {
    let hang = "appsrc name=input ! identity sleep-time=1000000000 ! appsink name=output";
    let pipeline = start(hang, "stall_seconds = 1", camera);
    until("started", || processes().len() == 1);
    let first = processes();
    until("told", || reason(&pipeline).is_some_and(|reason| reason.contains("stands still")));
    until("replaced", || processes().first().is_some_and(|id| !first.contains(id)));
    drop(pipeline);
    until("without a process", || processes().is_empty());
}

fn is_killed_from_outside_and_comes_back(camera: &Camera) {
    let pipeline = start("appsrc name=input ! appsink name=output", "", camera);
    until("working", || pipeline.slot().newest().is_some());
    let id = processes()[0];
    let kill =
        |signal: &str| std::process::Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
    // As a defect in a plug-in would.
    assert!(kill("-ABRT").success());
    until("told", || reason(&pipeline).is_some_and(|reason| reason.contains("signal")));
    until("working again", || reason(&pipeline).is_none() && pipeline.slot().newest().is_some());
    drop(pipeline);
    until("without a process", || processes().is_empty());
}

fn what_is_no_pipeline_says_why(camera: &Camera) {
    let nothing = start("appsrc name=input ! nosuchelement ! appsink name=output", "", camera);
    until("told", || reason(&nothing).is_some_and(|reason| reason.contains("nosuchelement")));
    let ends = start("fakesrc name=input ! appsink name=output", "", camera);
    until("told", || reason(&ends).is_some_and(|reason| reason.contains("input")));
    drop((nothing, ends));
    until("without a process", || processes().is_empty());
}

fn memory_is_bounded(camera: &Camera) {
    // Frames of 100 MB each.
    let greedy = "appsrc name=input ! videoscale ! video/x-raw,width=8000,height=8000 ! videoscale ! video/x-raw,width=64,height=48 ! appsink name=output";
    let pipeline = start(greedy, "memory_mib = 64\nstall_seconds = 5", camera);
    until("told", || reason(&pipeline).is_some());
    drop(pipeline);
    until("without a process", || processes().is_empty());
}
