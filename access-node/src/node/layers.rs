//! Which layer of a picture each subscriber gets: the best that its network carries and that it asked for.

use std::time::{Duration, Instant};

use kaigi_proto::{
    ids::{TrackId, WorkerId},
    v1,
};

use super::{
    Feed, LayerWish, Node, Slot, TrackSource,
    interest::ASKED,
    ladder::{self, Ladder, Place, Remembered},
    net::Net,
    protect::added,
    remote::RemoteLayers,
    singles::Single,
    transport::Role,
    transport::Transport,
};
use crate::{
    allocate::{Allocator, Demand},
    forward::{Chosen, Forwarder, Origin, Why},
    keys::{SinkKey, SourceKey, TransportKey},
    sdp::{Format, Kind},
};

/// How often it is looked at what layers send and what the way carries. Falls of the estimate are acted on at once.
const TICK: Duration = Duration::from_millis(200);
/// What is taken for granted of a client that reports at first, until its reports say otherwise, in bit/s; more if it takes more to show the
/// smallest layer of each picture.
const START: u64 = 800_000;
/// How long. A client that has not reported by then does not.
const START_TIME: Duration = Duration::from_secs(3);
/// An estimate that is less than what is sent says that the way is too narrow if it has fallen within this time. Otherwise it has not yet
/// seen that more is sent than before.
const FALL: Duration = Duration::from_secs(3);
/// If so many times what there is is sent, a layer is left before the smaller one has a key frame: nothing for a moment is better than
/// a queue for seconds.
const FLOOD: f64 = 1.3;

/// How long a layer that is asked for may take to come before it is a larger one like others.
const COMING: Duration = Duration::from_secs(4);

/// Where a subscribed track comes from.
#[derive(Debug)]
pub(super) enum Fed {
    Track(TrackSource),
    Layers(Box<Layered>),
    Selected(Slot, Format),
}

impl Fed {
    pub(super) fn new(feed: Feed) -> Self {
        match feed {
            Feed::Track(source) => Self::Track(source),
            Feed::Layers(layers, wish) => Self::Layers(Box::new(Layered::new(layers, wish))),
            Feed::Selected(slot, format) => Self::Selected(slot, format),
        }
    }

    pub(super) fn format(&self) -> Option<Format> {
        match self {
            Self::Track(source) => Some(source.format),
            Self::Layers(layered) => layered.layers.first().map(|layer| layer.format),
            Self::Selected(_, format) => Some(*format),
        }
    }

    /// The track, or the layer that is sent, or would be. `None` if it changes with who speaks.
    pub(super) fn track(&self) -> Option<&TrackId> {
        match self {
            Self::Track(source) => Some(&source.track),
            Self::Layers(layered) => layered.layers.get(layered.layer.track).map(|layer| &layer.track),
            Self::Selected(..) => None,
        }
    }
}

/// A subscribed track of several layers.
#[derive(Debug)]
pub(super) struct Layered {
    layers: Vec<TrackSource>,
    wish: LayerWish,
    /// Which is sent, or was before nothing was.
    layer: Place,
    /// Whether a layer was chosen yet, and is not held back.
    is_sent: bool,
    /// What is wanted has changed: that need not wait.
    pub(super) is_eager: bool,
    /// Since when what is wanted newly has not come.
    lacking_since: Option<Instant>,
}

impl Layered {
    fn new(layers: Vec<TrackSource>, wish: LayerWish) -> Self {
        Self { layers, wish, layer: Place::default(), is_sent: false, is_eager: true, lacking_since: None }
    }

    /// Other layers, or something else is wanted of them.
    pub(super) fn update(&mut self, layers: Vec<TrackSource>, wish: LayerWish) {
        if (&self.layers, self.wish) == (&layers, wish) {
            return;
        }
        let same = layers.iter().position(|layer| self.layers.get(self.layer.track) == Some(layer));
        self.is_sent &= same.is_some();
        let spatial = self.layer.spatial;
        self.layer = same.map_or_else(Place::default, |track| Place { track, spatial });
        (self.layers, self.wish, self.is_eager) = (layers, wish, true);
    }
}

/// What one transport's pictures get of what its way carries.
#[derive(Debug, Default)]
pub(super) struct Layering {
    allocator: Allocator,
    /// Present while there are pictures with layers.
    next: Option<Instant>,
    since: Option<Instant>,
    /// What was allocated, in bit/s.
    need: u64,
    /// Where padding is sent, and when.
    padded: Option<SinkKey>,
    next_padding: Option<Instant>,
}

