//! A conference whose server's processes are killed one after the other, and what its guests notice.

mod diary;
mod guest;
mod report;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    diary::Diary,
    guest::{Conference, Guest, Role},
};
pub use self::{
    diary::What,
    report::{Report, Row},
};
use crate::{
    media::Media,
    recording::{Codec, LayerSpec, MakeError},
    run::{Process, family, usage},
    scenario,
    server::{Kaigi, ServerError, Way},
};

/// What begins the names of Kaigi's programs.
const PREFIX: &str = "kaigi-";
/// For how long processes are looked at to see which of several works.
const LOOK: Duration = Duration::from_millis(500);
/// What has come later than that, comes.
const LATE: Duration = Duration::from_secs(1);
/// Longest wait for quiet before the next step.
const SETTLING: Duration = Duration::from_secs(60);
/// From one attempt to join to the next.
const JOIN_EVERY: Duration = Duration::from_millis(200);
/// Longest attempt to join.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// What is done to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blow {
    /// SIGKILL: it is gone.
    #[default]
    Kill,
    /// SIGTERM: it is asked to end.
    Term,
    /// SIGSTOP, and SIGCONT after half of the step: it stands still and does not know.
    Stop,
}

/// One step of a plan: "conference-agent", "mixer-node:stop".
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Which kind of process, such as "portal".
    pub process: String,
    /// What is done to it.
    pub blow: Blow,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blow = match self.blow {
            Blow::Kill => "",
            Blow::Term => ":term",
            Blow::Stop => ":stop",
        };
        write!(f, "{}{blow}", self.process)
    }
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (process, blow) = text.split_once(':').unwrap_or((text, "kill"));
        let blow = match blow {
            "kill" => Blow::Kill,
            "term" => Blow::Term,
            "stop" => Blow::Stop,
            other => return Err(format!("{other} is none of kill, term and stop")),
        };
        let process = process.strip_prefix(PREFIX).unwrap_or(process);
        if !ALL.contains(&process) {
            return Err(format!("{process} is none of {}", ALL.join(", ")));
        }
        Ok(Self { process: process.to_owned(), blow })
    }
}

