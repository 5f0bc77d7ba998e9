//! Pictures of one size on ways that are too narrow for them: they pause before they harm sound.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use kaigi_proto::{ids::TransportId, v1};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use support::{narrow::Narrow, world::*, *};

const FRAME: Duration = Duration::from_millis(40);
/// Packets of the picture in a second, and the bytes of each: 800 kbit/s.
const PACKETS: usize = 4 * 25;
const BYTES: usize = 1_000;

/// One who publishes sound and a picture of one size, and one who gets both by a narrow way.
struct Stage {
    world: World,
    frames: usize,
    wants_key: bool,
    /// Key frames that were asked for.
    asked: usize,
    /// When packets of the picture came, and whether a key frame began.
    pictures: Vec<(Instant, bool)>,
    sound: usize,
}

impl Stage {
    fn new(capacity: f64) -> Self {
        let mut world = World::conference();
        world.narrow.insert(1, Narrow::new(world.now, capacity));
        Self { world, frames: 0, wants_key: true, asked: 0, pictures: Vec::new(), sound: 0 }
    }

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
        if self.frames.is_multiple_of(100) {
            for client in 0..2 {
                let check = self.world.clients[client].1.check();
                self.world.send(client, &check);
            }
        }
        for request in self.world.rtcp(0) {
            let is_key = request.as_any().is::<PictureLossIndication>();
            self.wants_key |= is_key;
            self.asked += usize::from(is_key);
        }
        self.frames += 1;
        let key = std::mem::take(&mut self.wants_key);
        let packets = PACKETS / 25 * if key { 3 } else { 1 };
        for at in 0..packets {
            let mut payload = if at == 0 { vp8(key, 1) } else { vec![0, 1] };
            payload.resize(BYTES, 1);
            self.world.clients[0].1.frame_goes_on = at + 1 < packets;
            self.world.media(0, 1, &payload, if at == 0 { 3_600 } else { 0 });
        }
        self.world.clients[0].1.frame_goes_on = false;
    }

    fn look(&mut self) {
        let now = self.world.now;
        let client = &mut self.world.clients[1].1;
        let ssrcs = client.answer.ssrcs.clone();
        self.sound += client.take_rtp(ssrcs[0][0]).len();
        let _padding = client.take_rtp(ssrcs[1][1]);
        for (header, packet) in client.take_rtp(ssrcs[1][0]) {
            let payload = header.payload(&packet);
            self.pictures.push((now, payload[0] == 0x10 && payload[1] & 1 == 0));
        }
    }

    fn way(&mut self) -> &mut Narrow {
        self.world.narrow.get_mut(&1).unwrap()
    }

    /// From now on the way's waits and losses, and what comes, are counted.
    fn count(&mut self) {
        let way = self.way();
        (way.waited, way.dropped) = (Duration::ZERO, 0);
        (self.sound, self.asked) = (0, 0);
        self.pictures.clear();
    }

    /// How often nothing of the picture came for longer than two seconds.
    fn pauses(&self) -> usize {
        self.pictures.windows(2).filter(|pair| pair[1].0 - pair[0].0 > Duration::from_secs(2)).count()
    }

    /// What is told of the picture.
    fn told(&mut self) -> v1::TrackStats {
        let transport = TransportId::new(World::transport(1)).unwrap();
        let told = self.world.node.stats(self.world.now, std::time::SystemTime::UNIX_EPOCH, &[transport]);
        let mut tracks = told.into_iter().flat_map(|transport| transport.sessions).flat_map(|s| s.tracks);
        tracks.rfind(|track| track.kind() == v1::MediaKind::Video).unwrap()
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_picture_pauses_where_the_way_does_not_carry_it_and_comes_back_with_a_key_frame() {
    let mut stage = Stage::new(20e6);
    stage.run(seconds(5));
    stage.way().capacity = 300_000.0;
    stage.run(seconds(4));
    stage.count();
    stage.run(seconds(30));
    assert_eq!(stage.pictures.len(), 0);
    assert_eq!(stage.asked, 0, "nothing is asked of the publisher for what is not sent");
    assert!(stage.sound >= 1_490, "{}", stage.sound);
    let way = stage.way();
    assert_eq!(way.dropped, 0);
    assert!(way.waited < Duration::from_millis(200), "{:?}", way.waited);
    let told = stage.told();
    assert_eq!((told.limit(), told.track_id.as_str(), told.flowing), (v1::Limit::Bandwidth, "", false));
    let last = told.choices.last().unwrap();
    assert!(last.track_id.is_empty() && last.why.starts_with("estimate fell to"), "{last:?}");

    stage.way().capacity = 20e6;
    stage.run(seconds(10));
    assert!(stage.pictures.first().unwrap().1, "a key frame begins");
    assert!(stage.asked >= 1);
    let told = stage.told();
    assert_eq!((told.limit(), told.flowing), (v1::Limit::None, true));
    assert!(told.choices.iter().any(|choice| choice.why.starts_with("estimate rose to")), "{told:?}");
    stage.count();
    stage.run(seconds(60));
    assert_eq!((stage.pauses(), stage.pictures.len()), (0, 60 * PACKETS));
}

#[test]
fn a_way_that_swings_does_not_make_it_come_and_go() {
    for period in [6.0, 15.0] {
        let mut stage = Stage::new(20e6);
        stage.run(seconds(5));
        stage.count();
        let begin = stage.world.now;
        while stage.world.now < begin + seconds(300) {
            let at = (stage.world.now - begin).as_secs_f64() % period / period;
            stage.way().capacity = 300e3 + 1.7e6 * at;
            stage.run(Duration::from_millis(200));
        }
        assert!(stage.pauses() <= 15, "{} pauses of {period} s", stage.pauses());
        assert!(stage.sound >= 14_500, "{} of {period} s", stage.sound);
    }
}

#[test]
fn losses_by_chance_do_not_pause_it() {
    for loses in [0.1, 0.2] {
        let mut stage = Stage::new(20e6);
        stage.run(seconds(5));
        stage.way().loses = loses;
        stage.run(seconds(60));
        assert_eq!(stage.pauses(), 0, "{loses}");
        assert_eq!(stage.told().limit(), v1::Limit::None);
    }
}

#[test]
fn a_stand_still_of_the_way_does_not_pause_it() {
    let mut stage = Stage::new(5e6);
    stage.way().queue = seconds(1);
    stage.run(seconds(5));
    stage.count();
    for _ in 0..10 {
        let now = stage.world.now;
        stage.way().stand_still(now, Duration::from_millis(500));
        stage.run(seconds(5));
    }
    assert_eq!(stage.pauses(), 0);
    assert_eq!(stage.told().limit(), v1::Limit::None);
}

#[test]
fn a_way_that_holds_up_all_of_it_now_and_then_does_not_pause_it() {
    for (every, most) in [(400, 390), (1_000, 900), (2_000, 1_500)] {
        let mut stage = Stage::new(5e6);
        stage.way().queue = seconds(2);
        stage.run(seconds(5));
        stage.count();
        for step in 0..60_000 / every {
            let now = stage.world.now;
            stage.way().stand_still(now, Duration::from_millis(step * 37 * every / 100 % most));
            stage.run(Duration::from_millis(every));
        }
        assert_eq!((stage.pauses(), stage.way().dropped), (0, 0), "up to {most} ms every {every} ms");
        assert_eq!(stage.told().limit(), v1::Limit::None);
    }
}

#[test]
fn a_way_that_loses_what_it_does_not_carry_without_a_queue_is_narrow_too() {
    let mut stage = Stage::new(20e6);
    stage.run(seconds(5));
    let way = stage.way();
    (way.capacity, way.queue) = (350_000.0, Duration::from_millis(30));
    stage.run(seconds(10));
    stage.count();
    stage.run(seconds(30));
    assert!(stage.sound >= 1_450, "{}", stage.sound);
    assert!(stage.pictures.len() < 30 * PACKETS / 4, "{}", stage.pictures.len());
    stage.way().capacity = 20e6;
    stage.run(seconds(20));
    assert_eq!(stage.told().limit(), v1::Limit::None);
}
