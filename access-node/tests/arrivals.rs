//! Many subscribers that come at once, and what they cost the one who publishes.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use kaigi_access_node::node::Limits;
use rtc_rtcp::payload_feedbacks::{
    full_intra_request::{FirEntry, FullIntraRequest},
    picture_loss_indication::PictureLossIndication,
};
use support::{world::*, *};

const SUBSCRIBERS: usize = 100;
/// From a request to its key frame.
const RESPONSE: Duration = Duration::from_millis(60);

/// A publisher who answers requests with key frames, and when each subscriber came and saw the first.
struct Hall {
    world: World,
    start: Instant,
    requests: Vec<Instant>,
    key_frames_due: Vec<Instant>,
    waiting: Vec<(usize, Instant)>,
    waited: Vec<Duration>,
}

impl Hall {
    fn new() -> Self {
        let limits = Limits { transports: SUBSCRIBERS + 8, sessions: 8, links: 8 };
        let mut world = World::with_limits("access-1", "127.0.0.1:7000", 7, limits);
        world.add_publisher();
        let start = world.now;
        let (requests, key_frames_due, waiting, waited) = Default::default();
        Self { world, start, requests, key_frames_due, waiting, waited }
    }

    fn arrive(&mut self) -> usize {
        let client = self.world.add_subscriber();
        self.waiting.push((client, self.world.now));
        client
    }

    /// As decoders do that have nothing to begin with.
    fn ask(&mut self, client: usize) {
        let ssrc = self.world.clients[client].1.answer.ssrcs[1][0];
        if client.is_multiple_of(2) {
            self.world
                .send_rtcp(client, &[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc })]);
        } else {
            let fir = vec![FirEntry { ssrc, sequence_number: client as u8 }];
            self.world
                .send_rtcp(client, &[Box::new(FullIntraRequest { sender_ssrc: 1, media_ssrc: 0, fir })]);
        }
    }

    /// Ten milliseconds, in which a picture is sent.
    fn pass(&mut self) {
        let now = self.world.now;
        let asked = self.world.key_frame_requests(0);
        self.requests.extend(vec![now; asked]);
        self.key_frames_due.extend(vec![now + RESPONSE; asked]);
        let key_frame = self.key_frames_due.first().is_some_and(|at| *at <= now);
        self.key_frames_due.retain(|at| *at > now);
        self.world.media(0, 1, &vp8(key_frame, 1), 900);
        for (client, came) in std::mem::take(&mut self.waiting) {
            let ssrc = self.world.clients[client].1.answer.ssrcs[1][0];
            if self.world.clients[client].1.take_rtp(ssrc).is_empty() {
                self.waiting.push((client, came));
            } else {
                self.waited.push(now - came);
            }
        }
        self.world.pass(Duration::from_millis(10));
    }

    fn most_in_a_second(&self) -> usize {
        let second = Duration::from_secs(1);
        let is_within = |from: Instant, at: Instant| (from..from + second).contains(&at);
        let within = |from: &Instant| self.requests.iter().filter(|at| is_within(*from, **at)).count();
        self.requests.iter().map(within).max().unwrap_or(0)
    }
}

#[test]
fn a_hundred_subscribers_who_arrive_within_a_second_cost_at_most_two_key_frames_a_second() {
    let mut hall = Hall::new();
    hall.world.media(0, 1, &vp8(true, 1), 900);
    for _ in 0..SUBSCRIBERS {
        let client = hall.arrive();
        hall.ask(client);
        hall.pass();
        hall.ask(client);
    }
    (0..100).for_each(|_| hall.pass());
    assert!(
        hall.most_in_a_second() <= 2,
        "{:?}",
        hall.requests.iter().map(|at| *at - hall.start).collect::<Vec<_>>()
    );
    assert!(hall.waiting.is_empty(), "all see something");
    let longest = hall.waited.iter().max().unwrap();
    assert!(*longest <= Duration::from_millis(500) + RESPONSE + Duration::from_millis(20), "{longest:?}");
}

#[test]
fn one_who_comes_later_than_the_last_key_frame_has_one_at_once() {
    let mut hall = Hall::new();
    hall.world.media(0, 1, &vp8(true, 1), 900);
    for _ in 0..5 {
        hall.arrive();
        (0..60).for_each(|_| hall.pass());
    }
    assert_eq!(hall.waited.len(), 5);
    let longest = hall.waited.iter().max().unwrap();
    assert!(*longest <= RESPONSE + Duration::from_millis(10), "{longest:?}");
    assert_eq!(hall.requests.len(), 5);
}
