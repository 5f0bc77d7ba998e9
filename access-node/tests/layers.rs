//! Subscriptions with layers: which is sent, on ways that carry more and less.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::HashMap, time::Duration};

use kaigi_access_node::{
    node::{Limits, LinkCall, request},
    sdp::Kind,
};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, LayerWish, access_event::Event},
};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use support::{narrow::Narrow, world::*, *};

const RIDS: [&str; 3] = ["q", "h", "f"];
const SIZES: [(u16, u16); 3] = [(320, 180), (640, 360), (1280, 720)];
/// bit/s
const RATES: [usize; 3] = [150_000, 500_000, 1_500_000];
/// How often pictures are sent.
const FRAME: Duration = Duration::from_millis(40);

/// A publisher (client 0) of sound and layers, and what its subscribers have got of it.
struct Stage {
    world: World,
    /// Layers that are sent.
    live: [bool; 3],
    wants_key: [bool; 3],
    frames: u64,
    /// Pictures of each layer that were sent.
    sent: [u64; 3],
    /// Of each subscriber: layers of the pictures, in order, as their sizes tell, each once with its number.
    shown: HashMap<usize, Vec<usize>>,
    current: HashMap<usize, usize>,
    last: HashMap<usize, (u16, u32)>,
    sound: HashMap<usize, usize>,
}

fn layer_source(layer: usize) -> v1::TrackSource {
    source(&format!("transport0-1:{}", RIDS[layer]), "vp8")
}

fn wish(size: (u32, u32)) -> v1::LayerWish {
    v1::LayerWish { resolution: Some(v1::Resolution { width: size.0, height: size.1 }), ..Default::default() }
}

impl Stage {
    fn new() -> Self {
        Self::on(1)
    }

    /// The publisher is on the first of so many workers, the first subscriber on the second.
    fn on(workers: u16) -> Self {
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
    fn subscriber(&mut self, capacity: f64, wanted: Option<v1::LayerWish>) -> usize {
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
    fn run(&mut self, time: Duration) {
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

    fn frame(&mut self) {
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

    fn look(&mut self) {
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
    fn shown(&mut self, client: usize) -> Vec<usize> {
        let shown = self.shown.remove(&client).unwrap_or_default();
        self.shown.insert(client, shown.last().copied().into_iter().collect());
        shown
    }

    fn narrow(&mut self, client: usize) -> &mut Narrow {
        self.world.narrow.get_mut(&client).unwrap()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_largest_layer_is_sent_where_the_way_carries_it() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(4));
        let shown = stage.shown(client);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
        assert!(shown.len() <= 3, "{shown:?}");
        stage.run(seconds(60));
        assert_eq!(stage.shown(client), [2]);
    }
}

#[test]
fn a_way_that_becomes_narrow_gets_a_smaller_layer_and_sound_is_not_harmed() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let (narrow, wide) = (stage.subscriber(20e6, None), stage.subscriber(20e6, None));
        stage.run(seconds(6));
        for client in [narrow, wide] {
            stage.shown(client);
        }
        stage.narrow(narrow).capacity = 800_000.0;
        stage.run(seconds(2));
        let shown = stage.shown(narrow);
        assert!(shown[1] < 2 && *shown.last().unwrap() < 2, "{shown:?}");
        stage.run(seconds(2));
        stage.sound.clear();
        let way = stage.narrow(narrow);
        (way.waited, way.dropped) = (Duration::ZERO, 0);
        stage.run(seconds(30));
        let shown = stage.shown(narrow);
        assert!(shown.len() <= 4 && !shown[1..].contains(&2), "{shown:?}");
        assert_eq!(shown.last(), Some(&1));
        let (sound, way) = (stage.sound[&narrow], stage.narrow(narrow));
        assert_eq!(way.dropped, 0);
        assert!(way.waited < Duration::from_millis(200), "{:?}", way.waited);
        assert!(sound >= 1480, "{sound}");
        assert_eq!(stage.shown(wide), [2], "the other does not notice");
        stage.narrow(narrow).capacity = 20e6;
        stage.run(seconds(10));
        let shown = stage.shown(narrow);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
        stage.run(seconds(60));
        assert_eq!(stage.shown(narrow), [2]);
    }
}

#[test]
fn pictures_pause_where_only_sound_is_carried_and_come_back() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(6));
        stage.narrow(client).capacity = 110_000.0;
        stage.run(seconds(8));
        stage.shown(client);
        stage.sound.clear();
        let way = stage.narrow(client);
        (way.waited, way.dropped) = (Duration::ZERO, 0);
        stage.run(seconds(20));
        let way = stage.narrow(client);
        assert_eq!(way.dropped, 0);
        assert!(way.waited < Duration::from_millis(200), "{:?}", way.waited);
        assert!(stage.sound[&client] >= 990);
        assert!(stage.shown(client).len() <= 1);
        stage.narrow(client).capacity = 20e6;
        stage.run(seconds(10));
        let shown = stage.shown(client);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
    }
}

