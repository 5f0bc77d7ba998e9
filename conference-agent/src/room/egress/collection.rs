//! Recordings of each forward stream of a room apart, begun and ended as one. Which streams there are changes; each has a recording of its own
//! from when it comes to when it goes, and one manifest tells when each began.

use kaigi_proto::{ids::StreamId, v1};
use serde::{Deserialize, Serialize};

use super::{Condition, EgressTarget, Recorded, Room, link::Part};
use crate::room::{
    input::{EgressMedia, RequestId, RequestKey},
    media::{Kind, Kinds},
    output::Reply,
    state::Phase,
    wish::Wish,
};

/// Recordings of one room at a time that belong to collections. Each is a thread of the streaming-node.
const MAX_MEMBERS: usize = 128;
/// What is said of streams beyond those.
const BEYOND: &str = "the room records as many streams apart as it can";

/// Recordings that belong together.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Collection {
    target: EgressTarget,
    kinds: Kinds,
    /// Where the manifest is, once a node has told.
    recorded: Recorded,
    /// Streams that can't be recorded so, and are not tried again.
    left_out: Vec<StreamId>,
    /// Streams that are not recorded as there are too many; they are once others have gone.
    #[serde(default)]
    beyond: Vec<StreamId>,
    /// By which request it was made.
    #[serde(default)]
    pub(in crate::room) asked: Option<RequestKey>,
}

impl Room {
    pub(super) fn start_collection(
        &mut self,
        request: RequestId,
        target: EgressTarget,
        kinds: Kinds,
    ) -> Option<Reply> {
        let (parts, collections) = (&self.egress.parts, &self.state.collections);
        let id = self.ids.session(|id| parts.contains_key(id) || collections.contains_key(id));
        let (recorded, asked) = (Recorded::default(), self.asking.clone());
        let (left_out, beyond) = (Vec::new(), Vec::new());
        let collection = Collection { target, kinds, recorded, left_out, beyond, asked };
        self.state.collections.insert(id.clone(), collection);
        self.refresh_collection(&id);
        let first = self.members(&id).next().cloned();
        // Where the manifest is the node says.
        let part = first.and_then(|first| self.egress.parts.get_mut(&first));
        match part {
            Some(part) => {
                part.request = Some(request);
                None
            }
            None => self.describe_collection(&id).map(|egress| Reply::Egress(Box::new(egress))),
        }
    }

    fn members<'r>(&'r self, collection: &'r str) -> impl Iterator<Item = &'r String> {
        let of_it = move |member: &Option<(String, StreamId)>| {
            member.as_ref().is_some_and(|(of, _)| of == collection)
        };
        self.state.egresses.iter().filter(move |(_, egress)| of_it(&egress.member)).map(|(id, _)| id)
    }

    /// Begins recordings of streams that have come, and ends those of streams that have gone.
    pub(super) fn refresh_collections(&mut self) {
        let ids: Vec<String> = self.state.collections.keys().cloned().collect();
        for id in ids {
            self.refresh_collection(&id);
        }
    }

    fn refresh_collection(&mut self, id: &str) {
        let mut known: Vec<StreamId> = Vec::new();
        let mut gone: Vec<String> = Vec::new();
        for (egress, member) in self.state.egresses.iter().map(|(id, egress)| (id, &egress.member)) {
            let Some((_, stream)) = member.as_ref().filter(|(of, _)| of == id) else { continue };
            match self.state.publications.contains_key(stream) {
                true => known.push(stream.clone()),
                false => gone.push(egress.clone()),
            }
        }
        for egress in gone {
            self.end_member(&egress);
        }
        let Some(collection) = self.state.collections.get(id) else { return };
        let is_new = |stream: &StreamId| !known.contains(stream) && !collection.left_out.contains(stream);
        let there = self.state.publications.iter().filter(|(_, p)| p.phase == Phase::Established);
        let new: Vec<StreamId> = there.map(|(stream, _)| stream.clone()).filter(is_new).collect();
        let mut beyond = Vec::new();
        for stream in new {
            let members = self.state.egresses.values().filter(|egress| egress.member.is_some()).count();
            if members >= MAX_MEMBERS {
                beyond.push(stream);
            } else if !self.begin_member(id, &stream)
                && let Some(collection) = self.state.collections.get_mut(id)
            {
                collection.left_out.push(stream);
            }
        }
        if let Some(collection) = self.state.collections.get_mut(id) {
            collection.beyond = beyond;
        }
    }

    /// Whether there is anything to record.
    fn begin_member(&mut self, id: &str, stream: &StreamId) -> bool {
        let (Some(collection), Some(publication)) =
            (self.state.collections.get(id), self.state.publications.get(stream))
        else {
            return false;
        };
        let target = collection.target.clone();
        let kinds = Kind::ALL.into_iter().filter(|kind| collection.kinds.has(*kind));
        let media = kinds.filter(|kind| publication.first_track(*kind).is_some()).map(|kind| EgressMedia {
            kind,
            from: stream.to_string(),
            wish: Wish::default(),
        });
        let tracks: Vec<_> = media.filter_map(|media| self.egress_track(&target, media).ok()).collect();
        if tracks.is_empty() {
            return false;
        }
        let member = Some((id.to_owned(), stream.clone()));
        let egress = self.new_egress(target, tracks, member);
        self.egress.parts.insert(egress, Part::default());
        true
    }