/// All kinds of processes, those last whose death is noticed most.
pub const ALL: [&str; 6] =
    ["cluster-manager", "conference-agent", "mixer-node", "streaming-node", "portal", "access-node"];

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// No recordings.
    #[error(transparent)]
    Recording(#[from] MakeError),
    /// The conference did not come about.
    #[error("the conference did not come about: {0}")]
    Conference(#[from] ServerError),
    /// It is not there.
    #[error("no {0} runs under the launcher")]
    NoProcess(String),
    /// It can't be signalled.
    #[error("{process}: {source}")]
    Signal {
        /// Which.
        process: String,
        /// Why.
        source: nix::Error,
    },
    /// It did not recover from the step before, or never was well.
    #[error("the conference is not well before {step}: {why}")]
    NotWell {
        /// What was to come.
        step: String,
        /// What is missing.
        why: String,
    },
}

/// What a run needs.
#[derive(Debug)]
pub struct Chaos {
    /// Where.
    pub kaigi: Kaigi,
    /// Whose children are killed.
    pub launcher: u32,
    /// What is done, in this order.
    pub plan: Vec<Step>,
    /// How many receive; one more publishes.
    pub listeners: usize,
    /// How long is looked at what a step does.
    pub window: Duration,
    /// Where recordings are kept.
    pub cache: PathBuf,
}

struct Guests {
    diaries: Vec<Arc<Mutex<Diary>>>,
    /// How many of them receive.
    listeners: usize,
}

impl Guests {
    /// A new page for all, and the pages until now.
    fn turn(&self) -> Vec<Diary> {
        self.diaries.iter().map(|diary| diary.lock().unwrap_or_else(PoisonError::into_inner).turn()).collect()
    }
}

impl Chaos {
    /// Carries the plan out. `say` is told what is going on. May be given up at any time; [`Self::clean_up`] removes the room then.
    ///
    /// # Errors
    /// If there is no conference to disturb.
    pub async fn run(&self, say: impl Fn(&str)) -> Result<Report, ChaosError> {
        say("recordings are read, or made if there are none");
        let layers = vec![LayerSpec { width: 640, height: 360, kbps: 500 }];
        let wanted = scenario::Media {
            codec: Codec::Vp8,
            framerate: 30,
            layers,
            audio: true,
            speaking: None,
            large: None,
        };
        let media = Arc::new(Media::read(self.cache.clone(), wanted).await?);
        let room = self.kaigi.create_room("chaos").await?;
        let conference = Conference {
            kaigi: self.kaigi.clone(),
            mixed: format!("{room}-common"),
            room,
            media,
            speaks: watch::Sender::new(None),
        };
        let stop = CancellationToken::new();
        // However this ends, the guests go.
        let _stopped = stop.clone().drop_guard();
        let mut lives = JoinSet::new();
        let mut guests = Guests { diaries: Vec::new(), listeners: self.listeners };
        say(&format!("one publishes, {} receive", self.listeners));
        for number in 0..=self.listeners {
            let role = if number == 0 { Role::Speaker } else { Role::Listener };
            let (guest, diary) = Guest::join(conference.clone(), role, format!("guest {number}")).await?;
            guests.diaries.push(diary);
            lives.spawn(guest.live(stop.clone()));
        }
        let mut report = Report::default();
        for step in &self.plan {
            self.until_well(&guests, step).await?;
            say(&format!("{step}"));
            report.rows.push(self.step(&conference, &guests, step).await?);
        }
        stop.cancel();
        while lives.join_next().await.is_some() {}
        Ok(report)
    }

    /// Removes the room.
    pub async fn clean_up(&self) {
        self.kaigi.delete_rooms().await;
    }

    /// Waits until everybody is answered and receives everything, for a second.
    async fn until_well(&self, guests: &Guests, step: &Step) -> Result<(), ChaosError> {
        let began = Instant::now();
        loop {
            guests.turn();
            tokio::time::sleep(LATE).await;
            let pages = guests.turn();
            let now = Instant::now();
            let unwell = pages.iter().enumerate().find_map(|(number, page)| {
                let listens = number > 0 && guests.listeners > 0;
                let stands =
                    |what| listens && page.longest_gap(what, now, LATE).is_none_or(|gap| gap > LATE / 2);
                let unwell = if page.calls.is_empty() || page.calls.iter().any(|call| !call.granted) {
                    "is not answered"
                } else if stands(What::Forward) {
                    "receives nothing"
                } else if stands(What::Mixed) {
                    "receives no mix"
                } else {
                    return None;
                };
                let errors = if page.errors.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", page.errors.join("; "))
                };
                Some(format!("guest {number} {unwell}{errors}"))
            });
            match unwell {
                None => return Ok(()),
                Some(why) if began.elapsed() > SETTLING => {
                    return Err(ChaosError::NotWell { step: step.to_string(), why });
                }
                Some(_) => {}
            }
        }
    }

    async fn step(&self, conference: &Conference, guests: &Guests, step: &Step) -> Result<Row, ChaosError> {
        let target = self.working(&step.process).await?;
        guests.turn();
        let blow = |signal| {
            let pid = Pid::from_raw(target.pid as i32);
            kill(pid, signal).map_err(|source| ChaosError::Signal { process: target.name.clone(), source })
        };
        let struck = Instant::now();
        blow(match step.blow {
            Blow::Kill => Signal::SIGKILL,
            Blow::Term => Signal::SIGTERM,
            Blow::Stop => Signal::SIGSTOP,
        })?;
        let continued = async {
            tokio::time::sleep(self.window / 2).await;
            // One that was replaced meanwhile and has ended is as good.
            if step.blow == Blow::Stop {
                let _ = blow(Signal::SIGCONT);
            }
        };
        let watched = async {
            let joined = tokio::time::timeout(self.window, join_again(conference, struck)).await.ok();
            tokio::time::sleep(self.window.saturating_sub(struck.elapsed())).await;
            joined
        };
        let ((), joined) = tokio::join!(continued, watched);
        let now = Instant::now();
        Ok(Row::new(step.clone(), struck, now, joined, &guests.turn()))
    }

    /// The process of a kind that does the most, if there are several.
    async fn working(&self, kind: &str) -> Result<Process, ChaosError> {
        let name = format!("{PREFIX}{kind}");
        let all: Vec<_> = family(self.launcher).into_iter().filter(|process| process.name == name).collect();
        let before: Vec<_> = all.iter().map(|process| usage(process.pid).cpu).collect();
        if all.len() > 1 {
            tokio::time::sleep(LOOK).await;
        }
        let used = |(process, before): &(Process, Duration)| usage(process.pid).cpu.saturating_sub(*before);
        let most = all.into_iter().zip(before).max_by_key(used);
        most.map(|(process, _)| process).ok_or_else(|| ChaosError::NoProcess(kind.to_owned()))
    }
}

/// Somebody new tries to join until he is in; how long after `struck` that is.
async fn join_again(conference: &Conference, struck: Instant) -> Duration {
    let mut attempts = tokio::time::interval(JOIN_EVERY);
    loop {
        attempts.tick().await;
        let join = conference.kaigi.join(&conference.room, "newcomer", Way::default(), rand::random());
        if let Ok(Ok(newcomer)) = tokio::time::timeout(JOIN_PATIENCE, join).await {
            let after = struck.elapsed();
            // Whether or not he can take his leave.
            let _ = tokio::time::timeout(JOIN_PATIENCE, newcomer.leave()).await;
            return after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_written() {
        for text in ["portal", "mixer-node:term", "conference-agent:stop"] {
            assert_eq!(text.parse::<Step>().unwrap().to_string(), text);
        }
        assert_eq!("kaigi-portal:kill".parse::<Step>(), "portal".parse());
        for wrong in ["redis", "portal:maim", "", ":kill"] {
            assert!(wrong.parse::<Step>().is_err(), "{wrong}");
        }
    }
}
