//! A track of another node, attached and kept attached.

use std::{
    collections::HashMap,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use kaigi_media::link::{LinkError, REPORT_INTERVAL};
use kaigi_proto::v1::{self, media_link_client::MediaLinkClient};
use kaigi_worker::{Channel, ChannelError, Channels};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Arrival, Backoff, Receiver, Throttle, fan::Fan, receiver::Flow};

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

/// Why a track does not flow.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
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
    /// The consumer can't use it.
    #[error("{0}")]
    Consumer(String),
    /// A defect in this program, which ends nothing but this attempt.
    #[error("the input's task failed")]
    Panic,
}

/// What tracks need of the node.
#[derive(Clone, Debug)]
pub struct LinkContext {
    /// Where packets come in.
    pub receiver: Arc<Receiver>,
    /// To the producing nodes.
    pub channels: Channels,
}

/// Why a track fails, as long as it does.
pub type Failure = watch::Receiver<Option<Arc<str>>>;

/// What a consumer wants of the producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// A key frame; more often than twice a second one is not asked for.
    pub key_frame: bool,
    /// Sequence numbers of packets that are missing, ascending.
    pub packets: Vec<u16>,
}

/// Whoever takes a track.
pub trait Consumer: Send + Sync + 'static {
    /// The track is attached (again): this is what comes. Packets that come before the future is ready are given to [`Self::take`] too.
    ///
    /// # Errors
    /// If the consumer can't use it; it is tried again later.
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>>;

    /// Takes what comes; must not block.
    fn take(&self, arrival: Arrival, now: Instant);

    /// Asked ten times a second, and whenever the notification given at the start is raised.
    ///
    /// # Errors
    /// If it broke: the track is attached anew.
    fn wants(&self, now: Instant) -> Result<Wants, IntakeError>;

    /// The attachment has ended; another follows, unless the track is not wanted any more.
    fn detached(&self) {}
}

/// A track that is wanted; let go when dropped.
#[derive(Debug)]
pub struct Track {
    failure: Failure,
    _stop: DropGuard,
}

