//! A running transcoder: one track of another node, decoded once and encoded in each format and size that is described.

use std::{sync::Arc, time::Instant};

use kaigi_proto::{
    ids::{IdError, ParticipantId, StreamId, TrackId},
    v1,
};

use crate::{
    audio::{AudioPlan, AudioThread, PlannedInput},
    description::{TranscodedTrack, TranscoderKey, TranscoderSpec, Version},
    events::Subject,
    inputs::{Input, watch},
    link::{AudioSource, LayeredTrack, Showing, Wish},
    rendition::{Audiences, RenditionId, Renditions},
    video::{Programme, Size, Studio, StudioPlan},
    view::{MixerContext, ViewError},
};

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
        let mut transcoder = Self {
            context: Arc::clone(context),
            subject: spec.key.clone().into(),
            spec,
            origin: now,
            renditions: Renditions::new(now, audiences.clone()),
            audiences,
            video: None,
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
        let key = &self.spec.key;
        let name = |id: &RenditionId| track_id(key, id);
        self.renditions.follow(&self.spec.renditions, &self.context.outputs, name)?;
        match self.spec.source.clone() {
            TranscodedTrack::Video(track) => self.reconcile_video(&track),
            TranscodedTrack::Audio(track) => self.reconcile_audio(&track),
        }
    }

    // When the source is another one, the outputs go on with it: the last picture is held until the new source has one.

    fn reconcile_video(&mut self, track: &LayeredTrack) -> Result<(), ViewError> {
        (self.audio, self.thread) = (None, None);
        let Self { context, subject, video, .. } = self;
        let input = match video.take().filter(|input| input.is_from(track)) {
            Some(input) => input,
            None => {
                let kind = v1::MediaKind::Video;
                context.events.recovered(subject, None, kind);
                let source = context.sources.get(&context.link, track);
                let watch = watch(context, subject, None, kind, source.failure());
                Input::new(track, source, watch)
            }
        };
        input.source.tell(track);
        input.source.want(self.spec.renditions.video.values().map(|spec| wish(spec.size)).collect());
        let plan = StudioPlan {
            programme: Programme::Passed(Arc::clone(input.source.slot())),
            outputs: self.renditions.pictures(&self.spec.renditions),
            audience: Arc::clone(&self.audiences.video),
        };
        self.video = Some(input);
        match &self.studio {
            Some(studio) => studio.set(plan),
            None => self.studio = Some(Studio::start(&self.spec.key.id, plan)?),
        }
        Ok(())
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

/// What an output of that size needs of the source.
fn wish(size: Option<Size>) -> Wish {
    size.map_or(Wish::Largest, |size| Wish::Fill { size, crop: false })
}

fn track_id(key: &TranscoderKey, id: &RenditionId) -> Result<TrackId, IdError> {
    TrackId::new(format!("transcode:{}:{}:{}", key.room, key.id, id.as_str()))
}

/// Refuses a description before anything is changed for it.
fn check_track_ids(spec: &TranscoderSpec) -> Result<(), IdError> {
    spec.renditions.ids().try_for_each(|id| track_id(&spec.key, id).map(drop))
}
