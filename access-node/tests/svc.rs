//! Pictures of several spatial and temporal layers in one stream (SVC), described by dependency descriptors: which of them a subscriber is sent,
//! and whether its decoder gets along with that.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{node::request, sdp::Kind};
use kaigi_media::{
    bits::BitsWriter,
    dependency_descriptor::{Descriptor, LayerId, Structure},
    rtp::{RtpHeader, write_header},
};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, access_event::Event},
};
use support::{narrow::Narrow, world::*, *};

#[path = "../../media/src/dependency_descriptor/example.rs"]
#[allow(clippy::expect_used)]
mod example;

use example::Mode;

const L3T3: Mode = Mode { spatial: 3, temporal: 3, key: false };
const L3T3_KEY: Mode = Mode { spatial: 3, temporal: 3, key: true };
/// bit/s of each spatial layer alone.
const RATES: [usize; 3] = [150_000, 350_000, 1_000_000];
const PICTURES_PER_SECOND: u64 = 25;
/// Its id in the offers.
const DESCRIPTOR: u8 = 12;
const MTU: usize = 1_100;

/// A subscriber that checks what it gets as a decoder would.
struct Viewer {
    client: usize,
    structure: Option<Structure>,
    last: Option<(u16, u32, bool)>,
    frames: Vec<u16>,
    /// The layers of each picture that ended.
    pictures: Vec<Vec<LayerId>>,
    current: Vec<LayerId>,
    active: u32,
    /// Whether everything that is sent arrives.
    is_whole: bool,
}

impl Viewer {
    fn look(&mut self, world: &mut World) {
        let client = &mut world.clients[self.client].1;
        let ssrcs = client.answer.ssrcs.clone();
        client.take_rtp(ssrcs[0][1]);
        for (header, packet) in client.take_rtp(ssrcs[0][0]) {
            self.packet(&header, &packet);
        }
    }

    fn packet(&mut self, header: &RtpHeader, packet: &[u8]) {
        let bytes = header.extension(packet, DESCRIPTOR).expect("each packet is described");
        let (descriptor, own) = Descriptor::read(bytes, self.structure.as_ref()).unwrap();
        if let Some((sequence, timestamp, ended)) = self.last.filter(|_| self.is_whole) {
            assert_eq!(header.sequence, sequence.wrapping_add(1), "what is left out leaves no gap");
            assert_eq!(header.timestamp != timestamp, ended, "a picture ends with a marker");
        }
        self.last = Some((header.sequence, header.timestamp, header.marker));
        self.structure = own.or(self.structure.take());
        self.active = descriptor.active.unwrap_or(self.active);
        if descriptor.begins {
            for back in descriptor.references.iter() {
                let needed = descriptor.number.wrapping_sub(back);
                assert!(
                    !self.is_whole || self.frames.contains(&needed),
                    "{:?} needs a frame that was left out",
                    descriptor.layer
                );
            }
            self.frames.push(descriptor.number);
            self.current.push(descriptor.layer);
        }
        if header.marker {
            self.pictures.push(std::mem::take(&mut self.current));
        }
    }

    /// The size, by the highest spatial layer, and the number of the pictures since the last time.
    fn seen(&mut self) -> (Vec<u8>, usize) {
        let pictures = std::mem::take(&mut self.pictures);
        let mut sizes: Vec<u8> =
            pictures.iter().filter_map(|layers| layers.iter().map(|layer| layer.spatial).max()).collect();
        let count = sizes.len();
        sizes.dedup();
        (sizes, count)
    }
}

/// A publisher (client 0) and its viewers.
struct Stage {
    world: World,
    mode: Mode,
    viewers: Vec<Viewer>,
    /// Since the last key frame.
    picture: usize,
    pictures: u32,
    frame: u16,
    sequence: u16,
    key_frames: usize,
    wants_key_frame: bool,
}

impl Stage {
    fn new(mode: Mode) -> Self {
        let mut world = World::new();
        let client = world.client();
        let video = world.clients[client].1.add("video", Way::Send);
        world.publish(client, "publication0", &[(&video, v1::MediaKind::Video)]).unwrap();
        world.negotiate(client);
        world.connect(client);
        assert!(world.clients[client].1.answer.text.contains("#dependency-descriptor-rtp-header-extension"));
        Self {
            world,
            mode,
            viewers: Vec::new(),
            picture: 0,
            pictures: 0,
            frame: 65_000,
            sequence: 65_000,
            key_frames: 0,
            wants_key_frame: true,
        }
    }

