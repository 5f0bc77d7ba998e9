//! The participants as those who are told things, and who come and go.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::ParticipantId,
    v1::{self, join_event::Event},
};

use super::{Actor, After, FEEDS, Mail, ReplyTo};
use crate::{
    audience::{EventSender, NotDrained},
    feed::{Feed, NotResumed, Overflow, SavedFeed},
    keeper::Head,
    log::{Entry, Log, Told},
    room::{Input, Refusal, Reply},
};

/// Numbers of events that are left out when a room is taken over: with a store that was away some may have been given and not written.
const SKIPPED: u64 = 10_000;

/// One whom the room tells things.
pub(super) struct Listener {
    pub(super) feed: Feed,
    /// Where the events go; `None` while the participant is away.
    pub(super) events: Option<EventSender>,
    /// Which of the participant's streams that is.
    pub(super) stream: u64,
}

impl Listener {
    /// Tells an event, now or when the participant is back.
    pub(super) fn tell(&mut self, entry: &Arc<Entry>) -> Result<(), TooSlow> {
        match (self.feed.push(entry, Instant::now()), &self.events) {
            // Of a stream that is dropped, word comes by mail.
            (Ok(true), Some(events)) => match events.send(entry.event.clone()) {
                Err(NotDrained) if !events.gone().is_cancelled() => Err(TooSlow),
                Err(NotDrained) | Ok(()) => Ok(()),
            },
            (Ok(_), _) => Ok(()),
            (Err(Overflow), _) => Err(TooSlow),
        }
    }
}

/// Too much waits for a participant.
pub(super) struct TooSlow;

/// An event outside of a participant's count.
pub(super) fn unnumbered(event: Event) -> v1::JoinEvent {
    v1::JoinEvent { seq: 0, event: Some(event) }
}

impl Actor {
    /// Goes on with the audience of another agent.
    pub(crate) fn take_over(&mut self, parts: &BTreeMap<String, Vec<u8>>, head: Head) {
        let (now, backlog) = (Instant::now(), self.shared.limits.backlog);
        self.log = Log::restored(parts, head.latest + SKIPPED, head.lost, now);
        for participant in self.room.participants().cloned().collect::<Vec<_>>() {
            let saved = parts.get(&format!("{FEEDS}/{participant}"));
            let saved = saved.and_then(|saved| serde_json::from_slice(saved).ok());
            let mut saved: SavedFeed = saved.unwrap_or_else(|| Feed::new(Duration::ZERO, backlog, 0).saved());
            saved.forgotten = saved.forgotten.max(self.log.lost());
            let entries = self.log.after(saved.acknowledged, &participant);
            let feed = Feed::restored(&saved, entries, backlog, now);
            self.feeds.insert(participant.clone(), saved);
            self.audience.insert(participant, Listener { feed, events: None, stream: 0 });
        }
    }

    /// Whether a participant joined just before the room was taken over, and its portal does not know.
    pub(super) fn may_join_again(&self, participant: &ParticipantId) -> bool {
        self.audience.get(participant).is_some_and(|listener| listener.feed.may_join_again())
    }

    pub(super) fn join_again(
        &mut self,
        participant: &ParticipantId,
        events: EventSender,
        reply: ReplyTo,
        stream: u64,
    ) {
        let Some(joined) = self.room.joined_again(participant) else {
            // An error means that nobody waits any more.
            let _: Result<_, _> = reply.send(Err(Refusal::NotJoined));
            return;
        };
        let snapshot = unnumbered(Event::Joined(joined.clone()));
        let fits = events.send(snapshot).is_ok();
        self.watch(participant, &events, stream);
        let now = Instant::now();
        if let Some(listener) = self.audience.get_mut(participant) {
            // What happened before is in what it is told now.
            listener.feed.reattach(self.log.latest(), now);
            listener.feed.acknowledge(self.log.latest(), self.log.latest());
            listener.stream = stream;
            listener.events = Some(events);
        }
        if !fits {
            self.slow.push(participant.clone());
        }
        // An error means that nobody waits any more, which is noticed by its stream.
        let _: Result<_, _> = reply.send(Ok(Reply::Joined(Box::new(joined))));
    }

    /// Gives a participant's place to a new stream: first what was missed after an event. An older stream that is still open ends.
    pub(super) fn resume(
        &mut self,
        participant: &ParticipantId,
        after: After,
        events: EventSender,
        stream: u64,
    ) -> Result<(), Refusal> {
        let listener = self.audience.get_mut(participant).ok_or(Refusal::NotJoined)?;
        let (latest, now) = (self.log.latest(), Instant::now());
        let resumed = match after {
            After::Client { seq, exact } => listener.feed.resume(seq, exact, latest, now),
            After::Portal { seq } => listener.feed.reattach(seq, now).ok_or(NotResumed::NotAllowed),
        };
        let missed = match resumed {
            Ok(missed) => missed,
            Err(NotResumed::NotAllowed) => return Err(Refusal::NotResumable),
            Err(NotResumed::Forgotten) => {
                self.put(Input::Gone(participant.clone()));
                return Err(Refusal::NotJoined);
            }
        };
        tracing::info!(room = %self.id, %participant, missed = missed.len(), "came back");
        metrics::counter!("kaigi_conference_participants_resumed_total").increment(1);
        if let Some(older) = listener.events.take() {
            let taken_over = Event::Dropped(v1::Dropped { reason: "Taken over".into() });
            // One who does not drain its queue sees the end of its stream.
            let _: Result<_, _> = older.send(unnumbered(taken_over));
        }
        let fits = missed.into_iter().all(|event| events.send(event).is_ok());
        listener.stream = stream;
        self.watch(participant, &events, stream);
        if let Some(listener) = self.audience.get_mut(participant) {
            listener.events = Some(events);
        }
        if !fits {
            self.slow.push(participant.clone());
        }
        Ok(())
    }

    /// The stream of that number is broken: its participant is away, or has left.
    pub(super) fn detach(&mut self, participant: ParticipantId, stream: u64) {
        let Some(listener) = self.audience.get_mut(&participant).filter(|l| l.stream == stream) else {
            return;
        };
        listener.events = None;
        if listener.feed.detach(Instant::now()) {
            tracing::info!(room = %self.id, %participant, "away");
        } else {
            self.put(Input::Gone(participant));
        }
    }

    pub(super) fn tell(&mut self, entry: &Arc<Entry>) {
        match &entry.to {
            Told::One(to) => {
                if let Some(listener) = self.audience.get_mut(to)
                    && listener.tell(entry).is_err()
                {
                    self.slow.push(to.clone());
                }
            }
            Told::All { .. } => {
                for (participant, listener) in &mut self.audience {
                    if entry.to.is_for(participant) && listener.tell(entry).is_err() {
                        self.slow.push(participant.clone());
                    }
                }
            }
        }
    }

    /// Tells the room when the participant's stream is dropped.
    pub(super) fn watch(&self, participant: &ParticipantId, events: &EventSender, stream: u64) {
        let (gone, mailbox, participant) = (events.gone(), self.inbox.mailbox.clone(), participant.clone());
        tokio::spawn(async move {
            gone.cancelled().await;
            if let Some(mailbox) = mailbox.upgrade() {
                // An error means that the room is over.
                let _: Result<_, _> = mailbox.send(Mail::Gone { participant, stream }).await;
            }
        });
    }
}