impl Stage {
    fn wants(&mut self, client: usize, wanted: v1::LayerWish) {
        let layers = (0..3).map(layer_source).collect();
        let feed = request::feed(None, layers, Some(wanted), Kind::Video).unwrap().unwrap();
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        let now = self.world.now;
        self.world.node_of(client).set_source(now, &transport, &session, Kind::Video, feed).unwrap();
        self.world.settle();
    }
}

#[test]
fn what_is_asked_for_is_the_most_that_is_sent() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, Some(wish((320, 240))));
        stage.run(seconds(10));
        assert_eq!(stage.shown(client), [0]);
        stage.wants(client, wish((640, 360)));
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [0, 1]);
        stage.wants(client, v1::LayerWish::default());
        stage.run(seconds(5));
        assert_eq!(stage.shown(client), [1, 2]);
        stage.wants(client, v1::LayerWish { bitrate: 600_000, ..Default::default() });
        stage.run(seconds(1));
        assert_eq!(stage.shown(client), [2, 1]);
        stage.wants(client, wish((1, 1)));
        stage.run(seconds(1));
        assert_eq!(stage.shown(client), [1, 0]);
    }
}

#[test]
fn a_layer_that_stops_is_left_for_the_best_there_is() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(5));
        stage.shown(client);
        stage.live = [true, true, false];
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [2, 1]);
        stage.live = [true, false, false];
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [1, 0]);
        stage.live = [false, false, true];
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [0, 2], "the only one that there is");
        stage.live = [false, false, false];
        stage.run(seconds(3));
        stage.live = [true, true, true];
        stage.run(seconds(5));
        let shown = stage.shown(client);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
    }
}

impl Stage {
    /// Sends what it was told that somebody wants, and nothing else, as the project's own SDK does.
    fn obey(&mut self) -> Vec<[bool; 3]> {
        let mut told = Vec::new();
        self.world.events.retain(|(_, _, event)| {
            let Event::WantedLayers(layers) = event else { return true };
            assert_eq!(layers.session_id, "publication0");
            told.push(RIDS.map(|rid| {
                let id = format!("transport0-1:{rid}");
                layers.layers.iter().find(|layer| layer.track_id == id).unwrap().wanted
            }));
            false
        });
        if let Some(wanted) = told.last() {
            for (layer, wants_key) in self.wants_key.iter_mut().enumerate() {
                *wants_key |= wanted[layer] && !self.live[layer];
            }
            self.live = *wanted;
        }
        told
    }

    fn pause(&mut self, client: usize, active: bool) {
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        self.world.node.set_active(self.world.now, &transport, &session, Kind::Video, active).unwrap();
        self.world.settle();
    }

    /// How long it takes, in frames, until that layer is shown.
    fn frames_until(&mut self, client: usize, layer: usize) -> usize {
        for frame in 0.. {
            assert!(frame < 250, "it never comes");
            self.run(FRAME);
            self.obey();
            if self.current.get(&client) == Some(&layer) {
                return frame;
            }
        }
        unreachable!()
    }
}

#[test]
fn what_nobody_asks_for_the_publisher_need_not_send() {
    let mut stage = Stage::new();
    stage.run(seconds(4));
    assert_eq!(stage.obey(), [[true; 3]; 0]);
    stage.run(seconds(3));
    assert_eq!(stage.obey(), [[true, false, false]], "the smallest is there for whoever comes");
    let client = stage.subscriber(20e6, Some(wish((640, 360))));
    assert_eq!(stage.obey(), [[true, true, false]], "at once");
    stage.run(seconds(4));
    assert_eq!(stage.shown(client).last(), Some(&1));
    stage.wants(client, LayerWish::default());
    assert_eq!(stage.obey(), [[true; 3]]);
    assert!(stage.frames_until(client, 2) < 50, "two seconds");
    stage.pause(client, false);
    stage.run(seconds(4));
    assert_eq!(stage.obey(), [[true; 3]; 0], "it may look again");
    stage.run(seconds(5));
    assert_eq!(stage.obey(), [[true, false, false]], "what is paused is not used");
    stage.pause(client, true);
    stage.run(FRAME * 2);
    assert_eq!(stage.obey(), [[true; 3]]);
    stage.frames_until(client, 2);
    stage.world.node.close_transport(stage.world.now, &TransportId::new(World::transport(client)).unwrap());
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, false, false]]);
}

