//! What a second of a room of 500 costs that selects its audio, of whom three speak and all publish, beside three who publish to 500: the
//! forwarding core with decryption and encryption, in CPU time. Who is silent sends a packet each 400 ms, as browsers do with Opus and DTX.

use std::{
    cell::RefCell,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use kaigi_access_node::{
    arena::Arena,
    forward::{Forwarder, Origin, Outlet, Size, StreamParameters, Supply, VOICE_INTERVAL},
    ids::Ssrc,
    keys::{AttachmentKey, SourceKey, TransportKey, TransportTag},
    pacing::Class,
    sdp::{Codec, Extensions, Format, Kind},
    transport::{Srtp, SrtpKeys},
};
use kaigi_media::rtp::{RtpHeader, write_header};
use kaigi_proto::ids::TrackId;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use rtc_srtp::{crypto, protection_profile::ProtectionProfile};

const PEOPLE: usize = 500;
const SPEAKERS: usize = 3;
/// Bytes of a packet of speech: 32 kbit/s.
const SPEECH: usize = 80;
/// Bytes of a packet of silence.
const SILENCE: usize = 3;
/// Time from one packet of speech to the next.
const FRAME: Duration = Duration::from_millis(20);
const FRAMES: usize = 50;
/// Of so many frames somebody silent sends one.
const DTX: usize = 20;
const LEVEL_ID: u8 = 1;

/// Encrypts what the core sends and drops it.
#[derive(Default)]
struct Clients {
    clients: Arena<Srtp, TransportTag>,
    sent: u64,
    out: Vec<u8>,
}

impl Outlet for Clients {
    fn client_rtp(&mut self, _: Instant, to: TransportKey, packet: &mut [u8], _: Option<usize>, _: Class) {
        self.out.clear();
        let srtp = self.clients.get_mut(to).expect("every client has keys");
        srtp.protect_rtp_onto(packet, &mut self.out).expect("the packet is RTP");
        black_box(&self.out);
        self.sent += 1;
    }
    fn link_rtp(&mut self, _: AttachmentKey, _: &[u8]) {}
    fn link_report(&mut self, _: AttachmentKey, _: u64, _: u32) {}
    fn request_key_frame(&mut self, _: Origin, _: u32) {}
    fn request_packets(&mut self, _: Origin, _: u32, _: &[u16]) {}
    fn picture_size(&mut self, _: Origin, _: &TrackId, _: Size, _: &[Size], _: u8) {}
}

fn srtp(seed: usize, is_node: bool) -> Srtp {
    let provider = crypto::default_provider().expect("a provider is built in");
    let side = |n: u8| (vec![n; 16], vec![seed as u8; 12]);
    let (local, remote) = if is_node { (side(1), side(2)) } else { (side(2), side(1)) };
    let keys = SrtpKeys { profile: ProtectionProfile::AeadAes128Gcm, local, remote };
    Srtp::new(&keys, provider.crypto()).expect("the provider does AES-GCM")
}

/// Somebody who publishes.
struct Publisher {
    srtp: Srtp,
    source: SourceKey,
    at_node: TransportKey,
    sequence: u16,
    timestamp: u32,
}

impl Publisher {
    fn packet(&mut self, level: u8, payload: usize) -> Vec<u8> {
        let mut packet = Vec::with_capacity(128);
        self.sequence = self.sequence.wrapping_add(1);
        write_header(&mut packet, false, 111, self.sequence, self.timestamp, 7);
        packet[0] |= 0x10;
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, LEVEL_ID << 4, level, 0, 0]);
        packet.resize(packet.len() + payload, 0x55);
        self.srtp.protect_rtp(&packet).expect("the packet is RTP")
    }
}

struct Room {
    clients: Clients,
    forwarder: Forwarder,
    publishers: Vec<Publisher>,
    now: Instant,
    plain: Vec<u8>,
}