    fn viewer(&mut self, wanted: v1::LayerWish, capacity: f64) -> usize {
        let world = &mut self.world;
        let client = world.client();
        let video = world.clients[client].1.add("video", Way::Receive);
        let picture = v1::SubscriptionTrack {
            kind: v1::MediaKind::Video.into(),
            mid: video,
            layers: vec![source("transport0-0", "vp8")],
            wanted: Some(wanted),
            ..Default::default()
        };
        world.subscribe_to(client, &format!("subscription{client}"), vec![picture]).unwrap();
        world.negotiate(client);
        world.connect(client);
        world.narrow.insert(client, Narrow::new(world.now, capacity));
        let (structure, last, active) = (None, None, 0);
        let (frames, pictures, current) = (Vec::new(), Vec::new(), Vec::new());
        self.viewers.push(Viewer {
            client,
            structure,
            last,
            frames,
            pictures,
            current,
            active,
            is_whole: true,
        });
        self.viewers.len() - 1
    }

    fn wants(&mut self, viewer: usize, wanted: v1::LayerWish) {
        let client = self.viewers[viewer].client;
        let feed = request::feed(None, vec![source("transport0-0", "vp8")], Some(wanted), Kind::Video);
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        let world = &mut self.world;
        world.node.set_source(world.now, &transport, &session, Kind::Video, feed.unwrap().unwrap()).unwrap();
        world.settle();
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * PICTURES_PER_SECOND {
            if self.pictures.is_multiple_of(100) {
                for client in 0..self.world.clients.len() {
                    let check = self.world.clients[client].1.check();
                    self.world.send(client, &check);
                }
            }
            self.wants_key_frame |= self.world.key_frame_requests(0) > 0;
            self.send_picture();
            self.world.pass(Duration::from_millis(1000 / PICTURES_PER_SECOND));
            for viewer in &mut self.viewers {
                viewer.look(&mut self.world);
            }
        }
    }

    fn send_picture(&mut self) {
        if std::mem::take(&mut self.wants_key_frame) {
            self.picture = 0;
            self.key_frames += 1;
        }
        for spatial in 0..self.mode.spatial {
            let bytes = RATES[usize::from(spatial)] / 8 / PICTURES_PER_SECOND as usize;
            let packets = bytes.div_ceil(MTU);
            for at in 0..packets {
                let (begins, ends) = (at == 0, at + 1 == packets);
                let descriptor = self.mode.packet(self.picture, spatial, self.frame, begins, ends);
                let marker = ends && spatial + 1 == self.mode.spatial;
                self.send_packet(marker, &descriptor, bytes / packets);
            }
            self.frame = self.frame.wrapping_add(1);
        }
        self.picture += 1;
        self.pictures += 1;
    }

    fn send_packet(&mut self, marker: bool, descriptor: &[u8], bytes: usize) {
        let ssrc = self.world.clients[0].1.lines[0].ssrc;
        let mut plain = Vec::new();
        write_header(&mut plain, marker, VP8, self.sequence, self.pictures * 3_600, ssrc);
        plain[0] |= 0x10;
        // Two-byte form (RFC 8285).
        let words = (descriptor.len() + 2).div_ceil(4);
        plain.extend_from_slice(&[0x10, 0, 0, words as u8, DESCRIPTOR, descriptor.len() as u8]);
        plain.extend_from_slice(descriptor);
        plain.resize(16 + words * 4, 0);
        plain.resize(plain.len() + bytes, 0);
        self.sequence = self.sequence.wrapping_add(1);
        let packet = self.world.clients[0].1.srtp.as_mut().unwrap().protect_rtp(&plain).unwrap();
        self.world.send(0, &packet);
    }
}

fn size(width: u32, height: u32) -> v1::LayerWish {
    v1::LayerWish { resolution: Some(v1::Resolution { width, height }), ..Default::default() }
}

#[test]
fn each_viewer_gets_the_size_that_it_asks_for() {
    for mode in [L3T3, L3T3_KEY] {
        let mut stage = Stage::new(mode);
        stage.run(2);
        let wishes = [size(320, 180), size(640, 360), v1::LayerWish::default()];
        let viewers = wishes.map(|wish| stage.viewer(wish, 20e6));
        stage.run(8);
        for viewer in viewers {
            stage.viewers[viewer].seen();
        }
        let before = stage.key_frames;
        stage.run(4);
        for (spatial, viewer) in (0..).zip(viewers) {
            assert_eq!(stage.viewers[viewer].seen(), (vec![spatial], 100), "{mode:?}");
        }
        assert_eq!(stage.key_frames, before, "nobody needs any");
    }
}

