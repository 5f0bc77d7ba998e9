//! A stream that comes from elsewhere into a room: pulled, taken apart, transcoded where browsers could not play it, and sent as tracks
//! that others attach. A source that breaks is tried again, with pauses that grow, for as long as the room wants it; a file that has
//! ended begins anew. What encoders push is waited for instead. The tracks go on unbroken.
//!
//! What passes as it came can't be asked for key frames: who comes to watch sees the picture from the source's next one on. What is
//! transcoded here has one whenever somebody asks.

mod branch;
mod codec;
mod desk;
mod feed;
mod fetch;
mod hls;
mod pace;
mod pull;
mod source;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::RecvTimeoutError,
    },
    time::{Duration, Instant},
};

use kaigi_intake::Throttle;
use kaigi_proto::v1;
use tokio::runtime::Handle;

use branch::News;
use codec::{Choice, IngestCodec};
use desk::Desk;
use pull::{Inflow, Pull, Wanted};

pub use desk::Place;
pub use pace::Pace;
pub use source::{Source, SourceError, Way};

use crate::{
    door::{Inlet, Pushed},
    events::OutputTeller,
    lanes::Kind,
    target::Policy,
};

/// Longest wait for a source to flow.
const OPEN: Duration = Duration::from_secs(30);
/// After the first stream of a source others are waited for no longer than this.
const SETTLE: Duration = Duration::from_secs(3);
/// A source that gives nothing for that long is broken.
const SILENCE: Duration = Duration::from_secs(10);
/// First and longest pause before a source is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A source that has flowed for this long was a success.
const SETTLED: Duration = Duration::from_secs(10);
/// Why nobody can push any more.
const ENDING: &str = "this server is about to end";
/// Between looks at the clock.
const TICK: Duration = Duration::from_millis(50);
/// Between key frames that are asked for.
const KEY_FRAMES: Duration = Duration::from_millis(500);

/// An input that runs until dropped.
#[derive(Debug)]
pub struct Input {
    source: Source,
    wishes: [v1::InputWish; 2],
    desk: Arc<Desk>,
    stop: Arc<AtomicBool>,
    /// Where it is pushed to; empty if it is not.
    listen_url: String,
}

impl Input {
    /// Starts it; what is pushed comes by the inlet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(
        source: Source,
        description: &v1::InputDescription,
        policy: Policy,
        place: Place,
        teller: OutputTeller,
        inlet: Option<Inlet>,
    ) -> Result<Self, std::io::Error> {
        let name = format!("in-{}-{}", description.room_id, description.id);
        let paused = [false, false].map(|paused| Arc::new(AtomicBool::new(paused)));
        let desk = Arc::new(Desk::new(place, name, source.way.pace(), paused));
        let stop = Arc::new(AtomicBool::new(false));
        let listen_url = inlet.as_ref().map(Inlet::url).unwrap_or_default();
        let worker = Worker {
            source: source.clone(),
            description: description.clone(),
            policy,
            desk: Arc::clone(&desk),
            stop: Arc::clone(&stop),
            teller,
            inlet,
            pushed: None,
            told: false,
            transcodes: false,
            attempts: 0,
            pause: RETRY.0,
        };
        let runtime = Handle::current();
        let run = move || {
            let _runtime = runtime.enter();
            worker.run();
        };
        let input = Self { source, wishes: wishes(description), desk, stop, listen_url };
        input.pause(description);
        std::thread::Builder::new().name("input".into()).spawn(run)?;
        Ok(input)
    }

    /// Where encoders push it to, without the key; empty if it is pulled.
    #[must_use]
    pub fn listen_url(&self) -> &str {
        &self.listen_url
    }

    /// Whether it pulls what it is to pull.
    #[must_use]
    pub fn is_for(&self, source: &Source, description: &v1::InputDescription) -> bool {
        self.source == *source && self.wishes == wishes(description)
    }

    /// Takes over which kinds are not to flow now.
    pub fn pause(&self, description: &v1::InputDescription) {
        self.desk.pause([description.audio_paused, description.video_paused]);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // Its thread may wait for a server, and is not waited for.
        self.stop.store(true, Ordering::Relaxed);
        self.desk.close();
    }
}

