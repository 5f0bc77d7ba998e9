//! HTTP live streaming (RFC 8216): segments of MPEG-TS and a playlist, stored at a server by PUT or POST, as OWT does it.

mod cutter;
mod playlist;
mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    time::{Duration, SystemTime},
};

use cutter::Cutter;
use gstreamer as gst;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use kaigi_outbound::{Reach, http::ClientError};
use parking_lot::Mutex;
use store::{Job, Store};
use tokio::sync::mpsc;

use super::connection::{News, Tell};
use crate::target::Segments;

/// Segments that wait to be stored; with more the server is too slow.
const MAX_WAITING: usize = 4;
/// Longest wait for the last segment and the end of the playlist.
const END: Duration = Duration::from_secs(3);

/// One playlist, over all connections: segments go on where they were, after a break.
pub(super) struct Hls {
    segments: Segments,
    jobs: mpsc::Sender<Job>,
    /// Whether there was a connection before, whose times another's do not go on.
    begun: AtomicBool,
    ended: Mutex<blocking::Receiver<()>>,
}

/// The muxer's end.
struct Taker {
    cutter: Cutter,
    jobs: mpsc::Sender<Job>,
    after_break: bool,
    tell: Tell,
}

impl Hls {
    /// Must be called within a tokio runtime.
    pub(super) fn new(url: &str, segments: Segments, reach: Reach) -> Result<Self, ClientError> {
        let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let store = Store::new(url, run, segments, reach)?;
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let (tell_end, ended) = blocking::channel();
        tokio::spawn(store.run(waiting, tell_end));
        Ok(Self { segments, jobs, begun: AtomicBool::new(false), ended: Mutex::new(ended) })
    }

    pub(super) fn segment_duration(&self) -> Duration {
        self.segments.duration
    }

    /// Takes what a connection's muxer makes.
    pub(super) fn sink(&self, tell: Tell) -> AppSink {
        let taker = Arc::new(Mutex::new(Taker {
            cutter: Cutter::new(self.segments.duration),
            jobs: self.jobs.clone(),
            after_break: self.begun.swap(true, Ordering::Relaxed),
            tell,
        }));
        let at_end = Arc::clone(&taker);
        let callbacks = AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                taker.lock().take(&sample)
            })
            .eos(move |_| at_end.lock().end())
            .build();
        let sink = AppSink::builder().sync(false).build();
        sink.set_callbacks(callbacks);
        sink
    }

    /// Waits until the end of the playlist is stored, for a moment. Without a connection, whose end would say it, `at_once`.
    pub(super) fn finish(&self, at_once: bool) {
        if at_once && self.jobs.try_send(Job::End).is_err() {
            return;
        }
        let _told = self.ended.lock().recv_timeout(END);
    }
}

impl Taker {
    fn take(&mut self, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
        if let Some(headers) = sample.caps().and_then(headers) {
            self.cutter.set_headers(headers);
        }
        let time = buffer.pts().map(|time| Duration::from_nanos(time.nseconds()));
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let data = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let piece = self.cutter.push(&data, time, key).map_err(|error| self.fail(&error.to_string()))?;
        match piece {
            Some(piece) => self.store(piece),
            None => Ok(gst::FlowSuccess::Ok),
        }
    }

    fn store(&mut self, piece: cutter::Piece) -> Result<gst::FlowSuccess, gst::FlowError> {
        let job = Job::Segment { piece, after_break: self.after_break, tell: self.tell.clone() };
        self.after_break = false;
        match self.jobs.try_send(job) {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            Err(_) => Err(self.fail("the server does not take what is sent")),
        }
    }

    fn fail(&self, reason: &str) -> gst::FlowError {
        drop(self.tell.send(News::Failed(reason.to_owned())));
        gst::FlowError::Error
    }

    fn end(&mut self) {
        if let Some(piece) = self.cutter.take() {
            let _stored = self.store(piece);
        }
        let _asked = self.jobs.try_send(Job::End);
    }
}

/// The programme tables, which the muxer has in its caps.
fn headers(caps: &gst::CapsRef) -> Option<Vec<u8>> {
    let tables = caps.structure(0)?.get::<gst::Array>("streamheader").ok()?;
    let mut headers = Vec::new();
    for table in tables.iter() {
        let buffer = table.get::<gst::Buffer>().ok()?;
        headers.extend_from_slice(&buffer.map_readable().ok()?);
    }
    Some(headers)
}