#[test]
fn a_layer_that_never_came_is_taken_for_the_largest() {
    let mut stage = Stage::new();
    stage.live = [true, true, false];
    stage.run(seconds(8));
    assert_eq!(stage.obey(), [[true, false, false]]);
    let client = stage.subscriber(20e6, Some(wish((640, 360))));
    assert_eq!(stage.obey(), [[true; 3]], "nobody knows what its size is");
    stage.frames_until(client, 1);
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, true, false]], "now it is known");
}

#[test]
fn a_narrow_way_switches_nothing_off_that_is_asked_for() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(400_000.0, None);
    stage.run(seconds(20));
    assert_eq!(stage.obey(), [[true; 3]; 0], "the largest is there when there is room for it");
    assert_ne!(stage.current[&client], 2);
}

#[test]
fn what_another_node_is_to_be_sent_is_wanted() {
    let mut stage = Stage::new();
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, false, false]]);
    let id = |layer: usize| format!("transport0-1:{}", RIDS[layer]);
    let question = v1::DescribeLayersRequest {
        track_ids: (0..3).map(id).collect(),
        wanted_track_ids: vec![id(1), id(0)],
    };
    let reply = stage.world.node.describe_layers(stage.world.now, &question);
    assert!(reply.layers.iter().all(|layer| layer.resolution.is_some()), "as they were");
    stage.world.settle();
    assert_eq!(stage.obey(), [[true, true, false]]);
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, false, false]], "it does not ask any more");
}

#[test]
fn the_first_layer_that_flows_is_shown_at_once() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(1));
        assert!(!stage.shown(client).is_empty());
        stage.run(seconds(4));
        assert_eq!(stage.shown(client).last(), Some(&2));
    }
}

#[test]
fn who_does_not_report_gets_what_is_wanted() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(20e6, None);
    stage.narrow(client).silent = true;
    stage.run(seconds(5));
    let shown = stage.shown(client);
    assert_eq!(shown.last(), Some(&2), "{shown:?}");
    stage.run(seconds(20));
    assert_eq!(stage.shown(client), [2]);
}

#[test]
fn a_subscription_that_was_paused_goes_on_where_it_was() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(5));
        stage.shown(client);
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        for active in [false, true] {
            let now = stage.world.now;
            stage.world.node_of(client).set_active(now, &transport, &session, Kind::Video, active).unwrap();
            stage.run(seconds(2));
        }
        stage.run(seconds(2));
        assert_eq!(stage.shown(client).last(), Some(&2));
        stage.world.node_of(client).close_session(&transport, &session);
        stage.world.settle();
        let (sources, sinks) = stage.world.node.streams();
        assert_eq!((sources, sinks), (4, 0), "nothing is left behind");
    }
}

#[test]
fn two_pictures_share_the_way_by_what_is_asked_for() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(1.1e6, Some(wish((320, 240))));
    let video = stage.world.clients[client].1.add("video", Way::Receive);
    let track = v1::SubscriptionTrack {
        kind: v1::MediaKind::Video.into(),
        mid: video,
        layers: (0..3).map(layer_source).collect(),
        ..Default::default()
    };
    stage.world.subscribe_to(client, "second", vec![track]).unwrap();
    stage.world.negotiate(client);
    stage.run(seconds(20));
    assert_eq!(stage.shown(client).last(), Some(&0));
    let ssrc = stage.world.clients[client].1.answer.ssrcs[2][0];
    let second = stage.world.clients[client].1.take_rtp(ssrc);
    let (header, packet) = second.last().unwrap();
    assert_eq!(header.payload(packet).last(), Some(&1), "the large one does not fit, the middle one does");
}

/// The way swings between these, in bit/s, with that period: up slowly, down at once.
fn saw_tooth(stage: &mut Stage, client: usize, (low, high): (f64, f64), period: f64, time: Duration) {
    let begin = stage.world.now;
    while stage.world.now < begin + time {
        let at = (stage.world.now - begin).as_secs_f64() % period / period;
        stage.narrow(client).capacity = low + (high - low) * at;
        stage.run(Duration::from_millis(200));
    }
}

