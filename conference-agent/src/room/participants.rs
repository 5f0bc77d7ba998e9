//! Joining, leaving, and texts.

use std::time::Instant;

use kaigi_proto::{
    ids::ParticipantId,
    v1::{self, join_event::Event, participant_event},
};

use super::{
    Room,
    happenings::{Happening, Leaving},
    input::{Join, Receiver, RequestId},
    output::{Output, Reply},
    refusal::Refusal,
    state::{Participant, Placement},
};

impl Room {
    pub(super) fn join(&mut self, request: RequestId, join: Join) {
        match self.admit(join) {
            Ok(id) => {
                let joined = self.describe_joined(&id);
                self.reply(request, Ok(Reply::Joined(Box::new(joined))));
                if let Some(participant) = self.describe_participant(&id) {
                    self.happen(Happening::ParticipantJoined(participant.clone()));
                    self.tell_participants(Some(id), participant_event::Action::Joined(participant));
                }
            }
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// What one who is in the room would be told on joining it, for one who never was: whoever joined for it has not heard so.
    pub(crate) fn joined_again(&self, id: &ParticipantId) -> Option<v1::Joined> {
        self.state.participants.contains_key(id).then(|| self.describe_joined(id))
    }

    /// Who is in the room.
    pub(crate) fn participants(&self) -> impl Iterator<Item = &ParticipantId> {
        self.state.participants.keys()
    }

    fn admit(&mut self, join: Join) -> Result<ParticipantId, Refusal> {
        if self.state.participants.contains_key(&join.participant) {
            return Err(Refusal::AlreadyInRoom);
        }
        let limit = usize::try_from(self.config.participant_limit).unwrap_or(0);
        if limit > 0 && self.state.participants.len() >= limit {
            return Err(Refusal::RoomFull);
        }
        let role = self.config.role(&join.role).ok_or(Refusal::InvalidRole)?;
        let participant = Participant {
            arrival: self.state.arrivals,
            user: join.user,
            role: role.role.clone(),
            publish: role.publish.into(),
            subscribe: role.subscribe.into(),
            isp: join.isp,
            region: join.region,
            access: Placement::Nowhere,
        };
        self.state.arrivals += 1;
        self.state.participants.insert(join.participant.clone(), participant);
        self.idle_until = None;
        Ok(join.participant)
    }

    pub(super) fn leave(&mut self, participant: &ParticipantId, now: Instant) -> Result<Reply, Refusal> {
        self.participant(participant)?;
        self.remove_participant(participant, Leaving::Left, now);
        Ok(Reply::Done)
    }

    pub(super) fn drop_participant(
        &mut self,
        participant: &ParticipantId,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        self.participant(participant)?;
        self.remove_participant(participant, Leaving::Dropped, now);
        Ok(Reply::Done)
    }

    /// Takes a participant out with all that is its own. One who is not there is fine.
    pub(super) fn remove_participant(&mut self, id: &ParticipantId, why: Leaving, now: Instant) {
        let Some(participant) = self.state.participants.remove(id) else { return };
        if let Some(reason) = why.notice() {
            self.notify(id, Event::Dropped(v1::Dropped { reason: reason.to_owned() }));
        }
        self.output(Output::Close { participant: id.clone() });
        self.end_sessions_of(id);
        if participant.access != Placement::Nowhere {
            self.release(v1::Purpose::Access, id.to_string());
        }
        self.tell_participants(None, participant_event::Action::Left(id.to_string()));
        self.happen(Happening::ParticipantLeft { participant: id.clone(), why });
        if self.state.participants.is_empty() {
            self.idle_until = Some(now + self.settings.idle);
        }
    }

    pub(super) fn text(
        &mut self,
        from: &ParticipantId,
        to: Receiver,
        message: &str,
    ) -> Result<Reply, Refusal> {
        self.participant(from)?;
        let text = |to_all| {
            Event::Text(v1::TextEvent { from: from.to_string(), to_all, message: message.to_owned() })
        };
        match to {
            Receiver::All => self.output(Output::Broadcast { except: None, event: text(true) }),
            Receiver::One(to) => {
                self.participant(&to).map_err(|_| Refusal::UnknownReceiver(to.to_string()))?;
                self.notify(&to, text(false));
            }
        }
        Ok(Reply::Done)
    }

    pub(super) fn participant(&self, id: &ParticipantId) -> Result<&Participant, Refusal> {
        self.state.participants.get(id).ok_or(Refusal::NotJoined)
    }

    pub(super) fn participants_by_arrival(&self) -> Vec<ParticipantId> {
        let mut all: Vec<_> = self.state.participants.iter().map(|(id, p)| (p.arrival, id.clone())).collect();
        all.sort();
        all.into_iter().map(|(_, id)| id).collect()
    }

    fn tell_participants(&mut self, except: Option<ParticipantId>, action: participant_event::Action) {
        if self.config.notifying.participant_activities {
            let event = Event::Participant(v1::ParticipantEvent { action: Some(action) });
            self.output(Output::Broadcast { except, event });
        }
    }
}
