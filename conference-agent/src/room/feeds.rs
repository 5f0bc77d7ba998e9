//! Where the tracks of subscriptions are taken: the stream's own track if that is what was negotiated and nothing else is wanted, or an
//! output that a mixer makes of it. All of it follows from the state; nothing here is written down.

use std::collections::{BTreeMap, BTreeSet};

use kaigi_proto::ids::{ParticipantId, StreamId};
use kaigi_room_config::{Resolution, ViewVideo, default_bitrate};

use super::{
    Room,
    media::{Feed, Format, Kind, LayerWish, Source, VideoParameters},
    outputs::{AudioSpec, Factor, OutputSpec, OutputSpecs, VideoSpec, limit, most},
    state::{Origin, Phase, SubscribedTrack, Subscription, Track},
    stream_info::{audio_options, video_options},
    transcoded::Transcoded,
    view_layers,
    wish::{Conversion, Wish},
};

/// Seconds between key frames of a transcoded forward stream if nothing else is wanted, OWT's default. Receivers ask for one when they
/// need it; more of them cost bitrate.
const KEY_FRAME_INTERVAL: u32 = 100;

/// Frames per second of a camera of which no rate is known, for the bitrate that a factor is of.
const FRAMERATE: u32 = 30;

/// What of its origin a track takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tap {
    /// The stream's own track; of a view's sound, the participant's own mix where it has one.
    Plain,
    /// Of the layers of the stream's or view's picture, the one that the access node sees fit.
    Layers(LayerWish),
    Output(OutputSpec),
}

impl Room {
    /// Format and parameters of what a subscription is made of; `None` if that is gone.
    pub(super) fn original(&self, origin: &Origin, kind: Kind) -> Option<(Format, VideoParameters)> {
        match origin {
            Origin::View(label) => self.view(label)?.track(&self.config, kind),
            Origin::Selected(_) => {
                let format = &self.state.selection.as_ref().filter(|_| kind == Kind::Audio)?.format;
                Some((format.clone(), VideoParameters::default()))
            }
            Origin::Track { stream, track, .. } => {
                let tracks = &self.state.publications.get(stream)?.tracks;
                let track = tracks.iter().find(|t| t.id == *track)?;
                let mut parameters = track.parameters();
                let sizes: Vec<_> = self.layers(origin).map(|layer| layer.resolution).collect();
                if !sizes.is_empty() {
                    // Of those that do not flow yet it is not known, and they may be the largest.
                    let all: Option<Vec<Resolution>> = sizes.into_iter().collect();
                    let area = |size: &Resolution| u64::from(size.width) * u64::from(size.height);
                    parameters.resolution = all.and_then(|all| all.into_iter().max_by_key(area));
                }
                Some((track.format.clone(), parameters))
            }
        }
    }

    /// What may be negotiated: the origin's own format first, then those that it can be had in.
    pub(super) fn formats(&self, origin: &Origin, kind: Kind, wish: &Wish) -> Vec<Format> {
        let Some((own, parameters)) = self.original(origin, kind) else { return Vec::new() };
        let optional = match kind {
            _ if self.is_encrypted(origin) => Vec::new(),
            Kind::Audio if matches!(origin, Origin::Selected(_)) => Vec::new(),
            Kind::Audio => audio_options(&self.config, &own),
            Kind::Video => video_options(&self.config, &own, &parameters).formats,
        };
        let all = std::iter::once(own).chain(optional);
        all.filter(|format| wish.format.as_ref().is_none_or(|wanted| wanted.is_met_by(format))).collect()
    }

