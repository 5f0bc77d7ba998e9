//! The registry on virtual time.

use super::*;

const LEASE: Duration = Duration::from_millis(1500);
const TICK: Duration = Duration::from_millis(150);

/// A registry with a clock that only moves when told to.
struct Cluster {
    registry: Registry,
    now: Instant,
}

impl Cluster {
    fn new(strategy: &str) -> Self {
        let now = Instant::now();
        let strategies = [strategy.parse().unwrap()].into_iter().collect();
        Self { registry: Registry::new(RegistryConfig { lease: LEASE, strategies }, now, 1), now }
    }

    fn join(&mut self, worker: Worker) -> Vec<Event> {
        self.registry.register(self.now, worker).unwrap()
    }

    fn beat(&mut self, id: &str, load: f64, tasks: &[&str]) -> Result<(), UnknownWorker> {
        let tasks: Vec<_> = tasks.iter().map(|t| task(t)).collect();
        self.registry.heartbeat(self.now, &worker_id(id), Load::new(load).unwrap(), &tasks)
    }

    fn schedule(&mut self, purpose: Purpose, name: &str) -> Result<String, ScheduleError> {
        self.prefer(purpose, name, "", "")
    }

    fn prefer(
        &mut self,
        purpose: Purpose,
        name: &str,
        isp: &str,
        region: &str,
    ) -> Result<String, ScheduleError> {
        let preference = Preference { isp: isp.into(), region: region.into() };
        self.registry.schedule(self.now, purpose, &task(name), &preference).map(|w| w.id.to_string())
    }

    fn lookup(&self, purpose: Purpose, name: &str) -> Option<&str> {
        self.registry.lookup(purpose, &task(name)).map(|w| w.id.as_str())
    }

    /// Lets time pass in ticks; the ids of those who left.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut left = Vec::new();
        while self.now < end {
            self.now = (self.now + TICK).min(end);
            left.extend(self.registry.tick(self.now).into_iter().map(|event| match event {
                Event::Left(worker) => worker.id.to_string(),
                Event::Joined(worker) => panic!("{worker:?} joined by time"),
            }));
        }
        left
    }
}

fn worker_id(id: &str) -> WorkerId {
    WorkerId::new(id).unwrap()
}

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

fn worker(purpose: Purpose, id: &str) -> Worker {
    Worker {
        id: worker_id(id),
        purpose,
        endpoint: format!("http://{id}:1"),
        load: Load::new(0.0).unwrap(),
        max_load: Load::new(DEFAULT_MAX_LOAD).unwrap(),
        isps: vec![],
        regions: vec![],
        public_address: String::new(),
        secure: false,
        draining: false,
        registered_ms: 1_000,
        algorithms: Vec::new(),
        resources: Vec::new(),
        task_share: Load::new(0.0).unwrap(),
    }
}

fn access(id: &str) -> Worker {
    worker(Purpose::Access, id)
}

#[test]
fn a_worker_is_schedulable_at_once() {
    let mut cluster = Cluster::new("least-used");
    assert_eq!(cluster.schedule(Purpose::Access, "p"), Err(ScheduleError::NoneAlive(Purpose::Access)));
    assert_eq!(cluster.join(access("a")), [Event::Joined(access("a"))]);
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a");
    assert_eq!(cluster.schedule(Purpose::Mixer, "p"), Err(ScheduleError::NoneAlive(Purpose::Mixer)));
}

#[test]
fn a_task_stays_where_it_is_even_if_that_worker_is_full() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a");
    cluster.join(access("b"));
    cluster.beat("a", 0.99, &[]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a");
    assert_eq!(cluster.schedule(Purpose::Access, "q").unwrap(), "b");
    cluster.registry.release(Purpose::Access, &task("p"));
    assert_eq!(cluster.lookup(Purpose::Access, "p"), None);
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "b");
}