#[test]
fn a_viewer_that_asks_for_another_size_gets_it_without_a_break() {
    for mode in [L3T3, L3T3_KEY] {
        let mut stage = Stage::new(mode);
        stage.run(2);
        let viewer = stage.viewer(v1::LayerWish::default(), 20e6);
        stage.run(8);
        stage.viewers[viewer].seen();
        stage.wants(viewer, size(320, 180));
        stage.run(2);
        assert_eq!(stage.viewers[viewer].seen().0.last(), Some(&0), "{mode:?}");
        assert_eq!(stage.viewers[viewer].active & 0b111_111_000, 0, "it is told what it gets");
        stage.wants(viewer, size(640, 360));
        stage.run(4);
        assert_eq!(stage.viewers[viewer].seen().0, [0, 1], "{mode:?}");
        stage.wants(viewer, v1::LayerWish::default());
        stage.run(6);
        assert_eq!(stage.viewers[viewer].seen().0, [1, 2], "{mode:?}");
        assert!(stage.key_frames < 8, "{}", stage.key_frames);
    }
}

#[test]
fn fewer_frames_are_had_by_temporal_layers() {
    let mut stage = Stage::new(L3T3);
    stage.run(2);
    let viewer = stage.viewer(v1::LayerWish { framerate: 13, ..size(640, 360) }, 20e6);
    stage.run(8);
    stage.viewers[viewer].seen();
    stage.run(4);
    assert_eq!(stage.viewers[viewer].seen(), (vec![1], 50), "every second picture");
    stage.wants(viewer, v1::LayerWish { framerate: 7, ..size(640, 360) });
    stage.run(2);
    stage.viewers[viewer].seen();
    stage.run(4);
    assert_eq!(stage.viewers[viewer].seen(), (vec![1], 25));
    let before = stage.key_frames;
    stage.wants(viewer, size(640, 360));
    stage.run(2);
    stage.viewers[viewer].seen();
    stage.run(4);
    assert_eq!(stage.viewers[viewer].seen(), (vec![1], 100));
    assert_eq!(stage.key_frames, before, "frame rates need none");
}

#[test]
fn a_narrow_way_gets_smaller_pictures_and_larger_ones_when_it_is_wide_again() {
    let mut stage = Stage::new(L3T3);
    stage.run(2);
    let viewer = stage.viewer(v1::LayerWish::default(), 20e6);
    stage.run(8);
    stage.viewers[viewer].seen();
    stage.viewers[viewer].is_whole = false;
    let client = stage.viewers[viewer].client;
    stage.world.narrow.get_mut(&client).unwrap().capacity = 700_000.0;
    stage.run(4);
    let way = stage.world.narrow.get_mut(&client).unwrap();
    (way.waited, way.dropped) = (Duration::ZERO, 0);
    stage.run(15);
    let (sizes, _) = stage.viewers[viewer].seen();
    assert!(sizes.len() > 1 && *sizes.last().unwrap() < 2, "{sizes:?}");
    let way = stage.world.narrow.get_mut(&client).unwrap();
    assert!(way.dropped == 0 && way.waited < Duration::from_millis(200), "{} {:?}", way.dropped, way.waited);
    way.capacity = 20e6;
    stage.run(15);
    let (sizes, _) = stage.viewers[viewer].seen();
    assert_eq!(sizes.last(), Some(&2), "{sizes:?}");
}

#[test]
fn the_agent_is_told_what_sizes_there_are() {
    let mut stage = Stage::new(L3T3);
    stage.run(1);
    let told = stage.world.events.iter().find_map(|(_, _, event)| match event {
        Event::Resolution(told) => Some(told.clone()),
        _ => None,
    });
    let told = told.unwrap();
    let widths: Vec<_> = told.layers.iter().map(|size| size.width).collect();
    assert_eq!((widths, told.temporal_layers), (vec![320, 640, 1280], 3));
    assert_eq!(told.resolution, told.layers.last().copied());
}

#[test]
fn what_can_not_be_read_costs_nothing_else() {
    let mut stage = Stage::new(L3T3);
    stage.run(2);
    let viewer = stage.viewer(size(320, 180), 20e6);
    stage.run(4);
    stage.viewers[viewer].seen();
    for length in [0usize, 1, 3, 40] {
        // Of a template that there is none of.
        stage.send_packet(false, &vec![0x10; length], 50);
    }
    // The viewer does not know what is missing and will ask for it; nobody else need wait for that.
    stage.viewers[viewer].last = None;
    stage.run(4);
    assert_eq!(stage.viewers[viewer].seen(), (vec![0], 100));
}
