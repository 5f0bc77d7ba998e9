//! The process of a pipeline: pictures come and go over the socket that is its standard input. It ends with the pipeline, or when the node closes the
//! socket, at once and whatever the pipeline's threads are at.

use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    sync::Arc,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::{VideoFormat, VideoInfo};
use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::video::{Canvas, Colour, Decoded, Frame, Rect, Size};

/// Pictures that wait for the pipeline.
const MAX_WAITING: u64 = 1;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// What the process is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) pipeline: String,
    pub(super) memory_mib: u64,
}

/// Why a pipeline is none or has ended.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("standard input is no socket of a node: {0}")]
    Socket(#[from] std::io::Error),
    #[error("no limit: {0}")]
    Limit(#[from] rustix::io::Errno),
    #[error("the node said something else than was expected")]
    Unexpected,
    #[error("{0}")]
    GStreamer(String),
    #[error("pipeline: {0}")]
    Parse(#[from] gst::glib::Error),
    #[error("the pipeline has no {0} that is {1}")]
    End(&'static str, &'static str),
    #[error("the pipeline does not start: {0}")]
    State(#[from] gst::StateChangeError),
    #[error("the pipeline takes no pictures: {0}")]
    Flow(#[from] gst::FlowError),
    #[error("{0}")]
    Picture(#[from] gst::glib::BoolError),
}

/// Does what a node says over standard input, until it says no more.
#[must_use]
pub fn run() -> ExitCode {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    let answer = match socket.try_clone() {
        Ok(answer) => Arc::new(Mutex::new(answer)),
        Err(_) => return ExitCode::FAILURE,
    };
    match work(socket, &answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&answer, error.to_string()),
    }
}

/// Tells why it ends, and ends.
fn fail(answer: &Mutex<UnixStream>, reason: String) -> ! {
    drop(Message::Failed(reason).write(&mut *answer.lock()));
    std::process::exit(1)
}

fn work(mut socket: UnixStream, answer: &Arc<Mutex<UnixStream>>) -> Result<(), WorkError> {
    // A node that dies takes it along, even while nobody reads the socket.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let Message::Setup(setup) = Message::read(&mut socket)? else { return Err(WorkError::Unexpected) };
    let Setup { pipeline, memory_mib } = serde_json::from_slice(&setup).map_err(|_| WorkError::Unexpected)?;
    let most = Some(memory_mib.saturating_mul(MIB));
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most })?;
    // A dump of its memory would be large, and of no use to the node.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum })?;
    crate::init_gstreamer().map_err(|error| WorkError::GStreamer(error.to_string()))?;
    let pipeline = gst::parse::launch(&pipeline)?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| WorkError::End("pipeline", "one"))?;
    let end = |name| pipeline.by_name(name);
    let input = end("input").and_then(|end| end.downcast::<AppSrc>().ok());
    let input = input.ok_or(WorkError::End("input", "an appsrc"))?;
    let output = end("output").and_then(|end| end.downcast::<AppSink>().ok());
    let output = output.ok_or(WorkError::End("output", "an appsink"))?;
    prepare(&input, &output, answer);
    watch(&pipeline, answer)?;
    // The process ends without taking it apart.
    let _kept = std::mem::ManuallyDrop::new(pipeline.clone());
    pipeline.set_state(gst::State::Playing)?;
    Message::Ready.write(&mut *answer.lock())?;
    let mut caps = None;
    loop {
        // The end of the socket is the end of the work; nothing is waited for then.
        let Ok(message) = Message::read(&mut socket) else { std::process::exit(0) };
        let Message::Picture { size, at, data } = message else { return Err(WorkError::Unexpected) };
        if caps != Some(size) {
            caps = Some(size);
            let info = VideoInfo::builder(VideoFormat::I420, size.width, size.height).build()?;
            input.set_caps(Some(&info.to_caps()?));
        }
        let mut buffer = gst::Buffer::from_mut_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(at));
        }
        input.push_buffer(buffer)?;
        Message::Taken.write(&mut *answer.lock())?;
    }
}

fn prepare(input: &AppSrc, output: &AppSink, answer: &Arc<Mutex<UnixStream>>) {
    input.set_format(gst::Format::Time);
    input.set_is_live(true);
    // Who does not take pictures is not given more; the node notices that.
    input.set_block(true);
    input.set_max_buffers(MAX_WAITING);
    input.set_max_bytes(0);
    input.set_property("max-time", 0u64);
    output.set_caps(Some(&gstreamer_video::VideoCapsBuilder::new().format(VideoFormat::I420).build()));
    output.set_sync(false);
    output.set_max_buffers(1);
    output.set_async(false);
    let answer = Arc::clone(answer);
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let message = picture(&sample).ok_or(gst::FlowError::NotSupported)?;
        message.write(&mut *answer.lock()).map_err(|_| gst::FlowError::Eos)?;
        Ok(gst::FlowSuccess::Ok)
    };
    output.set_callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build());
}

/// `None` for what is no picture, or larger than one may be.
fn picture(sample: &gst::Sample) -> Option<Message> {
    let at = sample.buffer()?.pts().map_or(u64::MAX, gst::ClockTime::nseconds);
    let frame = Decoded::of(sample)?;
    let picture = frame.picture()?;
    let size: Size = picture.size();
    let mut canvas = Canvas::new(size, Colour([16, 128, 128]));
    canvas.blit(&picture, Rect { x: 0, y: 0, size }, 0, 0);
    Some(Message::Picture { size, at, data: canvas.into_bytes() })
}

/// Ends the process with what the pipeline says of its end.
fn watch(pipeline: &gst::Pipeline, answer: &Arc<Mutex<UnixStream>>) -> Result<(), WorkError> {
    let Some(bus) = pipeline.bus() else { return Err(WorkError::End("bus", "one")) };
    let answer = Arc::clone(answer);
    std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
        for message in bus.iter_timed(gst::ClockTime::NONE) {
            match message.view() {
                gst::MessageView::Error(error) => fail(&answer, error.error().to_string()),
                gst::MessageView::Eos(_) => fail(&answer, "the pipeline has come to its end".to_owned()),
                _ => {}
            }
        }
    })?;
    Ok(())
}
