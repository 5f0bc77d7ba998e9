//! Participants and streams as clients are told of them.

use kaigi_proto::{
    ids::{ParticipantId, StreamId},
    v1,
};

use super::{
    Room,
    media::{Format, Kind, VideoParameters},
    state::{Carrier, Phase, Publication, Track},
    stream_info::{VideoOptions, audio_options, video_options},
    views::View,
};

/// `activeInput` of a mixed or selecting stream until somebody was heard.
pub(super) const NOBODY_HEARD: &str = "unknown";

impl Room {
    pub(super) fn describe_joined(&self, participant: &ParticipantId) -> v1::Joined {
        let permission = self.describe_participant(participant).and_then(|p| p.permission);
        v1::Joined {
            permission,
            views: self.state.views.iter().map(|view| view.label.clone()).collect(),
            participants: self.describe_participants(),
            streams: self.describe_streams(),
            epoch: self.settings.epoch,
        }
    }

    /// In the order of their coming.
    pub(super) fn describe_participants(&self) -> Vec<v1::Participant> {
        self.participants_by_arrival().iter().filter_map(|id| self.describe_participant(id)).collect()
    }

    pub(super) fn describe_participant(&self, id: &ParticipantId) -> Option<v1::Participant> {
        let participant = self.state.participants.get(id)?;
        Some(v1::Participant {
            id: id.to_string(),
            user: participant.user.clone(),
            role: participant.role.clone(),
            permission: Some(v1::Permission {
                publish: Some(participant.publish.to_wire()),
                subscribe: Some(participant.subscribe.to_wire()),
            }),
        })
    }

    /// Mixed streams, selecting ones, then those that are published, in the order of their publication.
    pub(super) fn describe_streams(&self) -> Vec<v1::Stream> {
        let mut forward: Vec<_> = self.state.publications.iter().collect();
        forward.sort_by_key(|(_, publication)| publication.arrival);
        let mixed = self.state.views.iter().map(|view| self.describe_mixed(view));
        let selecting = self.describe_selecting();
        mixed
            .chain(selecting)
            .chain(forward.into_iter().filter_map(|(id, _)| self.describe_publication(id)))
            .collect()
    }

    /// The stream of that id, if it is there already.
    pub(super) fn describe_stream(&self, id: &StreamId) -> Option<v1::Stream> {
        if let Some(slot) = self.selecting(id.as_str()) {
            return self.describe_slot(slot);
        }
        match self.state.views.iter().find(|view| view.stream == *id) {
            Some(view) => Some(self.describe_mixed(view)),
            None => self.describe_publication(id),
        }
    }

    /// A forward stream; `None` until it is established.
    pub(super) fn describe_publication(&self, id: &StreamId) -> Option<v1::Stream> {
        let publication = self.state.publications.get(id).filter(|p| p.phase == Phase::Established)?;
        let views = self.state.views.iter().filter(|view| view.inputs.contains(id));
        let stream = v1::Stream {
            id: id.to_string(),
            r#type: v1::StreamType::Forward.into(),
            tracks: self.describe_tracks(publication),
            info_type: match publication.carrier {
                Carrier::Transport(_) => "webrtc",
                Carrier::Ingest(_) => "streaming",
                Carrier::Analysis { .. } => "analytics",
            }
            .to_owned(),
            owner: publication.owner.to_string(),
            in_views: views.map(|view| view.label.clone()).collect(),
            attributes: publication.attributes.clone().unwrap_or_default(),
            data: publication.data,
            ..v1::Stream::default()
        };
        Some(self.with_filter(stream, id))
    }

    fn describe_tracks(&self, publication: &Publication) -> Vec<v1::Track> {
        let encrypted = publication.is_encrypted();
        let describe = |track: &Track| v1::Track {
            // What no client has made has no track that it could name.
            id: publication.transport().map(|_| track.id.to_string()).unwrap_or_default(),
            source: track.source.clone().unwrap_or_default(),
            active: track.active,
            mid: track.mid.clone(),
            rid: track.rid().to_owned(),
            ..self.describe_media(track.kind, &track.format, track.parameters(), !encrypted)
        };
        publication.tracks.iter().map(describe).collect()
    }

    fn describe_mixed(&self, view: &View) -> v1::Stream {
        let track = |kind| {
            let (format, parameters) = view.track(&self.config, kind)?;
            Some(v1::Track { active: true, ..self.describe_media(kind, &format, parameters, true) })
        };
        let layout = view.picture.as_ref().filter(|_| view.layout_told).map(|picture| picture.layout());
        let active_input = view.active_input.as_ref().map_or(NOBODY_HEARD, |input| input.as_str());
        v1::Stream {
            id: view.stream.to_string(),
            r#type: v1::StreamType::Mixed.into(),
            tracks: Kind::ALL.into_iter().filter_map(track).collect(),
            label: view.label.clone(),
            active_input: active_input.to_owned(),
            layout: Some(layout.unwrap_or_default()),
            filter: view.filter.name().to_owned(),
            filter_parameters: view.filter.parameters(),
            ..v1::Stream::default()
        }
    }

    /// What a track is, and what it can be had as, if anything can be made of it.
    fn describe_media(
        &self,
        kind: Kind,
        format: &Format,
        parameters: VideoParameters,
        convertible: bool,
    ) -> v1::Track {
        let track = v1::Track {
            kind: kind.to_wire(),
            format: Some(format.to_wire()),
            parameters: parameters.to_wire(),
            ..v1::Track::default()
        };
        match kind {
            Kind::Audio if !convertible => track,
            Kind::Audio => v1::Track {
                optional_formats: audio_options(&self.config, format).iter().map(Format::to_wire).collect(),
                ..track
            },
            Kind::Video => {
                let options = if convertible {
                    video_options(&self.config, format, &parameters)
                } else {
                    VideoOptions::default()
                };
                v1::Track {
                    optional_formats: options.formats.iter().map(Format::to_wire).collect(),
                    optional_parameters: Some(options.parameters_to_wire()),
                    ..track
                }
            }
        }
    }
}