    /// What is taken of `from` when `negotiated` is what the client receives; `None` if that is not known and matters.
    pub(super) fn tap(
        &self,
        owner: &ParticipantId,
        kind: Kind,
        from: &Origin,
        conversion: &Conversion,
        negotiated: Option<&Format>,
    ) -> Option<Tap> {
        let Some(negotiated) = negotiated else { return self.tap_before(from, kind, conversion) };
        if let Origin::Track { stream, track, .. } = from {
            // Most tracks of a large room end here.
            let own = self.state.publications.get(stream)?.tracks.iter().find(|t| t.id == *track)?;
            let is_had = self.is_layered(from) && is_had_by_layers(conversion, own);
            if is_had && own.format.is_within(negotiated) {
                let (format, parameters) = self.original(from, kind)?;
                return Some(Tap::Layers(layer_wish(conversion, &parameters, &format)));
            }
            if conversion.keeps_parameters() && own.format.is_within(negotiated) {
                return Some(Tap::Plain);
            }
        }
        let (own, parameters) = self.original(from, kind)?;
        if conversion.keeps_parameters() && own.is_within(negotiated) {
            return Some(as_it_is(from, kind, conversion));
        }
        Some(Tap::Output(match (kind, from) {
            (_, Origin::Selected(_)) => return None,
            (Kind::Audio, Origin::Track { .. }) => {
                OutputSpec::Audio(AudioSpec { format: negotiated.clone(), minus: None })
            }
            (Kind::Audio, Origin::View(_)) => {
                let minus = self.has_own_mix(owner).then(|| owner.clone());
                OutputSpec::Audio(AudioSpec { format: negotiated.clone(), minus })
            }
            (Kind::Video, Origin::Track { .. }) => OutputSpec::Video(of_track(conversion, negotiated)),
            (Kind::Video, Origin::View(label)) => {
                let spec = self.config.views.iter().find(|view| view.label == *label)?.video.as_ref()?;
                OutputSpec::Video(of_view(spec, &parameters, conversion, negotiated))
            }
        }))
    }

    /// The same before anything is negotiated: what flows at once if it is in the stream's own format.
    fn tap_before(&self, from: &Origin, kind: Kind, conversion: &Conversion) -> Option<Tap> {
        match from {
            Origin::Track { stream, track, .. } if self.is_layered(from) => {
                let (format, parameters) = self.original(from, kind)?;
                let own = self.state.publications.get(stream)?.tracks.iter().find(|t| t.id == *track)?;
                let had = !conversion.format && is_had_by_layers(conversion, own);
                had.then(|| Tap::Layers(layer_wish(conversion, &parameters, &format)))
            }
            Origin::Track { .. } | Origin::View(_) | Origin::Selected(_) => {
                conversion.is_none().then(|| as_it_is(from, kind, conversion))
            }
        }
    }

    pub(super) fn tap_of(&self, subscription: &Subscription, track: &SubscribedTrack) -> Option<Tap> {
        let negotiated = track.negotiated.as_ref();
        if negotiated.is_none() && subscription.phase == Phase::Established {
            // The client has refused it.
            return None;
        }
        self.tap(&subscription.owner, track.kind, &track.from, &track.conversion, negotiated)
    }

    /// Where that is; `None` while a mixer has not made it.
    pub(super) fn feed_of_tap(
        &self,
        owner: &ParticipantId,
        kind: Kind,
        from: &Origin,
        tap: &Tap,
    ) -> Option<Feed> {
        if let Origin::Selected(slot) = from {
            return self.state.selection.as_ref().map(|s| Feed::Selected(*slot, s.format.clone()));
        }
        let spec = match tap {
            Tap::Plain => return self.source(owner, kind, from).map(Feed::Track),
            Tap::Layers(wish) if let Origin::View(label) = from => {
                let mut layers = self.view_layer_sources(label)?;
                return match layers.len() {
                    0 => None,
                    1 => layers.pop().map(Feed::Track),
                    _ => Some(Feed::Layers(layers, *wish)),
                };
            }
            Tap::Layers(wish) => return self.layer_sources(from).map(|layers| Feed::Layers(layers, *wish)),
            Tap::Output(spec) => spec,
        };
        let made = match from {
            Origin::View(label) => &self.view(label)?.outputs.as_ref()?.others,
            Origin::Track { .. } => &self.state.transcoders.get(&Transcoded::of(from)?)?.outputs,
            Origin::Selected(_) => return None,
        };
        made.sources.get(&spec.id()).cloned().map(Feed::Track)
    }

    fn layer_sources(&self, from: &Origin) -> Option<Vec<Source>> {
        let Origin::Track { stream, .. } = from else { return None };
        self.layers(from).map(|layer| self.track_source(stream, &layer.id)).collect()
    }

