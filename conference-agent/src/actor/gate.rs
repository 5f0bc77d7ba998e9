//! What a room says is passed on once the state that it follows from is written down. So whatever anybody was told, whoever takes the room
//! over knows it, too; and an agent whose room was taken over says nothing any more.

use std::time::{Duration, Instant};

use kaigi_proto::ids::ParticipantId;

use super::{Actor, FEEDS, Said};
use crate::{
    feed::Feed,
    handover,
    keeper::{Head, Keeper, Written},
    log::Told,
    room::{Output, Reply},
};

/// Longest wait for what is being written when the room is to be handed over; it goes on while that takes longer.
const SETTLE: Duration = Duration::from_millis(500);

impl Actor {
    /// Takes what the room says to its place in the order.
    pub(super) fn say(&mut self, output: Output) {
        let now = Instant::now();
        let said = match output {
            Output::Notify { to, event } => Said::Event(self.log.append(Told::One(to), event, now)),
            Output::Broadcast { except, event } => {
                Said::Event(self.log.append(Told::All { except }, event, now))
            }
            Output::Reply { request, result: Ok(reply @ Reply::Joined(_)) } => {
                let latest = self.log.latest();
                let joins = self.replies.get(&request).and_then(|waiting| waiting.joins.as_ref());
                if let Some((participant, _, window)) = joins {
                    let feed = Feed::new(*window, self.shared.limits.backlog, latest);
                    self.feeds.insert(ParticipantId::clone(participant), feed.saved());
                }
                Said::Joined { request, reply: Box::new(reply), latest }
            }
            Output::Close { participant } => {
                self.feeds.remove(&participant);
                Said::Output(Box::new(Output::Close { participant }))
            }
            other => Said::Output(Box::new(other)),
        };
        self.said.push_back(said);
    }

    /// Writes down what has changed, unless something is being written; passes on what need not wait.
    pub(super) fn write_down(&mut self) {
        let now = Instant::now();
        let Some(keeper) = &mut self.keeper else { return self.pass_on(usize::MAX) };
        if keeper.is_away() {
            self.covered = 0;
            self.pass_on(usize::MAX);
        }
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.may_write(now) && !self.ended) else {
            return;
        };
        let (whole, due) = (keeper.is_whole(), keeper.is_due(now));
        if due {
            self.log.trim(now);
            for (participant, listener) in &self.audience {
                let saved = listener.feed.saved();
                if self.feeds.get(participant).is_some_and(|known| *known != saved) {
                    self.feeds.insert(participant.clone(), saved);
                }
            }
        }
        if whole {
            self.room.forget_written();
            self.log.forget_written();
            self.feeds.forget_written();
        }
        let mut changes = self.room.changes();
        self.log.changes(&mut changes);
        self.feeds.changes(FEEDS, ToString::to_string, &mut changes);
        if changes.is_empty() && !due {
            return self.pass_on(usize::MAX);
        }
        self.covered = self.said.len();
        let head = Head::new(self.log.latest(), self.log.lost());
        if let Some(keeper) = &mut self.keeper {
            keeper.write(changes, head, now);
        }
    }

    /// What came of a write.
    pub(super) fn note(&mut self, written: &Written) {
        if let Some(keeper) = &mut self.keeper {
            keeper.note(written, Instant::now());
        }
        match written {
            Written::Kept => {
                let covered = std::mem::take(&mut self.covered);
                self.pass_on(covered);
            }
            Written::Fenced => {
                tracing::warn!(room = %self.id, "the room was taken over by another agent, given up");
                metrics::counter!("kaigi_conference_rooms_fenced_total").increment(1);
                (self.fenced, self.ended) = (true, true);
            }
            // It is written once more, with all that was said since.
            Written::Unknown(_) => self.covered = 0,
        }
    }

    /// Writes down whatever is not, says what waits for that, and gives the room up. Whether that is done: a store that is away is waited
    /// for, and the room goes on meanwhile.
    pub(super) async fn hand_over(&mut self) -> bool {
        while let Some(keeper) = self.keeper.as_mut().filter(|keeper| !keeper.is_settled()) {
            let Ok(written) = tokio::time::timeout(SETTLE, keeper.written()).await else { return false };
            self.note(&written);
            self.drain();
            if self.ended || self.keeper.as_ref().is_some_and(Keeper::is_away) {
                return false;
            }
        }
        handover::give_up(&self.shared, &self.id).await
    }

    fn pass_on(&mut self, count: usize) {
        for _ in 0..count {
            match self.said.pop_front() {
                Some(Said::Output(output)) => self.perform(*output),
                Some(Said::Event(entry)) => self.tell(&entry),
                Some(Said::Joined { request, reply, latest }) => self.reply(request, Ok(*reply), latest),
                None => break,
            }
        }
    }
}
