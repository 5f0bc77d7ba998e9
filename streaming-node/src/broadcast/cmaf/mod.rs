//! Segments of fragmented MP4 with a manifest of DASH or playlists of HLS, stored at a server by PUT or POST. Sound and picture have files
//! of their own, which both kinds of manifest tell of.

mod catalogue;
mod mpd;
mod playlist;
mod publisher;
mod segmenter;

use std::{
    sync::{Arc, mpsc as blocking},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use kaigi_outbound::{Reach, http::ClientError};
use parking_lot::Mutex;
use publisher::{Job, Publisher};
use segmenter::{Chunk, Segmenter};
use tokio::sync::mpsc;

use super::connection::{News, Tell};
use crate::{
    frame::{Codec, Format, Frame},
    lanes::Kind,
    target::Fragments,
};

/// Segments and parts that wait to be stored; with more the server is too slow.
const MAX_WAITING: usize = 32;
/// Longest wait for the last segment and the end of the manifest.
const END: Duration = Duration::from_secs(3);

/// One broadcast, over all connections: segments go on where they were, in another era.
pub(super) struct Cmaf {
    fragments: Fragments,
    kinds: Vec<Kind>,
    jobs: mpsc::Sender<Job>,
    begun: Instant,
    ended: Mutex<blocking::Receiver<()>>,
}

/// The end of a connection, of both kinds.
struct Taker {
    segmenter: Segmenter,
    jobs: mpsc::Sender<Job>,
    tell: Tell,
    /// Kinds that have not ended.
    open: usize,
}

impl Cmaf {
    /// Must be called within a tokio runtime.
    pub(super) fn new(
        url: &str,
        fragments: Fragments,
        kinds: &[Kind],
        reach: Reach,
    ) -> Result<Self, ClientError> {
        let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let publisher = Publisher::new(url, run, fragments, kinds, reach)?;
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let (tell_end, ended) = blocking::channel();
        tokio::spawn(publisher.run(waiting, tell_end));
        let kinds = kinds.to_vec();
        Ok(Self { fragments, kinds, jobs, begun: Instant::now(), ended: Mutex::new(ended) })
    }

    pub(super) fn segment_duration(&self) -> Duration {
        self.fragments.segments.duration
    }

    /// Takes the sound and the picture that a connection's encoders and parsers make.
    pub(super) fn sinks(&self, tell: Tell) -> [AppSink; 2] {
        let connection = Job::Connection { at: self.begun.elapsed(), tell: tell.clone() };
        if self.jobs.try_send(connection).is_err() {
            drop(tell.send(News::Failed(TOO_SLOW.to_owned())));
        }
        let taker = Arc::new(Mutex::new(Taker {
            segmenter: Segmenter::new(self.segment_duration(), self.fragments.part, &self.kinds),
            jobs: self.jobs.clone(),
            tell,
            open: self.kinds.len(),
        }));
        Kind::ALL.map(|kind| sink(kind, Arc::clone(&taker)))
    }

    /// Waits until the end of the manifest is stored, for a moment. Without a connection, whose end would say it, `at_once`.
    pub(super) fn finish(&self, at_once: bool) {
        if at_once && self.jobs.try_send(Job::End).is_err() {
            return;
        }
        let _told = self.ended.lock().recv_timeout(END);
    }
}

/// What is said of a server that does not keep up.
const TOO_SLOW: &str = "the server does not take what is sent";

fn sink(kind: Kind, taker: Arc<Mutex<Taker>>) -> AppSink {
    let caps = match kind {
        Kind::Video => {
            gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au")
        }
        Kind::Audio => gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw"),
    };
    let at_end = Arc::clone(&taker);
    let callbacks = AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            taker.lock().take(kind, &sample)
        })
        .eos(move |_| at_end.lock().end())
        .build();
    let sink = AppSink::builder().caps(&caps.build()).sync(false).async_(false).build();
    sink.set_callbacks(callbacks);
    sink
}

impl Taker {
    fn take(&mut self, kind: Kind, sample: &gst::Sample) -> Result<gst::FlowSuccess, gst::FlowError> {
        let (Some(buffer), Some(format)) =
            (sample.buffer(), sample.caps().and_then(|caps| format(kind, caps)))
        else {
            return Err(self.fail("no format"));
        };
        let Some(time) = buffer.pts() else { return Ok(gst::FlowSuccess::Ok) };
        let data = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let frame = Frame {
            time: Duration::from_nanos(time.nseconds()),
            key: kind == Kind::Audio || !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            data: Bytes::copy_from_slice(&data),
        };
        let chunks =
            self.segmenter.push(kind, frame, &format).map_err(|error| self.fail(&error.to_string()))?;
        self.store(chunks)
    }

    fn store(&mut self, chunks: Vec<Chunk>) -> Result<gst::FlowSuccess, gst::FlowError> {
        for chunk in chunks {
            if self.jobs.try_send(Job::Chunk(chunk)).is_err() {
                return Err(self.fail(TOO_SLOW));
            }
        }
        Ok(gst::FlowSuccess::Ok)
    }

    fn fail(&self, reason: &str) -> gst::FlowError {
        drop(self.tell.send(News::Failed(reason.to_owned())));
        gst::FlowError::Error
    }

    /// Of one kind; with the last one, what there is left is stored.
    fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open > 0 {
            return;
        }
        match self.segmenter.finish() {
            Ok(chunks) => drop(self.store(chunks)),
            Err(error) => tracing::warn!(%error, "the last segment is lost"),
        }
        let _asked = self.jobs.try_send(Job::End);
    }
}

/// How what a parser gives is to be decoded.
fn format(kind: Kind, caps: &gst::CapsRef) -> Option<Format> {
    let caps = caps.structure(0)?;
    let config = caps.get::<gst::Buffer>("codec_data").ok()?;
    let config = Bytes::copy_from_slice(&config.map_readable().ok()?);
    Some(match kind {
        Kind::Audio => Format { config, ..Format::audio(Codec::Aac) },
        Kind::Video => {
            let side = |name: &str| caps.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
            Format { codec: Codec::H264, size: (side("width")?, side("height")?), config }
        }
    })
}

/// A moment as manifests write it (RFC 3339), in UTC.
fn wall(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
