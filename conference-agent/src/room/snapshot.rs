//! A room as it is written down: in parts, of which those are written that have changed, and read back by whoever takes the room over.

use std::collections::BTreeMap;

use kaigi_proto::ids::{IdError, StreamId};
use kaigi_room_config::RoomConfig;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Room,
    filters::Filter,
    input::RequestKey,
    media::Node,
    speakers::Selection,
    state::State,
    tracked::{Changes, Single, Tracked},
    transcoded::Transcoded,
    views::View,
};

/// Of what the parts look like. Another one is not read: the room begins anew.
const FORMAT: u32 = 1;
const CONFIG: &str = "config";
const REST: &str = "rest";

/// What is written down already of what has no map of its own.
#[derive(Debug, Default)]
pub(super) struct Saved {
    config: Single,
    views: Vec<Single>,
    rest: Single,
}

/// What is left beside maps and views.
#[derive(Debug, Serialize, Deserialize)]
struct Rest<S = Selection, N = Node> {
    format: u32,
    selection: Option<S>,
    transcoder_revision: u64,
    mixer: Option<N>,
    streaming: Option<N>,
    arrivals: u64,
    /// Recordings, broadcasts and streams from elsewhere that nobody was told of yet.
    unanswered: Vec<String>,
    /// Those that are to end, and whether they are inputs.
    ending: BTreeMap<String, bool>,
    visited: Vec<Node>,
    input_filters: BTreeMap<StreamId, Filter>,
}

/// Why a snapshot is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("part {0} is missing")]
    Missing(&'static str),
    #[error("part {0} can't be read: {1}")]
    Part(String, serde_json::Error),
    #[error("part {0} is no part")]
    Name(String),
    #[error("it has format {0}")]
    Format(u32),
}

/// A room as it was written down.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) config: RoomConfig,
    pub(super) state: State,
    pub(super) unanswered: Vec<String>,
    pub(super) ending: BTreeMap<String, bool>,
}

impl Room {
    /// What is other than when this was last asked.
    pub(crate) fn changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        let State { participants, transports, publications, subscriptions, .. } = &mut self.state;
        participants.changes("participant", ToString::to_string, &mut changes);
        transports.changes("transport", ToString::to_string, &mut changes);
        publications.changes("publication", ToString::to_string, &mut changes);
        subscriptions.changes("subscription", ToString::to_string, &mut changes);
        let State { transcoders, egresses, collections, analytics, ingests, done, .. } = &mut self.state;
        transcoders.changes("transcoder", |of| of.clone().into(), &mut changes);
        egresses.changes("egress", Clone::clone, &mut changes);
        collections.changes("collection", Clone::clone, &mut changes);
        analytics.changes("analytics", Clone::clone, &mut changes);
        ingests.changes("ingest", ToString::to_string, &mut changes);
        done.changes("done", |key| key.as_str().to_owned(), &mut changes);
        self.saved.config.changes(CONFIG, &self.config, &mut changes);
        self.saved.views.resize_with(self.state.views.len(), Single::default);
        for (place, (view, saved)) in self.state.views.iter().zip(&mut self.saved.views).enumerate() {
            saved.changes(&format!("view/{place:03}"), view, &mut changes);
        }
        let parts = &self.egress.parts;
        let rest = Rest {
            format: FORMAT,
            selection: self.state.selection.as_ref(),
            transcoder_revision: self.state.transcoder_revision,
            mixer: self.state.mixer.as_ref(),
            streaming: self.state.streaming.as_ref(),
            arrivals: self.state.arrivals,
            unanswered: parts
                .iter()
                .filter(|(_, part)| part.wanted.is_some() && part.request.is_some())
                .map(|(id, _)| id.clone())
                .chain(self.analytics_requests.keys().cloned())
                .collect(),
            ending: parts
                .iter()
                .filter(|(_, part)| part.wanted.is_none())
                .map(|(id, part)| (id.clone(), part.input))
                .collect(),
            visited: self.state.visited.clone(),
            input_filters: self.state.input_filters.clone(),
        };
        self.saved.rest.changes(REST, &rest, &mut changes);
        changes
    }

    /// Nothing counts as written down any more: the next changes are the whole room.
    pub(crate) fn forget_written(&mut self) {
        let State { participants, transports, publications, subscriptions, .. } = &mut self.state;
        participants.forget_written();
        transports.forget_written();
        publications.forget_written();
        subscriptions.forget_written();
        let State { transcoders, egresses, collections, analytics, ingests, done, .. } = &mut self.state;
        transcoders.forget_written();
        egresses.forget_written();
        collections.forget_written();
        analytics.forget_written();
        ingests.forget_written();
        done.forget_written();
        self.saved.config.forget_written();
        self.saved.rest.forget_written();
        self.saved.views.iter_mut().for_each(Single::forget_written);
    }
}