#[test]
fn a_task_leaves_a_worker_that_drains_if_there_is_another() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a");
    let draining = Worker { draining: true, ..access("a") };
    assert_eq!(cluster.registry.drain(&worker_id("a")), Ok(Some(Event::Joined(draining.clone()))));
    assert_eq!(cluster.registry.drain(&worker_id("a")), Ok(None), "once");
    assert_eq!(cluster.join(draining), [], "as it is known");
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a", "there is no other");
    assert_eq!(cluster.schedule(Purpose::Access, "q"), Err(ScheduleError::NoneAlive(Purpose::Access)));
    cluster.join(access("b"));
    assert_eq!(cluster.lookup(Purpose::Access, "p"), Some("a"));
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "b");
    assert_eq!(cluster.lookup(Purpose::Access, "p"), Some("b"));
    assert_eq!(cluster.registry.drain(&worker_id("c")), Err(UnknownWorker));
}

#[test]
fn whether_a_task_would_fit_is_said_without_placing_it() {
    let mut cluster = Cluster::new("round-robin");
    let fits = |cluster: &Cluster, isp: &str| {
        let preference = Preference { isp: isp.into(), region: String::new() };
        cluster.registry.can_fit(Purpose::Access, &preference)
    };
    assert_eq!(fits(&cluster, ""), Err(ScheduleError::NoneAlive(Purpose::Access)));
    cluster.join(access("a"));
    cluster.join(Worker { isps: vec!["x".into()], ..access("b") });
    assert_eq!((fits(&cluster, ""), fits(&cluster, "x"), fits(&cluster, "y")), (Ok(2), Ok(2), Ok(1)));
    assert_eq!((cluster.registry.tasks(&worker_id("a")), cluster.registry.tasks(&worker_id("b"))), (0, 0));
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a", "nobody was passed over");
    cluster.beat("a", 0.9, &[]).unwrap();
    assert_eq!((fits(&cluster, ""), fits(&cluster, "y")), (Ok(1), Err(ScheduleError::NoMatch)));
    cluster.beat("b", 0.9, &[]).unwrap();
    assert_eq!(fits(&cluster, ""), Err(ScheduleError::AllFull));
}

#[test]
fn a_room_stays_with_an_agent_that_drains_until_it_is_handed_over_and_does_not_come_back() {
    let mut cluster = Cluster::new("least-used");
    let agent = |id: &str| Worker { purpose: Purpose::Conference, ..access(id) };
    cluster.join(agent("a"));
    cluster.join(agent("b"));
    assert_eq!(cluster.schedule(Purpose::Conference, "r").unwrap(), "a");
    cluster.beat("a", 0.1, &["r"]).unwrap();
    cluster.registry.drain(&worker_id("a")).unwrap();
    assert_eq!(cluster.schedule(Purpose::Conference, "r").unwrap(), "a");
    cluster.registry.release(Purpose::Conference, &task("r"));
    cluster.beat("a", 0.1, &["r"]).unwrap();
    assert_eq!(cluster.lookup(Purpose::Conference, "r"), None, "what it told was on its way");
    assert_eq!(cluster.schedule(Purpose::Conference, "r").unwrap(), "b");
}

#[test]
fn a_worker_is_known_since_its_first_registration_and_its_tasks_are_counted() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    let later = Worker { registered_ms: 2_000, ..access("a") };
    assert_eq!(cluster.join(later.clone()), [], "nothing that it says of itself is new");
    let moved = Worker { endpoint: "http://other:1".into(), ..later };
    let known = Worker { registered_ms: 1_000, ..moved.clone() };
    assert_eq!(cluster.join(moved), [Event::Joined(known)]);
    assert_eq!(cluster.registry.workers().next().unwrap().registered_ms, 1_000);

    let count = |cluster: &Cluster| cluster.registry.tasks(&worker_id("a"));
    assert_eq!(count(&cluster), 0);
    cluster.schedule(Purpose::Access, "p").unwrap();
    cluster.beat("a", 0.1, &["q", "r"]).unwrap();
    assert_eq!(count(&cluster), 3, "one placed, two told");
    cluster.registry.release(Purpose::Access, &task("p"));
    assert_eq!(count(&cluster), 2);
}

