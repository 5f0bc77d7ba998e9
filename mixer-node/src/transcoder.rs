//! A running transcoder: one track of another node, decoded once and encoded in each format and size that is described.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{IdError, ParticipantId, StreamId, TrackId},
    v1,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    audio::{AudioPlan, AudioThread, PlannedInput},
    description::{AlgorithmSpec, AnalysisSpec, TranscodedTrack, TranscoderKey, TranscoderSpec, Version},
    events::Subject,
    external::{Pipeline, PipelinePlan},
    inputs::{Input, watch},
    link::{Attendance, AudioSource, LayeredTrack, Showing, Wish},
    rendition::{Audiences, RenditionError, RenditionId, Renditions},
    video::{Filtering, FilteringPlan, FrameSlot, Programme, Size, Studio, StudioPlan},
    view::{MixerContext, ViewError},
};

/// How long a picture is decoded for the last who took what was made of it.
const REST: Duration = Duration::from_secs(5);
/// What the only input of an audio transcoder is called within it.
const SOURCE: &str = "source";

/// A running transcoder. Ends when dropped.
pub struct Transcoder {
    context: Arc<MixerContext>,
    spec: TranscoderSpec,
    subject: Subject,
    origin: Instant,
    renditions: Renditions,
    audiences: Audiences,
    video: Option<Input<Showing>>,
    analysing: Option<Analysing>,
    /// Whether anybody takes what is made of an analysed picture.
    watchers: Option<Attendance>,
    /// For a configured algorithm that is about to begin.
    place: Option<Arc<()>>,
    audio: Option<Input<AudioSource>>,
    studio: Option<Studio>,
    thread: Option<AudioThread>,
}