fn wishes(description: &v1::InputDescription) -> [v1::InputWish; 2] {
    [description.audio(), description.video()]
}

/// What keeps an input going.
struct Worker {
    source: Source,
    description: v1::InputDescription,
    policy: Policy,
    desk: Arc<Desk>,
    stop: Arc<AtomicBool>,
    teller: OutputTeller,
    /// Whoever pushes comes by this, if somebody is to.
    inlet: Option<Inlet>,
    /// Who does, by RTMP.
    pushed: Option<Pushed>,
    /// Whether the tracks are known to the room.
    told: bool,
    /// Whether pictures are.
    transcodes: bool,
    /// So far.
    attempts: usize,
    pause: Duration,
}

/// How an attempt ended.
enum End {
    Stopped,
    /// The source has no more, which is as it should be.
    Over,
    Broken(String),
    /// Pictures can't pass: it is to be tried again at once.
    Unfit,
}

impl Worker {
    fn run(mut self) {
        self.take_up();
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let end = self.attempt();
            if begun.elapsed() >= SETTLED {
                self.pause = RETRY.0;
            }
            match end {
                End::Stopped => return,
                End::Unfit => self.transcodes = true,
                End::Over => self.wait(TICK),
                End::Broken(reason) if self.inlet.is_some() => {
                    self.pushed = None;
                    tracing::info!(reason, "nothing is pushed any more");
                    self.teller.tell(v1::OutputState::Trouble, &reason);
                    self.wait(RETRY.0);
                }
                End::Broken(reason) => {
                    let reason = self.without_secrets(&reason);
                    metrics::counter!("kaigi_streaming_input_failures_total").increment(1);
                    if !self.told {
                        tracing::info!(url = self.source.shown(), reason, "input can't be had");
                        return self.teller.tell(v1::OutputState::Failed, &reason);
                    }
                    tracing::warn!(url = self.source.shown(), reason, "input interrupted, tried again");
                    self.teller.tell(v1::OutputState::Trouble, &reason);
                    self.wait(self.pause);
                    self.pause = (self.pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// An input that another node had has its tracks at once.
    fn take_up(&mut self) {
        for track in &self.description.tracks {
            let Some(format) = track.source.as_ref().and_then(|source| source.format.as_ref()) else {
                continue;
            };
            let Some(codec) = IngestCodec::from_name(&format.codec) else { continue };
            let profile = codec::profile_named(&format.profile);
            self.told |= self.desk.open(&Choice { codec, passes: false, profile }).is_ok();
        }
        if self.told {
            let reason = "another node has taken over";
            self.teller.tell_tracks(v1::OutputState::Trouble, reason, self.desk.tracks());
        }
    }

    fn attempt(&mut self) -> End {
        let source = match Source::check(&self.policy, &self.description) {
            Ok(source) => source,
            Err(error) => return End::Broken(error.to_string()),
        };
        let Some(inflow) = self.inflow() else { return End::Stopped };
        self.desk.restart();
        let wanted = Wanted {
            wishes: wishes(&self.description),
            formats: [self.description.audio_formats.clone(), self.description.video_formats.clone()],
            transcodes: self.transcodes,
        };
        let desk = Arc::clone(&self.desk);
        self.attempts = self.attempts.wrapping_add(1);
        let pull = match Pull::start(&source, &self.policy, self.attempts, wanted, desk, inflow) {
            Ok(pull) => pull,
            Err(error) => return End::Broken(error.to_string()),
        };
        self.stay(&pull)
    }

    /// By what it comes if it is pushed, once somebody does; by SRT its pipeline waits for that. `None` if it is to stop.
    fn inflow(&mut self) -> Option<Option<Inflow>> {
        let inflow = match &self.inlet {
            None => None,
            Some(Inlet::Srt(port)) => {
                let number = port.number();
                // The port is not opened once more: whoever pushes is to come elsewhere.
                if self.is_closed() {
                    self.teller.tell(v1::OutputState::Trouble, ENDING);
                }
                while self.is_closed() && !self.stop.load(Ordering::Relaxed) {
                    self.wait(RETRY.0);
                }
                Some(Inflow::Port(number))
            }
            Some(Inlet::Rtmp(expected)) => {
                while self.pushed.is_none() && !self.stop.load(Ordering::Relaxed) {
                    self.pushed = expected.wait(TICK);
                }
                self.pushed.clone().map(Inflow::Tags)
            }
        };
        (!self.stop.load(Ordering::Relaxed)).then_some(inflow)
    }

    /// Listens to a pipeline until it ends.
    fn stay(&mut self, pull: &Pull) -> End {
        let begun = Instant::now();
        let mut progress = Progress::default();
        let mut key_frames = Throttle::new(KEY_FRAMES);
        let mut active = false;
        let stored = self.source.way.pace() == Pace::Stored;
        loop {
            let news = match pull.news().recv_timeout(TICK) {
                Ok(news) => Some(news),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return End::Broken("the pipeline is gone".to_owned()),
            };
            if self.stop.load(Ordering::Relaxed) {
                return End::Stopped;
            }
            if self.is_closed() && self.awaits(&progress) {
                return End::Broken(ENDING.to_owned());
            }
            let now = Instant::now();
            match news {
                Some(News::Failed(reason)) => return End::Broken(reason),
                Some(News::Ended) if active && stored => return End::Over,
                Some(News::Ended) if !active && stored && progress.found != [false, false] => {
                    progress.over = true;
                }
                Some(News::Ended) => return End::Broken("the source has ended".to_owned()),
                Some(News::Unfit) => return End::Unfit,
                Some(News::Looked) => drop(progress.first.get_or_insert(now)),
                Some(News::Found(kind)) => progress.found(kind, now),
                Some(News::Flows(kind)) => progress.flows[kind as usize] = true,
                Some(News::Resized) if self.told => {
                    let state = if active { v1::OutputState::Active } else { v1::OutputState::Trouble };
                    self.teller.tell_tracks(state, "", self.desk.tracks());
                }
                Some(News::Resized) | None => {}
            }
            if self.desk.take_key_frame_request() {
                key_frames.request();
            }
            if key_frames.poll(now) {
                pull.force_key_frame();
            }
            if active {
                if self.desk.silence(now) > SILENCE {
                    return End::Broken("nothing comes from the source".to_owned());
                }
                continue;
            }
            match progress.judge(now, &self.wishes()) {
                Judgement::Ready => {
                    active = true;
                    self.told = true;
                    tracing::info!(url = self.source.shown(), "input flows");
                    self.teller.tell_tracks(v1::OutputState::Active, "", self.desk.tracks());
                    if progress.over {
                        return End::Over;
                    }
                }
                Judgement::Open if progress.over => return End::Broken("the source has ended".to_owned()),
                Judgement::Lacks(what) => return End::Broken(format!("the source has no {what}")),
                Judgement::Open if now.saturating_duration_since(begun) > OPEN && !self.awaits(&progress) => {
                    return End::Broken("nothing comes from the source".to_owned());
                }
                Judgement::Open => {}
            }
        }
    }

    /// Whether whoever does not push yet is let in no more.
    fn is_closed(&self) -> bool {
        self.inlet.as_ref().is_some_and(Inlet::is_closed)
    }

    /// Whether nobody pushes yet.
    fn awaits(&self, progress: &Progress) -> bool {
        matches!(self.inlet, Some(Inlet::Srt(_))) && progress.first.is_none()
    }

    /// What there must be; a kind that an input has lost is missed, and the other goes on.
    fn wishes(&self) -> [v1::InputWish; 2] {
        wishes(&self.description).map(|wish| match wish {
            v1::InputWish::Needed if self.told => v1::InputWish::Auto,
            wish => wish,
        })
    }

    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.stop.load(Ordering::Relaxed) {
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return,
                left => std::thread::sleep(left.min(TICK)),
            }
        }
    }

    /// Elements name URLs in what they say.
    fn without_secrets(&self, reason: &str) -> String {
        let mut reason = reason.replace(&self.source.url, &self.source.shown());
        if let Ok(url) = url::Url::parse(&self.source.url) {
            // The path may be named with the server's address in place of its name.
            let path = matches!(self.source.way, Way::Rtmp | Way::Rtsp { .. }).then(|| url.path());
            let secrets = path.into_iter().chain(url.password()).chain(url.query());
            for secret in secrets.filter(|secret| secret.len() > 2) {
                reason = reason.replace(secret, "…");
            }
        }
        reason
    }
}

/// How far a pipeline is.
#[derive(Debug, Default)]
struct Progress {
    found: [bool; 2],
    flows: [bool; 2],
    /// When there was anything.
    first: Option<Instant>,
    /// The source has no more than what it has given.
    over: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Open,
    Ready,
    Lacks(&'static str),
}

impl Progress {
    fn found(&mut self, kind: Kind, now: Instant) {
        self.found[kind as usize] = true;
        self.first.get_or_insert(now);
    }

    /// Live servers tell of their streams one after the other, and of those that there are not they don't tell at all.
    fn judge(&self, now: Instant, wishes: &[v1::InputWish; 2]) -> Judgement {
        let settled = self.first.is_some_and(|first| now.saturating_duration_since(first) >= SETTLE);
        let waited = settled || self.over;
        let missing = |kind: &Kind, wish| wishes[*kind as usize] == wish && !self.found[*kind as usize];
        let lacking = Kind::ALL.into_iter().find(|kind| missing(kind, v1::InputWish::Needed));
        match lacking {
            Some(Kind::Audio) if waited => Judgement::Lacks("sound"),
            Some(Kind::Video) if waited => Judgement::Lacks("picture"),
            Some(_) => Judgement::Open,
            None if self.found == [false, false] && waited => {
                Judgement::Lacks("sound and no picture that can be had")
            }
            None if self.found == [false, false] || self.found != self.flows => Judgement::Open,
            None if waited || !Kind::ALL.iter().any(|kind| missing(kind, v1::InputWish::Auto)) => {
                Judgement::Ready
            }
            None => Judgement::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use v1::InputWish::{Auto, Needed, None as Not};

    #[test]
    fn an_input_is_ready_when_all_that_is_wanted_flows() {
        let now = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.judge(now, &[Auto, Auto]), Judgement::Open);
        progress.found(Kind::Video, now);
        assert_eq!(progress.judge(now, &[Not, Auto]), Judgement::Open, "it does not flow");
        progress.flows[1] = true;
        assert_eq!(progress.judge(now, &[Not, Auto]), Judgement::Ready);
        assert_eq!(progress.judge(now, &[Auto, Auto]), Judgement::Open, "there may be sound");
        assert_eq!(progress.judge(now + SETTLE, &[Auto, Auto]), Judgement::Ready);
        progress.found(Kind::Audio, now);
        assert_eq!(progress.judge(now + SETTLE, &[Auto, Auto]), Judgement::Open);
        progress.flows[0] = true;
        assert_eq!(progress.judge(now, &[Auto, Auto]), Judgement::Ready);
    }

    #[test]
    fn what_is_needed_and_not_there_is_said() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.found(Kind::Audio, now);
        progress.flows[0] = true;
        assert_eq!(progress.judge(now, &[Auto, Needed]), Judgement::Open);
        assert_eq!(progress.judge(now + SETTLE, &[Auto, Needed]), Judgement::Lacks("picture"));
        assert_eq!(progress.judge(now + SETTLE, &[Needed, Auto]), Judgement::Ready);
        let empty = Progress { first: Some(now), ..Progress::default() };
        assert!(matches!(empty.judge(now + SETTLE, &[Auto, Auto]), Judgement::Lacks(_)));
    }
}
