//! Analytics: the picture of a stream, changed or looked at by an algorithm on the mixer, is a forward stream of nobody's. Each is described to the
//! mixer as a transcoder of one output; the mixer that replaces a dead one is told the same.

use kaigi_filters::Filter;
use kaigi_proto::{
    ids::{ParticipantId, StreamId, TrackId, WorkerId},
    v1,
};
use kaigi_room_config::Resolution;
use serde::{Deserialize, Serialize};

use super::{
    Room,
    egress::Condition,
    ingest::OWNER,
    input::{EgressMedia, RequestId, StartAnalytics},
    media::{Format, Kind, Node, Source},
    mixer::{Description, Part},
    output::{Note, Output, Reply},
    outputs::{Factor, MadeOutputs, OutputSpec, VideoSpec, video_outputs_to_wire},
    refusal::{Refusal, Unsatisfied},
    sessions::SessionKey,
    state::{Carrier, Origin, Phase, Publication, Track},
    wish::Wish,
};

/// Most of one room: each costs a decoder, an algorithm and an encoder.
const MAX_ANALYTICS: usize = 16;
/// Seconds between key frames if nothing else is wanted.
const KEY_FRAME_INTERVAL: u32 = 100;
/// Of the default bitrate (OWT's).
const FACTOR: &str = "x0.8";
/// What mixers encode.
const CODECS: [&str; 3] = ["vp8", "vp9", "h264"];

/// A stream that is analysed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Analysis {
    algorithm: String,
    /// JSON object, or nothing.
    parameters: String,
    /// The stream as it was named.
    named: String,
    from: Origin,
    wish: Wish,
    /// Of what comes of it.
    format: Format,
    /// What comes of it.
    stream: StreamId,
    /// Of the last description.
    revision: u64,
    condition: Condition,
}

impl Analysis {
    /// Its revision, one below the newest that there is.
    pub(super) fn revision_before(&mut self, newest: u64) -> &mut u64 {
        self.revision = newest - 1;
        &mut self.revision
    }
}

/// Of the transcoder that a mixer makes for it.
pub(super) fn transcoder_id(analysis: &str) -> String {
    format!("analysis-{analysis}")
}

impl Room {
    pub(super) fn start_analytics(
        &mut self,
        request: RequestId,
        start: StartAnalytics,
    ) -> Result<Option<Reply>, Refusal> {
        if self.state.analytics.len() >= MAX_ANALYTICS {
            return Err(Refusal::TooManyAnalytics);
        }
        let StartAnalytics { algorithm, parameters, media: EgressMedia { kind, from: named, wish } } = start;
        let parameters = checked_parameters(&algorithm, parameters)?;
        let from = self.named_origin(&named, Kind::Video, None).filter(|_| kind == Kind::Video);
        let from = from.filter(|from| !matches!(from, Origin::Selected(_)));
        let from = from.ok_or(Refusal::NoSuchSource(Kind::Video))?;
        if self.is_encrypted(&from) {
            return Err(Refusal::StreamIsEncrypted);
        }
        self.conversion(&from, Kind::Video, &wish)?;
        let formats = self.formats(&from, Kind::Video, &wish);
        let format = formats.into_iter().find(|format| CODECS.contains(&format.codec.as_str()));
        let format = format.ok_or(Refusal::Unsatisfied(Kind::Video, Unsatisfied::Format))?;
        let stream = self.analysed_stream(&algorithm, &named);
        let state = &self.state;
        let taken = |id: &str| state.analytics.contains_key(id) || state.publications.contains_key(id);
        let id = self.ids.number(taken);
        let analysis = Analysis {
            algorithm,
            parameters,
            named,
            from,
            wish,
            format,
            stream,
            revision: 0,
            condition: Condition::Starting,
        };
        self.state.analytics.insert(id.clone(), analysis);
        self.mixer.parts.insert(Part::Analysis(id.clone()), Default::default());
        self.analytics_requests.insert(id, request);
        self.views_changed = true;
        Ok(None)
    }

    /// OWT's name of the stream; another where that is taken, or too long.
    fn analysed_stream(&mut self, algorithm: &str, from: &str) -> StreamId {
        let state = &self.state;
        let taken = |id: &StreamId| {
            state.publications.contains_key(id)
                || state.analytics.values().any(|analysis| analysis.stream == *id)
        };
        let usual = StreamId::new(format!("{algorithm}{from}")).ok().filter(|id| !taken(id));
        usual.unwrap_or_else(|| {
            let taken = |id: &str| StreamId::new(id).is_ok_and(|id| taken(&id));
            StreamId::new(self.ids.session(taken)).expect("letters and digits are allowed")
        })
    }

