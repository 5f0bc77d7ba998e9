//! Virtual time: an endpoint is what the test says that it answered.

use super::*;
use crate::events::{event::tests::event, tests::document};

const TIME: UnixMillis = UnixMillis(77);

struct World {
    deliveries: Deliveries,
    now: Instant,
    next_id: u64,
}

fn key(service: &str, id: &str) -> WebhookKey {
    (ServiceId::new(service).unwrap(), WebhookId::new(id).unwrap())
}

impl World {
    fn new(queue: usize) -> Self {
        let limits = QueueLimits { events: queue, bytes: 1 << 20 };
        Self { deliveries: Deliveries::new(limits, Backoff::default(), 1), now: Instant::now(), next_id: 1 }
    }

    fn hook(&mut self, id: &str, events: &[&str]) {
        self.configure(document("s", id, "http://x/", events));
    }

    fn configure(&mut self, document: WebhookDocument) {
        self.deliveries.configure(document, Record::default(), self.now).unwrap();
    }

    /// Something happens; its number.
    fn happen(&mut self, kind: &str) -> u64 {
        self.happened(kind, Duration::ZERO)
    }

    fn happened(&mut self, kind: &str, age: Duration) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.deliveries.offer(&event(id, "s", kind), None, age, self.now);
        id
    }

    /// What is to be sent to whom now.
    fn attempts(&mut self) -> Vec<(String, u64)> {
        self.outputs().0
    }

    /// Attempts, and how many events were lost.
    fn outputs(&mut self) -> (Vec<(String, u64)>, u64) {
        let (mut attempts, mut lost) = (Vec::new(), 0);
        while let Some(output) = self.deliveries.poll_output() {
            match output {
                Output::Attempt(attempt) => attempts.push((attempt.key.1.to_string(), attempt.event.id().0)),
                Output::Lost { events, .. } => lost += events,
                Output::Deactivate(_) => {}
            }
        }
        (attempts, lost)
    }

    fn answer(&mut self, id: &str, event: u64, outcome: Outcome) {
        self.deliveries.finish(&key("s", id), EventId(event), outcome, (self.now, TIME));
    }

    fn fail(&mut self, id: &str, event: u64) {
        self.answer(id, event, Outcome::Failed { reason: "status 500".into(), retry_after: None });
    }

    /// Goes on to the next deadline; how long that took.
    fn sleep(&mut self) -> Duration {
        let deadline = self.deliveries.next_deadline().expect("something is due");
        let slept = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        self.deliveries.handle_timeout(self.now);
        slept
    }

    fn record(&self, id: &str) -> Record {
        self.deliveries.hook(&key("s", id)).unwrap().record().clone()
    }
}

fn one(id: &str, event: u64) -> Vec<(String, u64)> {
    vec![(id.to_owned(), event)]
}

#[test]
fn one_attempt_at_a_time_in_the_order_of_events() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let (a, b) = (world.happen("room.started"), world.happen("participant.joined"));
    assert_eq!(world.attempts(), one("w", a));
    world.answer("w", a, Outcome::Delivered);
    assert_eq!(world.attempts(), one("w", b));
    world.answer("w", b, Outcome::Delivered);
    assert_eq!(world.attempts(), []);
    assert_eq!(world.deliveries.next_deadline(), None);
    assert_eq!(
        world.record("w"),
        Record { done: b, delivered: 2, last_success: TIME.0, ..Record::default() }
    );
}