impl Layering {
    /// The way to the client is another now.
    pub(super) fn begin_anew(&mut self) {
        (self.allocator, self.since) = (Allocator::default(), None);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        [self.next, self.next_padding].into_iter().flatten().min()
    }
}

impl Transport {
    /// Whether less is there than was allocated, or may be than is sent.
    pub(super) fn falls_short(&self, now: Instant) -> bool {
        if self.layering.next.is_none() {
            // Nothing is looked at unless the way is narrow.
            return self.bandwidth.is_too_narrow(now, u64::MAX);
        }
        self.bandwidth.fell_within(now, FALL)
            && self.bandwidth.estimate(now).is_some_and(|estimate| estimate < self.layering.need)
    }
}

/// A picture to be allocated to.
struct Wanted<'t> {
    sink: SinkKey,
    layered: &'t mut Layered,
    ladder: Ladder,
    /// Whether the largest track that is asked for does not flow.
    is_lacking: bool,
}

/// What is to be done for one.
pub(super) struct Change {
    pub(super) sink: SinkKey,
    /// `None` = nothing is sent any more.
    pub(super) layer: Option<TrackSource>,
    pub(super) chosen: Chosen,
}

/// What the allocation came from.
#[derive(Clone, Copy)]
pub(super) struct Basis {
    now: Instant,
    pub(super) estimate: Option<u64>,
    floods: bool,
}

impl Node {
    pub(super) fn layers_timeout(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get(key) else { return };
        if transport.layering.next.is_some_and(|at| at <= now) {
            self.allocate(now, key);
        }
        self.pad(now, key);
    }

    /// Sends what a probe of the way needs.
    fn pad(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let bytes = transport.bandwidth.padding(now);
        transport.pacer.probes(transport.bandwidth.probed());
        // What waits is sent in its place.
        if let Some(sink) = transport.layering.padded.filter(|_| bytes > 0 && !transport.pacer.is_waiting()) {
            self.forward.pad(now, sink, bytes, &mut self.net);
        }
        if let Some(transport) = self.net.transports.get_mut(key) {
            transport.layering.next_padding = transport.bandwidth.next_padding(now);
        }
    }

    /// Tells the publishers of layers that somebody wants them again.
    pub(super) fn wake(&mut self, now: Instant, layers: &[SourceKey]) {
        for layer in layers {
            let Some(supply) = self.forward.source(*layer).and_then(|source| source.supply.as_ref()) else {
                continue;
            };
            if let Origin::Publisher(publisher) = supply.origin {
                self.look_for_interest(now, publisher);
                self.net.schedule(publisher);
            }
        }
    }

    /// Decides anew what a transport's subscriptions with layers get.
    pub(super) fn allocate(&mut self, now: Instant, key: TransportKey) {
        let (changes, woken) = changes(now, key, &self.config.worker, &mut self.net, &mut self.forward);
        self.wake(now, &woken);
        self.ask_for_layers(now);
        for Change { sink, layer, chosen } in changes {
            match layer {
                Some(layer) => {
                    let source = self.forward.source_of(&layer.track, Kind::Video);
                    self.forward.choose(now, sink, source, chosen, &mut self.net);
                    self.bring(now, source, &layer);
                }
                None => self.forward.choose_nothing(now, sink, chosen.why, &mut self.net),
            }
            self.release_left();
        }
        self.pad(now, key);
        self.net.schedule(key);
    }
}

/// Asks for the tracks that are wanted; those whose publishers don't send them go to `woken`. The largest.
fn ask(
    now: Instant,
    layered: &Layered,
    own: &WorkerId,
    forward: &mut Forwarder,
    remote: &mut RemoteLayers,
    woken: &mut Vec<SourceKey>,
) -> Option<usize> {
    if layered.layers.len() < 2 {
        return None;
    }
    let remembered = |layer: &TrackSource| {
        let source = forward.find(&layer.track).and_then(|key| forward.source(key));
        match source.filter(|source| source.is_published()) {
            Some(source) => Remembered { size: source.size(), bitrate: source.last_bitrate() },
            None => remote.remembered(layer, layer.worker == *own),
        }
    };
    let tracks: Vec<_> = layered.layers.iter().map(remembered).collect();
    let asked = ladder::asked(&tracks, &layered.wish);
    for layer in asked.iter().filter_map(|track| layered.layers.get(*track)) {
        let key = forward.find(&layer.track);
        let here = key.and_then(|key| Some((key, forward.source_mut(key)?)));
        let Some((key, source)) = here.filter(|(_, source)| source.is_published()) else {
            remote.ask(layer, layer.worker == *own);
            continue;
        };
        source.ask(now + ASKED);
        if !source.is_wanted {
            woken.push(key);
        }
    }
    asked.first().copied()
}

