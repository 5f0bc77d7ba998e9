//! The agent's calls, read into types.

use kaigi_proto::{
    ids::{IdError, ParticipantId, RoomId, SessionId, StreamId, TrackId, TransportId, WorkerId},
    v1,
};

use super::{Adopted, AdoptedSession, NodeError};
use crate::{
    forward::Size,
    ids::Mid,
    sdp::{Format, Kind},
};

impl From<IdError> for NodeError {
    fn from(error: IdError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Most entries of a repeated field that are read.
const MAX_REPEATED: usize = 64;
/// Most slots of a room's selection.
pub(super) const MAX_SLOTS: usize = 8;
/// Most layers of a picture. Browsers send three.
const MAX_LAYERS: usize = 8;

/// Who opens a session where.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The agent that serves the room.
    pub agent: WorkerId,
    /// The room.
    pub room: RoomId,
    /// Under which epoch.
    pub epoch: u64,
    /// Whose transport it is.
    pub participant: ParticipantId,
    /// The transport.
    pub transport: TransportId,
    /// The session.
    pub session: SessionId,
    /// Whether it has data, and which.
    pub data: Option<DataRole>,
    /// What the room has selected, if it selects audio.
    pub selection: Option<AudioSelection>,
}

/// What a session has to do with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataRole {
    /// The client sends.
    Publishes(Labels),
    /// The client receives.
    Subscribes(DataSource),
}

/// Which channels of a transport are a publication's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Those whose label is its id.
    Own,
    /// All whose label is no other session's.
    Any,
}

/// Where the data of a stream come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// The stream.
    pub stream: StreamId,
    /// The node with the publisher.
    pub worker: WorkerId,
    /// That node's gRPC endpoint.
    pub endpoint: String,
}

/// A track that a client publishes.
#[derive(Clone, Debug)]
pub struct PublicationTrack {
    /// Its id.
    pub track: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// On which m-line.
    pub mid: Mid,
    /// Formats that the room takes.
    pub accepted: Vec<Format>,
}

/// Where a track comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackSource {
    /// Its id.
    pub track: TrackId,
    /// The node that produces it.
    pub worker: WorkerId,
    /// That node's gRPC endpoint.
    pub endpoint: String,
    /// Its format.
    pub format: Format,
}

/// Which publications a room has selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioSelection {
    /// Rises with each change.
    pub revision: u64,
    /// Of each slot: who is in it, if anybody is.
    pub slots: Vec<Option<SelectedAudio>>,
}

/// A publication that is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedAudio {
    /// Where it is.
    pub source: TrackSource,
    /// Who publishes it.
    pub owner: ParticipantId,
}

/// What a subscriber wants of a track with layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerWish {
    /// The layer that is nearest to it without being smaller, if there is one; absent = the largest.
    pub resolution: Option<Size>,
    /// Frames per second at most; absent = all there are.
    pub framerate: Option<u32>,
    /// bit/s at most; absent = all there are.
    pub bitrate: Option<u64>,
    /// Among the subscriptions of one client, higher ones first.
    pub priority: u32,
}

/// Where what a subscriber gets comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feed {
    /// From one track.
    Track(TrackSource),
    /// From one of several layers of a picture at a time, all of one format. There is one at least.
    Layers(Vec<TrackSource>, LayerWish),
    /// What the room has selected for a slot at the time, all of one format.
    Selected(Slot, Format),
}

/// The number of a slot of a room's selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub usize);

impl Feed {
    /// The format that it has.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Track(source) => Some(source.format),
            Self::Layers(layers, _) => layers.first().map(|layer| layer.format),
            Self::Selected(_, format) => Some(*format),
        }
    }
}

impl From<TrackSource> for Feed {
    fn from(source: TrackSource) -> Self {
        Self::Track(source)
    }
}

/// A track that a client gets.
#[derive(Clone, Debug)]
pub struct SubscriptionTrack {
    /// Audio or video.
    pub kind: Kind,
    /// On which m-line.
    pub mid: Mid,
    /// From where, if that is known already.
    pub feed: Option<Feed>,
    /// What may be negotiated.
    pub formats: Vec<Format>,
    /// Whether the client's order decides among the formats, or their own.
    pub client_order: bool,
}

/// Audio or video.
///
/// # Errors
/// If it is neither.
pub fn kind(kind: i32) -> Result<Kind, NodeError> {
    match v1::MediaKind::try_from(kind) {
        Ok(v1::MediaKind::Audio) => Ok(Kind::Audio),
        Ok(v1::MediaKind::Video) => Ok(Kind::Video),
        Ok(v1::MediaKind::Unspecified) | Err(_) => Err(NodeError::Invalid("kind is missing".to_owned())),
    }
}

fn mid(text: &str) -> Result<Mid, NodeError> {
    Mid::new(text).ok_or_else(|| NodeError::Invalid(format!("{text:?} is no mid")))
}

