//! A running view: made and changed to be as its description says.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Instant,
};

use kaigi_proto::{
    ids::{IdError, ParticipantId, StreamId, TrackId},
    v1,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    audio::{AudioPlan, AudioThread, OPUS_PAYLOAD_TYPE, OutputId, PlannedInput, PlannedOutput, SAMPLE_RATE},
    description::{Version, VideoSpec, ViewKey, ViewSpec},
    events::EventHub,
    link::{
        AudioSource, Failure, LinkContext, MediaClock, OutputTrack, Outputs, TrackDescription, VideoSource,
        VideoSources,
    },
    video::{Region, Scene, Studio, StudioPlan},
};

/// Hz of video RTP timestamps.
const VIDEO_RATE: u32 = 90_000;

/// What views need of the node.
#[derive(Debug)]
pub struct ViewContext {
    /// For inputs.
    pub link: LinkContext,
    /// Video inputs, shared by all views.
    pub sources: VideoSources,
    /// Outputs.
    pub outputs: Outputs,
    /// For what happens.
    pub events: EventHub,
    /// This node's worker id.
    pub worker_id: String,
    /// This node's gRPC endpoint.
    pub endpoint: String,
}

/// Why a view can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The ids of room, label and participant together are no track id.
    #[error("track id: {0}")]
    TrackId(#[from] IdError),
    /// The system gives no thread.
    #[error("no thread for the view: {0}")]
    Thread(#[from] io::Error),
}

/// A running view. Ends when dropped.
pub struct View {
    context: Arc<ViewContext>,
    spec: ViewSpec,
    origin: Instant,
    video: Option<Video>,
    audio: Audio,
    video_inputs: Inputs<Arc<VideoSource>>,
    audio_inputs: Inputs<AudioSource>,
}

struct Video {
    studio: Studio,
    track: Arc<OutputTrack>,
}

struct Audio {
    thread: AudioThread,
    common: Arc<OutputTrack>,
    minus: BTreeMap<ParticipantId, Arc<OutputTrack>>,
}

/// Inputs by stream, with the source that each was made for and the task that reports its failure.
type Inputs<S> = BTreeMap<StreamId, Input<S>>;

struct Input<S> {
    track: v1::TrackSource,
    source: S,
    _watch: AbortOnDropHandle<()>,
}

impl View {
    /// Makes a view.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn new(context: &Arc<ViewContext>, spec: ViewSpec, now: Instant) -> Result<Self, ViewError> {
        check_track_ids(&spec)?;
        context.events.set_view(&spec.key, &spec.agent, now);
        let clock = MediaClock::new(now, SAMPLE_RATE);
        let common = context.outputs.add(audio_track(&spec, track_id(&spec.key, "audio")?, clock));
        let plan = AudioPlan { clock, inputs: vec![], outputs: vec![], on_active: None };
        let thread = AudioThread::start(&spec.key.label, plan)?;
        let mut view = Self {
            context: Arc::clone(context),
            spec,
            origin: now,
            video: None,
            audio: Audio { thread, common, minus: BTreeMap::new() },
            video_inputs: BTreeMap::new(),
            audio_inputs: BTreeMap::new(),
        };
        view.reconcile()?;
        Ok(view)
    }

    /// Makes the view what a newer description says.
    ///
    /// # Errors
    /// See [`ViewError`]; the view then goes on as far as it could be changed.
    pub fn change(&mut self, spec: ViewSpec, now: Instant) -> Result<(), ViewError> {
        check_track_ids(&spec)?;
        self.context.events.set_view(&spec.key, &spec.agent, now);
        self.spec = spec;
        self.reconcile()
    }

    /// Of the description in force.
    #[must_use]
    pub fn version(&self) -> Version {
        self.spec.version
    }

    /// Where its outputs are.
    #[must_use]
    pub fn reply(&self) -> v1::ViewReply {
        let source = |track: &Arc<OutputTrack>| v1::TrackSource {
            track_id: track.description().id.to_string(),
            worker_id: self.context.worker_id.clone(),
            endpoint: self.context.endpoint.clone(),
            kind: track.description().kind.into(),
            format: Some(track.description().format.clone()),
        };
        let minus = self.audio.minus.iter().map(|(participant, track)| v1::MinusAudio {
            participant_id: participant.to_string(),
            audio: Some(source(track)),
        });
        v1::ViewReply {
            video: self.video.as_ref().map(|video| source(&video.track)),
            audio: Some(source(&self.audio.common)),
            minus_audio: minus.collect(),
            outputs: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn reconcile(&mut self) -> Result<(), ViewError> {
        self.reconcile_inputs();
        self.reconcile_audio()?;
        self.reconcile_video()
    }

    fn reconcile_inputs(&mut self) {
        let context = Arc::clone(&self.context);
        let key = self.spec.key.clone();
        let shown: BTreeSet<&StreamId> = self
            .spec
            .video
            .iter()
            .flat_map(|video| &video.regions)
            .filter_map(|(_, id)| id.as_ref())
            .collect();
        let video = self.spec.inputs.iter().filter(|(stream, _)| shown.contains(stream));
        let video = video.filter_map(|(stream, input)| Some((stream, input.video.as_ref()?)));
        follow(&mut self.video_inputs, video, |stream, track| {
            let source = context.sources.get(&context.link, track);
            let watch = watch(&context, &key, stream, v1::MediaKind::Video, source.failure());
            (source, watch)
        });
        let audio =
            self.spec.inputs.iter().filter_map(|(stream, input)| Some((stream, input.audio.as_ref()?)));
        follow(&mut self.audio_inputs, audio, |stream, track| {
            let source = AudioSource::start(&context.link, track);
            let watch = watch(&context, &key, stream, v1::MediaKind::Audio, source.failure());
            (source, watch)
        });
        let inputs = &self.spec.inputs;
        context.events.retain_inputs(&key, |stream| inputs.contains_key(stream));
    }

    fn reconcile_audio(&mut self) -> Result<(), ViewError> {
        let clock = self.audio.common.description().clock;
        let wanted = &self.spec.minus;
        let outputs = &self.context.outputs;
        self.audio.minus.retain(|participant, track| {
            let stays = wanted.contains(participant);
            if !stays {
                outputs.remove(track);
            }
            stays
        });
        for participant in wanted {
            if !self.audio.minus.contains_key(participant) {
                let id = track_id(&self.spec.key, &format!("minus:{participant}"))?;
                let track = outputs.add(audio_track(&self.spec, id, clock));
                self.audio.minus.insert(participant.clone(), track);
            }
        }
        let inputs = self.audio_inputs.iter().filter_map(|(stream, input)| {
            Some(PlannedInput {
                stream: stream.clone(),
                owner: self.spec.inputs.get(stream)?.owner.clone(),
                feed: Arc::clone(input.source.feed()),
            })
        });
        let minus = self.audio.minus.iter().map(|(participant, track)| PlannedOutput {
            id: OutputId::Minus(participant.clone()),
            track: Arc::clone(track),
        });
        let common = PlannedOutput { id: OutputId::Common, track: Arc::clone(&self.audio.common) };
        self.audio.thread.set(AudioPlan {
            clock,
            inputs: inputs.collect(),
            outputs: minus.chain([common]).collect(),
            on_active: self.spec.voice_activity.then(|| self.tell_active()),
        });
        Ok(())
    }

    fn tell_active(&self) -> Arc<dyn Fn(StreamId) + Send + Sync> {
        let (context, key) = (Arc::clone(&self.context), self.spec.key.clone());
        Arc::new(move |stream| context.events.active(&key, stream, Instant::now()))
    }

    fn reconcile_video(&mut self) -> Result<(), ViewError> {
        let format = self.spec.video.as_ref().map(|video| &video.format);
        let present = self.video.as_ref().map(|video| &video.track.description().format);
        if format != present
            && let Some(old) = self.video.take()
        {
            self.context.outputs.remove(&old.track);
        }
        let Some(spec) = &self.spec.video else {
            return Ok(());
        };
        match &self.video {
            Some(video) => video.studio.set(self.studio_plan(spec, &video.track)),
            None => {
                let track = self.context.outputs.add(TrackDescription {
                    id: track_id(&self.spec.key, "video")?,
                    kind: v1::MediaKind::Video,
                    format: spec.format.clone(),
                    payload_type: spec.encoder.codec.payload_type(),
                    clock: MediaClock::new(self.origin, VIDEO_RATE),
                });
                let plan = self.studio_plan(spec, &track);
                match Studio::start(&self.spec.key.label, plan) {
                    Ok(studio) => self.video = Some(Video { studio, track }),
                    Err(error) => {
                        self.context.outputs.remove(&track);
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn studio_plan(&self, spec: &VideoSpec, track: &Arc<OutputTrack>) -> StudioPlan {
        let size = spec.encoder.size;
        let regions = spec.regions.iter().filter_map(|(area, stream)| {
            let input = stream.as_ref().and_then(|stream| self.video_inputs.get(stream));
            Some(Region {
                rect: area.place(size)?,
                source: input.map(|input| Arc::clone(input.source.slot())),
            })
        });
        StudioPlan {
            scene: Scene { size, background: spec.background, crop: spec.crop, regions: regions.collect() },
            encoder: spec.encoder.clone(),
            bitrate: spec.bitrate,
            edges: spec.edges,
            track: Arc::clone(track),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let video = self.video.iter().map(|video| &video.track);
        for track in self.audio.minus.values().chain([&self.audio.common]).chain(video) {
            self.context.outputs.remove(track);
        }
        self.context.events.remove_view(&self.spec.key);
    }
}

/// Makes `inputs` those that are `wanted`; those whose track is still the same are not touched.
fn follow<'a, S>(
    inputs: &mut Inputs<S>,
    wanted: impl Iterator<Item = (&'a StreamId, &'a v1::TrackSource)>,
    start: impl Fn(&StreamId, &v1::TrackSource) -> (S, AbortOnDropHandle<()>),
) {
    let mut old = std::mem::take(inputs);
    for (stream, track) in wanted {
        let present = old.remove(stream).filter(|input| input.track == *track);
        let input = present.unwrap_or_else(|| {
            let (source, watch) = start(stream, track);
            Input { track: track.clone(), source, _watch: watch }
        });
        inputs.insert(stream.clone(), input);
    }
}

/// Passes an input's failures on to the view's agent.
fn watch(
    context: &Arc<ViewContext>,
    key: &ViewKey,
    stream: &StreamId,
    kind: v1::MediaKind,
    mut failure: Failure,
) -> AbortOnDropHandle<()> {
    let (context, key, stream) = (Arc::clone(context), key.clone(), stream.clone());
    failure.mark_changed();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while failure.changed().await.is_ok() {
            let reason = failure.borrow_and_update().clone();
            match reason {
                Some(reason) => context.events.failed(&key, &stream, kind, &reason, Instant::now()),
                None => context.events.recovered(&key, &stream, kind),
            }
        }
    }))
}

fn track_id(key: &ViewKey, what: &str) -> Result<TrackId, IdError> {
    TrackId::new(format!("mix:{}:{}:{what}", key.room, key.label))
}

/// Refuses a description before anything is changed for it.
fn check_track_ids(spec: &ViewSpec) -> Result<(), IdError> {
    track_id(&spec.key, "video")?;
    spec.minus
        .iter()
        .try_for_each(|participant| track_id(&spec.key, &format!("minus:{participant}")).map(drop))
}

fn audio_track(spec: &ViewSpec, id: TrackId, clock: MediaClock) -> TrackDescription {
    TrackDescription {
        id,
        kind: v1::MediaKind::Audio,
        format: spec.audio_format.clone(),
        payload_type: OPUS_PAYLOAD_TYPE,
        clock,
    }
}
