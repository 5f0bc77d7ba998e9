//! What a room knows: plain data, so that it can be written down and read back.

use std::collections::BTreeMap;

use kaigi_proto::ids::{ParticipantId, StreamId, SubscriptionId, TrackId, TransportId};
use kaigi_room_config::Resolution;
use serde::{Deserialize, Serialize};

use super::{
    analytics::Analysis,
    egress::{Collection, Egress},
    filters::Filter,
    ingest::Ingest,
    input::{Negotiated, RequestKey},
    media::{Feed, Format, Kind, Kinds, Node, VideoParameters},
    outputs::MadeOutputs,
    speakers::Selection,
    tracked::Tracked,
    transcoded::Transcoded,
    views::View,
    wish::{Conversion, Wish},
};

/// The whole state of a room beside its configuration. What waits for a reply is elsewhere.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) participants: Tracked<ParticipantId, Participant>,
    pub(crate) transports: Tracked<TransportId, Transport>,
    pub(crate) publications: Tracked<StreamId, Publication>,
    pub(crate) subscriptions: Tracked<SubscriptionId, Subscription>,
    /// If the room selects audio.
    pub(crate) selection: Option<Selection>,
    /// As configured, by their order.
    pub(crate) views: Vec<View>,
    /// On what views show of forward streams.
    pub(crate) input_filters: BTreeMap<StreamId, Filter>,
    /// Of forward tracks that somebody takes in another encoding.
    pub(crate) transcoders: Tracked<Transcoded, Transcoder>,
    /// Rises with each description of a transcoder.
    pub(crate) transcoder_revision: u64,
    /// Where the views and the transcoders are.
    pub(crate) mixer: Option<Node>,
    /// Recordings and broadcasts, by their ids.
    pub(crate) egresses: Tracked<String, Egress>,
    /// Recordings of each stream apart, by their ids; the recordings of the streams are among the others.
    pub(crate) collections: Tracked<String, Collection>,
    /// Streams that are analysed, by the ids of their analytics.
    pub(crate) analytics: Tracked<String, Analysis>,
    /// Streams that are pulled from elsewhere; those that flow are among the publications, too.
    pub(crate) ingests: Tracked<StreamId, Ingest>,
    /// Where recordings and broadcasts are made, and streams pulled.
    pub(crate) streaming: Option<Node>,
    /// Rises with each participant and publication, so that lists can be told in the order of their coming.
    pub(crate) arrivals: u64,
    /// Access nodes that may have something of the room.
    pub(crate) visited: Vec<Node>,
    /// Requests that are done and must not be done again, by the order in which they were.
    pub(crate) done: Tracked<RequestKey, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Participant {
    pub(crate) arrival: u64,
    /// JSON text.
    pub(crate) user: String,
    pub(crate) role: String,
    pub(crate) publish: Kinds,
    pub(crate) subscribe: Kinds,
    pub(crate) isp: String,
    pub(crate) region: String,
    pub(crate) access: Placement,
}

impl Participant {
    /// Whether it hears mixes without itself: it may be in them.
    pub(crate) fn has_own_mix(&self) -> bool {
        self.publish.audio
    }

    /// Whether it may control what others own.
    pub(crate) fn is_admin(&self) -> bool {
        self.role == "admin"
    }
}

/// Which access node a participant has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Placement {
    Nowhere,
    /// Asked for.
    Scheduling,
    At(Node),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Transport {
    pub(crate) owner: ParticipantId,
    /// `None` until the node is known.
    pub(crate) node: Option<Node>,
    /// Whether it was connected once.
    pub(crate) ready: bool,
    /// Whether it ends with the session that it was made for.
    pub(crate) own: bool,
    /// Number of the last answer that was passed on to its owner.
    #[serde(default)]
    pub(crate) answers: u64,
}

/// How far a session is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Waits for a node, or for a view.
    Placing,
    /// The access node was asked to open it.
    Opening,
    /// Opened and acknowledged; negotiation is the client's.
    Connecting,
    Established,
}