    /// Where a subscription's track is to be taken now; `None` if it waits for that.
    pub(super) fn feed_of(&self, subscription: &Subscription, track: &SubscribedTrack) -> Option<Feed> {
        let tap = self.tap_of(subscription, track)?;
        self.feed_of_tap(&subscription.owner, track.kind, &track.from, &tap)
    }

    /// Everything that is taken by somebody, and what updates would have taken, or took before, until that is over.
    pub(super) fn for_each_tap(&self, mut each: impl FnMut(&ParticipantId, Kind, &Origin, Tap)) {
        for subscription in self.state.subscriptions.values() {
            for track in &subscription.tracks {
                if let Some(tap) = self.tap_of(subscription, track) {
                    each(&subscription.owner, track.kind, &track.from, tap);
                }
            }
        }
        self.for_each_egress_tap(&mut each);
        let updates = self.updates.iter().flat_map(|(id, update)| {
            Kind::ALL.into_iter().filter_map(move |kind| update.choice(kind).map(|choice| (id, kind, choice)))
        });
        let lingering = self.lingering.iter().flat_map(|(id, lingering)| {
            Kind::ALL
                .into_iter()
                .filter_map(move |kind| lingering.choice(kind).map(|choice| (id, kind, choice)))
        });
        for (id, kind, choice) in updates.chain(lingering) {
            let Some(subscription) = self.state.subscriptions.get(id) else { continue };
            let track = subscription.tracks.iter().find(|track| track.kind == kind);
            let negotiated = track.and_then(|track| track.negotiated.as_ref());
            let tap = self.tap(&subscription.owner, kind, &choice.from, &choice.conversion, negotiated);
            if let Some(tap) = tap {
                each(&subscription.owner, kind, &choice.from, tap);
            }
        }
    }

    /// What mixers are to make.
    pub(super) fn demand(&self) -> Demand {
        let mut demand = Demand::default();
        self.for_each_tap(|owner, kind, from, tap| match (from, tap) {
            (Origin::View(label), Tap::Output(spec)) => {
                demand.views.entry(label.clone()).or_default().outputs.insert(spec.id(), spec);
            }
            (Origin::Track { stream, track, layered }, Tap::Output(spec)) => {
                let of = Transcoded { track: track.clone(), layered: *layered };
                let fresh = || (stream.clone(), OutputSpecs::new());
                let (_, outputs) = demand.tracks.entry(of).or_insert_with(fresh);
                outputs.insert(spec.id(), spec);
            }
            (Origin::View(label), Tap::Plain) if kind == Kind::Audio && self.has_own_mix(owner) => {
                demand.views.entry(label.clone()).or_default().own_mixes.insert(owner.clone());
            }
            (Origin::View(_) | Origin::Track { .. }, Tap::Plain | Tap::Layers(_))
            | (Origin::Selected(_), _) => {}
        });
        for (label, view) in &mut demand.views {
            let made = self.view(label).and_then(|view| view.outputs.as_ref()).map(|made| &made.others);
            limit(&mut view.outputs, made);
        }
        for (of, (_, specs)) in &mut demand.tracks {
            limit(specs, self.state.transcoders.get(of).map(|transcoder| &transcoder.outputs));
        }
        // Who has not negotiated yet may take the own mix as it is.
        for subscription in self.state.subscriptions.values().filter(|s| s.phase != Phase::Established) {
            for track in subscription.tracks.iter().filter(|track| track.kind == Kind::Audio) {
                if let Origin::View(label) = &track.from
                    && self.has_own_mix(&subscription.owner)
                {
                    let view = demand.views.entry(label.clone()).or_default();
                    view.own_mixes.insert(subscription.owner.clone());
                }
            }
        }
        demand
    }

    /// Whether a mixer can make one more of that origin, or is to make it anyway.
    pub(super) fn has_room_for(&self, origin: &Origin, spec: &OutputSpec) -> bool {
        let demand = self.demand();
        let specs = match origin {
            Origin::View(label) => demand.views.get(label).map(|view| &view.outputs),
            Origin::Track { .. } => {
                Transcoded::of(origin).and_then(|of| demand.tracks.get(&of)).map(|(_, specs)| specs)
            }
            Origin::Selected(_) => None,
        };
        let Some(specs) = specs else { return true };
        let of_kind = specs.values().filter(|other| other.kind() == spec.kind()).count();
        specs.contains_key(&spec.id()) || of_kind < most(spec.kind())
    }
}