#[test]
fn a_failure_is_tried_again_after_growing_pauses_and_holds_up_nobody_else() {
    let mut world = World::new(100);
    world.hook("dead", &[]);
    world.hook("live", &[]);
    let a = world.happen("room.started");
    assert_eq!(world.attempts(), [("dead".to_owned(), a), ("live".to_owned(), a)]);
    world.answer("live", a, Outcome::Delivered);
    let mut total = Duration::ZERO;
    for failures in 1..=12_u32 {
        world.fail("dead", a);
        let b = world.happen("room.ended");
        assert_eq!(world.attempts(), one("live", b));
        world.answer("live", b, Outcome::Delivered);
        let pause = world.sleep();
        let expected = f64::from(1 << (failures - 1).min(12)).min(300.0);
        assert!((expected * 0.8..expected * 1.2).contains(&pause.as_secs_f64()), "{failures}: {pause:?}");
        assert_eq!(world.attempts(), one("dead", a));
        total += pause;
    }
    assert!(total < Duration::from_secs(1600));
    assert_eq!(world.record("dead").failures, 12);
}

#[test]
fn a_success_forgives() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let (a, b) = (world.happen("room.started"), world.happen("room.ended"));
    world.fail("w", a);
    world.sleep();
    world.fail("w", a);
    world.sleep();
    world.answer("w", a, Outcome::Delivered);
    assert_eq!((world.record("w").failures, world.record("w").last_error.as_str()), (0, ""));
    world.outputs();
    world.fail("w", b);
    assert!(world.sleep() < Duration::from_secs(2));
}

#[test]
fn retry_after_is_honoured() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let a = world.happen("room.started");
    let retry_after = Some(Duration::from_secs(120));
    world.answer("w", a, Outcome::Failed { reason: "status 429".into(), retry_after });
    assert_eq!(world.sleep(), Duration::from_secs(120));
}

#[test]
fn what_is_a_day_old_is_given_up() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let start = world.now;
    let a = world.happen("room.started");
    let b = world.happened("room.ended", GIVE_UP_AFTER - Duration::from_secs(10_000));
    let mut lost = 0;
    let mut tried = world.attempts();
    while let [(_, event)] = tried[..] {
        world.fail("w", event);
        world.sleep();
        let (next, more) = world.outputs();
        (tried, lost) = (next, lost + more);
        assert!(event == a || world.now < start + Duration::from_secs(10_400));
    }
    assert_eq!((lost, world.record("w").lost, world.record("w").done), (2, 2, b));
    let day = world.now - start;
    assert!((GIVE_UP_AFTER..GIVE_UP_AFTER + Duration::from_secs(400)).contains(&day), "{day:?}");
}

#[test]
fn the_oldest_are_pushed_out_of_a_full_queue_but_not_what_is_being_sent() {
    let mut world = World::new(16);
    world.hook("w", &[]);
    let first = world.happen("room.started");
    for _ in 0..20 {
        world.happen("room.ended");
    }
    let (attempts, lost) = world.outputs();
    assert_eq!((attempts, lost), (one("w", first), 5));
    world.answer("w", first, Outcome::Delivered);
    assert_eq!(world.attempts(), one("w", 7));
    assert_eq!(world.record("w").lost, 5);
}

#[test]
fn a_queue_has_a_bound_in_bytes_too() {
    let mut world = World::new(1_000_000);
    world.hook("w", &[]);
    let size = event(1, "s", "room.started").size();
    let fit = (1 << 20) / size;
    for _ in 0..fit + 10 {
        world.happen("room.started");
    }
    assert_eq!(world.outputs().1, 10);
}

#[test]
fn only_what_was_asked_for() {
    let mut world = World::new(100);
    world.hook("w", &["participant.*"]);
    world.happen("room.started");
    assert_eq!(world.attempts(), []);
    let joined = world.happen("participant.joined");
    assert_eq!(world.attempts(), one("w", joined));
}

#[test]
fn another_address_is_tried_at_once() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let a = world.happen("room.started");
    (0..8).for_each(|_| {
        world.fail("w", a);
        world.sleep();
    });
    world.fail("w", a);
    world.outputs();
    world.configure(document("s", "w", "http://y/", &[]));
    assert_eq!(world.attempts(), one("w", a));
    assert_eq!(world.deliveries.next_deadline(), None);
    // The same again changes nothing.
    world.configure(document("s", "w", "http://y/", &[]));
    assert_eq!(world.attempts(), []);
}

