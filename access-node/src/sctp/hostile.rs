//! What clients do that wish the node no good.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    MAX_MESSAGE, RECEIVE_WINDOW, Sctp, SctpEvent,
    packet::{DATA, FORWARD_TSN, INIT, RECONFIG, SACK, chunks, tests::sealed},
};

const FIRST: u32 = 1000;

/// A client that writes its packets by hand.
struct Hostile {
    now: Instant,
    sctp: Sctp,
    tag: u32,
    tsn: u32,
    /// The last SACK: cumulative TSN and window.
    acknowledged: (u32, u32),
    packets: usize,
}

fn data(tsn: u32, stream: u16, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut value = tsn.to_be_bytes().to_vec();
    value.extend_from_slice(&stream.to_be_bytes());
    value.extend_from_slice(&number.to_be_bytes());
    value.extend_from_slice(&53u32.to_be_bytes());
    value.extend_from_slice(payload);
    value
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The value of a parameter of the INIT ACK that a packet is (RFC 9260, sections 3.2.1 and 3.3.3).
fn parameter(packet: &[u8], wanted: u16) -> Option<&[u8]> {
    // Behind the common header, the chunk's header and its fixed part.
    let mut rest = packet.get(12 + 4 + 16..)?;
    loop {
        let word = |at: usize| Some(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
        let (kind, length) = (word(0)?, usize::from(word(2)?));
        if kind == wanted {
            return rest.get(4..length);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

impl Hostile {
    fn new(extensions: &[u8]) -> Self {
        let now = Instant::now();
        let mut hostile = Self {
            now,
            sctp: Sctp::new(now),
            tag: 0,
            tsn: FIRST,
            acknowledged: (FIRST - 1, RECEIVE_WINDOW),
            packets: 0,
        };
        let mut init = words(&[77, 1 << 20, 0x0400_0400, FIRST]);
        init.extend_from_slice(&[0x80, 0x08, 0, 4 + extensions.len() as u8]);
        init.extend_from_slice(extensions);
        let answer = hostile.say(&[(INIT, 0, &init)]).remove(0);
        let parsed = chunks(&answer).unwrap();
        hostile.tag = parsed[0].init().unwrap().tag;
        let cookie = parameter(&answer, 7).expect("an INIT ACK has a cookie").to_vec();
        hostile.say(&[(10, 0, &cookie)]);
        assert!(hostile.sctp.is_established());
        hostile
    }

    /// Sends chunks in a packet; the packets that come back.
    fn say(&mut self, chunks_of: &[(u8, u8, &[u8])]) -> Vec<Bytes> {
        // The rate is bounded; who floods slower is tested here.
        self.now += Duration::from_millis(10);
        self.sctp.handle_packet(self.now, sealed(self.tag, chunks_of));
        self.sctp.handle_timeout(self.now);
        let packets: Vec<_> = std::iter::from_fn(|| self.sctp.poll_transmit()).collect();
        self.packets += packets.len();
        for packet in &packets {
            for chunk in chunks(packet).unwrap().iter().filter(|chunk| chunk.kind == SACK) {
                self.acknowledged = (chunk.cumulative().unwrap(), chunk.window().unwrap());
            }
        }
        packets
    }

    /// The next chunk of data in sequence.
    fn next(&mut self, flags: u8, stream: u16, number: u16, payload: &[u8]) -> Vec<Bytes> {
        let value = data(self.tsn, stream, number, payload);
        self.tsn += 1;
        self.say(&[(DATA, flags, &value)])
    }

    fn is_up(&self) -> bool {
        self.sctp.is_established()
    }

    /// Repeats something until the association is given up; how often it took.
    fn until_down(&mut self, mut step: impl FnMut(&mut Self, u32)) -> u32 {
        for count in 0..20_000 {
            if !self.is_up() {
                return count;
            }
            step(self, count);
        }
        panic!("it goes on");
    }
}

#[test]
fn messages_that_never_begin_or_end_or_get_their_turn_cost_the_association() {
    let unending = Hostile::new(&[FORWARD_TSN]).until_down(|it, count| {
        it.next(if count == 0 { 2 } else { 0 }, 0, 0, &[1; 1000]);
    });
    assert!(unending as usize * 1000 <= 2 * RECEIVE_WINDOW as usize);
    let tiny = Hostile::new(&[FORWARD_TSN]).until_down(|it, count| {
        it.next(if count == 0 { 2 } else { 0 }, 0, 0, &[1]);
    });
    assert!(tiny <= 2000, "{tiny}");
    for flags in [2, 0, 6, 4] {
        let loose = Hostile::new(&[FORWARD_TSN]).until_down(|it, count| {
            it.next(flags, (count % 9) as u16, 0, &[1]);
        });
        assert!(loose <= 2000, "{flags}: {loose}");
    }
    // The first of the stream never comes.
    let waiting = Hostile::new(&[FORWARD_TSN]).until_down(|it, count| {
        it.next(3, 0, 1 + count as u16, &[1]);
    });
    assert!(waiting <= 2000, "{waiting}");
}

#[test]
fn what_the_client_gives_up_leaves_nothing_behind() {
    let mut it = Hostile::new(&[FORWARD_TSN]);
    for count in 0..3000u32 {
        it.next(2, 0, count as u16, &[1; 1000]);
        it.tsn += 1;
        let mut forward = words(&[it.tsn - 1]);
        forward.extend_from_slice(&[0, 0, (count >> 8) as u8, count as u8]);
        it.say(&[(FORWARD_TSN, 0, &forward)]);
    }
    assert!(it.is_up());
    assert_eq!(it.acknowledged, (it.tsn - 1, RECEIVE_WINDOW));
    // On a stream where nothing of that kind is given up, it costs the association.
    let fragments = Hostile::new(&[FORWARD_TSN]).until_down(|it, _| {
        it.next(6, 0, 0, &[1; 100]);
        it.tsn += 1;
        let forward = words(&[it.tsn - 1]);
        it.say(&[(FORWARD_TSN, 0, &forward)]);
    });
    assert!(fragments <= 4000, "{fragments}");
}

#[test]
fn who_does_not_know_how_to_give_up_can_not() {
    let mut it = Hostile::new(&[RECONFIG]);
    it.say(&[(FORWARD_TSN, 0, &words(&[FIRST + 100]))]);
    assert_eq!(it.sctp.dropped(), 1);
    assert!(it.is_up());
}

#[test]
fn numbers_far_away_are_not_gone_through() {
    let mut it = Hostile::new(&[FORWARD_TSN]);
    let begun = Instant::now();
    for distance in [1 << 15, 1 << 20, (1 << 31) - 1] {
        it.say(&[(FORWARD_TSN, 0, &words(&[FIRST + distance]))]);
        it.say(&[(DATA, 3, &data(FIRST + distance, 0, 0, b"far"))]);
    }
    assert_eq!(it.sctp.dropped(), 6);
    assert!(it.is_up());
    assert!(begun.elapsed() < Duration::from_secs(2), "2^31 steps take longer");
    it.next(3, 0, 0, b"near");
    it.next(3, 0, 1, b"next");
    assert_eq!(it.acknowledged.0, FIRST + 1);
}

#[test]
fn what_comes_beyond_a_gap_that_is_never_filled_is_bounded() {
    let mut it = Hostile::new(&[FORWARD_TSN]);
    it.tsn += 1;
    for _ in 0..10_000 {
        it.next(7, 0, 0, &[1; 100]);
    }
    assert!(it.is_up());
    assert!(it.sctp.dropped() > 7_000, "{}", it.sctp.dropped());
    assert_eq!(it.acknowledged.0, FIRST - 1);
}

#[test]
fn requests_to_reset_streams_later_are_few() {
    let mut it = Hostile::new(&[FORWARD_TSN, RECONFIG]);
    for number in 0..1000u32 {
        let mut request = vec![0, 13, 0, 18];
        request.extend_from_slice(&words(&[number, 0, FIRST + 500]));
        request.extend_from_slice(&[0, 0]);
        it.say(&[(RECONFIG, 0, &request)]);
    }
    assert_eq!(it.sctp.dropped(), 998);
    it.packets = 0;
    it.next(3, 0, 0, b"data");
    it.next(3, 0, 1, b"data");
    assert!(it.packets <= 16, "{} packets for two", it.packets);
}

#[test]
fn packets_of_another_tag_count_for_nothing() {
    let mut it = Hostile::new(&[FORWARD_TSN]);
    let tag = std::mem::replace(&mut it.tag, 5);
    it.next(3, 0, 0, b"forged");
    it.say(&[(FORWARD_TSN, 0, &words(&[FIRST + 10]))]);
    assert_eq!(it.sctp.dropped(), 2);
    (it.tag, it.tsn) = (tag, FIRST);
    it.next(3, 0, 0, b"genuine");
    it.next(3, 0, 1, b"genuine");
    assert_eq!(it.acknowledged.0, FIRST + 1);
}

#[test]
fn a_flood_is_thinned() {
    let mut it = Hostile::new(&[FORWARD_TSN]);
    for _ in 0..10_000 {
        it.sctp.handle_packet(it.now, sealed(it.tag, &[(4, 0, &[0, 1, 0, 8, 1, 2, 3, 4])]));
    }
    assert!(it.sctp.dropped() >= 8_000);
    it.now += Duration::from_secs(1);
    it.next(3, 0, 0, b"later");
    it.next(3, 0, 1, b"later");
    assert_eq!(it.acknowledged.0, FIRST + 1);
}

#[test]
fn channels_without_a_name_or_of_no_kind_are_none() {
    let mut it = Hostile::new(&[FORWARD_TSN]);
    let open = |kind: u8, label: &[u8]| {
        let mut open = vec![3, kind, 0, 0, 0, 0, 0, 0, 0, label.len() as u8, 0, 0];
        open.extend_from_slice(label);
        open
    };
    for (stream, message) in
        [open(0, b"\xff\xfe"), open(9, b"label"), vec![3], vec![2], vec![9, 9]].iter().enumerate()
    {
        let mut value = data(it.tsn, stream as u16, 0, message);
        value[8..12].copy_from_slice(&50u32.to_be_bytes());
        it.tsn += 1;
        it.say(&[(DATA, 3, &value)]);
    }
    assert_eq!(it.sctp.poll_event(), None);
    assert_eq!((it.sctp.channels(), it.is_up()), (0, true));
    let mut value = data(it.tsn, 9, 0, &open(0, b"label"));
    value[8..12].copy_from_slice(&50u32.to_be_bytes());
    it.say(&[(DATA, 3, &value)]);
    assert!(matches!(it.sctp.poll_event(), Some(SctpEvent::Opened(_))));
    assert!(MAX_MESSAGE <= RECEIVE_WINDOW as usize);
}