fn changes(
    now: Instant,
    key: TransportKey,
    own: &WorkerId,
    net: &mut Net,
    forward: &mut Forwarder,
) -> (Vec<Change>, Vec<SourceKey>) {
    let Net { transports, remote, others, .. } = net;
    let mut woken = Vec::new();
    let Some(transport) = transports.get_mut(key) else { return Default::default() };
    let connected = transport.is_connected();
    let mut reserved = 0;
    let mut reports = false;
    let mut says = false;
    let mut pictures = Vec::new();
    let mut singles = Vec::new();
    for track in transport.sessions.values_mut().flat_map(|session| &mut session.tracks) {
        let Role::Subscribed { from: Some(fed), active, sink: Some(sink) } = &mut track.role else {
            continue;
        };
        let negotiated = transport.negotiation.negotiated(&track.mid);
        let has_numbers = negotiated.is_some_and(|agreed| agreed.extensions.transport_cc.is_some());
        match fed {
            Fed::Track(source) if track.kind == Kind::Video && has_numbers && forward.can_pad(*sink) => {
                reserved += added(now, *sink, forward);
                singles.extend(Single::new(now, *sink, source, forward).filter(|_| *active));
            }
            Fed::Track(_) | Fed::Selected(..) => {
                reserved += sent(now, *sink, forward) + added(now, *sink, forward);
            }
            Fed::Layers(_) if !*active => {}
            Fed::Layers(layered) => {
                reserved += added(now, *sink, forward);
                reports |= has_numbers;
                says |= negotiated.is_some_and(|agreed| agreed.has_feedback("goog-remb"));
                let elsewhere = |layer: &TrackSource| match layer.worker == *own {
                    false => remote.look(now, layer),
                    true if others.is_empty() => Vec::new(),
                    true => remote.look_among_workers(now, layer),
                };
                let ladder = Ladder::new(now, &layered.layers, &layered.wish, forward, elsewhere);
                let largest = ask(now, layered, own, forward, remote, &mut woken);
                let is_lacking = largest.is_some_and(|track| !ladder.has(track));
                pictures.push(Wanted { sink: *sink, layered, ladder, is_lacking });
            }
        }
    }
    let of_all = |singles: &[Single<'_>]| singles.iter().map(Single::sent).sum::<u64>();
    let demanded: Vec<_> = pictures.iter().map(Wanted::demand).collect();
    let sent = reserved + of_all(&singles) + demanded.iter().filter_map(Demand::bitrate).sum::<u64>();
    let is_watched = !singles.is_empty() && transport.bandwidth.is_full(now);
    // Unless it is certain that there is not enough for them they are sent.
    if !transport.bandwidth.is_too_narrow(now, sent) {
        let (held, flowing): (Vec<_>, Vec<_>) = singles.into_iter().partition(|single| single.is_held);
        reserved += of_all(&flowing);
        singles = held;
    }
    reports |= !singles.is_empty();
    let layering = &mut transport.layering;
    let is_idle = pictures.is_empty() && singles.is_empty();
    layering.next = (!is_idle || is_watched).then_some(now + TICK);
    if is_idle {
        layering.need = 0;
        layering.allocator.has_enough();
        return Default::default();
    }
    let demands: Vec<_> = demanded.into_iter().chain(singles.iter().map(Single::demand)).collect();
    let began = *layering.since.get_or_insert(now);
    layering.since = Some(if connected { began } else { now });
    let starts =
        (reports || says) && (!connected || now < began + START_TIME) && !transport.bandwidth.has_fallen();
    let smallest = || demands.iter().filter_map(|demand| Some(demand.rungs.first()?.bitrate)).sum::<u64>();
    let start = || starts.then(|| START.max(2 * smallest()) + reserved);
    // `None` is less than any.
    let estimate = transport.bandwidth.estimate(now).max(start());
    let estimate = match estimate {
        Some(estimate) if !transport.bandwidth.fell_within(now, FALL) => Some(estimate.max(sent)),
        estimate => estimate,
    };
    let floods = estimate.is_some_and(|estimate| sent as f64 > FLOOD * estimate as f64);
    let basis = Basis { now, estimate, floods };
    let allocation = layering.allocator.allocate(now, estimate, reserved, &demands);
    let mut sinks =
        pictures.iter().map(|picture| picture.sink).chain(singles.iter().map(|single| single.sink));
    layering.padded = sinks.find(|sink| reports && connected && forward.can_pad(*sink));
    match allocation.lacking.filter(|_| layering.padded.is_some()) {
        Some((next, all)) => transport.bandwidth.want(now, next, all),
        None => transport.bandwidth.want_no_more(),
    }
    layering.need = reserved;
    let mut changes = Vec::new();
    for ((picture, demand), rung) in pictures.iter_mut().zip(&demands).zip(&allocation.rungs) {
        layering.need += rung.and_then(|rung| demand.rungs.get(rung)).map_or(0, |rung| rung.bitrate);
        changes.extend(picture.choose(*rung, demand, basis));
        forward.set_limit(picture.sink, picture.limit(*rung));
        if let Some(most) = picture.ladder.most(picture.layered.layer) {
            forward.limit_layers(picture.sink, most);
        }
    }
    for ((single, demand), rung) in
        singles.iter().zip(&demands[pictures.len()..]).zip(&allocation.rungs[pictures.len()..])
    {
        layering.need += rung.and_then(|rung| demand.rungs.get(rung)).map_or(0, |rung| rung.bitrate);
        changes.extend(single.choose(rung.is_some() || demand.rungs.is_empty(), basis));
    }
    (changes, woken)
}

/// What goes to a sink that has no choice, in bit/s.
pub(super) fn sent(now: Instant, sink: SinkKey, forward: &mut Forwarder) -> u64 {
    let source = forward.sink(sink).filter(|sink| sink.is_flowing()).and_then(|sink| sink.source());
    let source = source.and_then(|source| forward.source_mut(source)).filter(|source| source.active);
    source.and_then(|source| source.rates(now)).map_or(0, |rates| rates.bitrate())
}

impl Wanted<'_> {
    fn demand(&self) -> Demand {
        let Layered { layer, is_sent, is_eager, wish, .. } = *self.layered;
        let place = self.ladder.rung(layer).filter(|_| is_sent);
        Demand {
            rungs: self.ladder.rungs().to_vec(),
            priority: wish.priority,
            current: place,
            // One that has stopped is left for what there is.
            eager: is_eager || (is_sent && place.is_none()),
            single: false,
        }
    }

    fn limit(&self, rung: Option<usize>) -> v1::Limit {
        self.ladder.limit(rung, self.layered.layers.len())
    }

    /// Takes that rung; what is to be done for it, if anything.
    fn choose(&mut self, rung: Option<usize>, demand: &Demand, basis: Basis) -> Option<Change> {
        let limit = self.limit(rung);
        let layered = &mut *self.layered;
        let (layer, is_sent) = match rung.and_then(|rung| self.ladder.layer(rung)) {
            Some(layer) => (layer, true),
            // If nothing is there, whatever comes first will do.
            None => (layered.layer, self.ladder.rungs().is_empty()),
        };
        let stopped = layered.is_sent && demand.current.is_none();
        let asked = std::mem::take(&mut layered.is_eager);
        // What is asked for may have to be begun with by its publisher first.
        let since = *layered.lacking_since.get_or_insert(basis.now);
        if !asked || !self.is_lacking {
            layered.lacking_since = None;
        }
        let comes = self.is_lacking && basis.now < since + COMING;
        layered.is_eager = asked && (self.ladder.rungs().is_empty() || comes);
        if (layer, is_sent) == (layered.layer, layered.is_sent) {
            return None;
        }
        (layered.layer, layered.is_sent) = (layer, is_sent);
        let falls = rung < demand.current;
        let why = match basis.estimate.map(|estimate| estimate / 1000) {
            _ if asked => Why::Asked,
            _ if stopped => Why::LayerStopped,
            Some(kbits) if falls => Why::LessCarried(kbits),
            Some(kbits) => Why::MoreCarried(kbits),
            None => Why::Asked,
        };
        let layer = layered.layers.get(layer.track).filter(|_| is_sent).cloned();
        let chosen = Chosen { limit, why, at_once: basis.floods && falls };
        Some(Change { sink: self.sink, layer, chosen })
    }
}
