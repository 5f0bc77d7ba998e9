//! One kind of an input: packets of whichever pipeline runs become one unbroken track.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use kaigi_media::rtp::RtpHeader;
use kaigi_supply::OutputTrack;

use super::codec::IngestCodec;

/// How far times of sound may be from what the samples before say, in milliseconds: clocks are not exact, and containers round.
const TOLERANCE: u32 = 40;
/// Sound that is further ahead of its time is left out, in milliseconds.
const EXCESS: u32 = 200;

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    track: Arc<OutputTrack>,
    codec: IngestCodec,
    paused: Arc<AtomicBool>,
    sequence: u16,
    /// Where the samples so far end.
    samples_end: Option<u32>,
    packet: Vec<u8>,
}

impl Feed {
    /// Nothing sent yet. Nothing is as long as `paused`.
    #[must_use]
    pub(super) fn new(track: Arc<OutputTrack>, codec: IngestCodec, paused: Arc<AtomicBool>) -> Self {
        let sequence = track.next_sequence();
        Self { track, codec, paused, sequence, samples_end: None, packet: Vec::new() }
    }

    /// What it is sent as.
    #[must_use]
    pub(super) fn codec(&self) -> IngestCodec {
        self.codec
    }

    /// The track that it is.
    #[must_use]
    pub(super) fn track(&self) -> &Arc<OutputTrack> {
        &self.track
    }

    /// Sends a payloader's packet, which is due then.
    pub(super) fn send(&mut self, packet: &[u8], due: Instant, now: Instant) {
        let Ok(header) = RtpHeader::parse(packet) else { return };
        let clock = self.track.description().clock;
        let Some(timestamp) = self.timestamp(clock.timestamp_at(due), header.payload(packet)) else { return };
        if self.paused.load(Ordering::Relaxed) {
            return;
        }
        self.packet.clear();
        self.packet.extend_from_slice(packet);
        self.packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        self.packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.track.send(&self.packet, now);
    }

    /// Of sound its samples count, as long as the times agree: receivers take each step that is none of whole frames for a loss.
    fn timestamp(&mut self, by_time: u32, payload: &[u8]) -> Option<u32> {
        let Some(samples) = self.codec.samples(payload) else { return Some(by_time) };
        let in_units = |ms: u32| self.codec.clock_rate() / 1000 * ms;
        let (tolerance, excess) = (in_units(TOLERANCE) as i32, in_units(EXCESS) as i32);
        let timestamp = match self.samples_end {
            Some(end) => match by_time.wrapping_sub(end) as i32 {
                off if off > tolerance => by_time,
                off if off < -excess => return None,
                _ => end,
            },
            None => by_time,
        };
        self.samples_end = Some(timestamp.wrapping_add(samples));
        Some(timestamp)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, UdpSocket},
        time::Duration,
    };

    use kaigi_media::{
        link::{FromProducer, LinkConsumer, LinkKeys},
        rtp::write_header,
    };
    use kaigi_proto::{ids::TrackId, v1};
    use kaigi_supply::{MediaClock, Outputs, TrackDescription};

    use super::*;

    struct World {
        feed: Feed,
        paused: Arc<AtomicBool>,
        socket: UdpSocket,
        end: LinkConsumer,
        start: Instant,
        _outputs: Outputs,
    }

    fn world(codec: IngestCodec) -> World {
        let outputs = Outputs::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let start = Instant::now();
        let track = outputs.add(TrackDescription {
            id: TrackId::new("t").unwrap(),
            kind: v1::MediaKind::Audio,
            format: v1::MediaFormat::default(),
            payload_type: 96,
            clock: MediaClock::new(start, codec.clock_rate()),
            audience: Arc::default(),
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let keys = LinkKeys::random();
        let request = keys.attach_request("a", "t", socket.local_addr().unwrap(), 7);
        outputs.attach(&request, start).unwrap();
        let paused = Arc::new(AtomicBool::new(false));
        let feed = Feed::new(track, codec, Arc::clone(&paused));
        World { feed, paused, socket, end: LinkConsumer::new(&keys, 7).unwrap(), start, _outputs: outputs }
    }

    impl World {
        fn send(&mut self, payload: &[u8], ms: u64) {
            let mut packet = Vec::new();
            // What the payloader counts is its own.
            write_header(&mut packet, true, 0, 9, 9, 9);
            packet.extend_from_slice(payload);
            self.feed.send(&packet, self.start + Duration::from_millis(ms), self.start);
        }

        /// Sequence number and timestamp, from those of the first.
        fn received(&mut self, count: usize) -> Vec<(u16, u32)> {
            let mut datagram = [0; 200];
            let mut all = Vec::new();
            while all.len() < count {
                let length = self.socket.recv(&mut datagram).unwrap();
                if let FromProducer::Rtp(packet) = self.end.unprotect(&datagram[..length]).unwrap() {
                    let header = RtpHeader::parse(&packet).unwrap();
                    all.push((header.sequence, header.timestamp));
                }
            }
            let (sequence, timestamp) = all[0];
            all.iter().map(|(s, t)| (s.wrapping_sub(sequence), t.wrapping_sub(timestamp))).collect()
        }
    }

    /// A frame of 20 ms.
    const OPUS: [u8; 3] = [0xfc, 0xff, 0xfe];

    #[test]
    fn sound_advances_by_its_samples_and_jumps_over_gaps() {
        let mut world = world(IngestCodec::Opus);
        for ms in [0, 21, 38, 200, 220] {
            world.send(&OPUS, ms);
        }
        let expected = [(0, 0), (1, 960), (2, 1920), (3, 9600), (4, 10_560)];
        assert_eq!(world.received(5), expected);
    }

    #[test]
    fn sound_that_comes_before_its_time_is_left_out() {
        let mut world = world(IngestCodec::Opus);
        for _ in 0..40 {
            world.send(&OPUS, 0);
        }
        world.send(&OPUS, 300);
        let received = world.received(12);
        assert_eq!(received[10], (10, 9600), "a fifth of a second is kept");
        assert_eq!(received[11], (11, 14_400));
    }

    #[test]
    fn pictures_have_their_times() {
        let mut world = world(IngestCodec::H264);
        world.send(&[1], 0);
        world.send(&[1], 0);
        world.send(&[1], 40);
        assert_eq!(world.received(3), [(0, 0), (1, 0), (2, 3600)]);
    }

    #[test]
    fn what_is_paused_is_not_sent_and_leaves_no_gap_in_the_numbers() {
        let mut world = world(IngestCodec::H264);
        world.send(&[1], 0);
        world.paused.store(true, Ordering::Relaxed);
        world.send(&[1], 40);
        world.paused.store(false, Ordering::Relaxed);
        world.send(&[1], 80);
        assert_eq!(world.received(2), [(0, 0), (1, 7200)]);
    }
}
