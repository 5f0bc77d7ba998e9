//! What participants may do. A change acts at once: what is not permitted any more stops, and a session of which nothing is permitted
//! ends. What such a change has stopped flows again when it is permitted again; what was paused stays paused.
//!
//! OWT's permissions know audio and video only. Data may be published by those who may publish either, and subscribed by those who
//! may subscribe either.

use kaigi_proto::ids::ParticipantId;

use super::{
    Room,
    decisions::Why,
    happenings::Happening,
    input::PermissionChange,
    media::{Kind, Kinds},
    output::Reply,
    refusal::Refusal,
    sessions::SessionKey,
    state::Phase,
};

impl Room {
    pub(super) fn update_participant(
        &mut self,
        id: &ParticipantId,
        change: PermissionChange,
    ) -> Result<Reply, Refusal> {
        let participant = self.state.participants.get_mut(id).ok_or(Refusal::NotJoined)?;
        let set = |flag: &mut bool, to: Option<bool>| *flag = to.unwrap_or(*flag);
        let had_own_mix = participant.has_own_mix();
        set(&mut participant.publish.audio, change.publish_audio);
        set(&mut participant.publish.video, change.publish_video);
        set(&mut participant.subscribe.audio, change.subscribe_audio);
        set(&mut participant.subscribe.video, change.subscribe_video);
        let loses_own_mix = had_own_mix && !participant.has_own_mix();
        self.views_changed = true;
        self.enforce_permissions(id);
        if loses_own_mix {
            self.leave_own_mix(id);
        }
        let participant = self.describe_participant(id).ok_or(Refusal::NotJoined)?;
        self.happen(Happening::ParticipantUpdated(participant.clone()));
        Ok(Reply::Participant(participant))
    }

    fn enforce_permissions(&mut self, owner: &ParticipantId) {
        for session in self.sessions_where(|of, _| of == owner) {
            match self.is_anything_permitted(&session) {
                // It ended with another one.
                None => {}
                Some(true) => Kind::ALL.into_iter().for_each(|kind| self.enforce_permission(&session, kind)),
                Some(false) => self.end_unauthorized(&session),
            }
        }
    }

    /// What the session's owner may do with the kinds of it.
    fn permitted(&self, session: &SessionKey) -> Option<Kinds> {
        if let SessionKey::Publication(id) = session
            && self.state.ingests.contains_key(id)
        {
            // It is nobody's.
            return Some(Kinds { audio: true, video: true });
        }
        let owner = self.state.participants.get(self.owner_of(session)?)?;
        Some(match session {
            SessionKey::Publication(_) => owner.publish,
            SessionKey::Subscription(_) => owner.subscribe,
        })
    }

    pub(super) fn is_permitted(&self, session: &SessionKey, kind: Kind) -> bool {
        self.permitted(session).is_some_and(|kinds| kinds.has(kind))
    }

    fn is_anything_permitted(&self, session: &SessionKey) -> Option<bool> {
        let permitted = self.permitted(session)?;
        Some(match session {
            SessionKey::Publication(id) => {
                let publication = self.state.publications.get(id)?;
                if publication.data && permitted.any() {
                    true
                } else if publication.phase == Phase::Established {
                    publication.tracks.iter().any(|track| permitted.has(track.kind))
                } else {
                    publication.requested.iter().any(|track| permitted.has(track.kind))
                }
            }
            SessionKey::Subscription(id) => {
                let subscription = self.state.subscriptions.get(id)?;
                let media = subscription.tracks.iter().any(|track| permitted.has(track.kind));
                media || subscription.data.is_some() && permitted.any()
            }
        })
    }

    fn end_unauthorized(&mut self, session: &SessionKey) {
        if self.opening.contains_key(session.as_str()) {
            self.fail_opening(session, Refusal::Unauthorized);
        } else {
            self.end_session(session, Some(&Refusal::Unauthorized.to_string()), true);
        }
    }

    /// Stops one kind of a session, or lets it flow again, as it is permitted now.
    fn enforce_permission(&mut self, session: &SessionKey, kind: Kind) {
        let permitted = self.is_permitted(session, kind);
        let changed = match session {
            SessionKey::Publication(id) => {
                self.state.publications.get_mut(id).is_some_and(|p| p.permit(kind, permitted))
            }
            SessionKey::Subscription(id) => {
                self.state.subscriptions.get_mut(id).is_some_and(|s| s.permit(kind, permitted))
            }
        };
        if !changed {
            return;
        }
        self.order_flow(session, kind);
        match session {
            SessionKey::Publication(id) => {
                self.tell_status(id, kind, permitted);
                self.decided_for_takers(id, kind, &Why::SourcePermitted(kind, permitted));
            }
            SessionKey::Subscription(id) => self.decided(id, kind, Why::Permitted(kind, permitted)),
        }
    }

    /// The participant hears what everybody hears before its own mix is gone.
    fn leave_own_mix(&mut self, participant: &ParticipantId) {
        let own = self.state.subscriptions.iter().filter(|(_, s)| s.owner == *participant);
        let own: Vec<_> = own.map(|(id, _)| id.clone()).collect();
        for id in own {
            self.repoint(&id);
        }
        self.advance_sessions(participant);
    }
}
