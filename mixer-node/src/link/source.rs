//! Inputs: a track of another node, attached, kept attached, and decoded (video) or handed to the mixer (audio).

use std::{
    collections::HashMap,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use futures::FutureExt;
use kaigi_media::link::{LinkError, REPORT_INTERVAL};
use kaigi_proto::v1::{self, media_link_client::MediaLinkClient};
use kaigi_worker::{Channel, ChannelError, Channels};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Backoff, Flow, Receiver, Throttle, receiver::Sink};
use crate::{
    audio::{AudioCodec, AudioFeed},
    video::{DecoderSignal, FrameSlot, PipelineError, VideoCodec, VideoDecoder},
};

/// Longest wait for an answer of a producing node.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence of a producer after which the track is attached anew: the node may have restarted. Cheap for one that is really silent.
const SILENCE: Duration = Duration::from_secs(5);
/// An attachment that held this long counts as a success.
const SETTLED: Duration = Duration::from_secs(5);
/// Between looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// Between key frame requests to a producer; a key frame takes a round trip to come.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// Without a first frame for this long, a key frame is asked for, again and again.
const NO_FIRST_FRAME: Duration = Duration::from_secs(1);
/// The same for later frames. A still screen that is shared has a frame a second, and a decoder that misses something asks for itself.
const NO_FRAME: Duration = Duration::from_secs(4);
/// Signals of a decoder that wait; surplus ones say nothing new.
const MAX_SIGNALS: usize = 16;

