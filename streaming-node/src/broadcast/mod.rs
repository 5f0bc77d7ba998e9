//! A live broadcast: H.264 as it comes, sound encoded to AAC without a gap. A connection that breaks is made anew, with pauses that
//! grow; the server sees each as a stream of its own that begins with a key frame at zero.

mod connection;
mod hls;
mod outlet;

use std::time::{Duration, Instant};

use connection::{Connection, News};
use kaigi_outbound::http::ClientError;
use outlet::Outlet;

use crate::{
    frame::Format,
    lanes::{KeyFrames, Kind, LaneFrame},
    target::Server,
};

/// First and longest pause before a connection is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A connection that has carried media for this long was a success.
const SETTLED: Duration = Duration::from_secs(10);
/// Without sound for this long, silence is sent.
const SILENT_AFTER: Duration = Duration::from_millis(200);
/// How a broadcast is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Media are not there yet, or the server has not answered.
    Starting,
    /// The server takes it.
    Active,
    /// Interrupted, and tried again.
    Trouble(String),
}

/// See the module. Never waits for the server.
pub struct Broadcast {
    origin: Instant,
    outlet: Outlet,
    expected: Vec<Kind>,
    key_frames: KeyFrames,
    formats: [Option<Format>; 2],
    connection: Option<Connection>,
    pause: Duration,
    retry_at: Instant,
    condition: Condition,
}

impl Broadcast {
    /// Begins with the first frames. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If there can be no client for the server.
    pub fn new(
        origin: Instant,
        server: &Server,
        expected: Vec<Kind>,
        key_frames: KeyFrames,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            origin,
            outlet: Outlet::new(server)?,
            expected,
            key_frames,
            formats: [None, None],
            connection: None,
            pause: RETRY.0,
            retry_at: origin,
            condition: Condition::Starting,
        })
    }

    /// How it is now.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Takes a frame.
    pub fn write(&mut self, lane: LaneFrame, now: Instant) {
        let place = &mut self.formats[lane.kind as usize];
        if lane.format.is_some() && *place != lane.format {
            let was_other = place.is_some();
            place.clone_from(&lane.format);
            if was_other && self.connection.is_some() {
                self.disconnect();
                self.retry_at = now;
            }
        }
        if self.connection.is_none() {
            self.begin_with(&lane, now);
        }
        let Some(connection) = &mut self.connection else { return };
        match lane.kind {
            Kind::Video => connection.picture(&lane, now),
            Kind::Audio => connection.sound(lane.frame.time, &lane.frame.data, self.formats[0].as_ref()),
        }
    }

    /// Looks after the connection; called some fifty times a second.
    pub fn tick(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else {
            let waits_for_pictures = self.expected.contains(&Kind::Video);
            if waits_for_pictures && now >= self.retry_at && self.formats[1].is_some() {
                self.key_frames.request();
            }
            return;
        };
        match connection.news() {
            Some(News::Failed(reason)) => return self.failed(reason, now),
            Some(News::Flows) => {
                if self.condition != Condition::Active {
                    tracing::info!("broadcast flows");
                }
                self.condition = Condition::Active;
            }
            None => {}
        }
        let age = now.saturating_duration_since(connection.since());
        if connection.is_behind() {
            return self.failed("the server does not take what is sent".into(), now);
        }
        match self.condition {
            Condition::Active if age >= SETTLED => self.pause = RETRY.0,
            Condition::Starting | Condition::Trouble(_) if age >= self.outlet.patience() => {
                return self.failed("the server does not answer".into(), now);
            }
            _ => {}
        }
        if connection.wants_key_frame(now, self.outlet.key_frame_interval()) {
            self.key_frames.request();
        }
        let time = now.saturating_duration_since(self.origin);
        connection.fill_silence(time.saturating_sub(SILENT_AFTER), self.formats[0].as_ref());
    }

    /// Connects if it is time for that and the frame is one to begin with.
    fn begin_with(&mut self, lane: &LaneFrame, now: Instant) {
        let begins = match self.expected.contains(&Kind::Video) {
            true => lane.kind == Kind::Video && lane.frame.key,
            false => true,
        };
        if !begins || now < self.retry_at {
            return;
        }
        match Connection::open(&self.outlet, &self.expected, &self.formats, lane.frame.time, now) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => self.failed(error.to_string(), now),
        }
    }

    fn failed(&mut self, reason: String, now: Instant) {
        tracing::warn!(reason, pause_ms = self.pause.as_millis() as u64, "broadcast interrupted");
        metrics::counter!("kaigi_streaming_broadcast_interruptions_total").increment(1);
        self.disconnect();
        self.retry_at = now + self.pause;
        self.pause = (self.pause * 2).min(RETRY.1);
        self.condition = Condition::Trouble(reason);
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Ends it; may block for a moment.
    pub fn finish(mut self) {
        self.outlet.finish(self.connection.take());
    }
}