impl Snapshot {
    /// Puts the parts of a room together. Those that are not a room's own are left out.
    ///
    /// # Errors
    /// If one is missing or can't be read.
    pub(crate) fn read(parts: &BTreeMap<String, Vec<u8>>) -> Result<Self, Unreadable> {
        let single = |name: &'static str| parts.get(name).ok_or(Unreadable::Missing(name));
        let rest: Rest = part(REST, single(REST)?)?;
        if rest.format != FORMAT {
            return Err(Unreadable::Format(rest.format));
        }
        let views = group(parts, "view/").map(|(name, value)| part::<View>(name, value));
        let state = State {
            participants: map(parts, "participant/")?,
            transports: map(parts, "transport/")?,
            publications: map(parts, "publication/")?,
            subscriptions: map(parts, "subscription/")?,
            selection: rest.selection,
            views: views.collect::<Result<_, _>>()?,
            transcoders: map::<Name<Transcoded>, _>(parts, "transcoder/")?
                .take_all()
                .into_iter()
                .map(|(Name(of), transcoder)| (of, transcoder))
                .collect(),
            transcoder_revision: rest.transcoder_revision,
            mixer: rest.mixer,
            egresses: map(parts, "egress/")?,
            collections: map(parts, "collection/")?,
            analytics: map(parts, "analytics/")?,
            ingests: map(parts, "ingest/")?,
            streaming: rest.streaming,
            arrivals: rest.arrivals,
            visited: rest.visited,
            input_filters: rest.input_filters,
            done: map::<Name<RequestKey>, _>(parts, "done/")?
                .take_all()
                .into_iter()
                .map(|(Name(key), order)| (key, order))
                .collect(),
        };
        let config = part(CONFIG, single(CONFIG)?)?;
        Ok(Self { config, state, unanswered: rest.unanswered, ending: rest.ending })
    }
}

/// A key that is not read as identifiers are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name<T>(T);

impl TryFrom<String> for Name<Transcoded> {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Transcoded::try_from(text).map(Self)
    }
}

impl TryFrom<String> for Name<RequestKey> {
    type Error = ();

    fn try_from(text: String) -> Result<Self, ()> {
        RequestKey::new(text).map(Self).ok_or(())
    }
}

fn group<'p>(
    parts: &'p BTreeMap<String, Vec<u8>>,
    prefix: &'static str,
) -> impl Iterator<Item = (&'p str, &'p Vec<u8>)> {
    let from = parts.range(prefix.to_owned()..);
    from.take_while(move |(name, _)| name.starts_with(prefix)).map(|(name, value)| (name.as_str(), value))
}

fn map<K: TryFrom<String> + Ord + Clone, V: DeserializeOwned>(
    parts: &BTreeMap<String, Vec<u8>>,
    prefix: &'static str,
) -> Result<Tracked<K, V>, Unreadable> {
    let entry = |(name, value): (&str, &Vec<u8>)| {
        let key = name.strip_prefix(prefix).unwrap_or_default().to_owned();
        let key = K::try_from(key).map_err(|_| Unreadable::Name(name.to_owned()))?;
        Ok((key, part(name, value)?))
    };
    group(parts, prefix).map(entry).collect()
}

fn part<T: DeserializeOwned>(name: &str, value: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(value).map_err(|error| Unreadable::Part(name.to_owned(), error))
}
