//! A live broadcast: H.264 as it comes, sound encoded to AAC without a gap. A connection that breaks is made anew, with pauses that
//! grow; the server sees each as a stream of its own that begins with a key frame at zero. While no picture comes the server is sent a
//! [`slate`], and while no sound comes, silence.

mod cmaf;
mod connection;
mod hls;
mod outlet;
pub mod slate;
mod upload;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use connection::{Connection, News};
use kaigi_outbound::http::ClientError;
use outlet::Outlet;
use slate::{Slate, SlateFrame};

use crate::{
    frame::{Format, Frame},
    lanes::{KeyFrames, Kind, LaneFrame},
    target::Server,
};

/// First and longest pause before a connection is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A connection that has carried media for this long was a success.
const SETTLED: Duration = Duration::from_secs(10);
/// Without sound for this long, silence is sent.
const SILENT_AFTER: Duration = Duration::from_millis(200);
/// What is said while the slate is shown.
const AWAY: &str = "the picture is away, the slate is shown";

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
    /// The slate's file.
    picture: Option<PathBuf>,
    slate: Option<Slate>,
    /// When the last picture of a source came.
    picture_at: Instant,
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
            outlet: Outlet::new(server, &expected)?,
            expected,
            key_frames,
            formats: [None, None],
            connection: None,
            pause: RETRY.0,
            retry_at: origin,
            condition: Condition::Starting,
            picture: server.slate.clone(),
            slate: None,
            picture_at: origin,
        })
    }

    /// How it is now.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match (&self.condition, &self.slate) {
            (Condition::Active, Some(_)) => Condition::Trouble(AWAY.to_owned()),
            (condition, _) => condition.clone(),
        }
    }

    /// Takes a frame.
    pub fn write(&mut self, lane: LaneFrame, now: Instant) {
        if lane.kind == Kind::Video {
            self.picture_at = now;
            if self.slate.is_some() {
                if !lane.frame.key {
                    return self.key_frames.request();
                }
                tracing::info!("the picture is back");
                self.slate = None;
            }
        }
        self.take(lane, now);
    }

    /// Takes a frame, of a source or of the slate.
    fn take(&mut self, lane: LaneFrame, now: Instant) {
        let place = &mut self.formats[lane.kind as usize];
        if lane.format.is_some() && *place != lane.format {
            let before = std::mem::replace(place, lane.format.clone());
            if let (Some(before), Some(format), Some(connection)) = (before, &lane.format, &self.connection)
                && !connection.go_on_with(lane.kind, &before, format)
            {
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

    /// Shows the slate while no picture comes.
    fn show_slate(&mut self, now: Instant) {
        let away = now.saturating_duration_since(self.picture_at) >= slate::SHOWN_AFTER;
        let Some(format) = self.formats[1].as_ref().filter(|_| away && self.expected.contains(&Kind::Video))
        else {
            return;
        };
        if self.slate.is_none() {
            tracing::info!("the picture is away, the slate is shown");
            metrics::counter!("kaigi_streaming_slates_total").increment(1);
            match Slate::start(self.picture.as_deref(), format.size) {
                Ok(slate) => self.slate = Some(slate),
                Err(error) => {
                    tracing::warn!(%error, "no slate");
                    // Tried again when it would be due anew.
                    self.picture_at = now;
                }
            }
        }
        while let Some(SlateFrame { key, data, format }) = self.slate.as_ref().and_then(Slate::next) {
            let time = now.saturating_duration_since(self.origin);
            let frame = Frame { time, key, data };
            self.take(LaneFrame { kind: Kind::Video, format: key.then_some(format), frame }, now);
        }
    }

    /// Looks after the connection; called some fifty times a second.
    pub fn tick(&mut self, now: Instant) {
        self.show_slate(now);
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
