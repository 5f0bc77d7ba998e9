//! One session: an actor that keeps a participant's place, follows what the room tells of it, and takes what its client sends by PATCH
//! and DELETE. It ends with its stream, its transport or its place, whichever goes first, and takes the others with it.

use kaigi_proto::v1::{Progress, join_event, progress, signal_request, stream_event};
use kaigi_room_client::{CallError, Events, Seat};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    error::WhipError,
    fragment::{Fragment, ServerIce},
    offer::Offer,
};
use crate::rest::IfMatch;

/// Requests of a client that wait for the one before them.
pub(super) const MAX_COMMANDS: usize = 8;

/// What a client asks of its session.
#[derive(Debug)]
pub(super) enum Command {
    Patch { if_match: IfMatch, fragment: Fragment, reply: oneshot::Sender<Result<Patched, WhipError>> },
    End { reply: oneshot::Sender<()> },
}

/// What became of a PATCH.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Patched {
    /// The candidates are taken.
    Taken,
    /// ICE was restarted: the server's fragment, and the new ICE session's tag.
    Restarted { fragment: String, tag: String },
}

/// Why a session ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Its stream did.
    Stream,
    /// It could not be, or its transport is lost.
    Failed(String),
    /// The participant was put out, or the room is gone.
    Dropped(String),
}

impl From<End> for WhipError {
    fn from(end: End) -> Self {
        match end {
            End::Stream => Self::NoSession,
            End::Failed(why) | End::Dropped(why) => Self::Failed(why),
        }
    }
}

/// The ids by which a session knows what concerns it.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    pub(super) transport: String,
    pub(super) session: String,
    /// The stream that is published or played.
    pub(super) stream: String,
}

impl Ids {
    /// Whether what the room tells, or that it tells no more, is the session's end.
    fn end(&self, event: Option<join_event::Event>) -> Option<End> {
        use join_event::Event;
        match event {
            None => Some(End::Dropped("The room is gone".to_owned())),
            Some(Event::Progress(Progress { transport_id, progress })) if transport_id == self.transport => {
                match progress? {
                    progress::Progress::SessionError(error) if error.session_id == self.session => {
                        Some(End::Failed(error.reason))
                    }
                    progress::Progress::TransportError(why) => Some(End::Failed(why)),
                    // Answers that nobody waits for any more are of restarts that were given up.
                    progress::Progress::Answer(_)
                    | progress::Progress::SessionError(_)
                    | progress::Progress::SessionReady(_)
                    | progress::Progress::TransportMoving(_)
                    | progress::Progress::TransportReady(_) => None,
                }
            }
            Some(Event::Stream(event)) if event.stream_id == self.stream => match event.change? {
                stream_event::Change::Removed(_) => Some(End::Stream),
                _ => None,
            },
            Some(Event::Dropped(dropped)) => Some(End::Dropped(dropped.reason)),
            Some(
                Event::Progress(_)
                | Event::Stream(_)
                | Event::Joined(_)
                | Event::Participant(_)
                | Event::Text(_)
                | Event::Layers(_),
            ) => None,
        }
    }
}

/// A session that is negotiated.
#[derive(Debug)]
pub(super) struct Session {
    seat: Seat,
    events: Events,
    ids: Ids,
    offer: Offer,
    ice: ServerIce,
    /// Why it is at its end.
    end: Option<End>,
}

impl Session {
    /// Negotiates a session that the room knows; gives it with the answer.
    ///
    /// # Errors
    /// If the offer is refused, or the session ends before it is answered.
    pub(super) async fn negotiate(
        seat: Seat,
        mut events: Events,
        ids: Ids,
        offer: Offer,
    ) -> Result<(Self, String), WhipError> {
        let answer = ask(&seat, &mut events, &ids, &offer).await?;
        let ice = ServerIce::of(&answer).ok_or(WhipError::NoFormat)?;
        Ok((Self { seat, events, ids, offer, ice, end: None }, answer))
    }

