//! The pacer, on virtual time.

use super::*;

const PACKET: usize = 1_250;
/// bit/s; paced, a packet takes 5 ms at it.
const ESTIMATE: u64 = 1_111_112;

/// When packets leave, in ms since the start.
struct Line {
    pacer: Pacer,
    start: Instant,
    now: Instant,
    left: Vec<(u128, Class, u8)>,
}

impl Line {
    fn new(estimate: Option<u64>) -> Self {
        let (mut pacer, start) = (Pacer::default(), Instant::now());
        pacer.carries(estimate);
        Self { pacer, start, now: start, left: Vec::new() }
    }

    fn push(&mut self, class: Class, count: usize) {
        for _ in 0..count {
            if self.pacer.leaves(self.now, class, &[class as u8; PACKET], None) {
                self.left.push(((self.now - self.start).as_millis(), class, class as u8));
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        let mut packet = Vec::new();
        while let Some(at) = self.pacer.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let mut any = false;
            while self.pacer.pop(self.now, &mut packet).is_some() {
                let class = [Class::Sound, Class::Again, Class::Picture][usize::from(packet[0])];
                self.left.push(((self.now - self.start).as_millis(), class, packet[0]));
                any = true;
            }
            assert!(any, "it wakes up for nothing");
        }
        self.now = end;
    }

    fn times(&self, class: Class) -> Vec<u128> {
        self.left.iter().filter(|(_, of, _)| *of == class).map(|(at, _, _)| *at).collect()
    }
}

#[test]
fn where_nothing_says_that_the_way_is_narrow_everything_leaves_as_it_comes() {
    let mut line = Line::new(None);
    line.push(Class::Picture, 500);
    assert_eq!(line.left.len(), 500);
    assert!(!line.pacer.is_waiting() && line.pacer.next_timeout().is_none());
}

#[test]
fn frames_of_the_usual_size_do_not_wait() {
    let mut line = Line::new(Some(ESTIMATE));
    for _ in 0..300 {
        line.push(Class::Picture, 3);
        assert!(!line.pacer.is_waiting());
        line.pass(33);
    }
}

#[test]
fn a_key_frame_leaves_not_much_faster_than_the_way_carries_it() {
    let mut line = Line::new(Some(ESTIMATE));
    line.push(Class::Picture, 30);
    assert!((5..8).contains(&line.left.len()), "{} at once", line.left.len());
    line.pass(1000);
    let times = line.times(Class::Picture);
    assert_eq!(times.len(), 30);
    // 300 kbit at 2 Mbit/s, less what left at once.
    assert!((115..140).contains(times.last().unwrap()), "{times:?}");
    let most =
        times.iter().map(|from| times.iter().filter(|at| (*from..from + 20).contains(at)).count()).max();
    assert!(most.unwrap() <= 10, "{times:?}");
    assert!(!line.pacer.is_waiting());
}

#[test]
fn sound_never_waits_and_what_was_lost_goes_before_what_comes_after() {
    let mut line = Line::new(Some(ESTIMATE));
    line.push(Class::Picture, 30);
    line.pass(20);
    line.push(Class::Again, 5);
    line.push(Class::Sound, 1);
    line.push(Class::Picture, 1);
    line.pass(1000);
    assert_eq!(line.times(Class::Sound), [20]);
    let (again, pictures) = (line.times(Class::Again), line.times(Class::Picture));
    assert_eq!((again.len(), pictures.len()), (5, 31));
    assert!(
        pictures.iter().filter(|at| (21..*again.last().unwrap()).contains(at)).count() <= 1,
        "{again:?} {pictures:?}"
    );
}

#[test]
fn nothing_waits_longer_than_a_quarter_of_a_second() {
    let mut line = Line::new(Some(100_000));
    let mut pushed = Vec::new();
    // 2.5 Mbit/s, which is far too much, and retransmissions besides.
    for frame in 0..250 {
        line.push(Class::Picture, 10);
        pushed.extend([frame * 40; 10]);
        line.push(Class::Again, 1);
        line.pass(40);
    }
    line.pass(1000);
    let times = line.times(Class::Picture);
    assert_eq!(times.len(), pushed.len());
    let longest = times.iter().zip(&pushed).map(|(left, pushed)| left - pushed).max().unwrap();
    assert!((150..=260).contains(&longest), "{longest} ms");
    assert_eq!(line.times(Class::Again).len(), 250);
}

#[test]
fn what_waits_leaves_when_the_way_is_found_wide() {
    let mut line = Line::new(Some(ESTIMATE));
    line.push(Class::Picture, 30);
    line.pacer.carries(None);
    line.push(Class::Picture, 1);
    assert!(line.left.len() < 20, "order is kept");
    line.pass(0);
    assert_eq!(line.left.len(), 31);
    assert!(!line.pacer.is_waiting() && line.pacer.waiting.is_none(), "and takes no memory any more");
}

#[test]
fn what_waits_is_what_is_tried_in_a_probe() {
    let mut line = Line::new(Some(ESTIMATE));
    line.pacer.probes(Some(10_000_000));
    line.push(Class::Picture, 60);
    line.pass(40);
    assert!(line.left.len() >= 50, "{}", line.left.len());
}

#[test]
fn memory_is_bounded() {
    let mut line = Line::new(Some(10_000));
    line.push(Class::Picture, 10_000);
    assert!(line.pacer.waiting.as_ref().unwrap().bytes() <= MAX_BYTES);
    line.pass(1000);
    assert!((MAX_BYTES / PACKET..10_000).contains(&line.left.len()));
}

#[test]
fn what_left_unasked_is_not_owed_for_long() {
    let mut line = Line::new(Some(100_000));
    line.push(Class::Sound, 1_000);
    line.push(Class::Picture, 1);
    line.pass(200);
    let times = line.times(Class::Picture);
    assert!(times.first().is_some_and(|at| *at <= 100), "{times:?}");
}
