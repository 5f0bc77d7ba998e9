//! Carries out a scenario.

mod churn;
mod crowd;
mod launch;
mod launch_janus;
mod processes;
mod report;

use std::{path::PathBuf, sync::Arc, time::Instant};

pub use launch::{LaunchError, Launched};
pub use launch_janus::LaunchedJanus;
pub use processes::{Process, Usage, family, usage};
pub use report::{ChurnReport, ProcessReport, Report, Times};

use self::crowd::Crowd;
use crate::{
    driver::{Driver, DriverError},
    media::Media,
    meter::{Meters, Received, Sent},
    recording::MakeError,
    scenario::Scenario,
    server::{Server, ServerError},
};

/// Failures that are told in full.
const TOLD_FAILURES: usize = 5;
/// Time after which everything that ended is cleared away.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(3);

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No recordings.
    #[error(transparent)]
    Recording(#[from] MakeError),
    /// No threads.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// No rooms, or nobody could publish.
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// What a run needs.
#[derive(Debug)]
pub struct Setup {
    /// What is done.
    pub scenario: Scenario,
    /// With whom.
    pub server: Server,
    /// Threads of the clients.
    pub driver: Driver,
    /// The server's processes, if they are on this machine.
    pub processes: Vec<Process>,
    /// Which of them forwards.
    pub forwarder: &'static str,
    /// Where recordings are kept.
    pub cache: PathBuf,
}

/// What is counted on the threads.
#[derive(Debug, Default)]
struct Counted {
    sent: Sent,
    received: Received,
    tracks: usize,
    meters: Meters,
}

/// What all processes used at a time.
struct Sample {
    at: Instant,
    server: Vec<Usage>,
    own: Usage,
    dropped_by_server: u64,
    dropped_by_generator: u64,
}

impl Setup {
    fn sample(&self) -> Sample {
        Sample {
            at: Instant::now(),
            server: self.processes.iter().map(|process| usage(process.pid)).collect(),
            own: usage(std::process::id()),
            dropped_by_server: self.processes.iter().map(|process| processes::dropped(process.pid)).sum(),
            dropped_by_generator: processes::dropped(std::process::id()),
        }
    }

    async fn begin_counting(&self) -> Result<Sample, RunError> {
        self.driver
            .all(|world| {
                world.slots().for_each(|slot| slot.peer.reset_counts());
                world.departed = Default::default();
                world.shared.meters = Meters::default();
            })
            .await?;
        Ok(self.sample())
    }

    async fn counted(&self) -> Result<Counted, RunError> {
        let all = self
            .driver
            .all(|world| {
                let mut counted = Counted::default();
                (counted.sent, counted.received) = world.departed;
                for slot in world.slots() {
                    slot.peer.senders().iter().for_each(|sender| counted.sent.add(&sender.counts));
                    for (_, receiver) in slot.peer.receivers() {
                        counted.received.add(&receiver.counts);
                        counted.tracks += 1;
                    }
                }
                counted.meters = world.shared.meters.clone();
                counted
            })
            .await?;
        let mut sum = Counted::default();
        for one in &all {
            sum.sent.add(&one.sent);
            sum.received.add(&one.received);
            sum.tracks += one.tracks;
            sum.meters.merge(&one.meters);
        }
        Ok(sum)
    }

    /// Carries it out. `say` is told what is going on. May be given up at any time; [`Self::clean_up`] removes the rooms then.
    ///
    /// # Errors
    /// See [`RunError`]. Clients that fail are counted.
    pub async fn run(&self, say: impl Fn(&str)) -> Result<Report, RunError> {
        let scenario = &self.scenario;
        say("recordings are read, or made if there are none");
        let media = Arc::new(Media::read(self.cache.clone(), scenario.media.clone()).await?);
        let idle = self.sample();
        let mut crowd = Crowd::new(scenario, &self.server, media);
        say(&format!("{} publish", scenario.rooms * scenario.publishers));
        crowd.open_rooms().await?;
        crowd.publish().await;
        let published = self.sample();
        say(&format!("{} receive", scenario.rooms * scenario.subscribers));
        crowd.receive().await;
        tokio::time::sleep(std::time::Duration::from_secs_f64(scenario.warm_up)).await;

        say(&format!("counting for {} s", scenario.duration));
        let before = self.begin_counting().await?;
        let half = scenario.counted() / 2;
        tokio::time::sleep(half).await;
        let full = self.sample();
        let (publishers, subscribers) = crowd.present();
        crowd.some_leave().await;
        tokio::time::sleep(scenario.counted().saturating_sub(before.at.elapsed())).await;
        let after = self.sample();
        let counted = self.counted().await?;

        let churn = match scenario.churn {
            Some(churn) => Some(self.churn(&crowd, churn, &say).await?),
            None => None,
        };
        let (churn, churn_failures) = churn.unzip();
        say("leaving");
        let first_frames = crowd.first_frames();
        let mut failures = crowd.leave().await;
        failures.extend(churn_failures.unwrap_or_default());
        if !self.processes.is_empty() {
            tokio::time::sleep(SETTLING).await;
        }
        let end = self.sample();

        let seconds = (after.at - before.at).as_secs_f64();
        let packets = counted.received.packets.max(1) as f64;
        let cpu = |of: &dyn Fn(&str) -> bool| -> f64 {
            let each = self.processes.iter().zip(before.server.iter().zip(&after.server));
            each.filter(|(process, _)| of(&process.name))
                .map(|(_, (before, after))| after.cpu.saturating_sub(before.cpu).as_secs_f64())
                .sum()
        };
        let processes = self.processes.iter().enumerate().map(|(at, process)| ProcessReport {
            name: process.name.clone(),
            cores: after.server[at].cpu.saturating_sub(before.server[at].cpu).as_secs_f64() / seconds,
            resident_idle: idle.server[at].resident,
            resident_published: published.server[at].resident,
            resident_full: full.server[at].resident,
            resident_after: end.server[at].resident,
        });
        let forwarder = self.processes.iter().position(|process| process.name == self.forwarder);
        let bytes_per_subscriber = forwarder.filter(|_| subscribers > 0).map(|at| {
            let more = full.server[at].resident as f64 - published.server[at].resident as f64;
            more / subscribers as f64
        });
        Ok(Report {
            scenario: scenario.name.clone(),
            server: self.forwarder.to_owned(),
            publishers,
            subscribers,
            received_tracks: counted.tracks,
            failed: failures.len(),
            failures: failures.into_iter().take(TOLD_FAILURES).collect(),
            seconds,
            sent: counted.sent,
            received: counted.received,
            packets_per_second: counted.received.packets as f64 / seconds,
            picture_latency_ms: (&counted.meters.picture).into(),
            sound_latency_ms: (&counted.meters.sound).into(),
            picture_gap_ms: (&counted.meters.gaps).into(),
            first_frame_ms: (&first_frames).into(),
            forwarding_ns_per_packet: 1e9 * cpu(&|name| name == self.forwarder) / packets,
            all_ns_per_packet: 1e9 * cpu(&|_| true) / packets,
            processes: processes.collect(),
            bytes_per_subscriber,
            dropped_by_server: after.dropped_by_server.saturating_sub(before.dropped_by_server),
            dropped_by_generator: after.dropped_by_generator.saturating_sub(before.dropped_by_generator),
            generator_cores: after.own.cpu.saturating_sub(before.own.cpu).as_secs_f64() / seconds,
            churn,
            lossless: scenario.way.loss == 0.0,
        })
    }

    /// Removes the rooms that a run has made, if it was given up.
    pub async fn clean_up(&self) {
        self.server.delete_rooms().await;
    }
}
