//! A running view: made and changed to be as its description says.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{IdError, ParticipantId, StreamId, TrackId},
    v1,
};

use crate::{
    audio::{AudioPlan, AudioThread, Mix, PlannedInput, PlannedMix, PlannedOutput},
    description::{Version, VideoSpec, ViewKey, ViewSpec},
    events::{EventHub, Subject},
    external::Algorithms,
    inputs::{Inputs, follow, watch},
    link::{
        Attendance, AudioSource, LinkContext, OutputTrack, Outputs, Showing, TrackDescription, VideoSources,
        Wish,
    },
    rendition::{Audiences, RenditionId, Renditions, audio_track, video_track},
    video::{
        ActiveInput, Badge, Content, Decoration, EncoderSettings, Filtering, FilteringPlan, Logo, Pictures,
        PlannedPicture, Programme, Region, Scene, Studio, StudioPlan, TargetBitrate,
    },
};

/// How long inputs are decoded for the last who watched: whoever reloads a page comes back, and finds everything running.
const REST: Duration = Duration::from_secs(5);

/// Of which layers are described; what is made here has one, and with it all.
const TEMPORAL_LAYERS: usize = 4;

/// What views and transcoders need of the node.
#[derive(Debug)]
pub struct MixerContext {
    /// For inputs.
    pub link: LinkContext,
    /// Video inputs, shared by all views and transcoders.
    pub sources: VideoSources,
    /// Outputs.
    pub outputs: Arc<Outputs>,
    /// For what happens.
    pub events: EventHub,
    /// What views may show beside their inputs.
    pub pictures: Pictures,
    /// This node's worker id.
    pub worker_id: String,
    /// This node's gRPC endpoint.
    pub endpoint: String,
    /// What streams are analysed by beside the filters.
    pub algorithms: Algorithms,
}

impl MixerContext {
    /// Where an output is.
    #[must_use]
    pub fn source(&self, track: &OutputTrack) -> v1::TrackSource {
        v1::TrackSource {
            track_id: track.description().id.to_string(),
            worker_id: self.worker_id.clone(),
            endpoint: self.endpoint.clone(),
            kind: track.description().kind.into(),
            format: Some(track.description().format.clone()),
        }
    }

    /// Where renditions are.
    #[must_use]
    pub fn output_sources(&self, renditions: &Renditions) -> Vec<v1::OutputSource> {
        let source = |(id, track): (&RenditionId, &Arc<OutputTrack>)| v1::OutputSource {
            id: id.as_str().to_owned(),
            source: Some(self.source(track)),
        };
        renditions.tracks().map(source).collect()
    }
}

