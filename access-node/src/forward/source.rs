//! A track that can be forwarded: where it comes from, what was received, who gets it.

use std::time::{Duration, Instant};

use kaigi_media::dependency_descriptor::{LayerId, MAX_SPATIAL, Structure};
use kaigi_proto::ids::TrackId;

use super::{
    cache::PacketCache,
    cut::Cut,
    descriptions::Descriptions,
    meter::{Meter, Rates},
    nack::NackTracker,
    picture::Picture,
    reception::Reception,
    red::RedTypes,
    repair::Repairs,
    size::Size,
    sound::Sound,
    stats::Received,
    voice::Voice,
};
use crate::{
    keys::{FlowKey, SinkKey, TransportKey},
    sdp::{Extensions, Format, Kind},
};

/// Least time between two requests for a key frame. Each costs the publisher a frame of several times the usual size.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// A key frame that somebody waits for is asked for again after this time.
const KEY_FRAME_RETRY: Duration = Duration::from_secs(1);
/// Packets kept for retransmission: two seconds of 2.5 Mbit/s video; up to 750 kB.
const VIDEO_CACHE: usize = 512;
/// The same for sound: over a second; up to 20 kB.
const AUDIO_CACHE: usize = 64;

/// Where a source's packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of this node.
    Publisher(TransportKey),
    /// Another node.
    Flow(FlowKey),
    /// A client of another worker of this process.
    Worker(FlowKey),
}

/// What is known of the packets of a source that is there.
#[derive(Debug)]
pub struct Supply {
    /// From where.
    pub origin: Origin,
    /// The format.
    pub format: Format,
    /// Header extensions of incoming packets.
    pub extensions: Extensions,
    /// Whether lost packets may be asked for.
    pub nack: bool,
    /// Of sound that may come with redundancy.
    pub red: Option<RedTypes>,
    /// The SSRC that packets have now.
    pub ssrc: Option<u32>,
}

impl Supply {
    /// Whether key frames can be asked for: a client must be told of which source, and may not send it (yet).
    fn can_be_asked(&self) -> bool {
        match self.origin {
            Origin::Publisher(_) => self.ssrc.is_some(),
            Origin::Flow(_) | Origin::Worker(_) => true,
        }
    }
}

/// When an RTP timestamp was.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockReading {
    pub(super) ntp: u64,
    pub(super) rtp: u32,
    pub(super) at: Instant,
}

/// A picture of which a source has several sizes, each made of those below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpatialLayer {
    /// 0 is the smallest.
    pub spatial: u8,
    /// If it is known.
    pub size: Option<Size>,
    /// What has to be sent to show it.
    pub rates: Rates,
}

/// A track, whether or not it is there.
#[derive(Debug)]
pub struct Source {
    /// Which.
    pub track: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// Absent as long as nobody produces it.
    pub supply: Option<Supply>,
    /// Whether it flows (mute).
    pub active: bool,
    /// Whether a publication of this node holds it, before it is supplied too.
    pub(super) claimed: bool,
    /// Who gets it.
    pub(super) sinks: Vec<SinkKey>,
    pub(super) restarts: u32,
    pub(super) reception: Option<Reception>,
    pub(super) nack: NackTracker,
    /// Of sound.
    pub(super) sound: Sound,
    pub(super) cache: PacketCache,
    pub(super) cut: Cut,
    /// Present once there was one.
    pub(super) repairs: Option<Box<Repairs>>,
    pub(super) size: Option<Size>,
    /// Of each spatial layer, if there are several.
    pub(super) sizes: [Option<Size>; MAX_SPATIAL],
    /// How many temporal layers it says that it has.
    temporal: u8,
    pub(super) descriptions: Descriptions,
    pub(super) reported: Option<ClockReading>,
    /// Timestamp and arrival of the newest packet.
    pub(super) newest: Option<(u32, Instant)>,
    pub(super) received: Received,
    /// How loud it is, if anybody wants to know.
    pub(super) voice: Option<Voice>,
    meter: Option<Meter>,
    key_frame_asked: Option<Instant>,
    key_frame_pending: bool,
    /// Some sink can't go on without a key frame.
    pub(super) awaited: bool,
    /// Until when it is asked for, whether or not ways carry it.
    pub(super) asked_until: Option<Instant>,
    /// bit/s when it was measured last.
    last_bitrate: u64,
    /// Of layers: whether its publisher was told to send it.
    pub is_wanted: bool,
}

