//! Own streams that are subscribed before they are there: one offer is for what a client sends and for what it gets back of that.

use kaigi_proto::ids::{StreamId, TrackId};

use super::{
    Room,
    input::{Subscribe, SubscribeTrack},
    media::{Format, Kind},
    state::{Origin, Phase},
    wish::Wish,
};

impl Room {
    /// What a subscriber names, if it is its own stream on the same transport, which is not negotiated yet. What it will be is not known, so nothing
    /// can be wished of it.
    pub(super) fn coming_origin(&self, subscribe: &Subscribe, track: &SubscribeTrack) -> Option<Origin> {
        let (stream, publication) = self.state.publications.get_key_value(track.from.as_str())?;
        let is_plain = track.wish == Wish::default() && track.rid.is_none();
        let transport = publication.transport().filter(|own| subscribe.transport.as_ref() == Some(*own))?;
        if publication.owner != subscribe.participant || publication.phase == Phase::Established || !is_plain
        {
            return None;
        }
        let requested = publication.requested.iter().find(|requested| requested.kind == track.kind)?;
        // The name that the access node gives it if it has no layers.
        let id = TrackId::new(format!("{transport}-{}", requested.mid)).ok()?;
        Some(Origin::Track { stream: stream.clone(), track: id, layered: false })
    }

    /// Whether it is of a stream that is not negotiated yet.
    pub(super) fn is_coming(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Track { stream, .. } => {
                self.state.publications.get(stream).is_some_and(|p| p.phase != Phase::Established)
            }
            Origin::View(_) | Origin::Selected(_) => false,
        }
    }

    /// What publications may be: one of these the stream will have.
    pub(super) fn accepted_formats(&self, kind: Kind) -> Vec<Format> {
        let media_in = &self.config.media_in;
        match kind {
            Kind::Audio => media_in.audio.iter().map(Format::from).collect(),
            Kind::Video => media_in.video.iter().map(Format::from).collect(),
        }
    }

    /// The stream is there: who waits for it gets it, under the name that it has.
    pub(super) fn stream_has_come(&mut self, id: &StreamId) {
        let Some(publication) = self.state.publications.get(id) else { return };
        let is_known = |track: &TrackId| publication.tracks.iter().any(|t| t.id == *track);
        let mut waiting = Vec::new();
        for (subscription, state) in self.state.subscriptions.iter() {
            for track in state.tracks.iter().filter(|track| track.from.is_of(id)) {
                let Origin::Track { track: named, .. } = &track.from else { continue };
                let renamed =
                    if is_known(named) { None } else { self.named_origin(id.as_str(), track.kind, None) };
                waiting.push((subscription.clone(), track.kind, renamed));
            }
        }
        for (subscription, kind, renamed) in waiting {
            if let Some(renamed) = renamed
                && let Some(track) = self.subscribed_track(&subscription, kind)
            {
                track.from = renamed;
            }
            self.repoint(&subscription);
        }
    }
}