#[test]
fn the_full_and_the_draining_get_nothing_new() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(Worker { draining: true, ..access("a") });
    cluster.join(Worker { max_load: Load::new(0.5).unwrap(), ..access("b") });
    cluster.beat("b", 0.5, &[]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Access, "p"), Err(ScheduleError::AllFull));
    cluster.beat("b", 0.49, &[]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "b");
}

#[test]
fn equally_loaded_workers_share_the_tasks() {
    let mut cluster = Cluster::new("least-used");
    for id in ["a", "b", "c"] {
        cluster.join(access(id));
    }
    let mut counts = HashMap::new();
    for i in 0..30 {
        *counts.entry(cluster.schedule(Purpose::Access, &format!("p{i}")).unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn round_robin_and_last_used_remember_per_purpose() {
    let mut cluster = Cluster::new("round-robin");
    for id in ["a", "b"] {
        cluster.join(access(id));
        cluster.join(worker(Purpose::Mixer, &format!("{id}-mixer")));
    }
    let order: Vec<_> = (0..4).map(|i| cluster.schedule(Purpose::Access, &format!("{i}")).unwrap()).collect();
    assert_eq!(order, ["a", "b", "a", "b"]);
    assert_eq!(cluster.schedule(Purpose::Mixer, "r").unwrap(), "a-mixer");
}

#[test]
fn provider_is_strict_and_region_is_soft() {
    let mut cluster = Cluster::new("least-used");
    let at = |id: &str, isp: &str, region: &str| Worker {
        isps: vec![isp.into()],
        regions: vec![region.into()],
        ..access(id)
    };
    cluster.join(at("a", "x", "north"));
    cluster.join(at("b", "y", "south"));
    cluster.join(at("c", "x", "south"));
    assert_eq!(cluster.prefer(Purpose::Access, "1", "x", "south").unwrap(), "c");
    assert_eq!(cluster.prefer(Purpose::Access, "2", "y", "north").unwrap(), "b");
    assert_eq!(cluster.prefer(Purpose::Access, "3", "z", "south"), Err(ScheduleError::NoMatch));
    cluster.join(access("anyone"));
    assert_eq!(cluster.prefer(Purpose::Access, "3", "z", "south").unwrap(), "anyone");
    cluster.join(Worker { isps: vec!["x".into()], ..worker(Purpose::Conference, "agent") });
    assert_eq!(cluster.prefer(Purpose::Conference, "r", "z", "south").unwrap(), "agent");
}

#[test]
fn a_silent_worker_is_gone_after_its_lease_with_its_tasks() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    cluster.join(access("b"));
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "a");
    let mut left = Vec::new();
    for _ in 0..3 {
        left.extend(cluster.pass(LEASE / 3));
        cluster.beat("b", 0.0, &[]).unwrap();
    }
    assert_eq!(left, ["a"]);
    assert_eq!(cluster.lookup(Purpose::Access, "p"), None);
    assert_eq!(cluster.beat("a", 0.0, &[]), Err(UnknownWorker));
    assert_eq!(cluster.schedule(Purpose::Access, "p").unwrap(), "b");
}

#[test]
fn the_lease_ends_after_its_whole_time_and_within_a_tick() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    assert!(cluster.pass(LEASE - Duration::from_millis(1)).is_empty());
    assert_eq!(cluster.pass(TICK), ["a"]);
}

#[test]
fn who_leaves_is_gone_at_once() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    assert_eq!(cluster.registry.leave(&worker_id("a")), Some(Event::Left(access("a"))));
    assert_eq!(cluster.registry.leave(&worker_id("a")), None);
}

#[test]
fn a_process_at_the_same_endpoint_replaces_its_predecessor() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("old"));
    cluster.schedule(Purpose::Access, "p").unwrap();
    let new = Worker { endpoint: access("old").endpoint, ..access("new") };
    assert_eq!(cluster.join(new.clone()), [Event::Left(access("old")), Event::Joined(new)]);
    assert_eq!(cluster.lookup(Purpose::Access, "p"), None);
    let portal = |id: &str| Worker { endpoint: String::new(), ..worker(Purpose::Portal, id) };
    cluster.join(portal("p1"));
    assert_eq!(cluster.join(portal("p2")).len(), 1);
}

