//! Which layer of a picture each subscriber gets: the best that its network carries and that it asked for.

use std::time::{Duration, Instant};

use kaigi_proto::{
    ids::{TrackId, WorkerId},
    v1,
};

use super::{
    Feed, LayerWish, Node, Slot, TrackSource, ladder::Ladder, net::Net, protect::added, transport::Role,
    transport::Transport,
};
use crate::{
    allocate::{Allocator, Demand},
    forward::{Chosen, Forwarder, Why},
    keys::{SinkKey, TransportKey},
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
            Self::Layers(layered) => layered.layers.get(layered.layer).map(|layer| &layer.track),
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
    layer: usize,
    /// Whether a layer was chosen yet, and is not held back.
    is_sent: bool,
    /// What is wanted has changed: that need not wait.
    pub(super) is_eager: bool,
}

impl Layered {
    fn new(layers: Vec<TrackSource>, wish: LayerWish) -> Self {
        Self { layers, wish, layer: 0, is_sent: false, is_eager: true }
    }

    /// Other layers, or something else is wanted of them.
    pub(super) fn update(&mut self, layers: Vec<TrackSource>, wish: LayerWish) {
        if (&self.layers, self.wish) == (&layers, wish) {
            return;
        }
        let same = layers.iter().position(|layer| self.layers.get(self.layer) == Some(layer));
        self.is_sent &= same.is_some();
        self.layer = same.unwrap_or(0);
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
    /// Whether less is there than was allocated.
    pub(super) fn falls_short(&self, now: Instant) -> bool {
        self.layering.next.is_some()
            && self.bandwidth.fell_within(now, FALL)
            && self.bandwidth.estimate(now).is_some_and(|estimate| estimate < self.layering.need)
    }
}

/// A picture to be allocated to.
struct Wanted<'t> {
    sink: SinkKey,
    layered: &'t mut Layered,
    ladder: Ladder,
}

/// What is to be done for one.
struct Change {
    sink: SinkKey,
    /// `None` = nothing is sent any more.
    layer: Option<TrackSource>,
    chosen: Chosen,
}

/// What the allocation came from.
#[derive(Clone, Copy)]
struct Basis {
    estimate: Option<u64>,
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

    /// Decides anew what a transport's subscriptions with layers get.
    pub(super) fn allocate(&mut self, now: Instant, key: TransportKey) {
        let changes = changes(now, key, &self.config.worker, &mut self.net, &mut self.forward);
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

fn changes(
    now: Instant,
    key: TransportKey,
    own: &WorkerId,
    net: &mut Net,
    forward: &mut Forwarder,
) -> Vec<Change> {
    let Net { transports, remote, others, .. } = net;
    let Some(transport) = transports.get_mut(key) else { return Vec::new() };
    let connected = transport.is_connected();
    let mut reserved = 0;
    let mut reports = false;
    let mut says = false;
    let mut pictures = Vec::new();
    for track in transport.sessions.values_mut().flat_map(|session| &mut session.tracks) {
        let Role::Subscribed { from: Some(fed), active, sink: Some(sink) } = &mut track.role else {
            continue;
        };
        match fed {
            Fed::Track(_) | Fed::Selected(..) => {
                reserved += sent(now, *sink, forward) + added(now, *sink, forward);
            }
            Fed::Layers(_) if !*active => {}
            Fed::Layers(layered) => {
                reserved += added(now, *sink, forward);
                let negotiated = transport.negotiation.negotiated(&track.mid);
                reports |= negotiated.is_some_and(|agreed| agreed.extensions.transport_cc.is_some());
                says |= negotiated.is_some_and(|agreed| agreed.has_feedback("goog-remb"));
                let elsewhere = |layer: &TrackSource| match layer.worker == *own {
                    false => remote.look(now, layer),
                    true if others.is_empty() => None,
                    true => remote.look_among_workers(now, layer),
                };
                let ladder = Ladder::new(now, &layered.layers, &layered.wish, forward, elsewhere);
                pictures.push(Wanted { sink: *sink, layered, ladder });
            }
        }
    }
    let layering = &mut transport.layering;
    layering.next = (!pictures.is_empty()).then_some(now + TICK);
    if pictures.is_empty() {
        return Vec::new();
    }
    let demands: Vec<_> = pictures.iter().map(Wanted::demand).collect();
    let began = *layering.since.get_or_insert(now);
    layering.since = Some(if connected { began } else { now });
    let starts =
        (reports || says) && (!connected || now < began + START_TIME) && !transport.bandwidth.has_fallen();
    let smallest = || demands.iter().filter_map(|demand| Some(demand.rungs.first()?.bitrate)).sum::<u64>();
    let start = || starts.then(|| START.max(2 * smallest()) + reserved);
    // `None` is less than any.
    let estimate = transport.bandwidth.estimate(now).max(start());
    let sent = reserved + demands.iter().filter_map(Demand::bitrate).sum::<u64>();
    let estimate = match estimate {
        Some(estimate) if !transport.bandwidth.fell_within(now, FALL) => Some(estimate.max(sent)),
        estimate => estimate,
    };
    let floods = estimate.is_some_and(|estimate| sent as f64 > FLOOD * estimate as f64);
    let basis = Basis { estimate, floods };
    let allocation = layering.allocator.allocate(now, estimate, reserved, &demands);
    layering.padded = pictures
        .iter()
        .map(|picture| picture.sink)
        .find(|sink| reports && connected && forward.can_pad(*sink));
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
        if let Some(most) = picture.ladder.temporal(picture.layered.layer) {
            forward.limit_temporal(picture.sink, most);
        }
    }
    changes
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
        let place = self.ladder.place(layer).filter(|_| is_sent);
        Demand {
            rungs: self.ladder.rungs().to_vec(),
            priority: wish.priority,
            current: place,
            // One that has stopped is left for what there is.
            eager: is_eager || (is_sent && place.is_none()),
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
        layered.is_eager = asked && self.ladder.rungs().is_empty();
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
        let layer = layered.layers.get(layer).filter(|_| is_sent).cloned();
        let chosen = Chosen { limit, why, at_once: basis.floods && falls };
        Some(Change { sink: self.sink, layer, chosen })
    }
}