/// Why an input does not flow.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// This node has no decoder for it.
    #[error("codec {0} can't be mixed")]
    Codec(String),
    /// The producing node's address is none.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The producing node refuses or does not answer.
    #[error("not attached: {}", .0.message())]
    Refused(#[from] tonic::Status),
    /// Its answer makes no sense.
    #[error("the producer's answer lacks {0}")]
    Answer(&'static str),
    /// No SRTP.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No decoder pipeline.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The decoder broke.
    #[error("not decodable: {0}")]
    Decoder(String),
    /// A defect in this program, which ends nothing but this attempt.
    #[error("the input's task failed")]
    Panic,
}

/// What inputs need of the node.
#[derive(Clone, Debug)]
pub struct LinkContext {
    /// Where packets come in.
    pub receiver: Arc<Receiver>,
    /// To the producing nodes.
    pub channels: Channels,
}

/// Why an input fails, as long as it does.
pub type Failure = watch::Receiver<Option<Arc<str>>>;

/// A video input; ends when the last holder drops it.
#[derive(Debug)]
pub struct VideoSource {
    slot: Arc<FrameSlot>,
    failure: Failure,
    _stop: DropGuard,
}

impl VideoSource {
    /// Where its frames are.
    #[must_use]
    pub fn slot(&self) -> &Arc<FrameSlot> {
        &self.slot
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }

    fn start(context: &LinkContext, track: &v1::TrackSource) -> Self {
        let slot = Arc::new(FrameSlot::default());
        let (stop, failure) = start(context, track, Decoding::Video(Arc::clone(&slot)));
        Self { slot, failure, _stop: stop }
    }
}

/// An audio input; ends when dropped.
#[derive(Debug)]
pub struct AudioSource {
    feed: Arc<AudioFeed>,
    failure: Failure,
    _stop: DropGuard,
}

impl AudioSource {
    /// Begins to attach the track.
    #[must_use]
    pub fn start(context: &LinkContext, track: &v1::TrackSource) -> Self {
        let feed = Arc::new(AudioFeed::default());
        let (stop, failure) = start(context, track, Decoding::Audio(Arc::clone(&feed)));
        Self { feed, failure, _stop: stop }
    }

    /// Where its packets are.
    #[must_use]
    pub fn feed(&self) -> &Arc<AudioFeed> {
        &self.feed
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

/// The video inputs of the node: each is attached and decoded once however many views show it.
#[derive(Debug, Default)]
pub struct VideoSources(Mutex<HashMap<SourceKey, Weak<VideoSource>>>);

/// Track, worker and endpoint.
type SourceKey = (String, String, String);

impl VideoSources {
    /// The input for a track; begins to attach it if nobody has it yet.
    pub fn get(&self, context: &LinkContext, track: &v1::TrackSource) -> Arc<VideoSource> {
        let key = (track.track_id.clone(), track.worker_id.clone(), track.endpoint.clone());
        let mut sources = self.0.lock();
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = sources.get(&key).and_then(Weak::upgrade) {
            return source;
        }
        let source = Arc::new(VideoSource::start(context, track));
        sources.insert(key, Arc::downgrade(&source));
        source
    }
}

/// Where the packets of an input go.
#[derive(Clone)]
enum Decoding {
    Video(Arc<FrameSlot>),
    Audio(Arc<AudioFeed>),
}

fn start(context: &LinkContext, track: &v1::TrackSource, decoding: Decoding) -> (DropGuard, Failure) {
    let stop = CancellationToken::new();
    let (report, failure) = watch::channel(None);
    let input = Input {
        context: context.clone(),
        track: track.clone(),
        decoding,
        stop: stop.clone(),
        report,
        backoff: Backoff::default(),
    };
    tokio::spawn(input.run());
    (stop.drop_guard(), failure)
}

/// The task that keeps one input attached.
struct Input {
    context: LinkContext,
    track: v1::TrackSource,
    decoding: Decoding,
    stop: CancellationToken,
    report: watch::Sender<Option<Arc<str>>>,
    backoff: Backoff,
}

impl Input {
    async fn run(mut self) {
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let attempt = AssertUnwindSafe(self.attempt()).catch_unwind().await;
            if let Err(error) = attempt.unwrap_or(Err(SourceError::Panic)) {
                let news = self.report.send_if_modified(|failure| {
                    let first = failure.is_none();
                    *failure = failure.take().or_else(|| Some(error.to_string().into()));
                    first
                });
                if news {
                    tracing::warn!(track = self.track.track_id, worker = self.track.worker_id, %error, "input fails");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.backoff.pause()) => {}
            }
        }
    }

    /// Attaches and stays until told to stop, or until the producer falls silent.
    async fn attempt(&mut self) -> Result<(), SourceError> {
        let (signals, mut signalled) = mpsc::channel(MAX_SIGNALS);
        let pipeline = Pipeline::default();
        let flow = self.context.receiver.open(self.sink(&pipeline))?;
        let attachment = format!("{:032x}", rand::random::<u128>());
        let mut link = MediaLinkClient::new(self.context.channels.to(&self.track.endpoint)?);
        let reply = tokio::select! {
            () = self.stop.cancelled() => {
                detach(link, attachment);
                return Ok(());
            }
            reply = link.attach(timed(flow.attach_request(&attachment, &self.track.track_id))) => reply?.into_inner(),
        };
        let result = async {
            let producer =
                reply.producer_address.parse().map_err(|_| SourceError::Answer("a socket address"))?;
            self.decode(&reply, &pipeline, signals).await?;
            tracing::debug!(track = self.track.track_id, %producer, "input attached");
            self.stay(&flow, producer, &mut signalled).await
        }
        .await;
        detach(link, attachment);
        result
    }

    fn sink(&self, pipeline: &Pipeline) -> Sink {
        match &self.decoding {
            Decoding::Audio(feed) => {
                let feed = Arc::clone(feed);
                Box::new(move |packet, now| feed.push(packet, now))
            }
            Decoding::Video(_) => {
                let pipeline = pipeline.clone();
                Box::new(move |packet, _| pipeline.push(packet))
            }
        }
    }

    /// Sets up what the flow's format needs.
    async fn decode(
        &self,
        reply: &v1::AttachReply,
        pipeline: &Pipeline,
        signals: mpsc::Sender<DecoderSignal>,
    ) -> Result<(), SourceError> {
        let name = reply.format.as_ref().map(|format| format.codec.clone()).unwrap_or_default();
        match &self.decoding {
            Decoding::Audio(feed) => {
                feed.attach(AudioCodec::from_name(&name).ok_or(SourceError::Codec(name))?);
                Ok(())
            }
            Decoding::Video(slot) => {
                let codec = VideoCodec::from_name(&name).ok_or(SourceError::Codec(name))?;
                let payload_type = u8::try_from(reply.payload_type)
                    .ok()
                    .filter(|payload_type| *payload_type < 128)
                    .ok_or(SourceError::Answer("a payload type"))?;
                let slot = Arc::clone(slot);
                // A full channel holds signals enough.
                let signal = move |signal| drop(signals.try_send(signal));
                let start = move || VideoDecoder::start(codec, payload_type, slot, signal);
                let decoder = tokio::task::spawn_blocking(start).await.map_err(|_| SourceError::Panic)??;
                *pipeline.0.lock() = Some(decoder);
                Ok(())
            }
        }
    }

    /// Keeps the flow going.
    async fn stay(
        &mut self,
        flow: &Flow,
        producer: SocketAddr,
        signalled: &mut mpsc::Receiver<DecoderSignal>,
    ) -> Result<(), SourceError> {
        let since = Instant::now();
        let mut key_frames = Throttle::new(KEY_FRAME_INTERVAL);
        let mut nudges = Throttle::new(NO_FIRST_FRAME);
        let mut reports = Throttle::new(REPORT_INTERVAL);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if let Decoding::Video(_) = &self.decoding {
            key_frames.request();
        }
        loop {
            let signal = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                Some(signal) = signalled.recv() => Some(signal),
                _ = tick.tick() => None,
            };
            let now = Instant::now();
            match signal {
                Some(DecoderSignal::Failed(reason)) => return Err(SourceError::Decoder(reason)),
                Some(DecoderSignal::KeyFrameWanted) => key_frames.request(),
                None => {}
            }
            if let Decoding::Video(slot) = &self.decoding
                && lacks_frames(slot.last_at(), since, now)
            {
                nudges.request();
            }
            if nudges.poll(now) {
                key_frames.request();
            }
            if key_frames.poll(now) {
                flow.request_key_frame(producer);
            }
            reports.request();
            if reports.poll(now) {
                flow.report(producer);
            }
            if flow.silence(now) >= SILENCE {
                tracing::debug!(track = self.track.track_id, "producer is silent, attaching anew");
                return Ok(());
            }
            if now.saturating_duration_since(since) >= SETTLED {
                self.backoff.reset();
                self.report.send_if_modified(|failure| failure.take().is_some());
            }
        }
    }
}

/// Whether a stream attached at `since`, whose last frame was decoded at `last`, has been without one for too long.
fn lacks_frames(last: Option<Instant>, since: Instant, now: Instant) -> bool {
    match last.filter(|last| *last > since) {
        Some(last) => now.saturating_duration_since(last) > NO_FRAME,
        None => now.saturating_duration_since(since) > NO_FIRST_FRAME,
    }
}

/// A video input's decoder, once there is one.
#[derive(Clone, Default)]
struct Pipeline(Arc<Mutex<Option<VideoDecoder>>>);

impl Pipeline {
    fn push(&self, packet: BytesMut) {
        if let Some(decoder) = &*self.0.lock() {
            decoder.push(packet);
        }
    }
}

/// Ends an attachment at the producer, without waiting for it; one that is missed ends by itself in 10 s.
fn detach(mut link: MediaLinkClient<Channel>, attachment_id: String) {
    tokio::spawn(async move {
        let _ended = link.detach(timed(v1::DetachRequest { attachment_id })).await;
    });
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}