fn limited<T>(repeated: Vec<T>, what: &'static str) -> Result<Vec<T>, NodeError> {
    if repeated.len() > MAX_REPEATED { Err(NodeError::TooMany(what)) } else { Ok(repeated) }
}

/// Those that can be forwarded, and are of the kind.
fn formats(messages: Vec<v1::MediaFormat>, kind: Kind) -> Result<Vec<Format>, NodeError> {
    let formats = limited(messages, "formats")?;
    let known = formats.iter().filter_map(Format::from_message);
    Ok(known.filter(|format| format.codec.is_video() == (kind == Kind::Video)).collect())
}

/// A publication's request.
///
/// # Errors
/// If something is missing or unusable.
pub fn publication(
    request: v1::OpenPublicationRequest,
) -> Result<(Opened, Vec<PublicationTrack>), NodeError> {
    let labels = if request.any_label { Labels::Any } else { Labels::Own };
    let opened = Opened {
        agent: WorkerId::new(&request.agent_id)?,
        room: RoomId::new(&request.room_id)?,
        epoch: request.epoch,
        participant: ParticipantId::new(&request.participant_id)?,
        transport: TransportId::new(&request.transport_id)?,
        session: SessionId::new(&request.session_id)?,
        data: request.data.then_some(DataRole::Publishes(labels)),
        selection: request.selection.map(selection).transpose()?,
    };
    let tracks = limited(request.tracks, "tracks")?.into_iter().map(|track| {
        let kind = kind(track.kind)?;
        Ok(PublicationTrack {
            track: TrackId::new(&track.track_id)?,
            kind,
            mid: mid(&track.mid)?,
            accepted: formats(track.accepted_formats, kind)?,
        })
    });
    let tracks = checked(tracks.collect::<Result<Vec<_>, NodeError>>()?, |track| (track.kind, &track.mid))?;
    opened.has_something(tracks.is_empty())?;
    Ok((opened, tracks))
}

/// A subscription's request.
///
/// # Errors
/// If something is missing or unusable.
pub fn subscription(
    request: v1::OpenSubscriptionRequest,
) -> Result<(Opened, Vec<SubscriptionTrack>), NodeError> {
    let opened = Opened {
        agent: WorkerId::new(&request.agent_id)?,
        room: RoomId::new(&request.room_id)?,
        epoch: request.epoch,
        participant: ParticipantId::new(&request.participant_id)?,
        transport: TransportId::new(&request.transport_id)?,
        session: SessionId::new(&request.session_id)?,
        data: request.data.map(data_source).transpose()?.map(DataRole::Subscribes),
        selection: request.selection.map(selection).transpose()?,
    };
    let tracks = limited(request.tracks, "tracks")?.into_iter().map(|track| {
        let kind = kind(track.kind)?;
        let feed = match track.selected {
            Some(selected) => Some(self::selected(&selected, kind)?),
            None => feed(track.source, track.layers, track.wanted, kind)?,
        };
        let formats = match (feed.as_ref().and_then(Feed::format), track.formats.is_empty()) {
            (None, true) => return Err(NodeError::Invalid("source and formats are missing".to_owned())),
            (Some(format), true) => vec![format],
            (_, false) => formats(track.formats, kind)?,
        };
        Ok(SubscriptionTrack { kind, mid: mid(&track.mid)?, feed, formats, client_order: track.client_order })
    });
    let tracks = checked(tracks.collect::<Result<Vec<_>, NodeError>>()?, |track| (track.kind, &track.mid))?;
    opened.has_something(tracks.is_empty())?;
    Ok((opened, tracks))
}

fn data_source(source: v1::DataSource) -> Result<DataSource, NodeError> {
    Ok(DataSource {
        stream: StreamId::new(&source.stream_id)?,
        worker: WorkerId::new(&source.worker_id)?,
        endpoint: source.endpoint,
    })
}

impl Opened {
    fn has_something(&self, without_tracks: bool) -> Result<(), NodeError> {
        if without_tracks && self.data.is_none() {
            return Err(NodeError::Invalid("no tracks and no data".to_owned()));
        }
        Ok(())
    }
}

/// A transport as an agent that takes over wants it.
///
/// # Errors
/// If something is unusable.
pub fn adopted(transport: v1::AdoptedTransport) -> Result<Adopted, NodeError> {
    let session = |session: v1::AdoptedSession| {
        let stopped = session.stopped.unwrap_or_default();
        let stopped = [(Kind::Audio, stopped.audio), (Kind::Video, stopped.video)];
        let fed = |source: v1::SetSourceRequest| {
            let kind = kind(source.kind)?;
            let feed = match source.selected {
                Some(selected) => Some(self::selected(&selected, kind)?),
                None => feed(source.source, source.layers, source.wanted, kind)?,
            };
            Ok(feed.map(|feed| (kind, feed)))
        };
        let feeds =
            limited(session.sources, "sources")?.into_iter().filter_map(|source| fed(source).transpose());
        Ok(AdoptedSession {
            session: SessionId::new(&session.session_id)?,
            stopped: stopped.into_iter().filter(|(_, stopped)| *stopped).map(|(kind, _)| kind).collect(),
            feeds: feeds.collect::<Result<_, NodeError>>()?,
        })
    };
    Ok(Adopted {
        transport: TransportId::new(&transport.transport_id)?,
        sessions: transport.sessions.into_iter().map(session).collect::<Result<_, NodeError>>()?,
    })
}

