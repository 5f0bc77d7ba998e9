//! The thread that composes a view's picture, at the view's frame rate, and hands it to the encoder.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Composer, Continuity, EncoderSettings, PipelineError, Scene, VideoEncoder};
use crate::{
    link::{Backoff, OutputTrack, Throttle},
    plan::{Plan, Planned, Stop},
};

/// Between key frames on request. Each costs several times a frame's bits; a burst of requests is one event.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// When the thread is this late, it leaves out what it missed instead of catching up.
const TOO_LATE: Duration = Duration::from_millis(200);

/// What a view's video thread does.
pub struct StudioPlan {
    /// What the picture shows.
    pub scene: Scene,
    /// How it is encoded.
    pub encoder: EncoderSettings,
    /// kbit/s.
    pub bitrate: u32,
    /// Whether edges are shown.
    pub edges: bool,
    /// Where it goes.
    pub track: Arc<OutputTrack>,
}

/// Composes until dropped.
pub struct Studio(Planned<StudioPlan>);

impl Studio {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(name: &str, plan: StudioPlan) -> io::Result<Self> {
        Planned::start(&format!("video {name}"), plan, work).map(Self)
    }

    /// Replaces the plan. Scene, bitrate and filter change without a break; anything else makes a new encoder.
    pub fn set(&self, plan: StudioPlan) {
        self.0.set(plan);
    }
}

fn work(plan: &Plan<StudioPlan>, stop: &Stop) {
    let mut seen = 0;
    let Some(mut current) = plan.news(&mut seen) else { return };
    let mut composer = Composer::new(current.scene.clone());
    let mut booth = Booth::default();
    let mut due = Instant::now();
    while !stop.is_asked() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if let Some(news) = plan.news(&mut seen) {
            composer.set_scene(news.scene.clone());
            current = news;
        }
        let step = Duration::from_secs(1) / current.encoder.framerate.max(1);
        let now = Instant::now();
        if now.saturating_duration_since(due) > TOO_LATE {
            metrics::counter!("kaigi_mixer_video_late_total").increment(1);
            due = now;
        }
        // Pictures that nobody sees are not made.
        if current.track.has_listeners() {
            booth.encode(&current, &mut composer, due, now);
        }
        due += step;
    }
}

/// The encoder, made and made anew as needed.
struct Booth {
    running: Option<Running>,
    backoff: Backoff,
    /// After a failure, not before this.
    not_before: Option<Instant>,
    key_frames: Throttle,
}

struct Running {
    encoder: VideoEncoder,
    settings: EncoderSettings,
    bitrate: u32,
    edges: bool,
    broken: Arc<AtomicBool>,
    since: Instant,
}

impl Default for Booth {
    fn default() -> Self {
        Self {
            running: None,
            backoff: Backoff::default(),
            not_before: None,
            key_frames: Throttle::new(KEY_FRAME_INTERVAL),
        }
    }
}

impl Booth {
    /// An encoder that has run this long was no failure.
    const SETTLED: Duration = Duration::from_secs(5);

    fn encode(&mut self, plan: &StudioPlan, composer: &mut Composer, at: Instant, now: Instant) {
        self.prepare(plan, now);
        if plan.track.take_key_frame_request() {
            self.key_frames.request();
        }
        let Some(running) = &self.running else { return };
        if self.key_frames.poll(now) {
            running.encoder.force_key_frame();
        }
        let media = at.saturating_duration_since(plan.track.description().clock.origin);
        running.encoder.push(composer.compose(), media);
        metrics::counter!("kaigi_mixer_composed_frames_total").increment(1);
    }

    /// Sees to it that an encoder with the plan's settings runs, if possible.
    fn prepare(&mut self, plan: &StudioPlan, now: Instant) {
        if let Some(running) = &mut self.running {
            let broken = running.broken.load(Ordering::Relaxed);
            if !broken && running.settings == plan.encoder {
                running.adjust(plan);
                if now.saturating_duration_since(running.since) > Self::SETTLED {
                    self.backoff.reset();
                }
                return;
            }
            if broken {
                self.not_before = Some(now + self.backoff.pause());
            }
            self.running = None;
        }
        if self.not_before.is_some_and(|time| now < time) {
            return;
        }
        match Running::start(plan, now) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                tracing::warn!(track = %plan.track.description().id, %error, "no encoder");
                self.not_before = Some(now + self.backoff.pause());
            }
        }
    }
}

impl Running {
    fn start(plan: &StudioPlan, now: Instant) -> Result<Self, PipelineError> {
        let track = Arc::clone(&plan.track);
        let from = Continuity {
            sequence: track.next_sequence(),
            timestamp_offset: track.description().clock.offset,
        };
        let broken = Arc::new(AtomicBool::new(false));
        let (flag, id) = (Arc::clone(&broken), track.description().id.clone());
        let failed = move |reason: String| {
            tracing::warn!(track = %id, reason, "encoder failed");
            flag.store(true, Ordering::Relaxed);
        };
        let packets = Arc::new(move |packet: &[u8]| track.send(packet));
        let encoder = VideoEncoder::start(&plan.encoder, plan.bitrate, plan.edges, from, packets, failed)?;
        let (settings, bitrate, edges) = (plan.encoder.clone(), plan.bitrate, plan.edges);
        Ok(Self { encoder, settings, bitrate, edges, broken, since: now })
    }

    fn adjust(&mut self, plan: &StudioPlan) {
        if self.bitrate != plan.bitrate {
            self.encoder.set_bitrate(plan.bitrate);
            self.bitrate = plan.bitrate;
        }
        if self.edges != plan.edges {
            self.encoder.set_edges(plan.edges);
            self.encoder.force_key_frame();
            self.edges = plan.edges;
        }
    }
}
