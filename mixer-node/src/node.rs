//! All views and transcoders of this node.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use kaigi_proto::{
    ids::{IdError, RoomId, TrackId},
    v1,
};
use parking_lot::Mutex;

use crate::{
    description::{DescriptionError, TranscoderKey, TranscoderSpec, Version, ViewKey, ViewSpec},
    events::Subject,
    transcoder::Transcoder,
    view::{MixerContext, View, ViewError},
};

/// Views of one node at most. The cluster-manager places rooms by load; this bounds what a mistake can take.
const MAX_VIEWS: usize = 100;
/// Transcoders at most.
const MAX_TRANSCODERS: usize = 500;
const MAX_TRANSCODERS_OF_A_ROOM: usize = 100;

/// Why a view or transcoder is not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The description makes no sense or asks for what is not made here.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A newer description is in force.
    #[error("description {given:?} is older than {in_force:?}")]
    Outdated {
        /// Came now.
        given: Version,
        /// Came before.
        in_force: Version,
    },
    /// The node has as many of them as it takes.
    #[error("this node has as many {0} as it can bear")]
    Full(&'static str),
    /// The room has as many transcoders as it may.
    #[error("the room has as many transcoders as it may")]
    RoomFull,
    /// It can't be made.
    #[error(transparent)]
    View(#[from] ViewError),
}

impl From<SetError> for tonic::Status {
    fn from(error: SetError) -> Self {
        let text = error.to_string();
        match error {
            SetError::Description(DescriptionError::TooMany { .. })
            | SetError::Full(_)
            | SetError::RoomFull
            | SetError::View(ViewError::Thread(_)) => Self::resource_exhausted(text),
            SetError::Description(_) | SetError::View(ViewError::TrackId(_)) => Self::invalid_argument(text),
            SetError::Outdated { .. } => Self::failed_precondition(text),
        }
    }
}

/// Why a view or transcoder is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The room's id is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// It belongs to a newer epoch.
    #[error("epoch {given} is older than {in_force}")]
    Outdated {
        /// Came now.
        given: u64,
        /// In force.
        in_force: u64,
    },
}

impl From<RemoveError> for tonic::Status {
    fn from(error: RemoveError) -> Self {
        match &error {
            RemoveError::Id(_) => Self::invalid_argument(error.to_string()),
            RemoveError::Outdated { .. } => Self::failed_precondition(error.to_string()),
        }
    }
}

/// See the module.
pub struct Node {
    context: Arc<MixerContext>,
    views: Mutex<HashMap<ViewKey, View>>,
    transcoders: Mutex<HashMap<TranscoderKey, Transcoder>>,
}

impl Node {
    /// Nothing yet.
    #[must_use]
    pub fn new(context: Arc<MixerContext>) -> Self {
        Self { context, views: Mutex::default(), transcoders: Mutex::default() }
    }

    /// Whether it has neither views nor transcoders.
    pub fn is_idle(&self) -> bool {
        self.views.lock().is_empty() && self.transcoders.lock().is_empty()
    }

    /// What views and transcoders share.
    #[must_use]
    pub fn context(&self) -> &Arc<MixerContext> {
        &self.context
    }

