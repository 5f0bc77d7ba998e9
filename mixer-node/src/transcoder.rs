//! A running transcoder: one track of another node, decoded once and encoded in each format and size that is described.

use std::{sync::Arc, time::Instant};

use kaigi_proto::{
    ids::{IdError, ParticipantId, StreamId, TrackId},
    v1,
};

use crate::{
    audio::{AudioPlan, AudioThread, PlannedInput},
    description::{TranscoderKey, TranscoderSpec, Version},
    events::Subject,
    inputs::{Input, watch},
    link::{AudioSource, VideoSource},
    rendition::{RenditionId, Renditions},
    video::{Programme, Studio, StudioPlan},
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
    video: Option<Input<Arc<VideoSource>>>,
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
        let mut transcoder = Self {
            context: Arc::clone(context),
            subject: spec.key.clone().into(),
            spec,
            origin: now,
            renditions: Renditions::new(now),
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
        match self.spec.source.kind() {
            v1::MediaKind::Video => self.reconcile_video(),
            v1::MediaKind::Audio => self.reconcile_audio(),
            v1::MediaKind::Unspecified => Ok(()),
        }
    }

    // When the source is another one, the outputs go on with it: the last picture is held until the new source has one.

    fn reconcile_video(&mut self) -> Result<(), ViewError> {
        (self.audio, self.thread) = (None, None);
        let Self { context, spec, subject, video, .. } = self;
        let input = match video.take().filter(|input| *input.track() == spec.source) {
            Some(input) => input,
            None => {
                let kind = v1::MediaKind::Video;
                context.events.recovered(subject, None, kind);
                let source = context.sources.get(&context.link, &spec.source);
                let watch = watch(context, subject, None, kind, source.failure());
                Input::new(&spec.source, source, watch)
            }
        };
        let plan = StudioPlan {
            programme: Programme::Passed(Arc::clone(input.source.slot())),
            outputs: self.renditions.pictures(&self.spec.renditions),
        };
        self.video = Some(input);
        match &self.studio {
            Some(studio) => studio.set(plan),
            None => self.studio = Some(Studio::start(&self.spec.key.id, plan)?),
        }
        Ok(())
    }

    fn reconcile_audio(&mut self) -> Result<(), ViewError> {
        (self.video, self.studio) = (None, None);
        let Self { context, spec, subject, audio, .. } = self;
        let input = match audio.take().filter(|input| *input.track() == spec.source) {
            Some(input) => input,
            None => {
                let kind = v1::MediaKind::Audio;
                context.events.recovered(subject, None, kind);
                let source = AudioSource::start(&context.link, &spec.source);
                let watch = watch(context, subject, None, kind, source.failure());
                Input::new(&spec.source, source, watch)
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

fn track_id(key: &TranscoderKey, id: &RenditionId) -> Result<TrackId, IdError> {
    TrackId::new(format!("transcode:{}:{}:{}", key.room, key.id, id.as_str()))
}

/// Refuses a description before anything is changed for it.
fn check_track_ids(spec: &TranscoderSpec) -> Result<(), IdError> {
    spec.renditions.ids().try_for_each(|id| track_id(&spec.key, id).map(drop))
}
