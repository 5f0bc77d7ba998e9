//! A publisher of layers, and what its subscribers get of it.

use std::{collections::HashMap, time::Duration};

use kaigi_access_node::{
    node::{Limits, request},
    sdp::Kind,
};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1,
};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::support::{narrow::Narrow, world::*, *};

pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];
pub(crate) const SIZES: [(u16, u16); 3] = [(320, 180), (640, 360), (1280, 720)];
/// bit/s
pub(crate) const RATES: [usize; 3] = [150_000, 500_000, 1_500_000];
/// How often pictures are sent.
pub(crate) const FRAME: Duration = Duration::from_millis(40);

/// A publisher (client 0) of sound and layers, and what its subscribers have got of it.
pub(crate) struct Stage {
    pub(crate) world: World,
    /// Layers that are sent.
    pub(crate) live: [bool; 3],
    pub(crate) wants_key: [bool; 3],
    pub(crate) frames: u64,
    /// Pictures of each layer that were sent.
    pub(crate) sent: [u64; 3],
    /// Of each subscriber: layers of the pictures, in order, as their sizes tell, each once with its number.
    pub(crate) shown: HashMap<usize, Vec<usize>>,
    pub(crate) current: HashMap<usize, usize>,
    pub(crate) last: HashMap<usize, (u16, u32)>,
    pub(crate) sound: HashMap<usize, usize>,
}

pub(crate) fn layer_source(layer: usize) -> v1::TrackSource {
    source(&format!("transport0-1:{}", RIDS[layer]), "vp8")
}