#[test]
fn registering_again_without_a_change_tells_nobody() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    assert!(cluster.join(Worker { load: Load::new(0.3).unwrap(), ..access("a") }).is_empty());
}

#[test]
fn reported_tasks_are_learnt_and_those_no_longer_reported_end() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(worker(Purpose::Conference, "a"));
    cluster.join(worker(Purpose::Conference, "b"));
    cluster.beat("b", 0.0, &["r1", "r2"]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Conference, "r1").unwrap(), "b");
    assert_eq!(cluster.schedule(Purpose::Conference, "new").unwrap(), "a");
    // What was placed a moment ago is not in the report yet; another worker's claim does not move a task.
    cluster.beat("a", 0.0, &["r2"]).unwrap();
    assert_eq!(cluster.lookup(Purpose::Conference, "new"), Some("a"));
    assert_eq!(cluster.lookup(Purpose::Conference, "r2"), Some("b"));
    cluster.beat("b", 0.0, &["r2"]).unwrap();
    assert_eq!(cluster.lookup(Purpose::Conference, "r1"), None);
}

#[test]
fn what_is_placed_and_never_taken_up_is_forgotten() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(worker(Purpose::Conference, "a"));
    cluster.schedule(Purpose::Conference, "taken up").unwrap();
    cluster.schedule(Purpose::Conference, "never").unwrap();
    for _ in 0..62 {
        cluster.beat("a", 0.0, &["taken up"]).unwrap();
        assert!(cluster.pass(Duration::from_secs(1)).is_empty());
    }
    assert_eq!(cluster.lookup(Purpose::Conference, "taken up"), Some("a"));
    assert_eq!(cluster.lookup(Purpose::Conference, "never"), None);
}

#[test]
fn restored_workers_keep_their_place_for_a_lease_but_get_nothing_new() {
    let mut cluster = Cluster::new("least-used");
    let now = cluster.now;
    cluster.registry.restore(now, [access("a"), access("b")]);
    assert_eq!(cluster.registry.workers().count(), 2);
    assert_eq!(cluster.registry.liveness(&worker_id("a")), Liveness::Unheard);
    assert_eq!(cluster.schedule(Purpose::Access, "p"), Err(ScheduleError::NoneAlive(Purpose::Access)));
    cluster.beat("a", 0.0, &["t"]).unwrap();
    assert_eq!(cluster.registry.liveness(&worker_id("a")), Liveness::Alive);
    assert_eq!(cluster.lookup(Purpose::Access, "t"), Some("a"));
    assert!(cluster.join(access("a")).is_empty());
    assert!(cluster.pass(LEASE - TICK).is_empty());
    cluster.beat("a", 0.0, &[]).unwrap();
    assert_eq!(cluster.pass(TICK), ["b"]);
    assert_eq!(cluster.registry.liveness(&worker_id("b")), Liveness::Gone);
}

#[test]
fn a_registry_that_was_held_up_blames_nobody() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(access("a"));
    cluster.now += Duration::from_secs(60);
    assert!(cluster.registry.tick(cluster.now).is_empty());
    assert!(cluster.pass(LEASE - TICK).is_empty());
    assert_eq!(cluster.pass(TICK), ["a"]);
}

#[test]
fn the_door_refuses_nonsense() {
    let wire = |change: fn(&mut kaigi_proto::v1::Worker)| {
        let mut wire = access("a").into();
        change(&mut wire);
        Worker::try_from(wire)
    };
    assert_eq!(wire(|_| {}), Ok(access("a")));
    assert_eq!(wire(|w| w.max_load = 0.0), Ok(access("a")));
    assert!(matches!(wire(|w| w.load = f64::NAN), Err(InvalidInput::Load(_))));
    assert!(matches!(wire(|w| w.load = 1.5), Err(InvalidInput::Load(_))));
    assert_eq!(wire(|w| w.purpose = 0), Err(InvalidInput::Purpose(0)));
    assert_eq!(wire(|w| w.purpose = 77), Err(InvalidInput::Purpose(77)));
    assert!(matches!(wire(|w| w.worker_id.clear()), Err(InvalidInput::Id(_))));
    assert_eq!(wire(|w| w.endpoint = "e".repeat(300)), Err(InvalidInput::TooLong("endpoint")));
    assert_eq!(wire(|w| w.isps = vec!["i".into(); 65]), Err(InvalidInput::TooMany("isps")));
    assert_eq!(TaskId::new(""), Err(InvalidInput::Task));
}