impl Source {
    pub(super) fn new(track: TrackId, kind: Kind) -> Self {
        let cache = match kind {
            Kind::Audio => AUDIO_CACHE,
            Kind::Video => VIDEO_CACHE,
        };
        Self {
            track,
            kind,
            supply: None,
            active: true,
            claimed: false,
            sinks: Vec::new(),
            restarts: 0,
            reception: None,
            nack: NackTracker::default(),
            sound: Sound::default(),
            cache: PacketCache::new(cache),
            cut: Cut::default(),
            repairs: None,
            size: None,
            sizes: [None; MAX_SPATIAL],
            temporal: 0,
            descriptions: Descriptions::default(),
            reported: None,
            newest: None,
            received: Received::new(kind),
            voice: None,
            meter: None,
            key_frame_asked: None,
            key_frame_pending: false,
            awaited: false,
            asked_until: None,
            last_bitrate: 0,
            is_wanted: true,
        }
    }

    /// Who gets it.
    #[must_use]
    pub fn sinks(&self) -> &[SinkKey] {
        &self.sinks
    }

    /// Whether it comes from another worker.
    #[must_use]
    pub fn crosses(&self) -> bool {
        self.supply.as_ref().is_some_and(|supply| matches!(supply.origin, Origin::Worker(_)))
    }

    /// Whether a publication of this worker produces it, or is going to.
    #[must_use]
    pub fn is_published(&self) -> bool {
        let by_client = |supply: &Supply| matches!(supply.origin, Origin::Publisher(_));
        self.claimed || self.supply.as_ref().is_some_and(by_client)
    }

    /// What is known of its reception.
    pub fn reception_mut(&mut self) -> Option<&mut Reception> {
        self.reception.as_mut()
    }

    /// The highest number of what has been forwarded of it.
    pub(super) fn last_number(&self) -> Option<u64> {
        match self.kind {
            Kind::Audio => self.sound.last(),
            Kind::Video => self.reception.as_ref()?.highest(),
        }
    }

