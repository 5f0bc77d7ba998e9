//! The thread that mixes a view's sound, every 20 ms.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::ids::{ParticipantId, StreamId, TrackId};

use super::{AudioFeed, AudioMixer, AudioStart, PlannedMix, TICK};
use crate::{
    link::{Audience, OutputTrack},
    plan::{Plan, Planned, Stop},
};

/// When the thread is this late, it leaves out what it missed instead of catching up.
const TOO_LATE: Duration = Duration::from_millis(200);

/// Between looks at the plan while nobody listens and nobody wants to know who speaks.
const NAP: Duration = Duration::from_millis(200);

/// What a view's audio thread does.
pub struct AudioPlan {
    /// When the media time of all outputs is zero.
    pub origin: Instant,
    /// What is mixed.
    pub inputs: Vec<PlannedInput>,
    /// What is made of it.
    pub outputs: Vec<PlannedOutput>,
    /// Of these outputs' tracks.
    pub audience: Arc<Audience>,
    /// Told which input is the loudest, when it changes; must not block.
    pub on_active: Option<Arc<dyn Fn(StreamId) + Send + Sync>>,
}

/// One input.
pub struct PlannedInput {
    /// Its stream.
    pub stream: StreamId,
    /// Who must not hear it.
    pub owner: ParticipantId,
    /// Where its packets are.
    pub feed: Arc<AudioFeed>,
}

/// One output.
pub struct PlannedOutput {
    /// What it is.
    pub mix: PlannedMix,
    /// Where it goes.
    pub track: Arc<OutputTrack>,
}

/// Mixes until dropped.
pub struct AudioThread(Planned<AudioPlan>);

impl AudioThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(name: &str, plan: AudioPlan) -> io::Result<Self> {
        Planned::start(&format!("audio {name}"), plan, work).map(Self)
    }

    /// Replaces the plan; inputs and outputs that stay are not interrupted.
    pub fn set(&self, plan: AudioPlan) {
        self.0.set(plan);
    }

    /// Sees to it that the work goes on; called some times a second.
    pub fn watch(&self, now: Instant) {
        self.0.watch(now);
    }
}

fn work(plan: &Plan<AudioPlan>, stop: &Stop) {
    let mut seen = 0;
    let Some(current) = plan.news(&mut seen) else { return };
    let origin = current.origin;
    let begun = ticks(Instant::now().saturating_duration_since(origin)) + 1;
    let mut desk = Desk::new(begun.into());
    desk.follow(current);
    let mut due = origin + TICK * begun;
    while !stop.is_asked() {
        while !stop.is_asked() && desk.nap() {
            if let Some(news) = plan.news(&mut seen) {
                desk.follow(news);
            }
            let missed = ticks(Instant::now().saturating_duration_since(due));
            desk.mixer.skip(missed);
            due += TICK * missed;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let late = Instant::now().saturating_duration_since(due);
        if late > TOO_LATE {
            let missed = ticks(late);
            desk.mixer.skip(missed);
            due += TICK * missed;
            metrics::counter!("kaigi_mixer_audio_missed_ticks_total").increment(missed.into());
        }
        if let Some(news) = plan.news(&mut seen) {
            desk.follow(news);
        }
        // Another thread may have taken the place of this one meanwhile.
        if !stop.has_come() {
            desk.tick(Instant::now());
        }
        due += TICK;
    }
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX / 2)
}

/// The mixer and what it is plugged into.
struct Desk {
    mixer: AudioMixer,
    plan: Option<Arc<AudioPlan>>,
    /// Number of the stream of each feed that the mixer's input decodes.
    attached: BTreeMap<StreamId, (usize, u64)>,
    tracks: BTreeMap<TrackId, Arc<OutputTrack>>,
    packets: VecDeque<(Instant, bytes::BytesMut)>,
}

impl Desk {
    fn new(tick: u64) -> Self {
        Self {
            mixer: AudioMixer::new(tick),
            plan: None,
            attached: BTreeMap::new(),
            tracks: BTreeMap::new(),
            packets: VecDeque::new(),
        }
    }

    fn follow(&mut self, plan: Arc<AudioPlan>) {
        let streams: BTreeSet<&StreamId> = plan.inputs.iter().map(|input| &input.stream).collect();
        self.attached.retain(|stream, _| streams.contains(stream));
        self.mixer.retain_inputs(|stream| streams.contains(stream));
        let id = |output: &PlannedOutput| output.track.description().id.clone();
        let tracks: BTreeMap<_, _> =
            plan.outputs.iter().map(|output| (id(output), Arc::clone(&output.track))).collect();
        // A track that took the place of another one of its name is another output.
        let replaced = |id: &TrackId| {
            let (old, new) = (self.tracks.get(id), tracks.get(id));
            old.zip(new).is_some_and(|(old, new)| !Arc::ptr_eq(old, new))
        };
        let outputs: BTreeMap<_, _> =
            plan.outputs.iter().map(|output| (id(output), output.mix.clone())).collect();
        let start = |id: &TrackId| {
            tracks.get(id).map_or_else(AudioStart::default, |track| AudioStart {
                sequence: track.next_sequence(),
                timestamp: track.description().clock.offset,
            })
        };
        self.mixer.retain_outputs(|id| !replaced(id));
        self.mixer.set_outputs(&outputs, start);
        self.tracks = tracks;
        let told = self.plan.as_ref().is_some_and(|old| old.on_active.is_some());
        if plan.on_active.is_some() && !told {
            self.mixer.reset_activity();
        }
        self.plan = Some(plan);
    }

    /// Sleeps for a while if there is nobody to mix for; whether it did.
    fn nap(&mut self) -> bool {
        let Some(plan) = self.plan.clone() else { return false };
        if plan.on_active.is_some() || plan.audience.is_present() {
            return false;
        }
        plan.audience.wait(NAP);
        for input in &plan.inputs {
            input.feed.drain(&mut self.packets);
        }
        self.packets.clear();
        self.mixer.rest();
        true
    }

    fn tick(&mut self, now: Instant) {
        let Some(plan) = self.plan.clone() else { return };
        for input in &plan.inputs {
            self.take_packets(input);
        }
        let tracks = &self.tracks;
        let wanted = |id: &TrackId| tracks.get(id).is_some_and(|track| track.has_listeners());
        let send = |id: &TrackId, packet: &[u8]| {
            if let Some(track) = tracks.get(id) {
                track.send(packet, now);
            }
        };
        let active = self.mixer.tick(now, wanted, send);
        if let (Some(active), Some(tell)) = (active, &plan.on_active) {
            tell(active);
        }
    }

    fn take_packets(&mut self, input: &PlannedInput) {
        let Some(attached) = input.feed.drain(&mut self.packets) else { return };
        // A feed may be replaced by another one whose streams are numbered from zero again.
        let plug = (Arc::as_ptr(&input.feed) as usize, attached.number);
        if self.attached.get(&input.stream) != Some(&plug) {
            let added = self.mixer.set_input(&input.stream, &input.owner, attached.codec, attached.level_id);
            if let Err(error) = added {
                tracing::warn!(stream = %input.stream, %error, "input not mixed");
                return;
            }
            self.attached.insert(input.stream.clone(), plug);
        }
        for (at, packet) in self.packets.drain(..) {
            self.mixer.packet(&input.stream, &packet, at);
        }
    }
}