    pub(super) fn stop_analytics(&mut self, id: &str) -> Result<Reply, Refusal> {
        if !self.state.analytics.contains_key(id) {
            return Err(Refusal::UnknownAnalytics);
        }
        self.end_analysis(id, "Analytics stopped");
        Ok(Reply::Done)
    }

    /// Describes anew what has changed.
    pub(super) fn refresh_analytics(&mut self) {
        let ids: Vec<String> = self.state.analytics.keys().cloned().collect();
        for id in ids {
            self.refresh_analysis(&id);
        }
    }

    fn refresh_analysis(&mut self, id: &str) {
        self.resize_analysed(id);
        let Some(mut description) = self.describe_analysis_to_mixer(id) else { return };
        let part = self.mixer.parts.entry(Part::Analysis(id.to_owned())).or_default();
        if matches!(&part.wanted, Some(Description::Transcoder(known)) if **known == description) {
            return;
        }
        let Some(analysis) = self.state.analytics.get_mut(id) else { return };
        self.state.transcoder_revision += 1;
        analysis.revision = self.state.transcoder_revision;
        description.revision = analysis.revision;
        part.wanted = Some(Description::Transcoder(Box::new(description)));
    }

    /// `None` while there is nothing to analyse.
    fn describe_analysis_to_mixer(&self, id: &str) -> Option<v1::TranscoderDescription> {
        let analysis = self.state.analytics.get(id)?;
        let source = self.source(&self.egress.nobody, Kind::Video, &analysis.from)?;
        let layers = match &analysis.from {
            Origin::Track { stream, track, layered: true } => self.layers_to_wire(stream, track),
            Origin::Track { .. } | Origin::View(_) | Origin::Selected(_) => Vec::new(),
        };
        let publication = self.state.publications.get(&analysis.stream);
        let track = publication.and_then(|publication| publication.first_track(Kind::Video));
        let wanted = &analysis.wish.parameters;
        let factor = analysis.wish.bitrate_multiplier.as_deref().unwrap_or(FACTOR);
        let spec = OutputSpec::Video(VideoSpec {
            format: analysis.format.clone(),
            resolution: wanted.resolution,
            framerate: wanted.framerate,
            bitrate: wanted.bitrate,
            factor: Factor::parse(factor).unwrap_or(Factor::ONE),
            key_frame_interval: wanted.key_frame_interval.unwrap_or(KEY_FRAME_INTERVAL),
        });
        Some(v1::TranscoderDescription {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            id: transcoder_id(id),
            epoch: self.settings.epoch,
            revision: analysis.revision,
            source: Some(source.to_wire()),
            layers,
            video_outputs: video_outputs_to_wire(&[(spec.id(), spec)].into()),
            audio_outputs: Vec::new(),
            // What an algorithm makes of a screen is another picture.
            screen: false,
            analysis: Some(v1::Analysis {
                algorithm: analysis.algorithm.clone(),
                parameters: analysis.parameters.clone(),
                paused: track.is_some_and(|track| !track.active),
            }),
        })
    }

    /// What the mixer made of it.
    pub(super) fn analysis_made(&mut self, id: &str, made: &MadeOutputs) {
        let Some(analysis) = self.state.analytics.get_mut(id) else { return };
        if let Some(reason) = made.failures.values().next() {
            let reason = reason.clone();
            return self.analysis_impossible(id, Refusal::NodeRefused(reason));
        }
        let Some(source) = made.sources.values().next().cloned() else { return };
        if analysis.condition == Condition::Starting {
            analysis.condition = Condition::Active;
        }
        let stream = analysis.stream.clone();
        if self.state.publications.contains_key(&stream) {
            self.analysis_moved(id, &stream, source);
        } else {
            self.analysis_begins(id, &stream, source);
        }
        if let (Some(request), Some(told)) = (self.analytics_requests.remove(id), self.describe_analysis(id))
        {
            self.reply(request, Ok(Reply::Analytics(Box::new(told))));
        }
    }

