//! What it costs to forward one packet of a publisher to 100 subscribers: the forwarding core with encryption, beside encryption alone.
//!
//! Both hand each protected packet to the same place, so that their ratio is what the core adds: header rewriting, the retransmission
//! cache, key frame inspection, statistics, what the bandwidth estimate is made from.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kaigi_access_node::{
    arena::Arena,
    bandwidth::BandwidthEstimator,
    forward::{Forwarder, Origin, Outlet, Size, StreamParameters, Supply},
    ids::Ssrc,
    keys::{AttachmentKey, TransportKey, TransportTag},
    pacing::Class,
    sdp::{Codec, Extensions, Format, Kind},
    transport::{Srtp, SrtpKeys},
};
use kaigi_media::rtp::{RtpHeader, write_header};
use kaigi_proto::ids::TrackId;
use rtc_srtp::{crypto, protection_profile::ProtectionProfile};

const SUBSCRIBERS: usize = 100;
const PAYLOAD: usize = 1188;

/// Encrypts what the core sends and drops it: all of the node but the sockets.
#[derive(Default)]
struct Clients {
    clients: Arena<(Srtp, BandwidthEstimator), TransportTag>,
    sent: u64,
    out: Vec<u8>,
}

impl Outlet for Clients {
    fn client_rtp(
        &mut self,
        now: Instant,
        to: TransportKey,
        packet: &mut [u8],
        transport_cc_at: Option<usize>,
        _: Class,
    ) {
        let (srtp, bandwidth) = self.clients.get_mut(to).expect("every client has keys");
        if let Some(at) = transport_cc_at {
            let number = (self.sent / SUBSCRIBERS as u64) as u16;
            packet[at..at + 2].copy_from_slice(&number.to_be_bytes());
            bandwidth.sent(now, number, packet.len());
        }
        self.out.clear();
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

fn srtp(seed: u8) -> Srtp {
    let provider = crypto::default_provider().expect("a provider is built in");
    let side = |n: u8| (vec![n; 16], vec![n; 12]);
    let keys = SrtpKeys { profile: ProtectionProfile::AeadAes128Gcm, local: side(seed), remote: side(!seed) };
    Srtp::new(&keys, provider.crypto()).expect("the provider does AES-GCM")
}

/// A VP8 packet: the first of a key frame, or one of an interframe.
fn packet(sequence: u16, key_frame: bool) -> Vec<u8> {
    let mut packet = Vec::with_capacity(PAYLOAD + 12);
    write_header(&mut packet, false, 96, sequence, 3000 * u32::from(sequence / 5), 7);
    // Payload descriptor (RFC 7741 §4.2), then for a key frame its header with start code and size (RFC 6386 §9.1).
    packet.extend_from_slice(if key_frame {
        &[0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 64, 1, 240, 0]
    } else {
        &[0x10, 0x11]
    });
    packet.resize(PAYLOAD + 12, 0x55);
    packet
}

fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("one packet of 1200 bytes to 100 subscribers");
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));

    group.bench_function("encryption alone", |b| {
        let mut clients: Vec<Srtp> = (0..SUBSCRIBERS).map(|i| srtp(i as u8)).collect();
        let (mut sequence, mut out) = (0u16, Vec::new());
        b.iter(|| {
            let packet = packet(sequence, false);
            sequence = sequence.wrapping_add(1);
            for client in &mut clients {
                out.clear();
                client.protect_rtp_onto(&packet, &mut out).expect("the packet is RTP");
                black_box(&out);
            }
        });
    });

    group.bench_function("forwarding core and encryption", |b| {
        let mut clients = Clients::default();
        let mut forwarder = Forwarder::default();
        let format = Format { codec: Codec::Vp8, sample_rate: 0, channels: 0, profile: None };
        let extensions = Extensions { transport_cc: Some(3), ..Extensions::default() };
        let mut now = Instant::now();
        let publisher = clients.clients.insert((srtp(255), BandwidthEstimator::new(now)));
        let source = forwarder.source_of(&TrackId::new("t-0").expect("an id"), Kind::Video);
        let supply = Supply {
            origin: Origin::Publisher(publisher),
            format,
            extensions,
            nack: true,
            red: None,
            ssrc: Some(7),
        };
        forwarder.supply(now, source, supply, &mut clients);
        for i in 0..SUBSCRIBERS {
            let transport = clients.clients.insert((srtp(i as u8), BandwidthEstimator::new(now)));
            let parameters = StreamParameters {
                transport,
                clock_rate: 90_000,
                ssrc: Ssrc(1000 + i as u32),
                payload_type: 96,
                rtx: Some((Ssrc(5000 + i as u32), 97)),
                nack: true,
                red: None,
                repair: None,
                extensions,
            };
            let sink = forwarder.add_client_sink(Kind::Video, parameters, true, i as u64);
            forwarder.connect(now, sink, source, &mut clients);
        }
        let mut sequence = 0u16;
        let mut receive = |clients: &mut Clients, key_frame| {
            let packet = packet(sequence, key_frame);
            let header = RtpHeader::parse(&packet).expect("the packet is RTP");
            sequence = sequence.wrapping_add(1);
            now += Duration::from_millis(6);
            forwarder.receive(now, source, &packet, &header, false, clients);
            forwarder.deliver(now, clients, |_| None);
        };
        receive(&mut clients, true);
        assert_eq!(clients.sent, SUBSCRIBERS as u64, "everybody gets the key frame");
        b.iter(|| receive(&mut clients, false));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    targets = forward
}
criterion_main!(benches);
