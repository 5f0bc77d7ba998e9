//! How recordings, broadcasts, streams from elsewhere and analytics are, for the service that the room belongs to: told when it changes, whatever the reason.

use std::collections::BTreeMap;

use kaigi_proto::ids::StreamId;

use super::{
    Room,
    egress::{Condition, EgressTarget},
    happenings::Happening,
};

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streaming {
    Recording,
    Out,
    In,
    Analytics,
}

/// How one of them is now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StreamingFacts {
    pub(crate) what: Streaming,
    /// Of those that are recorded apart the one of them all.
    pub(crate) id: String,
    /// Of those that are recorded apart.
    pub(crate) stream: Option<StreamId>,
    /// `None` = it has ended.
    pub(crate) condition: Option<Condition>,
}

/// What the service knows.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<String, StreamingFacts>);

impl Room {
    /// What there is counts as told.
    pub(super) fn conditions_are_told(&mut self) {
        self.told = Told(self.conditions());
    }

    fn conditions(&self) -> BTreeMap<String, StreamingFacts> {
        let mut now = BTreeMap::new();
        for (id, egress) in &self.state.egresses {
            let what = match egress.target() {
                EgressTarget::Recording { .. } => Streaming::Recording,
                EgressTarget::Broadcast { .. } => Streaming::Out,
            };
            let (of, stream) = match egress.member() {
                Some((collection, stream)) => (collection.clone(), Some(stream.clone())),
                None => (id.clone(), None),
            };
            let condition = Some(egress.condition().clone());
            now.insert(id.clone(), StreamingFacts { what, id: of, stream, condition });
        }
        for (id, ingest) in &self.state.ingests {
            let condition = Some(ingest.condition.clone());
            let facts = StreamingFacts { what: Streaming::In, id: id.to_string(), stream: None, condition };
            now.insert(id.to_string(), facts);
        }
        for (id, condition) in self.analytics_conditions() {
            let condition = Some(condition.clone());
            let facts =
                StreamingFacts { what: Streaming::Analytics, id: id.clone(), stream: None, condition };
            now.insert(id.clone(), facts);
        }
        now
    }

    /// Tells of all that is another than it was told.
    pub(super) fn tell_conditions(&mut self) {
        let now = self.conditions();
        let mut news = Vec::new();
        for (id, facts) in &now {
            let before = self.told.0.get(id).map(|facts| &facts.condition);
            if before.unwrap_or(&Some(Condition::Starting)) != &facts.condition {
                news.push(facts.clone());
            }
        }
        for (id, facts) in &self.told.0 {
            // What never came about is refused, and no news.
            if !now.contains_key(id) && facts.condition != Some(Condition::Starting) {
                news.push(StreamingFacts { condition: None, ..facts.clone() });
            }
        }
        self.told = Told(now);
        for facts in news {
            self.happen(Happening::StreamingUpdated(facts));
        }
    }
}