/// Where the media of a publication come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Carrier {
    /// Its owner's.
    Transport(TransportId),
    /// A streaming-node that pulls it; `None` = it is being looked for. The stream is nobody's.
    Ingest(Option<Node>),
    /// A mixer that makes it of another stream; no node = it is being looked for. The stream is nobody's.
    Analysis {
        /// Of the analytics.
        id: String,
        node: Option<Node>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Publication {
    pub(crate) arrival: u64,
    pub(crate) owner: ParticipantId,
    pub(crate) carrier: Carrier,
    pub(crate) phase: Phase,
    /// As asked for.
    pub(crate) requested: Vec<RequestedTrack>,
    /// As negotiated; empty until established.
    pub(crate) tracks: Vec<Track>,
    /// Whether it has data, too, or alone.
    pub(crate) data: bool,
    /// Whether data channels of any label are its own.
    #[serde(default)]
    pub(crate) any_label: bool,
    /// What does not flow because the owner may not publish it any more; what was paused then is not among it.
    pub(crate) withheld: Kinds,
    /// JSON text.
    pub(crate) attributes: Option<String>,
    /// Negotiated before the access node's reply was there.
    pub(crate) early: Option<Vec<Negotiated>>,
    /// By which request it was made.
    #[serde(default)]
    pub(crate) asked: Option<RequestKey>,
    /// Which layers are wanted, as its owner was told.
    #[serde(default)]
    pub(crate) wanted: Vec<(TrackId, bool)>,
}

impl Publication {
    /// Its owner's transport, if it has one.
    pub(crate) fn transport(&self) -> Option<&TransportId> {
        match &self.carrier {
            Carrier::Transport(transport) => Some(transport),
            Carrier::Ingest(_) | Carrier::Analysis { .. } => None,
        }
    }

    pub(crate) fn first_track(&self, kind: Kind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.kind == kind)
    }

    /// The layers of the picture that a track is one of; a scalable one alone; none if it is the only one.
    pub(crate) fn layers<'p>(&'p self, of: &TrackId) -> impl Iterator<Item = &'p Track> + use<'p> {
        let is_layered = |track: &Track| !track.rid().is_empty() || track.is_scalable();
        let of = self.tracks.iter().find(|track| track.id == *of && is_layered(track));
        let same = move |track: &&Track| of.is_some_and(|of| (of.kind, &of.mid) == (track.kind, &track.mid));
        self.tracks.iter().filter(same)
    }

    pub(crate) fn set_active(&mut self, kind: Kind, active: bool) {
        self.tracks.iter_mut().filter(|track| track.kind == kind).for_each(|track| track.active = active);
    }

    /// Withholds a kind, or does so no longer. Returns whether that changes what flows.
    pub(crate) fn permit(&mut self, kind: Kind, permitted: bool) -> bool {
        if self.phase != Phase::Established {
            self.withheld.set(kind, !permitted);
            return false;
        }
        let active = self.first_track(kind).is_some_and(|track| track.active);
        let changes = if permitted { self.withheld.has(kind) } else { active };
        if changes {
            self.withheld.set(kind, !permitted);
            self.set_active(kind, permitted);
        }
        changes
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RequestedTrack {
    pub(crate) kind: Kind,
    pub(crate) mid: String,
    pub(crate) source: Option<String>,
}

/// A track of a forward stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) kind: Kind,
    pub(crate) mid: String,
    pub(crate) source: Option<String>,
    pub(crate) format: Format,
    pub(crate) resolution: Option<Resolution>,
    pub(crate) active: bool,
    /// Of a scalable picture (SVC): the sizes that it can be had in, the smallest first.
    #[serde(default)]
    pub(crate) layers: Vec<Resolution>,
    /// How many frame rates it can be had at; 0 = not known.
    #[serde(default)]
    pub(crate) temporal: u32,
}