impl Room {
    fn new(publishers: usize, selects: bool) -> Self {
        let (mut clients, mut forwarder) = (Clients::default(), Forwarder::default());
        let now = Instant::now();
        let format = Format { codec: Codec::Opus, sample_rate: 48_000, channels: 2, profile: None };
        let extensions = Extensions { audio_level: Some(LEVEL_ID), ..Extensions::default() };
        let people: Vec<_> = (0..PEOPLE).map(|at| clients.clients.insert(srtp(at, true))).collect();
        let publisher = |(at, &transport): (usize, &TransportKey)| {
            let track = TrackId::new(format!("t{at}")).expect("an id");
            let source = forwarder.source_of(&track, Kind::Audio);
            let origin = Origin::Publisher(transport);
            let supply = Supply { origin, format, extensions, nack: false, red: None, ssrc: Some(7) };
            forwarder.supply(now, source, supply, &mut Clients::default());
            if selects {
                forwarder.listen_to(source);
            }
            Publisher { srtp: srtp(at, false), source, at_node: transport, sequence: 0, timestamp: 0 }
        };
        let publishers: Vec<_> = people.iter().enumerate().take(publishers).map(publisher).collect();
        for (at, &transport) in people.iter().enumerate() {
            for (slot, speaker) in publishers.iter().take(SPEAKERS).enumerate() {
                let parameters = StreamParameters {
                    transport,
                    clock_rate: 48_000,
                    ssrc: Ssrc((1 + slot) as u32),
                    payload_type: 111,
                    rtx: None,
                    nack: false,
                    red: None,
                    repair: None,
                    extensions,
                };
                let sink = forwarder.add_client_sink(Kind::Audio, parameters, true, at as u64);
                forwarder.connect(now, sink, speaker.source, &mut clients);
            }
        }
        Self { clients, forwarder, publishers, now, plain: Vec::new() }
    }

    /// A second of packets as they come in, frame by frame, with who sends them.
    fn second(&mut self) -> Vec<Vec<(usize, Vec<u8>)>> {
        let frame = |frame: usize| {
            let sends = |at: usize| at < SPEAKERS || (at + frame).is_multiple_of(DTX);
            let packets = self.publishers.iter_mut().enumerate().filter(|(at, _)| sends(*at));
            packets
                .map(|(at, publisher)| {
                    publisher.timestamp = publisher.timestamp.wrapping_add(960);
                    let (level, payload) = if at < SPEAKERS { (20, SPEECH) } else { (127, SILENCE) };
                    (at, publisher.packet(level, payload))
                })
                .collect()
        };
        (0..FRAMES).map(frame).collect()
    }

    fn receive(&mut self, second: &[Vec<(usize, Vec<u8>)>]) {
        for packets in second {
            self.now += FRAME;
            for (at, protected) in packets {
                let publisher = &self.publishers[*at];
                let node = self.clients.clients.get_mut(publisher.at_node).expect("everybody is there");
                node.unprotect_rtp_into(protected, &mut self.plain).expect("the packet is authentic");
                let header = RtpHeader::parse(&self.plain).expect("the packet is RTP");
                let (now, source) = (self.now, publisher.source);
                self.forwarder.receive(now, source, &self.plain, &header, false, &mut self.clients);
                self.forwarder.deliver(now, &mut self.clients, |_| None);
            }
            if self.forwarder.voices_due().is_some_and(|due| due <= self.now) {
                black_box(self.forwarder.evaluate_voices(self.now));
            }
        }
    }
}

/// CPU time of this thread, user and system.
fn thread_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("every thread has it");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

fn speakers(c: &mut Criterion) {
    let mut group = c.benchmark_group("a second of three voices to 500");
    assert_eq!(VOICE_INTERVAL, 10 * FRAME, "five evaluations a second");
    let rooms = [("three publish", SPEAKERS, false), ("500 publish, three speak", PEOPLE, true)];
    for (name, publishers, selects) in rooms {
        let room = RefCell::new(Room::new(publishers, selects));
        group.bench_function(name, |b| {
            b.iter_custom(|seconds| {
                let room = &mut *room.borrow_mut();
                let mut used = Duration::ZERO;
                for _ in 0..seconds {
                    let second = room.second();
                    let before = thread_time();
                    room.receive(&second);
                    used += thread_time() - before;
                }
                used
            });
        });
        let sent = room.borrow().clients.sent;
        assert!(
            sent > 0 && sent.is_multiple_of((FRAMES * SPEAKERS * PEOPLE) as u64),
            "only who speaks is sent"
        );
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6));
    targets = speakers
}
criterion_main!(benches);