    /// Makes or changes a view. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set_view(&self, view: v1::ViewDescription, now: Instant) -> Result<v1::ViewReply, SetError> {
        let spec = ViewSpec::try_from(view)?;
        let mut views = self.views.lock();
        let count = views.len();
        let reply = match views.entry(spec.key.clone()) {
            Entry::Vacant(_) if count >= MAX_VIEWS => return Err(SetError::Full("views")),
            Entry::Vacant(place) => {
                tracing::info!(room = %spec.key.room, view = spec.key.label, agent = spec.agent, "view made");
                place.insert(View::new(&self.context, spec, now)?).reply()
            }
            Entry::Occupied(mut view) => {
                let view = view.get_mut();
                let (given, in_force) = (spec.version, view.version());
                if given < in_force {
                    return Err(SetError::Outdated { given, in_force });
                }
                if given > in_force {
                    view.change(spec, now)?;
                }
                view.reply()
            }
        };
        metrics::gauge!("kaigi_mixer_views").set(views.len() as f64);
        Ok(reply)
    }

    /// What is sent of tracks of views that somebody chooses among; others are left out.
    pub fn describe_layers(&self, ids: &[TrackId], now: Instant) -> Vec<v1::LayerDescription> {
        let views = self.views.lock();
        ids.iter().filter_map(|id| views.values().find_map(|view| view.describe_layer(id, now))).collect()
    }

    /// Ends a view; one that is not there is fine.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub fn remove_view(&self, request: v1::RemoveViewRequest) -> Result<(), RemoveError> {
        let key = ViewKey { room: RoomId::new(&request.room_id)?, label: request.label };
        let mut views = self.views.lock();
        let Some(view) = views.get(&key) else {
            return Ok(());
        };
        let in_force = view.version().epoch;
        if request.epoch < in_force {
            return Err(RemoveError::Outdated { given: request.epoch, in_force });
        }
        views.remove(&key);
        metrics::gauge!("kaigi_mixer_views").set(views.len() as f64);
        tracing::info!(room = %key.room, view = key.label, "view removed");
        Ok(())
    }

    /// Makes or changes a transcoder. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set_transcoder(
        &self,
        transcoder: v1::TranscoderDescription,
        now: Instant,
    ) -> Result<v1::TranscoderReply, SetError> {
        let spec = TranscoderSpec::try_from(transcoder)?;
        let mut transcoders = self.transcoders.lock();
        if !transcoders.contains_key(&spec.key) {
            if transcoders.len() >= MAX_TRANSCODERS {
                return Err(SetError::Full("transcoders"));
            }
            let room = &spec.key.room;
            if transcoders.keys().filter(|key| key.room == *room).count() >= MAX_TRANSCODERS_OF_A_ROOM {
                return Err(SetError::RoomFull);
            }
        }
        let reply = match transcoders.entry(spec.key.clone()) {
            Entry::Vacant(place) => {
                tracing::info!(room = %spec.key.room, transcoder = spec.key.id, agent = spec.agent, "transcoder made");
                place.insert(Transcoder::new(&self.context, spec, now)?).reply()
            }
            Entry::Occupied(mut transcoder) => {
                let transcoder = transcoder.get_mut();
                let (given, in_force) = (spec.version, transcoder.version());
                if given < in_force {
                    return Err(SetError::Outdated { given, in_force });
                }
                if given > in_force {
                    transcoder.change(spec, now)?;
                }
                transcoder.reply()
            }
        };
        metrics::gauge!("kaigi_mixer_transcoders").set(transcoders.len() as f64);
        Ok(reply)
    }

    /// Ends a transcoder; one that is not there is fine.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub fn remove_transcoder(&self, request: v1::RemoveTranscoderRequest) -> Result<(), RemoveError> {
        let key = TranscoderKey { room: RoomId::new(&request.room_id)?, id: request.id };
        let mut transcoders = self.transcoders.lock();
        let Some(transcoder) = transcoders.get(&key) else {
            return Ok(());
        };
        let in_force = transcoder.version().epoch;
        if request.epoch < in_force {
            return Err(RemoveError::Outdated { given: request.epoch, in_force });
        }
        transcoders.remove(&key);
        metrics::gauge!("kaigi_mixer_transcoders").set(transcoders.len() as f64);
        tracing::info!(room = %key.room, transcoder = key.id, "transcoder removed");
        Ok(())
    }

    /// Sees to it that all views and transcoders go on; called some times a second.
    pub fn watch(&self, now: Instant) {
        self.views.lock().values().for_each(|view| view.watch(now));
        self.transcoders.lock().values().for_each(|transcoder| transcoder.watch(now));
    }

    /// Ends what belongs to agents that have been away for too long; called about once a second.
    pub fn tick(&self, now: Instant) {
        for subject in self.context.events.abandoned(now) {
            match subject {
                Subject::View(key) => {
                    tracing::warn!(room = %key.room, view = key.label, "view removed, its agent is away");
                    self.views.lock().remove(&key);
                }
                Subject::Transcoder(key) => {
                    tracing::warn!(room = %key.room, transcoder = key.id, "transcoder removed, its agent is away");
                    self.transcoders.lock().remove(&key);
                }
            }
        }
        metrics::gauge!("kaigi_mixer_views").set(self.views.lock().len() as f64);
        metrics::gauge!("kaigi_mixer_transcoders").set(self.transcoders.lock().len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use kaigi_proto::auth::ClusterSecret;
    use kaigi_worker::Channels;

    use super::*;
    use crate::{
        events::{EventHub, PATIENCE},
        link::{LinkContext, Outputs, Receiver, VideoSources},
    };

    fn node() -> Node {
        crate::init_gstreamer().unwrap();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let receiver = Arc::new(Receiver::bind(address).unwrap());
        Node::new(Arc::new(MixerContext {
            pictures: crate::video::Pictures::default(),
            algorithms: crate::external::Algorithms::default(),
            link: LinkContext { receiver, channels: Channels::new(ClusterSecret::default()) },
            sources: VideoSources::default(),
            outputs: Arc::new(Outputs::bind(address).unwrap()),
            events: EventHub::default(),
            worker_id: "mixer-1".into(),
            endpoint: "http://127.0.0.1:1".into(),
        }))
    }
    fn audio_view(label: &str, revision: u64) -> v1::ViewDescription {
        v1::ViewDescription {
            agent_id: "agent".into(),
            room_id: "room".into(),
            label: label.into(),
            epoch: 1,
            revision,
            audio_format: Some(v1::MediaFormat { codec: "opus".into(), ..Default::default() }),
            ..Default::default()
        }
    }
    fn tracks(reply: &v1::ViewReply) -> Vec<&str> {
        let minus = reply.minus_audio.iter().filter_map(|minus| minus.audio.as_ref());
        reply.video.iter().chain(&reply.audio).chain(minus).map(|track| track.track_id.as_str()).collect()
    }

    #[tokio::test]
    async fn outputs_follow_the_description() {
        let (node, now) = (node(), Instant::now());
        let first = node.set_view(audio_view("common", 1), now).unwrap();
        assert_eq!(tracks(&first), ["mix:room:common:audio"]);
        let minus_participants = vec!["p1".into(), "p2".into()];
        let second = v1::ViewDescription { minus_participants, ..audio_view("common", 2) };
        let reply = node.set_view(second, now).unwrap();
        let [common, p1, p2] =
            ["audio", "minus:p1", "minus:p2"].map(|what| format!("mix:room:common:{what}"));
        assert_eq!(tracks(&reply), [common.as_str(), p1.as_str(), p2.as_str()]);
        let third = v1::ViewDescription { minus_participants: vec!["p2".into()], ..audio_view("common", 3) };
        assert_eq!(tracks(&node.set_view(third, now).unwrap()), [common.as_str(), p2.as_str()]);
    }

    #[tokio::test]
    async fn sound_in_another_format_has_the_same_names() {
        let (node, now) = (node(), Instant::now());
        let minus_participants = vec!["p1".into()];
        let first = v1::ViewDescription { minus_participants, ..audio_view("common", 1) };
        let names: Vec<String> =
            tracks(&node.set_view(first.clone(), now).unwrap()).iter().map(|name| name.to_string()).collect();
        let pcmu = Some(v1::MediaFormat { codec: "pcmu".into(), ..Default::default() });
        let second = v1::ViewDescription { audio_format: pcmu, revision: 2, ..first };
        let reply = node.set_view(second, now).unwrap();
        assert_eq!(tracks(&reply), names);
        let own = reply.audio.iter().chain(reply.minus_audio[0].audio.as_ref());
        assert!(own.into_iter().all(|track| track.format.as_ref().unwrap().codec == "pcmu"));
        let track = node.context.outputs.track(&kaigi_proto::ids::TrackId::new(&names[0]).unwrap()).unwrap();
        assert_eq!(track.description().clock.rate, 8000);
    }

    #[tokio::test]
    async fn the_same_description_again_changes_nothing() {
        let (node, now) = (node(), Instant::now());
        let first = node.set_view(audio_view("common", 1), now).unwrap();
        assert_eq!(node.set_view(audio_view("common", 1), now).unwrap(), first);
        let older = node.set_view(audio_view("common", 0), now);
        assert!(matches!(older, Err(SetError::Outdated { .. })));
    }

    #[tokio::test]
    async fn ids_that_make_no_track_id_are_refused_before_anything_is_made() {
        let (node, now) = (node(), Instant::now());
        let long = "p".repeat(120);
        let view = v1::ViewDescription { minus_participants: vec![long], ..audio_view("common", 1) };
        let refused = node.set_view(view, now);
        assert!(matches!(refused, Err(SetError::View(ViewError::TrackId(_)))));
        node.set_view(audio_view("common", 1), now).unwrap();
    }

    #[tokio::test]
    async fn views_are_bounded() {
        let (node, now) = (node(), Instant::now());
        for number in 0..MAX_VIEWS {
            node.set_view(audio_view(&format!("v{number}"), 1), now).unwrap();
        }
        assert!(matches!(node.set_view(audio_view("one-more", 1), now), Err(SetError::Full(_))));
    }

    fn transcoder(room: &str, id: &str, revision: u64) -> v1::TranscoderDescription {
        v1::TranscoderDescription {
            agent_id: "agent".into(),
            room_id: room.into(),
            id: id.into(),
            epoch: 1,
            revision,
            source: Some(v1::TrackSource {
                track_id: "t".into(),
                worker_id: "w".into(),
                endpoint: "http://127.0.0.1:1".into(),
                kind: v1::MediaKind::Video.into(),
                format: None,
            }),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn transcoders_of_a_room_are_bounded() {
        let (node, now) = (node(), Instant::now());
        for number in 0..MAX_TRANSCODERS_OF_A_ROOM {
            node.set_transcoder(transcoder("room", &format!("t{number}"), 1), now).unwrap();
        }
        let refused = node.set_transcoder(transcoder("room", "one-more", 1), now).unwrap_err();
        assert!(matches!(refused, SetError::RoomFull));
        assert_eq!(tonic::Status::from(refused).code(), tonic::Code::ResourceExhausted);
        node.set_transcoder(transcoder("other", "t", 1), now).unwrap();
        node.set_transcoder(transcoder("room", "t0", 2), now).unwrap();
    }

    #[tokio::test]
    async fn transcoders_of_an_agent_that_stays_away_are_removed() {
        let (node, now) = (node(), Instant::now());
        node.set_transcoder(transcoder("room", "t", 5), now).unwrap();
        node.tick(now + PATIENCE / 2);
        assert!(node.set_transcoder(transcoder("room", "t", 4), now).is_err(), "removed too early");
        node.tick(now + PATIENCE);
        node.set_transcoder(transcoder("room", "t", 4), now).unwrap();
    }

    #[tokio::test]
    async fn views_of_an_agent_that_stays_away_are_removed() {
        let (node, now) = (node(), Instant::now());
        node.set_view(audio_view("common", 5), now).unwrap();
        node.tick(now + PATIENCE / 2);
        assert!(node.set_view(audio_view("common", 4), now).is_err(), "removed too early");
        node.tick(now + PATIENCE);
        node.set_view(audio_view("common", 4), now).unwrap();
    }
}
