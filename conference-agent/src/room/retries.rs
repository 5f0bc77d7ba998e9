//! Requests that are made again because their answer was lost with a connection, or with the agent that had the room before: what is done
//! already is not done twice.

use kaigi_proto::ids::{ParticipantId, SessionId};

use super::{
    Room,
    input::{Command, RequestId, RequestKey},
    output::Reply,
    refusal::Refusal,
    state::Phase,
};

/// Requests that are remembered, far more than a room does in the seconds within which they may come again.
const REMEMBERED: usize = 512;

impl Command {
    /// Whether it is done, and nothing but that is replied, before anything else happens in the room. What takes longer changes nothing
    /// when it is done again, or is known by what it has made.
    pub(super) fn is_done_at_once(&self) -> bool {
        match self {
            Self::Leave { .. }
            | Self::Unpublish { .. }
            | Self::Unsubscribe { .. }
            | Self::Text { .. }
            | Self::DropParticipant { .. }
            | Self::StopAnalytics { .. }
            | Self::DeleteStream { .. } => true,
            Self::Join(_)
            | Self::Publish(_)
            | Self::Subscribe(_)
            | Self::ControlStream { .. }
            | Self::GetRegion { .. }
            | Self::ControlSubscription { .. }
            | Self::UpdateSubscription { .. }
            | Self::QueryBandwidth { .. }
            | Self::Signal { .. }
            | Self::ListParticipants
            | Self::Stats { .. }
            | Self::UpdateParticipant { .. }
            | Self::ListStreams
            | Self::UpdateStream { .. }
            | Self::StartEgress(_)
            | Self::UpdateEgress { .. }
            | Self::StopEgress { .. }
            | Self::ListEgresses
            | Self::StartIngest(_)
            | Self::ListIngests
            | Self::StartAnalytics(_)
            | Self::ListAnalytics
            | Self::Destroy { .. } => false,
        }
    }
}

impl Room {
    pub(super) fn remember_done(&mut self, key: RequestKey) {
        let newest = self.state.done.values().max().map_or(0, |order| order + 1);
        self.state.done.insert(key, newest);
        if self.state.done.len() > REMEMBERED {
            let oldest = self.state.done.iter().min_by_key(|(_, order)| **order).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.state.done.remove(&oldest));
        }
    }

    /// Whether a request came before; then it is replied to, now or when the earlier one is.
    pub(super) fn is_done_before(&mut self, request: RequestId, key: &RequestKey, command: &Command) -> bool {
        if command.is_done_at_once() {
            let known = self.state.done.contains_key(key);
            if known {
                self.reply(request, Ok(Reply::Done));
            }
            return known;
        }
        match command {
            Command::Publish(publish) => self.reply_publication(request, key, &publish.participant),
            Command::Subscribe(subscribe) => self.reply_subscription(request, key, &subscribe.participant),
            Command::StartEgress(_) => {
                let is_it = |asked: &Option<RequestKey>| asked.as_ref() == Some(key);
                let egress = self.state.egresses.iter().find(|(_, egress)| is_it(&egress.asked));
                let collection = self.state.collections.iter().find(|(_, c)| is_it(&c.asked));
                let id = egress.map(|(id, _)| id).or(collection.map(|(id, _)| id)).cloned();
                let described = id.and_then(|id| self.describe_any_egress(&id));
                described.map(|egress| self.reply(request, Ok(Reply::Egress(Box::new(egress))))).is_some()
            }
            Command::StartIngest(_) => {
                let made = self.ingest_of(key);
                made.map(|made| self.reply(request, Ok(made))).is_some()
            }
            Command::Join(_)
            | Command::Leave { .. }
            | Command::Unpublish { .. }
            | Command::Unsubscribe { .. }
            | Command::Text { .. }
            | Command::DropParticipant { .. }
            | Command::DeleteStream { .. }
            | Command::ControlStream { .. }
            | Command::GetRegion { .. }
            | Command::ControlSubscription { .. }
            | Command::UpdateSubscription { .. }
            | Command::QueryBandwidth { .. }
            | Command::Signal { .. }
            | Command::ListParticipants
            | Command::Stats { .. }
            | Command::UpdateParticipant { .. }
            | Command::ListStreams
            | Command::UpdateStream { .. }
            | Command::UpdateEgress { .. }
            | Command::StopEgress { .. }
            | Command::ListEgresses
            | Command::ListIngests
            | Command::StartAnalytics(_)
            | Command::StopAnalytics { .. }
            | Command::ListAnalytics
            | Command::Destroy { .. } => false,
        }
    }

    fn reply_publication(&mut self, request: RequestId, key: &RequestKey, owner: &ParticipantId) -> bool {
        let is_it = |p: &super::state::Publication| p.asked.as_ref() == Some(key) && p.owner == *owner;
        let known = self.state.publications.iter().find(|(_, p)| is_it(p));
        let Some((id, phase, transport)) =
            known.and_then(|(id, p)| Some((id.to_string(), p.phase.clone(), p.transport()?.clone())))
        else {
            return false;
        };
        self.reply_session(request, &id, &phase, transport)
    }

    fn reply_subscription(&mut self, request: RequestId, key: &RequestKey, owner: &ParticipantId) -> bool {
        let is_it = |s: &super::state::Subscription| s.asked.as_ref() == Some(key) && s.owner == *owner;
        let known = self.state.subscriptions.iter().find(|(_, s)| is_it(s));
        let Some((id, phase, transport)) =
            known.map(|(id, s)| (id.to_string(), s.phase.clone(), s.transport.clone()))
        else {
            return false;
        };
        self.reply_session(request, &id, &phase, transport)
    }

    fn reply_session(
        &mut self,
        request: RequestId,
        id: &str,
        phase: &Phase,
        transport: kaigi_proto::ids::TransportId,
    ) -> bool {
        let Ok(session) = SessionId::new(id) else { return false };
        match phase {
            Phase::Placing | Phase::Opening => {
                if let Some(earlier) = self.opening.insert(session, request) {
                    self.refuse(earlier, Refusal::AskedAgain);
                }
            }
            Phase::Connecting | Phase::Established => {
                let data = self.own_data(&session);
                self.reply(request, Ok(Reply::Session { session, transport, data }));
            }
        }
        true
    }
}