pub(crate) fn wish(size: (u32, u32)) -> v1::LayerWish {
    v1::LayerWish { resolution: Some(v1::Resolution { width: size.0, height: size.1 }), ..Default::default() }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::on(1)
    }

    /// The publisher is on the first of so many workers, the first subscriber on the second.
    pub(crate) fn on(workers: u16) -> Self {
        let mut world = World::with_workers(workers, Limits { transports: 4, sessions: 8, links: 8 });
        let client = world.client();
        let audio = world.clients[client].1.add("audio", Way::Send);
        let video = world.clients[client].1.add("video", Way::Send);
        world.clients[client].1.lines[1].layers = RIDS.to_vec();
        let tracks = [(&audio[..], v1::MediaKind::Audio), (&video[..], v1::MediaKind::Video)];
        world.publish(client, "publication0", &tracks).unwrap();
        world.negotiate(client);
        world.connect(client);
        Self {
            world,
            live: [true; 3],
            wants_key: [true; 3],
            frames: 0,
            sent: [0; 3],
            shown: HashMap::new(),
            current: HashMap::new(),
            last: HashMap::new(),
            sound: HashMap::new(),
        }
    }

    /// A client that gets sound and the layers by a way of that capacity.
    pub(crate) fn subscriber(&mut self, capacity: f64, wanted: Option<v1::LayerWish>) -> usize {
        let world = &mut self.world;
        let client = world.client();
        let audio = world.clients[client].1.add("audio", Way::Receive);
        let video = world.clients[client].1.add("video", Way::Receive);
        let sound = v1::SubscriptionTrack {
            kind: v1::MediaKind::Audio.into(),
            mid: audio,
            source: Some(source("transport0-0", "opus")),
            ..Default::default()
        };
        let picture = v1::SubscriptionTrack {
            kind: v1::MediaKind::Video.into(),
            mid: video,
            layers: (0..3).map(layer_source).collect(),
            wanted,
            ..Default::default()
        };
        world.subscribe_to(client, &format!("subscription{client}"), vec![sound, picture]).unwrap();
        world.negotiate(client);
        world.connect(client);
        world.narrow.insert(client, Narrow::new(world.now, capacity));
        client
    }

    /// Lets time pass, in which the publisher sends.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            self.frame();
            for _ in 0..2 {
                self.world.media(0, 0, &[7; 80], 960);
                self.world.pass(FRAME / 2);
            }
            self.look();
        }
    }

    pub(crate) fn frame(&mut self) {
        self.frames += 1;
        if self.frames.is_multiple_of(100) {
            for client in 0..self.world.clients.len() {
                let check = self.world.clients[client].1.check();
                self.world.send(client, &check);
            }
        }
        for request in self.world.rtcp(0) {
            if let Some(request) = request.as_any().downcast_ref::<PictureLossIndication>() {
                let base = self.world.clients[0].1.lines[1].ssrc;
                self.wants_key[((request.media_ssrc - base) / 10) as usize] = true;
            }
        }
        for layer in 0..3 {
            if !self.live[layer] {
                continue;
            }
            let key = std::mem::take(&mut self.wants_key[layer]);
            let mut left = RATES[layer] / 8 / 25 * if key { 3 } else { 1 };
            let mut first = true;
            while left > 0 {
                let size = left.min(1100);
                left -= size;
                let mut payload = if first {
                    vp8_of(SIZES[layer], key, layer as u8)
                } else {
                    // Goes on with the frame: no first partition begins.
                    vec![0x00; 12]
                };
                payload.resize(size.max(60), layer as u8);
                let step = if first { 3600 } else { 0 };
                let client = &mut self.world.clients[0].1;
                let packet = client.layer_packet(1, layer, &payload, step, self.sent[layer] < 10);
                self.world.send(0, &packet);
                first = false;
            }
            self.sent[layer] += 1;
        }
    }

    pub(crate) fn look(&mut self) {
        let clients: Vec<_> = self.world.narrow.keys().copied().collect();
        for client in clients {
            let ssrcs = self.world.clients[client].1.answer.ssrcs.clone();
            *self.sound.entry(client).or_default() +=
                self.world.clients[client].1.take_rtp(ssrcs[0][0]).len();
            let _padding = self.world.clients[client].1.take_rtp(ssrcs[1][1]);
            for (header, packet) in self.world.clients[client].1.take_rtp(ssrcs[1][0]) {
                let payload = header.payload(&packet);
                let layer = usize::from(*payload.last().unwrap());
                let before = self.last.insert(client, (header.sequence, header.timestamp));
                let mut whole = true;
                if let Some((sequence, timestamp)) = before {
                    whole = header.sequence == sequence.wrapping_add(1);
                    let step = header.timestamp.wrapping_sub(timestamp) as i32;
                    assert!(step >= 0, "time goes on");
                    assert_ne!(header.sequence, sequence);
                }
                if self.current.insert(client, layer) != Some(layer) {
                    let begins = payload[0] == 0x10 && payload[1] & 1 == 0;
                    assert!(begins || !whole, "a layer begins with a key frame");
                    self.shown.entry(client).or_default().push(layer);
                }
            }
        }
    }

    /// The layers that a client has been shown since the last time, without repetitions; the first is the one before.
    pub(crate) fn shown(&mut self, client: usize) -> Vec<usize> {
        let shown = self.shown.remove(&client).unwrap_or_default();
        self.shown.insert(client, shown.last().copied().into_iter().collect());
        shown
    }

    pub(crate) fn narrow(&mut self, client: usize) -> &mut Narrow {
        self.world.narrow.get_mut(&client).unwrap()
    }
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Stage {
    pub(crate) fn wants(&mut self, client: usize, wanted: v1::LayerWish) {
        let layers = (0..3).map(layer_source).collect();
        let feed = request::feed(None, layers, Some(wanted), Kind::Video).unwrap().unwrap();
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        let now = self.world.now;
        self.world.node_of(client).set_source(now, &transport, &session, Kind::Video, feed).unwrap();
        self.world.settle();
    }
}

impl Stage {
    /// What is told of a client's picture.
    pub(crate) fn told(&mut self, client: usize) -> v1::TrackStats {
        let transport = TransportId::new(World::transport(client)).unwrap();
        let told = self.world.node.stats(self.world.now, std::time::SystemTime::UNIX_EPOCH, &[transport]);
        let session = format!("subscription{client}");
        let sessions = told.into_iter().flat_map(|transport| transport.sessions);
        let mut tracks = sessions.filter(|s| s.session_id == session).flat_map(|session| session.tracks);
        tracks.find(|track| track.kind() == v1::MediaKind::Video).unwrap()
    }
}