    /// The size of its picture, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        self.size
    }

    /// The size of its picture, those of its spatial layers if there are several, and how many temporal layers it says that it has; if that
    /// is known.
    #[must_use]
    pub fn told_sizes(&self) -> Option<(Size, Vec<Size>, u8)> {
        Some((self.size?, self.sizes.iter().flatten().copied().collect(), self.temporal))
    }

    /// When the newest packet came.
    #[must_use]
    pub fn last_packet(&self) -> Option<Instant> {
        self.newest.map(|(_, at)| at)
    }

    /// What it sends; `None` until that was counted for a while.
    pub fn rates(&mut self, now: Instant) -> Option<Rates> {
        self.meter.as_mut()?.rates(now, 0..=MAX_SPATIAL - 1)
    }

    /// The spatial layers that it sends now, the smallest first: each with what it takes to show it.
    pub fn spatial_layers(&mut self, now: Instant) -> Vec<SpatialLayer> {
        let Some(meter) = &mut self.meter else { return Vec::new() };
        let mut flows =
            |layer: &usize| meter.rates(now, *layer..=*layer).is_some_and(|rates| rates.bitrate() > 0);
        let layers: Vec<usize> = (0..MAX_SPATIAL).filter(&mut flows).collect();
        let is_only = layers.len() == 1;
        let structure = self.descriptions.structure();
        self.last_bitrate =
            meter.rates(now, 0..=MAX_SPATIAL - 1).map_or(self.last_bitrate, |all| all.bitrate());
        let described = layers.into_iter().filter_map(|layer| {
            let spatial = u8::try_from(layer).unwrap_or(0);
            let is_alone = structure.is_some_and(|structure| !structure.needs_below(spatial));
            let rates = meter.rates(now, if is_alone { layer..=layer } else { 0..=layer })?;
            let size = self.sizes[layer].or(self.size.filter(|_| is_only));
            Some(SpatialLayer { spatial, size, rates })
        });
        described.collect()
    }

    /// Somebody asks for it, whether or not ways carry it.
    pub fn ask(&mut self, until: Instant) {
        self.asked_until = self.asked_until.max(Some(until));
    }

    /// What it sent when it did, in bit/s; 0 = not known.
    #[must_use]
    pub fn last_bitrate(&self) -> u64 {
        self.last_bitrate
    }

    /// The size of what is sent of it up to that spatial layer.
    pub(super) fn size_of(&self, spatial: Option<u8>) -> Option<Size> {
        spatial.and_then(|spatial| *self.sizes.get(usize::from(spatial))?).or(self.size)
    }

    /// Takes the sizes that a picture tells; `news` is called if they are others than before.
    pub(super) fn learn_sizes(&mut self, picture: &Picture, news: impl FnOnce(&TrackId, Size, &[Size], u8)) {
        let Some(size) = picture.size else { return };
        let is_layered = picture.sizes.iter().flatten().count() > 1;
        let sizes = if is_layered { picture.sizes } else { [None; MAX_SPATIAL] };
        let temporal = self.descriptions.structure().map_or(0, Structure::temporal_layers);
        if (self.size, self.sizes, self.temporal) == (Some(size), sizes, temporal) {
            return;
        }
        (self.size, self.sizes, self.temporal) = (Some(size), sizes, temporal);
        let mut told = [size; MAX_SPATIAL];
        let count = told.iter_mut().zip(sizes.iter().flatten()).map(|(place, size)| *place = *size).count();
        news(&self.track, size, &told[..count], temporal);
    }

    pub(super) fn measure(&mut self, now: Instant, bytes: usize, timestamp: u32, layer: LayerId) {
        self.meter.get_or_insert_with(|| Meter::new(now)).packet(now, bytes, timestamp, layer);
    }

    /// Whether packets under another SSRC may be its own: the one known is silent, or there is none.
    #[must_use]
    pub fn accepts_new_ssrc(&self, now: Instant, silence: Duration) -> bool {
        self.supply.as_ref().is_some_and(|supply| supply.ssrc.is_none())
            || self.newest.is_some_and(|(_, at)| now >= at + silence)
    }

    /// What comes from now on has nothing to do with what came before.
    pub(super) fn restart(&mut self) {
        self.restarts = self.restarts.wrapping_add(1);
        self.received.restart(self.reception.as_ref());
        self.reception = None;
        self.sound = Sound::default();
        self.nack.clear();
        self.cache.clear();
        self.cut = Cut::default();
        if let Some(repairs) = &mut self.repairs {
            repairs.clear();
        }
        self.reported = None;
        self.newest = None;
        self.meter = None;
        self.descriptions = Descriptions::default();
        self.key_frame_asked = None;
    }

    /// Somebody wants a key frame. Returns whether to ask for it now.
    #[must_use]
    pub(super) fn want_key_frame(&mut self, now: Instant) -> bool {
        if self.kind == Kind::Audio || !self.active || self.supply.is_none() {
            return false;
        }
        if !self.supply.as_ref().is_some_and(Supply::can_be_asked) {
            self.key_frame_pending = true;
            return false;
        }
        if self.key_frame_asked.is_some_and(|asked| now < asked + KEY_FRAME_INTERVAL) {
            self.key_frame_pending = true;
            return false;
        }
        self.key_frame_asked = Some(now);
        self.received.plis += 1;
        self.key_frame_pending = false;
        true
    }

    /// A key frame is to be asked for when the next packet comes that somebody can't use.
    pub(super) fn need_key_frame(&mut self) {
        self.key_frame_pending = true;
    }

    /// A key frame begins: requests made since the last one asked for are served by it.
    pub(super) fn key_frame_came(&mut self) {
        self.key_frame_pending = false;
    }

    /// When to look at it again.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let asked = self.key_frame_asked.filter(|_| self.active && self.supply.is_some());
        let deferred = asked.filter(|_| self.key_frame_pending).map(|at| at + KEY_FRAME_INTERVAL);
        let retried = asked.filter(|_| self.awaited).map(|at| at + KEY_FRAME_RETRY);
        [self.nack.next_timeout(), deferred, retried].into_iter().flatten().min()
    }

    /// Whether a key frame has to be asked for again now.
    pub(super) fn key_frame_due(&mut self, now: Instant) -> bool {
        let since = |interval| self.key_frame_asked.is_none_or(|asked| now >= asked + interval);
        let due = (self.key_frame_pending && since(KEY_FRAME_INTERVAL))
            || (self.awaited && self.key_frame_asked.is_some() && since(KEY_FRAME_RETRY));
        due && self.want_key_frame(now)
    }
}
