//! One session: an actor that keeps a participant's place, has the picture filtered when it comes, answers on data channels, and ends with its
//! transport, its place, or when nothing has come from its client for a while.

use std::time::Duration;

use kaigi_proto::v1::{
    EgressMedia, KindFlags, MediaKind, Progress, StartAnalyticsRequest, SubscriptionUpdate, TrackUpdate,
    control_request::Operation, join_event, progress, stream_event,
};
use kaigi_room_client::{Events, Seat, Seated};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    Transform,
    calls::{control, publish, published, subscribe},
    chat::{Chat, Saying},
    error::EchoError,
    fold::Unfolded,
    place,
    sessions::Slot,
};
use crate::{
    backend::{Backend, CallError},
    signaling::Signaling,
    whip::all_flow,
};

/// A session from whose client nothing comes for so long ends, be it connected or not.
const IDLE: Duration = Duration::from_secs(60);
/// How often it is looked whether something comes.
const LOOK: Duration = Duration::from_secs(15);
/// Streams that came while the one that is filtered was waited for.
const MAX_COME: usize = 64;

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Dropped(String),
    Failed(String),
    Stream,
    Data,
    Idle,
}

impl From<End> for EchoError {
    fn from(end: End) -> Self {
        match end {
            End::Dropped(why) | End::Failed(why) => Self::Failed(why),
            End::Stream => Self::Failed("the stream has ended".to_owned()),
            End::Data => Self::Failed("the data channels have ended".to_owned()),
            End::Idle => Self::Failed("nothing came".to_owned()),
        }
    }
}

/// What the room calls what the session is made of.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub(super) transport: String,
    pub(super) publication: String,
    /// If anything is had back.
    pub(super) subscription: Option<String>,
}

/// What concerns a session of what a room tells.
#[derive(Clone, Debug, PartialEq, Eq)]
enum News {
    /// A stream is there: its own, or what is made of it, or anybody's.
    Come(String),
    /// What is had back is negotiated.
    Back,
    End(End),
}

impl Ids {
    fn news(&self, event: Option<join_event::Event>) -> Option<News> {
        use join_event::Event;
        let is_ours = |id: &str| id == self.publication || Some(id) == self.subscription.as_deref();
        let Some(event) = event else {
            return Some(News::End(End::Dropped("The room is gone".to_owned())));
        };
        match event {
            Event::Progress(Progress { transport_id, progress }) if transport_id == self.transport => {
                match progress? {
                    progress::Progress::SessionReady(id) if Some(&id) == self.subscription.as_ref() => {
                        Some(News::Back)
                    }
                    progress::Progress::SessionError(error) if is_ours(&error.session_id) => {
                        Some(News::End(End::Failed(error.reason)))
                    }
                    progress::Progress::TransportError(why) => Some(News::End(End::Failed(why))),
                    // Restarts are not offered.
                    progress::Progress::Answer(_)
                    | progress::Progress::SessionError(_)
                    | progress::Progress::SessionReady(_)
                    | progress::Progress::TransportMoving(_)
                    | progress::Progress::TransportReady(_) => None,
                }
            }
            Event::Stream(event) => match event.change? {
                stream_event::Change::Added(stream) => Some(News::Come(stream.id)),
                stream_event::Change::Removed(_) if event.stream_id == self.publication => {
                    Some(News::End(End::Stream))
                }
                _ => None,
            },
            Event::Dropped(dropped) => Some(News::End(End::Dropped(dropped.reason))),
            Event::Progress(_)
            | Event::Joined(_)
            | Event::Participant(_)
            | Event::Text(_)
            | Event::Layers(_) => None,
        }
    }
}

/// The filter on its way into a session.
#[derive(Debug)]
struct Filtering {
    /// The streams that come meanwhile.
    come: mpsc::Sender<String>,
    task: JoinHandle<Result<(), CallError>>,
}