/// Tasks of which each takes that share of a worker.
fn heavy(id: &str, share: f64) -> Worker {
    Worker { task_share: Load::new(share).unwrap(), ..worker(Purpose::Streaming, id) }
}

fn count(picked: &[String], id: &str) -> usize {
    picked.iter().filter(|picked| *picked == id).count()
}

#[test]
fn a_burst_is_spread_by_what_it_is_expected_to_take() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(heavy("small", 0.2));
    cluster.join(heavy("large", 0.05));
    let burst = |cluster: &mut Cluster, name: &str| -> Vec<String> {
        (0..10).map(|i| cluster.schedule(Purpose::Streaming, &format!("{name}{i}")).unwrap()).collect()
    };
    let picked = burst(&mut cluster, "a");
    assert_eq!((count(&picked, "small"), count(&picked, "large")), (2, 8));
    cluster.beat("small", 0.4, &[]).unwrap();
    cluster.beat("large", 0.4, &[]).unwrap();
    let picked = burst(&mut cluster, "b");
    assert_eq!((count(&picked, "small"), count(&picked, "large")), (2, 8), "by what is measured");
}

#[test]
fn a_burst_is_not_herded_onto_one_worker() {
    for strategy in ["least-used", "most-used", "last-used"] {
        let mut cluster = Cluster::new(strategy);
        cluster.join(heavy("a", 0.1));
        cluster.join(heavy("b", 0.1));
        cluster.beat("a", 0.4, &[]).unwrap();
        let picked: Vec<String> =
            (0..14).map(|i| cluster.schedule(Purpose::Streaming, &i.to_string()).unwrap()).collect();
        assert_eq!((count(&picked, "a"), count(&picked, "b")), (5, 9), "{strategy}: both are filled");
    }
}

#[test]
fn nobody_is_refused_for_what_is_only_expected() {
    let mut cluster = Cluster::new("least-used");
    cluster.join(heavy("a", 0.3));
    for i in 0..10 {
        assert_eq!(cluster.schedule(Purpose::Streaming, &format!("room-{i}")).unwrap(), "a");
        assert_eq!(cluster.registry.can_fit(Purpose::Streaming, &Preference::default()), Ok(1));
    }
    cluster.beat("a", 0.85, &[]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Streaming, "one more"), Err(ScheduleError::AllFull));
    cluster.beat("a", 0.8, &[]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Streaming, "one more").unwrap(), "a");
}

#[test]
fn who_was_given_a_burst_comes_last_until_that_is_measured() {
    let mut cluster = Cluster::new("last-used");
    cluster.join(heavy("a", 0.3));
    let picked: Vec<String> =
        (0..3).map(|i| cluster.schedule(Purpose::Streaming, &i.to_string()).unwrap()).collect();
    assert_eq!(count(&picked, "a"), 3);
    cluster.join(heavy("b", 0.3));
    assert_eq!(cluster.schedule(Purpose::Streaming, "c").unwrap(), "b", "the last used one has enough");
    cluster.registry.release(Purpose::Streaming, &task("0"));
    cluster.registry.release(Purpose::Streaming, &task("c"));
    let measured = |cluster: &mut Cluster| {
        for id in ["a", "b"] {
            cluster.beat(id, 0.1, &[]).unwrap();
        }
    };
    for _ in 0..10 {
        measured(&mut cluster);
        cluster.pass(Duration::from_secs(1));
    }
    assert_eq!(cluster.schedule(Purpose::Streaming, "d").unwrap(), "b", "used last");
    cluster.registry.release(Purpose::Streaming, &task("d"));
    measured(&mut cluster);
    cluster.beat("b", 0.85, &[]).unwrap();
    assert_eq!(cluster.schedule(Purpose::Streaming, "e").unwrap(), "a");
}