impl Track {
    /// Whether it is a picture of a screen or window that is shared.
    pub(crate) fn is_screen(&self) -> bool {
        self.kind == Kind::Video && self.source.as_deref() == Some("screen-cast")
    }

    /// Whether it can be had in several sizes by itself.
    pub(crate) fn is_scalable(&self) -> bool {
        self.layers.len() > 1
    }

    /// What follows the colon of a simulcast layer's track id.
    pub(crate) fn rid(&self) -> &str {
        self.id.as_str().split_once(':').map_or("", |(_, rid)| rid)
    }

    pub(crate) fn parameters(&self) -> VideoParameters {
        VideoParameters { resolution: self.resolution, ..VideoParameters::default() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) owner: ParticipantId,
    pub(crate) transport: TransportId,
    pub(crate) phase: Phase,
    pub(crate) tracks: Vec<SubscribedTrack>,
    /// Whose data it takes, too, or alone.
    pub(crate) data: Option<StreamId>,
    /// What does not flow because the owner may not subscribe it any more; what was paused then is not among it.
    pub(crate) withheld: Kinds,
    /// Negotiated before the access node's reply was there.
    pub(crate) early: Option<Vec<Negotiated>>,
    /// By which request it was made.
    #[serde(default)]
    pub(crate) asked: Option<RequestKey>,
}

impl Subscription {
    pub(crate) fn set_active(&mut self, kind: Kind, active: bool) {
        self.tracks.iter_mut().filter(|track| track.kind == kind).for_each(|track| track.active = active);
    }

    /// Withholds a kind, or does so no longer. Returns whether that changes what flows.
    pub(crate) fn permit(&mut self, kind: Kind, permitted: bool) -> bool {
        let active = self.tracks.iter().any(|track| track.kind == kind && track.active);
        let changes = if permitted { self.withheld.has(kind) } else { active };
        if changes {
            self.withheld.set(kind, !permitted);
            self.set_active(kind, permitted);
        }
        changes
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SubscribedTrack {
    pub(crate) kind: Kind,
    pub(crate) mid: String,
    pub(crate) from: Origin,
    /// As asked for.
    pub(crate) wish: Wish,
    /// What of that `from` is not by itself.
    pub(crate) conversion: Conversion,
    /// What the client receives; `None` until established.
    pub(crate) negotiated: Option<Format>,
    /// Where the access node was told to take it; `None` if it was not told yet, or the last attempt failed.
    pub(crate) feed: Option<Feed>,
    pub(crate) active: bool,
}

impl SubscribedTrack {
    /// Takes another choice; gives the one before.
    pub(crate) fn choose(&mut self, choice: Choice) -> Choice {
        Choice {
            from: std::mem::replace(&mut self.from, choice.from),
            wish: std::mem::replace(&mut self.wish, choice.wish),
            conversion: std::mem::replace(&mut self.conversion, choice.conversion),
        }
    }
}

/// What a subscriber may choose anew of a track.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) from: Origin,
    pub(crate) wish: Wish,
    pub(crate) conversion: Conversion,
}

/// Other encodings of a forward track.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Transcoder {
    pub(crate) stream: StreamId,
    /// Of the last description.
    pub(crate) revision: u64,
    /// What the mixer makes of it.
    pub(crate) outputs: MadeOutputs,
}

/// What a subscription takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    Track {
        stream: StreamId,
        track: TrackId,
        /// The track stands for all layers of its picture.
        #[serde(default)]
        layered: bool,
    },
    /// View label.
    View(String),
    /// Whoever is in that slot of the room's selection.
    Selected(usize),
}

impl Origin {
    pub(crate) fn is_of(&self, of: &StreamId) -> bool {
        matches!(self, Self::Track { stream, .. } if stream == of)
    }

    /// Whether both are all layers of one stream's picture, whichever stands for them.
    pub(crate) fn has_layers_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Track { stream: a, layered: true, .. }, Self::Track { stream: b, layered: true, .. }) => {
                a == b
            }
            _ => false,
        }
    }
}