impl Drop for Filtering {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A session that is negotiated.
#[derive(Debug)]
pub(super) struct Session {
    backend: Backend,
    seat: Seat,
    events: Events,
    ids: Ids,
    chat: Chat,
    /// What is to be done with the picture when it comes.
    transform: Transform,
    has_come: bool,
    is_back: bool,
    filtering: Option<Filtering>,
}

impl Session {
    /// Begins a session; gives it with the answer. Whatever was begun is taken back if that fails.
    ///
    /// # Errors
    /// Why it can't be.
    pub(super) async fn begin(
        signaling: &Signaling,
        slot: Slot,
        offer: &Unfolded,
        transform: Transform,
    ) -> Result<(Self, String), EchoError> {
        let backend = signaling.backend.clone();
        let room = place::ensure(&backend, slot).await?;
        let Seated { seat, mut events, .. } =
            signaling.join(&room, &place::guest(&room), Duration::ZERO).await?;
        let begun = async {
            let (mut ids, data) = publish(&seat, &offer.sends).await?;
            let chat = Chat::open(&backend, &data.unwrap_or_default()).await?;
            let has_picture = offer.receives(MediaKind::Video);
            if !offer.receives.is_empty() {
                let back = subscribe(&seat, &ids, &offer.receives).await?;
                if transform != Transform::None && has_picture {
                    let picture = KindFlags { audio: false, video: true };
                    control(&seat, &back, Operation::Pause(picture)).await?;
                }
                ids.subscription = Some(back);
            }
            let otherwise = |told| match ids.news(told)? {
                News::End(end) => Some(EchoError::from(end)),
                News::Come(_) | News::Back => None,
            };
            let answer = seat.offer(&mut events, &ids.transport, offer.text.clone(), otherwise).await?;
            let flows = all_flow(&answer, offer.sends.iter().chain(&offer.receives));
            let answer = offer.fold(&answer).filter(|_| flows).ok_or(EchoError::NoFormat)?;
            let transform = if has_picture { transform } else { Transform::None };
            Ok((ids, chat, transform, answer))
        };
        match begun.await {
            Ok((ids, chat, transform, answer)) => {
                let (has_come, is_back, filtering) = (false, false, None);
                let session =
                    Self { backend, seat, events, ids, chat, transform, has_come, is_back, filtering };
                Ok((session, answer))
            }
            Err(error) => {
                seat.leave().await;
                Err(error)
            }
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self, mut sayings: mpsc::Receiver<Saying>, stopping: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silence = Silence { last: (0, 0), since: Instant::now() };
        let end = loop {
            let filtered = async {
                match &mut self.filtering {
                    Some(filtering) => (&mut filtering.task).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stopping.cancelled() => break None,
                event = self.events.next() => {
                    let news = match event {
                        Ok(Some(event)) => event.event.and_then(|event| self.ids.news(Some(event))),
                        Ok(None) | Err(_) => self.ids.news(None),
                    };
                    match news {
                        Some(News::End(end)) => break Some(end),
                        Some(News::Come(stream)) => self.come(stream),
                        Some(News::Back) => {
                            self.is_back = true;
                            self.filter();
                        }
                        None => {}
                    }
                }
                goes_on = self.chat.step(&mut sayings) => if !goes_on { break Some(End::Data) },
                outcome = filtered => {
                    self.filtering = None;
                    match outcome {
                        Ok(Ok(())) => tracing::debug!(transform = ?self.transform, "the picture is filtered"),
                        Ok(Err(error)) => break Some(End::Failed(error.to_string())),
                        Err(_) => break Some(End::Failed("the filter failed".to_owned())),
                    }
                }
                _ = look.tick() => {
                    let packets = published(&self.backend, &self.seat.room, &self.ids.publication).await;
                    // What can't be counted at the moment counts as nothing new.
                    let heard = (packets.unwrap_or(silence.last.0), self.chat.heard());
                    if silence.lasts(heard, Instant::now()) {
                        break Some(End::Idle);
                    }
                }
            }
        };
        tracing::info!(?end, "session ends");
        self.filtering = None;
        self.seat.leave().await;
    }

    fn come(&mut self, stream: String) {
        if stream == self.ids.publication {
            self.has_come = true;
            self.filter();
        } else if let Some(filtering) = &self.filtering {
            // More of others' than fit come only where this one's has come long ago.
            let _: Result<_, _> = filtering.come.try_send(stream);
        }
    }

    /// Has the picture filtered once it is there and had back.
    fn filter(&mut self) {
        let Some((algorithm, parameters)) = self.transform.algorithm() else { return };
        let Some(subscription) = self.ids.subscription.clone() else { return };
        if !self.has_come || !self.is_back || self.filtering.is_some() {
            return;
        }
        let (come, streams) = mpsc::channel(MAX_COME);
        let wanted = StartAnalyticsRequest {
            room_id: self.seat.room.to_string(),
            algorithm: algorithm.to_owned(),
            parameters: parameters.to_owned(),
            media: Some(EgressMedia {
                kind: MediaKind::Video.into(),
                from: self.ids.publication.clone(),
                ..EgressMedia::default()
            }),
        };
        let filter = filter(self.backend.clone(), self.seat.clone(), subscription, wanted, streams);
        self.filtering = Some(Filtering { come, task: tokio::spawn(filter) });
    }
}

/// For how long nothing has come from a client.
#[derive(Debug)]
struct Silence {
    /// Packets of media and messages, as they were counted last.
    last: (u64, u64),
    since: Instant,
}

impl Silence {
    /// Whether that is too long, by what is counted now.
    fn lasts(&mut self, heard: (u64, u64), now: Instant) -> bool {
        if heard != self.last {
            (self.last, self.since) = (heard, now);
        }
        now.duration_since(self.since) >= IDLE
    }
}

/// Has a stream filtered, and what comes of it had back in place of it.
async fn filter(
    backend: Backend,
    seat: Seat,
    subscription: String,
    wanted: StartAnalyticsRequest,
    mut streams: mpsc::Receiver<String>,
) -> Result<(), CallError> {
    let filtered = backend.start_analytics(&seat.room, wanted).await?.stream_id;
    while let Some(stream) = streams.recv().await {
        if stream == filtered {
            break;
        }
    }
    let video = TrackUpdate { from: filtered, ..TrackUpdate::default() };
    let update = SubscriptionUpdate { audio: None, video: Some(video) };
    control(&seat, &subscription, Operation::Update(update)).await?;
    control(&seat, &subscription, Operation::Play(KindFlags { audio: false, video: true })).await
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1::{Dropped, RemovedStream, SessionError, Stream, StreamEvent};

    use super::*;

    fn ids() -> Ids {
        Ids { transport: "t".into(), publication: "p".into(), subscription: Some("s".into()) }
    }

    fn progress(transport: &str, progress: progress::Progress) -> Option<News> {
        let progress = Progress { transport_id: transport.into(), progress: Some(progress) };
        ids().news(Some(join_event::Event::Progress(progress)))
    }

    #[test]
    fn a_session_ends_with_what_it_is_made_of() {
        let error = |session: &str| {
            let reason = "x".into();
            progress(
                "t",
                progress::Progress::SessionError(SessionError { session_id: session.into(), reason }),
            )
        };
        let failed = || Some(News::End(End::Failed("x".into())));
        assert_eq!([error("p"), error("s"), error("o")], [failed(), failed(), None]);
        assert_eq!(progress("t", progress::Progress::TransportError("x".into())), failed());
        assert_eq!(progress("o", progress::Progress::TransportError("x".into())), None);
        let stream = |id: &str, change| {
            let event = StreamEvent { stream_id: id.into(), change: Some(change) };
            ids().news(Some(join_event::Event::Stream(event)))
        };
        let removed = || stream_event::Change::Removed(RemovedStream::default());
        assert_eq!(stream("p", removed()), Some(News::End(End::Stream)));
        assert_eq!(stream("o", removed()), None);
        let added = stream_event::Change::Added(Stream { id: "o".into(), ..Stream::default() });
        assert_eq!(stream("o", added), Some(News::Come("o".into())));
        let dropped = join_event::Event::Dropped(Dropped { reason: "x".into() });
        assert_eq!(ids().news(Some(dropped)), Some(News::End(End::Dropped("x".into()))));
    }

    #[test]
    fn silence_lasts_from_the_last_that_was_heard() {
        let start = Instant::now();
        let mut silence = Silence { last: (0, 0), since: start };
        let mut lasts = |heard, seconds| silence.lasts(heard, start + Duration::from_secs(seconds));
        assert!(!lasts((0, 0), 59));
        assert!(!lasts((7, 0), 61), "media came");
        assert!(!lasts((7, 1), 120), "a message came");
        assert!(!lasts((7, 1), 179));
        assert!(lasts((7, 1), 180));
    }

    #[test]
    fn what_is_had_back_is_ready_when_the_room_says_so() {
        assert_eq!(progress("t", progress::Progress::SessionReady("s".into())), Some(News::Back));
        assert_eq!(progress("t", progress::Progress::SessionReady("p".into())), None);
        assert_eq!(progress("t", progress::Progress::Answer("a".into())), None);
    }
}