    fn end_member(&mut self, egress: &str) {
        self.state.egresses.remove(egress);
        self.views_changed = true;
        if let Some(part) = self.egress.parts.get_mut(egress) {
            part.wanted = None;
        }
    }

    pub(super) fn stop_collection(&mut self, request: RequestId, id: &str) -> Option<Reply> {
        let members: Vec<String> = self.members(id).cloned().collect();
        self.state.collections.remove(id);
        for member in &members {
            self.end_member(member);
        }
        if members.is_empty() {
            return Some(Reply::Done);
        }
        self.egress.ending.insert(request, members.into_iter().collect());
        None
    }

    /// A recording is complete: so may be the collection that it belonged to.
    pub(super) fn member_ended(&mut self, egress: &str) {
        let complete = |(request, left): (&RequestId, &mut std::collections::BTreeSet<String>)| {
            (left.remove(egress) && left.is_empty()).then_some(*request)
        };
        let complete: Vec<RequestId> = self.egress.ending.iter_mut().filter_map(complete).collect();
        for request in complete {
            self.egress.ending.remove(&request);
            self.reply(request, Ok(Reply::Done));
        }
    }

    /// The first recording of a collection can't begin: nor can it.
    pub(super) fn forget_collection_of(&mut self, egress: &str) {
        let member = self.state.egresses.get(egress).and_then(|egress| egress.member.clone());
        let Some((id, _)) = member else { return };
        let members: Vec<String> = self.members(&id).filter(|member| *member != egress).cloned().collect();
        self.state.collections.remove(&id);
        members.iter().for_each(|member| self.end_member(member));
    }

    /// Where a collection's manifest is follows from where its recordings are; gives the collection.
    pub(super) fn member_recorded(&mut self, egress: &str) -> Option<v1::Egress> {
        let egress = self.state.egresses.get(egress)?;
        let (id, recorded) = (egress.member.as_ref()?.0.clone(), egress.recorded.clone());
        self.state.collections.get_mut(&id)?.recorded = recorded;
        self.describe_collection(&id)
    }

    /// What the manifest is to say of a recording.
    pub(super) fn recording_group(&self, id: &str, stream: &StreamId) -> v1::RecordingGroup {
        let owner = self.state.publications.get(stream).map(|publication| &publication.owner);
        let participant = owner.and_then(|owner| self.state.participants.get(owner));
        v1::RecordingGroup {
            id: id.to_owned(),
            stream_id: stream.to_string(),
            participant_id: owner.map(ToString::to_string).unwrap_or_default(),
            user: participant.map(|participant| participant.user.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn describe_collections(&self) -> impl Iterator<Item = v1::Egress> {
        self.state.collections.keys().filter_map(|id| self.describe_collection(id))
    }

    /// One of either kind.
    pub(in crate::room) fn describe_any_egress(&self, id: &str) -> Option<v1::Egress> {
        self.describe_collection(id).or_else(|| self.describe_egress(id))
    }

    fn describe_collection(&self, id: &str) -> Option<v1::Egress> {
        let collection = self.state.collections.get(id)?;
        let EgressTarget::Recording { container, name } = collection.target.clone() else { return None };
        let members = self.state.egresses.values().filter_map(|egress| {
            let (of, stream) = egress.member.as_ref()?;
            (of == id).then_some((stream, egress))
        });
        let members: Vec<_> = members.collect();
        let streams = members.iter().map(|(stream, egress)| {
            let (state, reason) = egress.condition.to_wire();
            v1::EgressStream {
                stream_id: stream.to_string(),
                state: state.into(),
                reason: reason.to_owned(),
                file: egress.recorded.file.clone(),
            }
        });
        let worst =
            members.iter().map(|(_, egress)| &egress.condition).max_by_key(|condition| match condition {
                Condition::Starting => 0,
                Condition::Active => 1,
                Condition::Trouble(_) => 2,
                Condition::Failed(_) => 3,
            });
        let worst = worst.map_or((v1::OutputState::Starting, ""), Condition::to_wire);
        let (state, reason) = match (worst, &collection.beyond[..]) {
            (worst, []) | (worst @ (v1::OutputState::Failed, _), _) => worst,
            _ => (v1::OutputState::Trouble, BEYOND),
        };
        let not_recorded = collection.beyond.iter().map(|stream| v1::EgressStream {
            stream_id: stream.to_string(),
            state: v1::OutputState::Failed.into(),
            reason: BEYOND.to_owned(),
            file: String::new(),
        });
        Some(v1::Egress {
            id: id.to_owned(),
            target: Some(v1::egress::Target::Recording(v1::RecordingTarget { container, group: None, name })),
            state: state.into(),
            reason: reason.to_owned(),
            host: collection.recorded.host.clone(),
            file: collection.recorded.manifest.clone(),
            each: Some(collection.kinds.to_wire()),
            streams: streams.chain(not_recorded).collect(),
            ..v1::Egress::default()
        })
    }
}