#[test]
fn one_that_is_switched_off_loses_what_waits() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let a = world.happen("room.started");
    world.happen("room.ended");
    world.configure(WebhookDocument { active: false, ..document("s", "w", "http://x/", &[]) });
    assert_eq!(world.outputs().1, 2);
    world.happen("room.started");
    world.answer("w", a, Outcome::Delivered);
    assert_eq!(world.outputs(), (Vec::new(), 0));
    assert_eq!(world.record("w").delivered, 1);
}

#[test]
fn gone_is_gone() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let a = world.happen("room.started");
    world.attempts();
    world.answer("w", a, Outcome::Gone);
    assert!(matches!(world.deliveries.poll_output(), Some(Output::Lost { events: 1, .. })));
    assert!(matches!(world.deliveries.poll_output(), Some(Output::Deactivate(_))));
    world.happen("room.ended");
    assert_eq!(world.attempts(), []);
}

#[test]
fn an_answer_for_a_webhook_that_is_removed_does_nothing() {
    let mut world = World::new(100);
    world.hook("w", &[]);
    let a = world.happen("room.started");
    world.attempts();
    world.deliveries.remove(&key("s", "w"));
    world.fail("w", a);
    assert_eq!((world.attempts(), world.deliveries.next_deadline()), (Vec::new(), None));
    world.hook("w", &[]);
    world.fail("w", a);
    assert_eq!(world.deliveries.next_deadline(), None, "of a webhook that has not sent anything");
}

#[test]
fn what_a_webhook_is_done_with_it_is_not_told_again() {
    let mut world = World::new(100);
    let record = Record { done: 2, ..Record::default() };
    world.deliveries.configure(document("s", "w", "http://x/", &[]), record, world.now).unwrap();
    world.happen("room.started");
    world.happen("room.started");
    let third = world.happen("room.started");
    assert_eq!(world.attempts(), one("w", third));
}

#[test]
fn the_number_of_webhooks_is_bounded() {
    let mut world = World::new(100);
    (0..MAX_WEBHOOKS).for_each(|i| world.hook(&format!("w{i}"), &[]));
    let one_more = WebhookDocument { all_services: true, ..document("s", "more", "http://x/", &[]) };
    let refused = world.deliveries.configure(one_more, Record::default(), world.now);
    assert_eq!(refused, Err(TooManyWebhooks));
    world.hook("w0", &["room.*"]);
    world.deliveries.remove(&key("s", "w0"));
    world.hook("more", &[]);
}

/// Whatever happens in whatever order: each webhook is told events in their order, no two at once, and none twice once it has said yes.
#[test]
fn random_endpoints_are_told_in_order() {
    use rand::Rng;
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(16);
        (0..4).for_each(|i| world.hook(&format!("w{i}"), &[]));
        let mut sending: BTreeMap<String, u64> = BTreeMap::new();
        let mut over: BTreeMap<String, u64> = BTreeMap::new();
        let (mut offered, mut lost, mut delivered) = (0, 0, 0);
        for _ in 0..2_000 {
            match rng.random_range(0..4) {
                0 => {
                    world.happen("room.started");
                    offered += 4;
                }
                1 if world.deliveries.next_deadline().is_some() => drop(world.sleep()),
                _ => {
                    let Some((id, event)) = sending.pop_first() else { continue };
                    if rng.random_bool(0.6) {
                        world.answer(&id, event, Outcome::Delivered);
                        delivered += 1;
                        over.insert(id, event);
                    } else {
                        world.fail(&id, event);
                    }
                }
            }
            let (attempts, more) = world.outputs();
            lost += more;
            for (id, event) in attempts {
                assert!(
                    over.get(&id).is_none_or(|last| event > *last),
                    "seed {seed}: {id} is told {event} again"
                );
                assert_eq!(sending.insert(id, event), None, "seed {seed}: two at once");
            }
        }
        assert_eq!(offered, lost + delivered + world.deliveries.queued() as u64, "seed {seed}");
    }
}