/// Where a subscribed track comes from: layers, if there are any, else the source.
///
/// # Errors
/// If something is unusable or not of the kind, or the layers differ in their format.
pub fn feed(
    named: Option<v1::TrackSource>,
    layers: Vec<v1::TrackSource>,
    wanted: Option<v1::LayerWish>,
    kind: Kind,
) -> Result<Option<Feed>, NodeError> {
    if layers.is_empty() {
        return named.map(|named| source(Some(named), kind).map(Feed::Track)).transpose();
    }
    if kind == Kind::Audio {
        return Err(NodeError::Invalid("sound has no layers".to_owned()));
    }
    if layers.len() > MAX_LAYERS {
        return Err(NodeError::TooMany("layers"));
    }
    let layers: Vec<_> =
        layers.into_iter().map(|layer| source(Some(layer), kind)).collect::<Result<_, _>>()?;
    if layers.iter().any(|layer| layer.format != layers[0].format) {
        return Err(NodeError::Invalid("layers of different formats".to_owned()));
    }
    let wanted = wanted.unwrap_or_default();
    let size = wanted.resolution.map(|size| (size.width, size.height));
    let wish = LayerWish {
        resolution: size.filter(|(width, height)| *width > 0 && *height > 0),
        framerate: Some(wanted.framerate).filter(|rate| *rate > 0),
        bitrate: Some(wanted.bitrate).filter(|rate| *rate > 0),
        priority: wanted.priority,
    };
    Ok(Some(Feed::Layers(layers, wish)))
}

/// What is taken of a room's selection.
///
/// # Errors
/// If there can't be such a slot, or the format is unusable or not of the kind.
pub fn selected(selected: &v1::SelectedTrack, kind: Kind) -> Result<Feed, NodeError> {
    if kind != Kind::Audio {
        return Err(NodeError::Invalid("only sound is selected".to_owned()));
    }
    let slot = usize::try_from(selected.slot).ok().filter(|slot| *slot < MAX_SLOTS);
    let slot = slot.ok_or(NodeError::TooMany("slots"))?;
    let format = selected.format.as_ref().and_then(Format::from_message);
    let format = format.filter(|format| !format.codec.is_video());
    let format = format.ok_or_else(|| NodeError::Invalid("no format of sound".to_owned()))?;
    Ok(Feed::Selected(Slot(slot), format))
}

/// What a room has selected.
///
/// # Errors
/// If there are too many slots, or one is unusable.
pub fn selection(selection: v1::AudioSelection) -> Result<AudioSelection, NodeError> {
    if selection.slots.len() > MAX_SLOTS {
        return Err(NodeError::TooMany("slots"));
    }
    let slot = |slot: v1::SelectedAudio| {
        let Some(named) = slot.source else { return Ok(None) };
        let source = source(Some(named), Kind::Audio)?;
        Ok(Some(SelectedAudio { source, owner: ParticipantId::new(&slot.owner)? }))
    };
    let slots = selection.slots.into_iter().map(slot).collect::<Result<_, NodeError>>()?;
    Ok(AudioSelection { revision: selection.revision, slots })
}

/// A track's source.
///
/// # Errors
/// If something is missing, unusable, or not of the kind.
pub fn source(source: Option<v1::TrackSource>, kind: Kind) -> Result<TrackSource, NodeError> {
    let source = source.ok_or_else(|| NodeError::Invalid("source is missing".to_owned()))?;
    let message = source.format.unwrap_or_default();
    let format = Format::from_message(&message)
        .filter(|format| format.codec.is_video() == (kind == Kind::Video))
        .ok_or_else(|| NodeError::Invalid(format!("{:?} is no {} codec", message.codec, kind.as_str())))?;
    Ok(TrackSource {
        track: TrackId::new(&source.track_id)?,
        worker: WorkerId::new(&source.worker_id)?,
        endpoint: source.endpoint,
        format,
    })
}

/// A session has one track of a kind at most, each on an m-line of its own.
fn checked<T>(tracks: Vec<T>, of: impl Fn(&T) -> (Kind, &Mid)) -> Result<Vec<T>, NodeError> {
    for (index, track) in tracks.iter().enumerate() {
        for other in &tracks[..index] {
            if of(track).0 == of(other).0 {
                return Err(NodeError::Invalid("two tracks of a kind".to_owned()));
            }
            if of(track).1 == of(other).1 {
                return Err(NodeError::Invalid("two tracks with a mid".to_owned()));
            }
        }
    }
    Ok(tracks)
}