    /// The tag of its ICE session (RFC 9725 §4.3.1).
    pub(super) fn tag(&self) -> String {
        let credentials = &self.ice.credentials;
        let hash = Sha256::digest(format!("{}:{}", credentials.ufrag, credentials.password));
        format!("\"{}\"", hex::encode(&hash[..12]))
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stopping: CancellationToken) {
        let mut asked_by = None;
        while self.end.is_none() {
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                event = self.events.next() => {
                    self.end = match event {
                        Ok(Some(event)) => event.event.and_then(|event| self.ids.end(Some(event))),
                        Ok(None) | Err(_) => self.ids.end(None),
                    };
                }
                command = commands.recv() => match command {
                    Some(Command::Patch { if_match, fragment, reply }) => {
                        let patched = self.patch(&if_match, fragment).await;
                        let _: Result<_, _> = reply.send(patched);
                    }
                    Some(Command::End { reply }) => {
                        asked_by = Some(reply);
                        break;
                    }
                    None => break,
                },
            }
        }
        tracing::info!(end = ?self.end, asked = asked_by.is_some(), "session ends");
        self.seat.leave().await;
        if let Some(reply) = asked_by {
            let _: Result<_, _> = reply.send(());
        }
    }

    async fn patch(&mut self, if_match: &IfMatch, fragment: Fragment) -> Result<Patched, WhipError> {
        let other = fragment.credentials.filter(|credentials| *credentials != self.offer.credentials);
        match (if_match, other) {
            (IfMatch::OneOf(tags), _) if !tags.contains(&self.tag()) => Err(WhipError::OtherIceSession),
            (IfMatch::OneOf(_), Some(_)) => Err(WhipError::RestartWithTag),
            (IfMatch::Any, Some(credentials)) => {
                let offer = self.offer.restarted(&credentials);
                let outcome = ask(&self.seat, &mut self.events, &self.ids, &offer).await;
                if let Err(NoAnswer::End(end)) = &outcome {
                    self.end = Some(end.clone());
                }
                let answer = outcome?;
                self.ice = ServerIce::of(&answer).ok_or(WhipError::NoFormat)?;
                self.offer = offer;
                Ok(Patched::Restarted { fragment: self.ice.fragment(), tag: self.tag() })
            }
            (IfMatch::OneOf(_) | IfMatch::Any, None) => {
                for candidate in fragment.candidates {
                    let signal = signal_request::Signal::Candidate(candidate);
                    self.seat.signal(&self.ids.transport, signal).await?;
                }
                Ok(Patched::Taken)
            }
        }
    }
}

/// Why there is no answer to an offer.
#[derive(Debug)]
enum NoAnswer {
    /// It is not to be had.
    Call(CallError),
    /// The session is at its end.
    End(End),
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<NoAnswer> for WhipError {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Call(error) => error.into(),
            NoAnswer::End(end) => end.into(),
        }
    }
}

/// Sends an offer and waits for the answer.
async fn ask(seat: &Seat, events: &mut Events, ids: &Ids, offer: &Offer) -> Result<String, NoAnswer> {
    let otherwise = |told| ids.end(told).map(NoAnswer::End);
    seat.offer(events, &ids.transport, offer.text().to_owned(), otherwise).await
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1::{Dropped, RemovedStream, SessionError, StreamEvent};

    use super::*;

    fn ids() -> Ids {
        Ids { transport: "t".into(), session: "s".into(), stream: "r-common".into() }
    }

    fn progress(transport: &str, progress: progress::Progress) -> Option<End> {
        let progress = Progress { transport_id: transport.into(), progress: Some(progress) };
        ids().end(Some(join_event::Event::Progress(progress)))
    }

    #[test]
    fn a_session_ends_with_what_it_is_made_of() {
        let error = |session: &str| {
            progress::Progress::SessionError(SessionError { session_id: session.into(), reason: "x".into() })
        };
        let failed = || Some(End::Failed("x".into()));
        assert_eq!(progress("t", error("s")), failed());
        assert_eq!(progress("t", error("other")), None);
        assert_eq!(progress("t", progress::Progress::TransportError("x".into())), failed());
        assert_eq!(progress("other", progress::Progress::TransportError("x".into())), None);
        let removed = |stream: &str| {
            let change = stream_event::Change::Removed(RemovedStream::default());
            let event = StreamEvent { stream_id: stream.into(), change: Some(change) };
            ids().end(Some(join_event::Event::Stream(event)))
        };
        assert_eq!(removed("r-common"), Some(End::Stream));
        assert_eq!(removed("other"), None);
        assert_eq!(progress("t", progress::Progress::Answer("v=0".into())), None);
        let dropped = join_event::Event::Dropped(Dropped { reason: "x".into() });
        assert_eq!(ids().end(Some(dropped)), Some(End::Dropped("x".into())));
    }
}