/// Why a view or transcoder can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The ids that it is made of are together no track id.
    #[error("track id: {0}")]
    TrackId(#[from] IdError),
    /// The system gives no thread.
    #[error("no thread: {0}")]
    Thread(#[from] io::Error),
}

/// A running view. Ends when dropped.
pub struct View {
    context: Arc<MixerContext>,
    spec: ViewSpec,
    subject: Subject,
    origin: Instant,
    video: Option<Video>,
    audio: Audio,
    video_inputs: Inputs<Showing>,
    /// Of the inputs that have a filter.
    filterings: BTreeMap<StreamId, Filtering>,
    audio_inputs: Inputs<AudioSource>,
    renditions: Renditions,
    audiences: Audiences,
    /// Whether anybody watches; pictures of inputs are decoded for them only.
    watchers: Attendance,
    /// The loudest input.
    active: ActiveInput,
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

impl View {
    /// Makes a view. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`ViewError`].
    pub fn new(context: &Arc<MixerContext>, spec: ViewSpec, now: Instant) -> Result<Self, ViewError> {
        check_track_ids(&spec)?;
        let subject = Subject::from(spec.key.clone());
        let audiences = Audiences::default();
        let audience = Arc::clone(&audiences.audio);
        let plan = AudioPlan { origin: now, inputs: vec![], outputs: vec![], audience, on_active: None };
        let thread = AudioThread::start(&spec.key.label, plan)?;
        let common = context.outputs.add(own_mix(&spec, "audio", now, &audiences)?);
        context.events.set(&subject, &spec.agent, now);
        let mut view = Self {
            context: Arc::clone(context),
            spec,
            subject,
            origin: now,
            video: None,
            audio: Audio { thread, common, minus: BTreeMap::new() },
            video_inputs: BTreeMap::new(),
            filterings: BTreeMap::new(),
            audio_inputs: BTreeMap::new(),
            renditions: Renditions::new(now, audiences.clone()),
            watchers: audiences.video.attendance(REST),
            audiences,
            active: ActiveInput::default(),
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
        self.context.events.set(&self.subject, &spec.agent, now);
        self.spec = spec;
        self.reconcile()
    }

    /// Of the description in force.
    #[must_use]
    pub fn version(&self) -> Version {
        self.spec.version
    }

    /// Sees to it that it is composed and mixed; called some times a second.
    pub fn watch(&self, now: Instant) {
        self.audio.thread.watch(now);
        self.filterings.values().for_each(|filtering| filtering.watch(now));
        if let Some(video) = &self.video {
            video.studio.watch(now);
        }
    }

    /// Where its outputs are.
    #[must_use]
    pub fn reply(&self) -> v1::ViewReply {
        let source = |track: &Arc<OutputTrack>| self.context.source(track);
        let minus = self.audio.minus.iter().map(|(participant, track)| v1::MinusAudio {
            participant_id: participant.to_string(),
            audio: Some(source(track)),
        });
        v1::ViewReply {
            video: self.video.as_ref().map(|video| source(&video.track)),
            audio: Some(source(&self.audio.common)),
            minus_audio: minus.collect(),
            outputs: self.context.output_sources(&self.renditions),
            failures: self.spec.renditions.failures(),
            layers: self.spec.layers.iter().filter_map(|id| self.layer(id)).collect(),
        }
    }

    fn layer(&self, id: &RenditionId) -> Option<v1::OutputSource> {
        let source = self.context.source(self.renditions.picture(id)?);
        Some(v1::OutputSource { id: id.as_str().to_owned(), source: Some(source) })
    }

    /// What one of its pictures' tracks is sent with, now or as soon as somebody takes it: an access node that chooses among them has to
    /// know before. `None` if it is none of these tracks.
    #[must_use]
    pub fn describe_layer(&self, id: &TrackId, now: Instant) -> Option<v1::LayerDescription> {
        let pictures = self.pictures();
        let asked = pictures.iter().find(|picture| picture.track.description().id == *id)?;
        let measured = |picture: &PlannedPicture| {
            let bitrate = picture.track.has_listeners().then(|| picture.track.stats(now).bitrate)?;
            (bitrate > 0).then_some(bitrate)
        };
        // Pictures in which little happens need less than their target, in whatever size.
        let share = |picture: &PlannedPicture| Some(measured(picture)? as f64 / target(picture)?);
        let expected = || {
            let share = pictures
                .iter()
                .filter_map(share)
                .fold(None, |most: Option<f64>, share| Some(most.map_or(share, |most| most.max(share))));
            Some((target(asked)? * share.unwrap_or(1.0).min(1.0)) as u64)
        };
        let bitrate = measured(asked).or_else(expected)?;
        let size = asked.size?;
        Some(v1::LayerDescription {
            track_id: id.to_string(),
            flowing: true,
            resolution: Some(v1::Resolution { width: size.width, height: size.height }),
            bitrates: vec![bitrate; TEMPORAL_LAYERS],
            framerates: vec![f64::from(asked.framerate?); TEMPORAL_LAYERS],
            spatial_layers: Vec::new(),
        })
    }

    /// All that are made of its picture, its own first.
    fn pictures(&self) -> Vec<PlannedPicture> {
        let content = self.spec.content();
        let own = self.spec.video.as_ref().zip(self.video.as_ref());
        let own = own.map(|(spec, video)| own_picture(spec, &video.track, content));
        own.into_iter().chain(self.renditions.pictures(&self.spec.renditions, content)).collect()
    }

    fn reconcile(&mut self) -> Result<(), ViewError> {
        self.reconcile_inputs();
        let key = &self.spec.key;
        let name = |id: &RenditionId| rendition_id(key, id);
        self.renditions.follow(&self.spec.renditions, &self.context.outputs, name)?;
        self.reconcile_audio()?;
        self.reconcile_video()
    }

    fn reconcile_inputs(&mut self) {
        let context = Arc::clone(&self.context);
        let subject = self.subject.clone();
        let shown = self.spec.video.as_ref().map(|video| wishes(video, &self.spec)).unwrap_or_default();
        let video = self.spec.inputs.iter().filter(|(stream, _)| shown.contains_key(*stream));
        let video = video.filter_map(|(stream, input)| Some((stream, input.video.as_ref()?)));
        follow(&mut self.video_inputs, video, |stream, track| {
            let source = context.sources.get(&context.link, track).while_attended(self.watchers.watch());
            let watch = watch(&context, &subject, Some(stream), v1::MediaKind::Video, source.failure());
            (source, watch)
        });
        for (stream, input) in &self.video_inputs {
            if let Some(track) = self.spec.inputs.get(stream).and_then(|input| input.video.as_ref()) {
                input.source.tell(track);
            }
            input.source.want(shown.get(stream).cloned().unwrap_or_default());
        }
        let audio =
            self.spec.inputs.iter().filter_map(|(stream, input)| Some((stream, input.audio.as_ref()?)));
        follow(&mut self.audio_inputs, audio, |stream, track| {
            let source = AudioSource::start(&context.link, track);
            let watch = watch(&context, &subject, Some(stream), v1::MediaKind::Audio, source.failure());
            (source, watch)
        });
        let inputs = &self.spec.inputs;
        context.events.retain_inputs(&subject, |stream| inputs.contains_key(stream));
    }

    fn reconcile_audio(&mut self) -> Result<(), ViewError> {
        let wanted = &self.spec.minus;
        let outputs = &self.context.outputs;
        let format = &self.spec.audio_format;
        if self.audio.common.description().format != *format {
            outputs.remove(&self.audio.common);
            self.audio.common = outputs.add(own_mix(&self.spec, "audio", self.origin, &self.audiences)?);
        }
        self.audio.minus.retain(|participant, track| {
            let stays = wanted.contains(participant) && track.description().format == *format;
            if !stays {
                outputs.remove(track);
            }
            stays
        });
        for participant in wanted {
            if !self.audio.minus.contains_key(participant) {
                let name = format!("minus:{participant}");
                let track = outputs.add(own_mix(&self.spec, &name, self.origin, &self.audiences)?);
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
        let encoding = self.spec.audio_encoding;
        let planned = |mix, track: &Arc<OutputTrack>| PlannedOutput {
            mix: PlannedMix { mix, encoding },
            track: Arc::clone(track),
        };
        let minus = self.audio.minus.iter();
        let minus = minus.map(|(participant, track)| planned(Mix::Minus(participant.clone()), track));
        let common = planned(Mix::Common, &self.audio.common);
        let renditions = self.renditions.mixes(&self.spec.renditions);
        self.audio.thread.set(AudioPlan {
            origin: self.origin,
            inputs: inputs.collect(),
            outputs: minus.chain([common]).chain(renditions).collect(),
            audience: Arc::clone(&self.audiences.audio),
            on_active: self.spec.voice_activity.then(|| self.tell_active()),
        });
        Ok(())
    }

    fn tell_active(&self) -> Arc<dyn Fn(StreamId) + Send + Sync> {
        let (context, subject, active) =
            (Arc::clone(&self.context), self.subject.clone(), self.active.clone());
        Arc::new(move |stream: StreamId| {
            active.set(stream.clone());
            context.events.active(&subject, stream, Instant::now());
        })
    }

    /// Inputs with a filter have their pictures filtered on their way to the scene.
    fn reconcile_filters(&mut self) -> Result<(), ViewError> {
        let mut old = std::mem::take(&mut self.filterings);
        for (stream, input) in &self.video_inputs {
            let Some(filter) = self.spec.inputs.get(stream).and_then(|input| input.filter.clone()) else {
                continue;
            };
            let source = Arc::clone(input.source.slot());
            let plan = FilteringPlan { source, filter, audience: Some(Arc::clone(&self.audiences.video)) };
            let filtering = match old.remove(stream) {
                Some(filtering) => {
                    filtering.set(plan);
                    filtering
                }
                None => Filtering::start(stream.as_str(), plan)?,
            };
            self.filterings.insert(stream.clone(), filtering);
        }
        Ok(())
    }

    fn reconcile_video(&mut self) -> Result<(), ViewError> {
        self.reconcile_filters()?;
        let outputs = &self.context.outputs;
        let Some(spec) = &self.spec.video else {
            if let Some(old) = self.video.take() {
                outputs.remove(&old.track);
            }
            return Ok(());
        };
        let present = self.video.as_ref().map(|video| &video.track);
        let track = match present.filter(|track| track.description().format == spec.format) {
            Some(track) => Arc::clone(track),
            None => {
                let id = track_id(&self.spec.key, "video")?;
                let track =
                    outputs.add(video_track(id, &spec.format, spec.encoding, self.origin, &self.audiences));
                if let Some(old) = present {
                    outputs.remove(old);
                }
                track
            }
        };
        let plan = self.studio_plan(spec, &track);
        match &mut self.video {
            Some(video) => {
                video.studio.set(plan);
                video.track = track;
            }
            None => match Studio::start(&self.spec.key.label, plan) {
                Ok(studio) => self.video = Some(Video { studio, track }),
                Err(error) => {
                    outputs.remove(&track);
                    return Err(error.into());
                }
            },
        }
        Ok(())
    }

    fn studio_plan(&self, spec: &VideoSpec, track: &Arc<OutputTrack>) -> StudioPlan {
        let size = spec.size;
        let pictures = &self.context.pictures;
        let logo = spec.logo.as_ref().and_then(|logo| {
            let picture = Arc::clone(pictures.get(&logo.picture)?);
            Some(Logo { picture, corner: logo.corner, height: logo.height })
        });
        let regions = spec.regions.iter().filter_map(|(area, stream)| {
            let input = stream.as_ref().and_then(|stream| self.video_inputs.get(stream));
            let badge = stream.as_ref().and_then(|stream| {
                let name = Arc::clone(&self.spec.inputs.get(stream)?.name);
                let still = spec.avatar_picture.as_ref().and_then(|pattern| pictures.of(pattern, &name));
                Some(Badge { stream: stream.clone(), name, avatar: spec.avatars, still: still.cloned() })
            });
            Some(Region {
                badge,
                rect: area.place(size)?,
                source: input.map(|input| {
                    let filtering = stream.as_ref().and_then(|stream| self.filterings.get(stream));
                    Arc::clone(filtering.map_or(input.source.slot(), Filtering::slot))
                }),
            })
        });
        let content = self.spec.content();
        let mut outputs = vec![own_picture(spec, track, content)];
        outputs.extend(self.renditions.pictures(&self.spec.renditions, content));
        StudioPlan {
            programme: Programme::Composed {
                scene: Scene {
                    size,
                    background: spec.background,
                    crop: spec.crop,
                    regions: regions.collect(),
                    decoration: Decoration { active: self.active.clone(), logo, ..spec.decoration.clone() },
                },
                framerate: spec.framerate,
                filter: spec.filter.clone(),
            },
            outputs,
            audience: Arc::clone(&self.audiences.video),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let video = self.video.iter().map(|video| &video.track);
        for track in self.audio.minus.values().chain([&self.audio.common]).chain(video) {
            self.context.outputs.remove(track);
        }
        self.renditions.remove(&self.context.outputs);
        self.context.events.remove(&self.subject);
    }
}

/// The view in its own format and size.
fn own_picture(spec: &VideoSpec, track: &Arc<OutputTrack>, content: Content) -> PlannedPicture {
    PlannedPicture {
        encoding: spec.encoding,
        size: Some(spec.size),
        framerate: Some(spec.framerate),
        content,
        bitrate: TargetBitrate::Fixed(spec.bitrate),
        key_frame_interval: spec.key_frame_interval,
        track: Arc::clone(track),
    }
}

/// bit/s that an output is encoded with at most; none if its size follows a source.
fn target(picture: &PlannedPicture) -> Option<f64> {
    let PlannedPicture { encoding, framerate, content, .. } = *picture;
    let size = picture.size?;
    let kbps = picture.bitrate.kbps(&EncoderSettings { encoding, size, framerate, content });
    Some(f64::from(kbps) * 1000.0)
}

/// What each stream that is seen anywhere in the picture has to fill.
fn wishes(video: &VideoSpec, spec: &ViewSpec) -> BTreeMap<StreamId, Vec<Wish>> {
    let mut wishes: BTreeMap<StreamId, Vec<Wish>> = BTreeMap::new();
    for (area, stream) in &video.regions {
        if let Some((stream, place)) = stream.as_ref().zip(area.place(video.size)) {
            let is_filtered = spec.inputs.get(stream).is_some_and(|input| input.filter.is_some());
            let (size, crop) = (place.size, video.crop);
            let wish = if is_filtered { Wish::Fill { size, crop } } else { Wish::Show { size, crop } };
            wishes.entry(stream.clone()).or_default().push(wish);
        }
    }
    wishes
}

fn track_id(key: &ViewKey, what: &str) -> Result<TrackId, IdError> {
    TrackId::new(format!("mix:{}:{}:{what}", key.room, key.label))
}

fn rendition_id(key: &ViewKey, id: &RenditionId) -> Result<TrackId, IdError> {
    track_id(key, &format!("out:{}", id.as_str()))
}

/// Refuses a description before anything is changed for it.
fn check_track_ids(spec: &ViewSpec) -> Result<(), IdError> {
    track_id(&spec.key, "video")?;
    spec.renditions.ids().try_for_each(|id| rendition_id(&spec.key, id).map(drop))?;
    spec.minus
        .iter()
        .try_for_each(|participant| track_id(&spec.key, &format!("minus:{participant}")).map(drop))
}

/// The track of one of a view's own mixes.
fn own_mix(
    spec: &ViewSpec,
    what: &str,
    origin: Instant,
    audiences: &Audiences,
) -> Result<TrackDescription, IdError> {
    Ok(audio_track(track_id(&spec.key, what)?, &spec.audio_format, spec.audio_encoding, origin, audiences))
}