    fn analysis_begins(&mut self, id: &str, stream: &StreamId, source: Source) {
        let publication = Publication {
            arrival: self.state.arrivals,
            owner: ParticipantId::new(OWNER).expect("letters are allowed"),
            carrier: Carrier::Analysis { id: id.to_owned(), node: Some(source.node) },
            phase: Phase::Connecting,
            requested: Vec::new(),
            tracks: Vec::new(),
            data: false,
            any_label: false,
            withheld: super::Kinds::default(),
            attributes: None,
            early: None,
            asked: None,
            wanted: Vec::new(),
        };
        self.state.arrivals += 1;
        self.state.publications.insert(stream.clone(), publication);
        let track = Track {
            id: source.track,
            kind: Kind::Video,
            mid: String::new(),
            source: None,
            format: source.format,
            resolution: self.analysed_size(id),
            active: true,
            layers: Vec::new(),
            temporal: 0,
        };
        self.established(stream, vec![track]);
    }

    /// Another mixer may make it now.
    fn analysis_moved(&mut self, id: &str, stream: &StreamId, source: Source) {
        let Some(publication) = self.state.publications.get_mut(stream) else { return };
        let carrier = Carrier::Analysis { id: id.to_owned(), node: Some(source.node) };
        if std::mem::replace(&mut publication.carrier, carrier.clone()) != carrier {
            self.views_changed = true;
            self.repoint_all_of(stream);
        }
    }

    /// The size of what comes of it, as far as it can be told from what goes in.
    fn analysed_size(&self, id: &str) -> Option<Resolution> {
        let analysis = self.state.analytics.get(id)?;
        let wanted = analysis.wish.parameters.resolution;
        wanted.or_else(|| {
            let (_, parameters) = self.original(&analysis.from, Kind::Video)?;
            let size = parameters.resolution?;
            match Filter::parse(&analysis.algorithm, &analysis.parameters) {
                Ok(filter) if filter.swaps_sides() => {
                    Some(Resolution { width: size.height, height: size.width })
                }
                Ok(_) => Some(size),
                // Only who configured it knows what it makes.
                Err(_) => None,
            }
        })
    }

    fn resize_analysed(&mut self, id: &str) {
        let Some(size) = self.analysed_size(id) else { return };
        let Some(stream) = self.state.analytics.get(id).map(|analysis| analysis.stream.clone()) else {
            return;
        };
        let publication = self.state.publications.get_mut(&stream);
        let track = publication.and_then(|publication| publication.tracks.first_mut());
        if let Some(track) = track.filter(|track| track.resolution != Some(size)) {
            track.resolution = Some(size);
            self.tell_replaced(&stream);
        }
    }

    /// Who asked for it is told why it can't be; what was there already ends.
    fn analysis_impossible(&mut self, id: &str, refusal: Refusal) {
        let reason = refusal.to_string();
        if let Some(request) = self.analytics_requests.remove(id) {
            self.refuse(request, refusal);
        }
        self.end_analysis(id, &reason);
    }

    /// No mixer takes what was asked for just now, or not this part of it.
    pub(super) fn refuse_analytics(&mut self, part: Option<&Part>, refusal: &Refusal) {
        let concerns = |id: &String| part.is_none_or(|part| *part == Part::Analysis(id.clone()));
        let waiting: Vec<String> =
            self.analytics_requests.keys().filter(|id| concerns(id)).cloned().collect();
        for id in waiting {
            self.analysis_impossible(&id, refusal.clone());
        }
    }

    /// Ends it, and what comes of it.
    pub(super) fn end_analysis(&mut self, id: &str, reason: &str) {
        let Some(analysis) = self.forget_analysis(id) else { return };
        self.output(Output::Log(Note::AnalyticsEnded {
            analytics: id.to_owned(),
            reason: reason.to_owned(),
        }));
        self.end_session(&SessionKey::Publication(analysis.stream), None, false);
    }

    /// The mixer is to know it no more. What comes of it is the caller's to end.
    pub(super) fn forget_analysis(&mut self, id: &str) -> Option<Analysis> {
        let analysis = self.state.analytics.remove(id)?;
        if let Some(request) = self.analytics_requests.remove(id) {
            self.refuse(request, Refusal::SourceReleased(Kind::Video));
        }
        if let Some(part) = self.mixer.parts.get_mut(&Part::Analysis(id.to_owned())) {
            part.wanted = None;
        }
        Some(analysis)
    }