/// What subscriptions want of mixers.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// By label.
    pub(super) views: BTreeMap<String, ViewDemand>,
    /// Outputs of forward streams, with the streams.
    pub(super) tracks: BTreeMap<Transcoded, (StreamId, OutputSpecs)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ViewDemand {
    /// Beside the view's own.
    pub(super) outputs: OutputSpecs,
    /// Those who hear the view without themselves in its own format, or may yet negotiate that.
    pub(super) own_mixes: BTreeSet<ParticipantId>,
}

/// Nothing of it is to be another than it is.
fn as_it_is(from: &Origin, kind: Kind, conversion: &Conversion) -> Tap {
    match (kind, from) {
        (Kind::Video, Origin::View(_)) => Tap::Layers(view_layers::as_it_is(conversion)),
        (Kind::Audio, _) | (Kind::Video, Origin::Track { .. } | Origin::Selected(_)) => Tap::Plain,
    }
}

/// The picture of a view: size and rate are always known, so the bitrate is computed here.
pub(super) fn of_view(
    spec: &ViewVideo,
    own: &VideoParameters,
    wanted: &Conversion,
    negotiated: &Format,
) -> VideoSpec {
    let base = &spec.parameters;
    let resolution = wanted.resolution.unwrap_or(base.resolution);
    let framerate = wanted.framerate.unwrap_or(base.framerate);
    let load = |size: Resolution, rate: u32| f64::from(size.width) * f64::from(size.height) * f64::from(rate);
    let bitrate = match base.bitrate {
        Some(configured) => {
            let ratio = load(resolution, framerate) / load(base.resolution, base.framerate).max(1.0);
            f64::from(configured) * ratio
        }
        None => f64::from(default_bitrate(resolution, framerate, &negotiated.codec, spec.motion_factor)),
    };
    VideoSpec {
        format: negotiated.clone(),
        resolution: Some(resolution),
        framerate: Some(framerate),
        bitrate: Some(wanted.bitrate.unwrap_or(Factor::ONE).of(bitrate)),
        factor: Factor::ONE,
        key_frame_interval: wanted
            .key_frame_interval
            .or(own.key_frame_interval)
            .unwrap_or(KEY_FRAME_INTERVAL),
    }
}

/// A forward picture: what is not wanted stays the source's, whose size and rate only the mixer sees, so that the bitrate is left to it.
fn of_track(wanted: &Conversion, negotiated: &Format) -> VideoSpec {
    let factor = wanted.bitrate.unwrap_or(Factor::ONE);
    let bitrate = wanted
        .resolution
        .zip(wanted.framerate)
        .map(|(size, rate)| factor.of(f64::from(default_bitrate(size, rate, &negotiated.codec, 1.0))));
    VideoSpec {
        format: negotiated.clone(),
        resolution: wanted.resolution,
        framerate: wanted.framerate,
        factor: if bitrate.is_some() { Factor::ONE } else { factor },
        bitrate,
        key_frame_interval: wanted.key_frame_interval.unwrap_or(KEY_FRAME_INTERVAL),
    }
}

/// Whether an access node can serve that by choosing: key frames come when publishers send them, and fewer frames where it is told which can be
/// left out.
pub(super) fn is_had_by_layers(wanted: &Conversion, own: &Track) -> bool {
    let has_rates = own.format.codec == "vp8" || own.temporal > 1;
    wanted.key_frame_interval.is_none() && (wanted.framerate.is_none() || has_rates)
}

/// What is wanted of layers: nothing has to be made for it.
fn layer_wish(wanted: &Conversion, own: &VideoParameters, format: &Format) -> LayerWish {
    let size = wanted.resolution.or(own.resolution);
    let rate = wanted.framerate.or(own.framerate).unwrap_or(FRAMERATE);
    let bitrate = wanted.bitrate.filter(|factor| *factor != Factor::ONE).zip(size);
    LayerWish {
        resolution: wanted.resolution,
        framerate: wanted.framerate,
        bitrate: bitrate
            .map(|(factor, size)| factor.of(f64::from(default_bitrate(size, rate, &format.codec, 1.0)))),
        priority: wanted.priority,
    }
}
