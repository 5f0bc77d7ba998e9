//! What happens in a room, for those who are not in it: the service that the room belongs to.
//!
//! It is told whatever the room's `notifying` says, which is about the participants.

use kaigi_proto::{
    ids::{ParticipantId, StreamId, SubscriptionId},
    v1::{self, stream_event::Change},
};

use super::{
    Room,
    conditions::StreamingFacts,
    media::Kind,
    output::Output,
    state::{Origin, Phase, Subscription},
};

/// Something that has happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Happening {
    ParticipantJoined(v1::Participant),
    ParticipantLeft {
        participant: ParticipantId,
        why: Leaving,
    },
    /// Another permission.
    ParticipantUpdated(v1::Participant),
    StreamAdded(Box<v1::Stream>),
    StreamUpdated {
        stream: Box<v1::Stream>,
        part: StreamPart,
    },
    StreamRemoved(StreamId),
    SubscriptionAdded(SubscriptionFacts),
    SubscriptionRemoved {
        subscription: SubscriptionId,
        participant: ParticipantId,
    },
    /// How a recording, a broadcast or a stream from elsewhere is.
    StreamingUpdated(StreamingFacts),
}

/// Why somebody is not in the room any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Has said so.
    Left,
    /// The management has put it out.
    Dropped,
    /// Its connection broke and did not come back, or it did not read what it was told.
    Lost,
    /// The room has ended.
    RoomEnded,
}

impl Leaving {
    /// As services are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
            Self::RoomEnded => "roomEnded",
        }
    }

    /// What the participant itself is told, if anything.
    pub(super) fn notice(self) -> Option<&'static str> {
        match self {
            Self::Dropped => Some("Dropped by the management"),
            Self::Left | Self::Lost | Self::RoomEnded => None,
        }
    }
}

/// What of a stream is another now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamPart {
    AudioStatus,
    VideoStatus,
    Layout,
    ActiveInput,
    /// Size, filter, or anything else.
    Other,
}

impl StreamPart {
    /// As services are told: where it is in the stream.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AudioStatus => "audio.status",
            Self::VideoStatus => "video.status",
            Self::Layout => "layout",
            Self::ActiveInput => "activeInput",
            Self::Other => ".",
        }
    }
}

/// Who takes what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SubscriptionFacts {
    pub(crate) id: SubscriptionId,
    pub(crate) participant: ParticipantId,
    /// The streams that are taken, by kind.
    pub(crate) tracks: Vec<(Kind, StreamId)>,
    pub(crate) data: Option<StreamId>,
}

impl Room {
    pub(super) fn happen(&mut self, happening: Happening) {
        self.output(Output::Happened(happening));
    }

    /// A stream is new, gone or changed.
    pub(super) fn stream_happened(&mut self, id: &StreamId, change: &Change) {
        let part = match change {
            Change::Added(stream) => {
                return self.happen(Happening::StreamAdded(Box::new(stream.clone())));
            }
            Change::Removed(_) => return self.happen(Happening::StreamRemoved(id.clone())),
            Change::Status(status) if status.kind() == v1::MediaKind::Audio => StreamPart::AudioStatus,
            Change::Status(_) => StreamPart::VideoStatus,
            Change::Layout(_) => StreamPart::Layout,
            Change::ActiveInput(_) | Change::Speaker(_) => StreamPart::ActiveInput,
            Change::Replaced(_) => StreamPart::Other,
        };
        if let Some(stream) = self.describe_stream(id) {
            self.happen(Happening::StreamUpdated { stream: Box::new(stream), part });
        }
    }

    pub(super) fn subscription_happened(&mut self, id: &SubscriptionId) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let of = |origin: &Origin| match origin {
            Origin::Track { stream, .. } => Some(stream.clone()),
            Origin::Selected(slot) => self.selecting_stream(*slot).cloned(),
            Origin::View(label) => {
                self.state.views.iter().find(|view| view.label == *label).map(|view| view.stream.clone())
            }
        };
        let tracks = subscription.tracks.iter().filter_map(|t| Some((t.kind, of(&t.from)?)));
        let facts = SubscriptionFacts {
            id: id.clone(),
            participant: subscription.owner.clone(),
            tracks: tracks.collect(),
            data: subscription.data.clone(),
        };
        self.happen(Happening::SubscriptionAdded(facts));
    }

    /// A subscription is not among the room's any more; one that never came about was not told of.
    pub(super) fn subscription_gone(&mut self, id: &SubscriptionId, subscription: &Subscription) {
        if subscription.phase == Phase::Established {
            let participant = subscription.owner.clone();
            self.happen(Happening::SubscriptionRemoved { subscription: id.clone(), participant });
        }
    }

    /// Everything is gone with the room.
    pub(super) fn all_gone(&mut self) {
        for (id, subscription) in self.state.subscriptions.take_all() {
            self.subscription_gone(&id, &subscription);
        }
        for (id, publication) in self.state.publications.take_all() {
            if publication.phase == Phase::Established {
                self.happen(Happening::StreamRemoved(id));
            }
        }
        for participant in self.participants_by_arrival() {
            self.happen(Happening::ParticipantLeft { participant, why: Leaving::RoomEnded });
        }
        self.state.participants.clear();
    }
}