    /// What is made of a stream ends with it.
    pub(super) fn end_analytics_of(&mut self, stream: &StreamId) {
        let all = self.state.analytics.iter();
        let of_it: Vec<String> =
            all.filter(|(_, analysis)| analysis.from.is_of(stream)).map(|(id, _)| id.clone()).collect();
        for id in of_it {
            self.end_analysis(&id, "Source stream loss");
        }
    }

    /// Whether something is made of a stream's picture.
    pub(super) fn is_analysed(&self, stream: &StreamId) -> bool {
        self.state.analytics.values().any(|analysis| analysis.from.is_of(stream))
    }

    /// Whether something is made of a view's picture.
    pub(super) fn is_view_analysed(&self, label: &str) -> bool {
        let of_view = |analysis: &Analysis| matches!(&analysis.from, Origin::View(of) if of == label);
        self.state.analytics.values().any(of_view)
    }

    /// The mixer that made them is dead; another is told of them.
    pub(super) fn analytics_lost(&mut self, worker: &WorkerId) {
        for publication in self.state.publications.values_mut() {
            if let Carrier::Analysis { node, .. } = &mut publication.carrier
                && node.as_ref().is_some_and(|node: &Node| node.worker == *worker)
            {
                *node = None;
            }
        }
    }

    /// What the mixer tells of it; an empty reason: it works again.
    pub(super) fn analysis_event(&mut self, transcoder: &str, reason: &str) {
        let analysis = transcoder.strip_prefix("analysis-").and_then(|id| self.state.analytics.get_mut(id));
        let Some(analysis) = analysis else { return };
        let condition =
            if reason.is_empty() { Condition::Active } else { Condition::Trouble(reason.to_owned()) };
        analysis.condition = condition;
    }

    pub(super) fn describe_analytics(&self) -> Vec<v1::Analytics> {
        let begun = self.state.analytics.keys().filter(|id| !self.analytics_requests.contains_key(*id));
        begun.filter_map(|id| self.describe_analysis(id)).collect()
    }

    fn describe_analysis(&self, id: &str) -> Option<v1::Analytics> {
        let analysis = self.state.analytics.get(id)?;
        let (state, reason) = analysis.condition.to_wire();
        let publication = self.state.publications.get(&analysis.stream);
        let track = publication.and_then(|publication| publication.first_track(Kind::Video));
        let (_, mut parameters) = self.original(&analysis.from, Kind::Video).unwrap_or_default();
        let wanted = &analysis.wish.parameters;
        parameters.resolution = self.analysed_size(id);
        parameters.framerate = wanted.framerate.or(parameters.framerate);
        parameters.bitrate = wanted.bitrate;
        parameters.key_frame_interval = wanted.key_frame_interval.or(parameters.key_frame_interval);
        Some(v1::Analytics {
            id: id.to_owned(),
            algorithm: analysis.algorithm.clone(),
            parameters: analysis.parameters.clone(),
            track: Some(v1::EgressTrack {
                kind: Kind::Video.to_wire(),
                from: analysis.named.clone(),
                format: Some(analysis.format.to_wire()),
                parameters: parameters.to_wire(),
                bitrate_multiplier: analysis.wish.bitrate_multiplier.clone().unwrap_or_default(),
                active: track.is_none_or(|track| track.active),
            }),
            stream_id: analysis.stream.to_string(),
            state: state.into(),
            reason: reason.to_owned(),
        })
    }

    /// How each is.
    pub(super) fn analytics_conditions(&self) -> impl Iterator<Item = (&String, &Condition)> {
        self.state.analytics.iter().map(|(id, analysis)| (id, &analysis.condition))
    }
}

/// A filter's own, all of them; what the operator has configured takes none.
fn checked_parameters(algorithm: &str, parameters: String) -> Result<String, Refusal> {
    if !Filter::NAMES.contains(&algorithm) {
        // The name is part of the stream's.
        TrackId::new(algorithm).map_err(|error| Refusal::InvalidAlgorithm(error.to_string()))?;
        let given = !parameters.is_empty() && parameters != "{}";
        let refusal = || Refusal::InvalidAlgorithm(format!("{algorithm} takes no parameters"));
        return if given { Err(refusal()) } else { Ok(String::new()) };
    }
    let filter = Filter::parse(algorithm, &parameters);
    let filter = filter.map_err(|error| Refusal::InvalidAlgorithm(error.to_string()))?;
    Ok(filter.parameters().to_string())
}