impl Track {
    /// Begins to attach a track, or takes part in it if it is attached for somebody else of this node. Must be called within a tokio runtime. `urgent`, when notified, asks the consumer at once what it wants.
    #[must_use]
    pub fn start(
        context: &LinkContext,
        source: &v1::TrackSource,
        consumer: Arc<dyn Consumer>,
        urgent: Arc<Notify>,
    ) -> Self {
        let stop = CancellationToken::new();
        let (report, failure) = watch::channel(None);
        let task = Task {
            context: context.clone(),
            source: source.clone(),
            consumer,
            urgent,
            stop: stop.clone(),
            report,
            backoff: Backoff::default(),
        };
        tokio::spawn(task.take_part());
        Self { failure, _stop: stop.drop_guard() }
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

/// Which track: by the node that makes it, and its id there.
type Key = (String, String);

/// The tracks that are attached for whoever takes them.
#[derive(Debug, Default)]
pub(crate) struct Sharing(Mutex<HashMap<Key, Weak<Shared>>>);

/// A track that is attached for as long as somebody holds this.
#[derive(Debug)]
struct Shared {
    fan: Arc<Fan>,
    failure: Failure,
    _stop: DropGuard,
}

impl Sharing {
    fn of(&self, context: &LinkContext, source: &v1::TrackSource) -> Arc<Shared> {
        let key = (source.endpoint.clone(), source.track_id.clone());
        let mut tracks = self.0.lock();
        if let Some(shared) = tracks.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        let (stop, fan) = (CancellationToken::new(), Arc::<Fan>::default());
        let (report, failure) = watch::channel(None);
        let task = Task {
            context: context.clone(),
            source: source.clone(),
            consumer: Arc::clone(&fan) as Arc<dyn Consumer>,
            urgent: Arc::clone(&fan.urgent),
            stop: stop.clone(),
            report,
            backoff: Backoff::default(),
        };
        tokio::spawn(task.run());
        let shared = Arc::new(Shared { fan, failure, _stop: stop.drop_guard() });
        tracks.retain(|_, shared| shared.strong_count() > 0);
        tracks.insert(key, Arc::downgrade(&shared));
        shared
    }
}

/// The task that keeps one track attached.
struct Task {
    context: LinkContext,
    source: v1::TrackSource,
    consumer: Arc<dyn Consumer>,
    urgent: Arc<Notify>,
    stop: CancellationToken,
    report: watch::Sender<Option<Arc<str>>>,
    backoff: Backoff,
}

impl Task {
    /// Takes the track with all others of this node who do. If its consumer can't use what comes, or breaks, it goes on by itself.
    async fn take_part(self) {
        let shared = self.context.receiver.sharing.of(&self.context, &self.source);
        let member = shared.fan.add(Arc::clone(&self.consumer));
        let mut failure = shared.failure.clone();
        let goes_on = async {
            shared.fan.tell(&member).await;
            loop {
                tokio::select! {
                    () = self.urgent.notified() => shared.fan.urgent.notify_one(),
                    Ok(()) = failure.changed() => self.report.send_modify(|known| known.clone_from(&failure.borrow_and_update())),
                    () = member.fails.notified() => break,
                }
            }
        };
        let is_over = tokio::select! {
            () = self.stop.cancelled() => true,
            () = goes_on => false,
        };
        shared.fan.remove(&member);
        drop(shared);
        if !is_over {
            self.run().await;
        }
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let attempt = AssertUnwindSafe(self.attempt()).catch_unwind().await;
            self.consumer.detached();
            if let Err(error) = attempt.unwrap_or(Err(IntakeError::Panic)) {
                let news = self.report.send_if_modified(|failure| {
                    let first = failure.is_none();
                    *failure = failure.take().or_else(|| Some(error.to_string().into()));
                    first
                });
                if news {
                    tracing::warn!(track = self.source.track_id, worker = self.source.worker_id, %error, "input fails");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.backoff.pause()) => {}
            }
        }
    }

    /// Attaches and stays until told to stop, or until the producer falls silent.
    async fn attempt(&mut self) -> Result<(), IntakeError> {
        let consumer = Arc::clone(&self.consumer);
        let flow = self.context.receiver.open(Box::new(move |arrival, now| consumer.take(arrival, now)))?;
        let attachment = format!("{:032x}", rand::random::<u128>());
        let mut link = MediaLinkClient::new(self.context.channels.to(&self.source.endpoint)?);
        let reply = tokio::select! {
            () = self.stop.cancelled() => {
                detach(link, attachment);
                return Ok(());
            }
            reply = link.attach(timed(flow.attach_request(&attachment, &self.source.track_id))) => reply?.into_inner(),
        };
        let result = async {
            let producer =
                reply.producer_address.parse().map_err(|_| IntakeError::Answer("a socket address"))?;
            self.consumer.attached(reply).await?;
            tracing::debug!(track = self.source.track_id, %producer, "input attached");
            self.stay(&flow, producer).await
        }
        .await;
        detach(link, attachment);
        result
    }

    /// Keeps the flow going.
    async fn stay(&mut self, flow: &Flow, producer: SocketAddr) -> Result<(), IntakeError> {
        let since = Instant::now();
        let mut key_frames = Throttle::new(KEY_FRAME_INTERVAL);
        let mut reports = Throttle::new(REPORT_INTERVAL);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = self.urgent.notified() => {}
                _ = tick.tick() => {}
            }
            let now = Instant::now();
            let wants = self.consumer.wants(now)?;
            if wants.key_frame {
                key_frames.request();
            }
            if key_frames.poll(now) {
                flow.request_key_frame(producer);
            }
            if !wants.packets.is_empty() {
                flow.request_packets(producer, &wants.packets);
            }
            reports.request();
            if reports.poll(now) {
                flow.report(producer);
            }
            if flow.silence(now) >= SILENCE {
                tracing::debug!(track = self.source.track_id, "producer is silent, attaching anew");
                return Ok(());
            }
            if now.saturating_duration_since(since) >= SETTLED {
                self.backoff.reset();
                self.report.send_if_modified(|failure| failure.take().is_some());
            }
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