#[test]
fn a_way_that_swings_does_not_make_the_picture_swing() {
    for period in [6.0, 15.0] {
        let mut stage = Stage::new();
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(5));
        stage.shown(client);
        stage.sound.clear();
        saw_tooth(&mut stage, client, (400e3, 2.5e6), period, seconds(300));
        let (shown, sound) = (stage.shown(client), stage.sound[&client]);
        assert!(shown.len() <= 30, "{} switches in five minutes of {period} s", shown.len() - 1);
        assert!(sound >= 14_700, "{sound}");
    }
}

impl Stage {
    /// What is told of a client's picture.
    fn told(&mut self, client: usize) -> v1::TrackStats {
        let transport = TransportId::new(World::transport(client)).unwrap();
        let told = self.world.node.stats(self.world.now, std::time::SystemTime::UNIX_EPOCH, &[transport]);
        let session = format!("subscription{client}");
        let sessions = told.into_iter().flat_map(|transport| transport.sessions);
        let mut tracks = sessions.filter(|s| s.session_id == session).flat_map(|session| session.tracks);
        tracks.find(|track| track.kind() == v1::MediaKind::Video).unwrap()
    }
}

#[test]
fn it_is_told_what_is_sent_and_why_no_more() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(20e6, None);
    stage.run(seconds(6));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::None, "transport0-1:f"));
    let first = &told.choices[0].why;
    assert!(first.starts_with("asked for"), "{first}");
    stage.wants(client, wish((640, 360)));
    stage.run(seconds(2));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::Asked, "transport0-1:h"));
    stage.wants(client, v1::LayerWish::default());
    stage.run(seconds(3));
    stage.narrow(client).capacity = 300_000.0;
    stage.run(seconds(4));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::Bandwidth, "transport0-1:q"));
    assert_eq!(told.resolution, Some(v1::Resolution { width: 320, height: 180 }));
    let fell: Vec<_> = told.choices.iter().filter(|c| c.why.starts_with("estimate fell to")).collect();
    assert!(!fell.is_empty(), "{:?}", told.choices);
    stage.narrow(client).capacity = 110_000.0;
    stage.run(seconds(6));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str(), told.flowing), (v1::Limit::Bandwidth, "", false));
    assert_eq!(told.choices.last().unwrap().track_id, "");
    stage.narrow(client).capacity = 20e6;
    stage.live = [true, true, false];
    stage.run(seconds(12));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::Source, "transport0-1:h"));
}

#[test]
fn layers_of_another_node_are_known_before_they_are_brought() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let mut consumer = World::with_worker("access-2", "127.0.0.1:7001", 9);
    consumer.now = stage.world.now;
    let client = consumer.client();
    let video = consumer.clients[client].1.add("video", Way::Receive);
    let track = v1::SubscriptionTrack {
        kind: v1::MediaKind::Video.into(),
        mid: video,
        layers: (0..3).map(layer_source).collect(),
        wanted: Some(wish((640, 360))),
        ..Default::default()
    };
    consumer.subscribe_to(client, "subscription", vec![track]).unwrap();
    consumer.negotiate(client);
    consumer.connect(client);
    consumer.narrow.insert(client, Narrow::new(consumer.now, 20e6));
    let (mut attached, mut asked) = (Vec::new(), 0);
    for _ in 0..150 {
        stage.run(FRAME);
        consumer.now = stage.world.now - FRAME;
        consumer.pass(FRAME);
        for call in std::mem::take(&mut consumer.node.output().calls) {
            match call {
                LinkCall::Attach { flow, request, .. } => {
                    attached.push(request.track_id.clone());
                    let reply = stage.world.node.attach(stage.world.now, &request).unwrap();
                    consumer.node.attached(consumer.now, flow, &request, Ok(reply));
                }
                LinkCall::Detach { attachment, .. } => stage.world.node.detach(&attachment),
                LinkCall::Describe { endpoint, request } => {
                    asked += 1;
                    assert_eq!(request.track_ids.len(), 3);
                    let reply = stage.world.node.describe_layers(stage.world.now, &request);
                    consumer.node.described(consumer.now, &endpoint, &reply);
                }
            }
        }
        carry(&mut stage.world, &mut consumer);
        carry(&mut consumer, &mut stage.world);
    }
    assert!((5..=7).contains(&asked), "{asked} questions in six seconds");
    assert_eq!(attached, ["transport0-1:q", "transport0-1:h"], "what is first named, then what is wanted");
    let ssrc = consumer.clients[client].1.answer.ssrcs[0][0];
    let shown = consumer.clients[client].1.take_rtp(ssrc);
    let (header, packet) = shown.last().unwrap();
    assert_eq!(header.payload(packet).last(), Some(&1));
    let transport = TransportId::new(World::transport(client)).unwrap();
    consumer.node.close_transport(consumer.now, &transport);
    consumer.pass(seconds(10));
    assert!(!consumer.node.output().calls.iter().any(|call| matches!(call, LinkCall::Describe { .. })));
}