impl Transcoder {
    /// Makes a transcoder. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn new(context: &Arc<MixerContext>, spec: TranscoderSpec, now: Instant) -> Result<Self, ViewError> {
        check_track_ids(&spec)?;
        let audiences = Audiences::default();
        let watchers = spec.analysis.is_some().then(|| audiences.video.attendance(REST));
        let mut transcoder = Self {
            context: Arc::clone(context),
            subject: spec.key.clone().into(),
            spec,
            origin: now,
            renditions: Renditions::new(now, audiences.clone()),
            audiences,
            video: None,
            analysing: None,
            watchers,
            place: None,
            audio: None,
            studio: None,
            thread: None,
        };
        transcoder.reconcile(now)?;
        Ok(transcoder)
    }

    /// Makes it what a newer description says.
    ///
    /// # Errors
    /// See [`ViewError`]; it then goes on as far as it could be changed.
    pub fn change(&mut self, spec: TranscoderSpec, now: Instant) -> Result<(), ViewError> {
        check_track_ids(&spec)?;
        self.spec = spec;
        self.reconcile(now)
    }

    /// Of the description in force.
    #[must_use]
    pub fn version(&self) -> Version {
        self.spec.version
    }

    /// Sees to it that it works; called some times a second.
    pub fn watch(&self, now: Instant) {
        self.studio.iter().for_each(|studio| studio.watch(now));
        self.thread.iter().for_each(|thread| thread.watch(now));
        self.analysing.iter().for_each(|analysing| analysing.watch(now));
        let sound = self.audio.as_ref().map(|input| input.source.captured());
        let captured = self.video.as_ref().map(|input| input.source.captured()).or(sound);
        let captured = captured.and_then(|captured| captured.get(now));
        // What is made of one track belongs to the others that its publisher sends.
        self.renditions.tracks().for_each(|(_, track)| track.set_captured(captured));
    }

    /// Where its outputs are.
    #[must_use]
    pub fn reply(&self) -> v1::TranscoderReply {
        v1::TranscoderReply {
            outputs: self.context.output_sources(&self.renditions),
            failures: self.spec.renditions.failures(),
        }
    }

    fn reconcile(&mut self, now: Instant) -> Result<(), ViewError> {
        self.context.events.set(&self.subject, &self.spec.agent, now);
        self.admit();
        let key = &self.spec.key;
        let name = |id: &RenditionId| track_id(key, id);
        self.renditions.follow(&self.spec.renditions, &self.context.outputs, name)?;
        match self.spec.source.clone() {
            TranscodedTrack::Video(track) => self.reconcile_video(&track),
            TranscodedTrack::Audio(track) => self.reconcile_audio(&track),
        }
    }

    /// Finds a place for a configured algorithm; without one, nothing is made of the picture.
    fn admit(&mut self) {
        let Some(AnalysisSpec { algorithm: AlgorithmSpec::Configured(name), .. }) = &self.spec.analysis
        else {
            self.place = None;
            return;
        };
        if matches!(&self.analysing, Some(Analysing::Pipeline(pipeline, _)) if pipeline.algorithm() == name) {
            return;
        }
        let algorithms = &self.context.algorithms;
        let error = match algorithms.get(name).map(|algorithm| algorithms.enter(algorithm)) {
            None => RenditionError::Algorithm(name.clone()),
            Some(None) => RenditionError::AlgorithmFull(name.clone()),
            Some(place) => {
                self.place = place;
                return;
            }
        };
        self.spec.renditions.refuse_video(|_| Err(error.clone()));
    }

    // When the source is another one, the outputs go on with it: the last picture is held until the new source has one.

    fn reconcile_video(&mut self, track: &LayeredTrack) -> Result<(), ViewError> {
        (self.audio, self.thread) = (None, None);
        let Self { context, subject, video, watchers, .. } = &mut *self;
        let input = match video.take().filter(|input| input.is_from(track)) {
            Some(input) => input,
            None => {
                let kind = v1::MediaKind::Video;
                context.events.recovered(subject, None, kind);
                let source = context.sources.get(&context.link, track);
                // Transcoders are there for somebody; analytics stay when nobody looks.
                let source = match watchers {
                    Some(watchers) => source.while_attended(watchers.watch()),
                    None => source,
                };
                let watch = watch(context, subject, None, kind, source.failure());
                Input::new(track, source, watch)
            }
        };
        input.source.tell(track);
        let turned = self.spec.analysis.as_ref().is_some_and(AnalysisSpec::swaps_sides);
        let wishes = self.spec.renditions.video.values().map(|spec| wish(spec.size, turned)).collect();
        input.source.want(wishes);
        let slot = Arc::clone(input.source.slot());
        self.reconcile_analysis(&slot)?;
        let content = self.spec.content;
        let paused = self.spec.analysis.as_ref().is_some_and(|analysis| analysis.paused);
        let plan = StudioPlan {
            programme: Programme::Passed(self.analysing.as_ref().map_or(slot, Analysing::slot)),
            outputs: if paused {
                Vec::new()
            } else {
                self.renditions.pictures(&self.spec.renditions, content)
            },
            audience: Arc::clone(&self.audiences.video),
        };
        self.video = Some(input);
        match &self.studio {
            Some(studio) => studio.set(plan),
            None => self.studio = Some(Studio::start(&self.spec.key.id, plan)?),
        }
        Ok(())
    }

    /// The picture is analysed on its way to the encoder.
    fn reconcile_analysis(&mut self, source: &Arc<FrameSlot>) -> Result<(), ViewError> {
        let old = self.analysing.take();
        let Some(spec) = &self.spec.analysis else { return Ok(()) };
        let (source, audience) = (Arc::clone(source), Some(Arc::clone(&self.audiences.video)));
        self.analysing = match &spec.algorithm {
            AlgorithmSpec::Filter(filter) => {
                let plan = FilteringPlan { source, filter: filter.clone(), audience };
                match old {
                    Some(Analysing::Filter(filtering)) => {
                        filtering.set(plan);
                        Some(Analysing::Filter(filtering))
                    }
                    Some(Analysing::Pipeline(..)) | None => {
                        Some(Analysing::Filter(Filtering::start(&self.spec.key.id, plan)?))
                    }
                }
            }
            AlgorithmSpec::Configured(name) => {
                let plan = PipelinePlan { source, audience };
                match old {
                    Some(Analysing::Pipeline(pipeline, watch)) if pipeline.algorithm() == name => {
                        pipeline.set(plan);
                        Some(Analysing::Pipeline(pipeline, watch))
                    }
                    // Without a place it has no outputs.
                    Some(Analysing::Filter(_) | Analysing::Pipeline(..)) | None => self
                        .place
                        .take()
                        .map(|place| self.start_pipeline(name, place, plan))
                        .transpose()?
                        .flatten(),
                }
            }
        };
        Ok(())
    }

    fn start_pipeline(
        &self,
        name: &str,
        place: Arc<()>,
        plan: PipelinePlan,
    ) -> Result<Option<Analysing>, ViewError> {
        let algorithms = &self.context.algorithms;
        let Some(algorithm) = algorithms.get(name) else { return Ok(None) };
        let pipeline = Pipeline::start(algorithms.worker()?, Arc::clone(algorithm), place, plan)?;
        // Of a kind of its own: the source may fail besides.
        let kind = v1::MediaKind::Unspecified;
        let watch = watch(&self.context, &self.subject, None, kind, pipeline.failure());
        Ok(Some(Analysing::Pipeline(pipeline, watch)))
    }

    fn reconcile_audio(&mut self, track: &v1::TrackSource) -> Result<(), ViewError> {
        (self.video, self.studio) = (None, None);
        let Self { context, subject, audio, .. } = self;
        let input = match audio.take().filter(|input| input.is_from(track)) {
            Some(input) => input,
            None => {
                let kind = v1::MediaKind::Audio;
                context.events.recovered(subject, None, kind);
                let source = AudioSource::start(&context.link, track);
                let watch = watch(context, subject, None, kind, source.failure());
                Input::new(track, source, watch)
            }
        };
        // A mix of one.
        let mixed = PlannedInput {
            stream: StreamId::new(SOURCE)?,
            owner: ParticipantId::new(SOURCE)?,
            feed: Arc::clone(input.source.feed()),
        };
        let plan = AudioPlan {
            origin: self.origin,
            inputs: vec![mixed],
            outputs: self.renditions.mixes(&self.spec.renditions),
            audience: Arc::clone(&self.audiences.audio),
            on_active: None,
        };
        self.audio = Some(input);
        match &self.thread {
            Some(thread) => thread.set(plan),
            None => self.thread = Some(AudioThread::start(&self.spec.key.id, plan)?),
        }
        Ok(())
    }
}

