//! A view: which streams are mixed in it and how, and where its mixer puts the result.

use std::collections::BTreeMap;

use kaigi_proto::ids::{ParticipantId, RoomId, StreamId};
use kaigi_room_config as config;
use serde::{Deserialize, Serialize};

use super::{
    filters::Filter,
    layout::{Assignment, templates},
    media::{Format, Kind, Source, VideoParameters},
    outputs::MadeOutputs,
};

/// Most inputs of one picture, whatever a document says.
const MAX_INPUT: u32 = 256;

/// One mixed stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct View {
    pub(crate) label: String,
    /// `<room id>-<label>`
    pub(crate) stream: StreamId,
    /// In the order of mixing.
    pub(crate) inputs: Vec<StreamId>,
    /// `None`: audio only.
    pub(crate) picture: Option<Assignment>,
    /// Whether the layout has changed since the room started; it is told as empty until then.
    pub(crate) layout_told: bool,
    /// The loudest input, as last heard.
    pub(crate) active_input: Option<StreamId>,
    pub(crate) filter: Filter,
    /// Of the last description; rises with each.
    pub(crate) revision: u64,
    /// What the mixer makes of it; `None` while there is none.
    pub(crate) outputs: Option<ViewOutputs>,
}

/// Where the tracks of a view are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ViewOutputs {
    /// `None` for an audio-only view.
    pub(crate) video: Option<Source>,
    /// The same picture in smaller sizes.
    #[serde(default)]
    pub(crate) layers: Vec<Source>,
    /// What everybody hears who has no mix of their own.
    pub(crate) audio: Option<Source>,
    pub(crate) minus: BTreeMap<ParticipantId, Source>,
    /// Other encodings, for those who want them.
    pub(crate) others: MadeOutputs,
}

impl View {
    /// Nothing mixed yet; and how many custom templates are unreadable. `None` if its stream can't be named.
    pub(crate) fn new(room: &RoomId, spec: &config::View) -> Option<(Self, usize)> {
        let stream = StreamId::new(format!("{room}-{}", spec.label)).ok()?;
        let (picture, unreadable) = match &spec.video {
            None => (None, 0),
            Some(video) => {
                let max_input = video.max_input.clamp(1, MAX_INPUT);
                let (templates, unreadable) = templates(&video.layout.templates, max_input);
                (Some(Assignment::new(templates, max_input as usize)), unreadable)
            }
        };
        let view = Self {
            label: spec.label.clone(),
            stream,
            inputs: Vec::new(),
            picture,
            layout_told: false,
            active_input: None,
            filter: Filter::default(),
            revision: 0,
            outputs: None,
        };
        Some((view, unreadable))
    }

    /// Format and parameters of the mixed stream's track of that kind, if it has one.
    pub(crate) fn track(&self, room: &config::RoomConfig, kind: Kind) -> Option<(Format, VideoParameters)> {
        let spec = room.views.iter().find(|view| view.label == self.label)?;
        match kind {
            Kind::Audio => Some((Format::from(&spec.audio.format), VideoParameters::default())),
            Kind::Video => {
                let video = spec.video.as_ref()?;
                let parameters = VideoParameters {
                    resolution: Some(video.parameters.resolution),
                    framerate: Some(video.parameters.framerate),
                    bitrate: video.parameters.bitrate,
                    key_frame_interval: Some(video.parameters.key_frame_interval),
                };
                Some((Format::from(&video.format), parameters))
            }
        }
    }
}