#[test]
fn nothing_that_another_node_says_of_layers_is_too_strange() {
    let mut world = World::new();
    let strange = v1::LayerDescription {
        track_id: "t".into(),
        flowing: true,
        resolution: Some(v1::Resolution { width: 0, height: u32::MAX }),
        bitrates: vec![u64::MAX; 4],
        framerates: vec![f64::NAN; 4],
        ..Default::default()
    };
    let client = world.client();
    let video = world.clients[client].1.add("video", Way::Receive);
    let elsewhere = v1::TrackSource { worker_id: "access-2".into(), ..source("t", "vp8") };
    let track = v1::SubscriptionTrack {
        kind: v1::MediaKind::Video.into(),
        mid: video,
        layers: vec![elsewhere.clone(), v1::TrackSource { track_id: "u".into(), ..elsewhere.clone() }],
        ..Default::default()
    };
    world.subscribe_to(client, "subscription", vec![track]).unwrap();
    world.negotiate(client);
    world.connect(client);
    for description in [strange.clone(), v1::LayerDescription { bitrates: vec![], ..strange }] {
        let reply = v1::DescribeLayersReply { layers: vec![description] };
        world.node.described(world.now, &elsewhere.endpoint, &reply);
        world.node.described(world.now, "http://nobody", &reply);
        world.pass(seconds(1));
    }
    let bad = vec!["x y".to_owned(); 10_000];
    let many = v1::DescribeLayersRequest { track_ids: bad.clone(), wanted_track_ids: bad };
    assert!(world.node.describe_layers(world.now, &many).layers.is_empty());
}

/// A VP8 picture of a temporal layer, with a 15-bit id and TL0PICIDX; upper layers can be gone on to at each of their pictures.
fn temporal_picture(key_frame: bool, id: u16, base: u8, temporal: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let layer = temporal << 6 | if temporal > 0 { 0x20 } else { 0 };
    let mut payload =
        vec![0x90, 0xe0, high | 0x80, low, base, layer, u8::from(!key_frame), 0, 0, 0x9d, 1, 0x2a];
    payload.extend_from_slice(&[0x40, 1, 0xb4, 0]);
    payload.resize(600, temporal);
    payload
}

#[test]
fn fewer_frames_are_sent_by_leaving_out_upper_temporal_layers() {
    let mut stage = Stage::new();
    let client = stage.subscriber(20e6, Some(v1::LayerWish { framerate: 13, ..Default::default() }));
    let ssrc = stage.world.clients[client].1.answer.ssrcs[1][0];
    let mut shown = Vec::new();
    let mut base = 0u8;
    for number in 0..400u16 {
        if number == 300 {
            stage.wants(client, v1::LayerWish::default());
        }
        // The lower layer and the upper one by turns, 25 frames a second.
        let temporal = (number % 2) as u8;
        base = base.wrapping_add(1 - temporal);
        let payload = temporal_picture(number % 100 == 0, number + 32_700, base, temporal);
        let packet = stage.world.clients[0].1.layer_packet(1, 0, &payload, 3600, number < 10);
        stage.world.send(0, &packet);
        stage.world.pass(FRAME);
        for (header, packet) in stage.world.clients[client].1.take_rtp(ssrc) {
            let payload = header.payload(&packet);
            let id = u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff;
            shown.push((number, header.sequence, id, payload[4], payload[5] >> 6, header.timestamp));
        }
    }
    let lower = shown.iter().filter(|frame| (100..295).contains(&frame.0));
    assert!(lower.clone().all(|frame| frame.4 == 0));
    assert!((90..=100).contains(&lower.count()), "every second one");
    let upper = shown.iter().filter(|frame| frame.0 >= 310 && frame.4 == 1).count();
    assert!(upper >= 40, "all again: {upper}");
    for pair in shown.windows(2) {
        assert_eq!(pair[1].1, pair[0].1.wrapping_add(1), "numbers go on");
        assert_eq!(pair[1].2, (pair[0].2 + 1) & 0x7fff, "those of pictures, too");
        assert_eq!(pair[1].3.wrapping_sub(pair[0].3), 1 - pair[1].4, "and those of the lowest layer");
        assert_eq!(pair[1].5.wrapping_sub(pair[0].5) % 3600, 0, "time is the source's");
    }
}