impl Drop for Transcoder {
    fn drop(&mut self) {
        self.renditions.remove(&self.context.outputs);
        self.context.events.remove(&self.subject);
    }
}

/// What analyses the picture.
enum Analysing {
    Filter(Filtering),
    /// And the task that tells of its failures.
    Pipeline(Pipeline, AbortOnDropHandle<()>),
}

impl Analysing {
    fn watch(&self, now: Instant) {
        match self {
            Self::Filter(filtering) => filtering.watch(now),
            // It watches itself, and waits for longer than others may.
            Self::Pipeline(..) => {}
        }
    }

    /// Where what comes of it is.
    fn slot(&self) -> Arc<FrameSlot> {
        match self {
            Self::Filter(filtering) => Arc::clone(filtering.slot()),
            Self::Pipeline(pipeline, _) => Arc::clone(pipeline.slot()),
        }
    }
}

/// What an output of that size needs of the source, which may be turned by a quarter on the way.
fn wish(size: Option<Size>, turned: bool) -> Wish {
    let upright = |Size { width, height }| {
        if turned { Size { width: height, height: width } } else { Size { width, height } }
    };
    size.map_or(Wish::Largest, |size| Wish::Fill { size: upright(size), crop: false })
}

fn track_id(key: &TranscoderKey, id: &RenditionId) -> Result<TrackId, IdError> {
    TrackId::new(format!("transcode:{}:{}:{}", key.room, key.id, id.as_str()))
}

/// Refuses a description before anything is changed for it.
fn check_track_ids(spec: &TranscoderSpec) -> Result<(), IdError> {
    spec.renditions.ids().try_for_each(|id| track_id(&spec.key, id).map(drop))
}
