//! What was measured, as a table and as JSON.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::meter::{Histogram, Received, Sent};

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many there are.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// What 90 of a hundred do not exceed.
    pub p90: f64,
    /// What 99 of a hundred do not exceed.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl From<&Histogram> for Times {
    fn from(histogram: &Histogram) -> Self {
        let at = |percent| histogram.percentile(percent).map_or(0.0, millis);
        Self {
            count: histogram.count(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            max: millis(histogram.most()),
        }
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// What a process of the server used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessReport {
    /// The program.
    pub name: String,
    /// Seconds of processor time a second, while it was counted.
    pub cores: f64,
    /// Resident bytes with nobody there.
    pub resident_idle: u64,
    /// Resident bytes once the publishers were there.
    pub resident_published: u64,
    /// Resident bytes with everybody there.
    pub resident_full: u64,
    /// Resident bytes after everybody has left.
    pub resident_after: u64,
}

/// What coming and going cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChurnReport {
    /// Times that somebody came and left.
    pub cycles: usize,
    /// A second.
    pub per_second: f64,
    /// Of each process: resident bytes after those that warmed up, and at the end.
    pub resident: Vec<(String, u64, u64)>,
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The server.
    pub server: String,
    /// Those who published.
    pub publishers: usize,
    /// Those who only received.
    pub subscribers: usize,
    /// Received tracks.
    pub received_tracks: usize,
    /// Clients that did not get in or not what they wanted.
    pub failed: usize,
    /// Why, of the first.
    pub failures: Vec<String>,
    /// What was counted, in seconds.
    pub seconds: f64,
    /// By the publishers.
    pub sent: Sent,
    /// By all clients.
    pub received: Received,
    /// Received, a second.
    pub packets_per_second: f64,
    /// From sending to arrival: pictures.
    pub picture_latency_ms: Times,
    /// The same of sounds.
    pub sound_latency_ms: Times,
    /// From one whole picture to the next.
    pub picture_gap_ms: Times,
    /// From the subscription to the first whole picture.
    pub first_frame_ms: Times,
    /// Processes of the server.
    pub processes: Vec<ProcessReport>,
    /// Processor time of the process that forwards, and of all, per received packet.
    pub forwarding_ns_per_packet: f64,
    /// See [`Self::forwarding_ns_per_packet`].
    pub all_ns_per_packet: f64,
    /// Resident bytes that each subscriber added to the process that forwards.
    pub bytes_per_subscriber: Option<f64>,
    /// Datagrams that the server did not read in time.
    pub dropped_by_server: u64,
    /// Datagrams that this program did not read in time: what is lost is its own fault then.
    pub dropped_by_generator: u64,
    /// Seconds of processor time a second that this program took.
    pub generator_cores: f64,
    /// If there was any.
    pub churn: Option<ChurnReport>,
    /// Whether everything was to be expected whole.
    pub lossless: bool,
}

impl Report {
    /// Whether all that was to arrive did, whole and in order.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let received = &self.received;
        let whole = if self.lossless {
            received.is_flawless()
        } else {
            received.corrupt == 0 && received.picture_ids == 0
        };
        self.failed == 0 && whole && (received.packets > 0 || self.received_tracks == 0)
    }
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, value: String| writeln!(f, "  {name:<34} {value}");
        let times = |times: &Times| {
            format!("{:.2} / {:.2} / {:.2} / {:.2}", times.p50, times.p90, times.p99, times.max)
        };
        writeln!(f, "{} on {}, {:.1} s", self.scenario, self.server, self.seconds)?;
        let clients = format!(
            "{} publish, {} only receive, {} tracks received",
            self.publishers, self.subscribers, self.received_tracks
        );
        row(f, "clients", clients)?;
        if self.failed > 0 {
            row(f, "failed", format!("{}: {}", self.failed, self.failures.join("; ")))?;
        }
        let (sent, received) = (&self.sent, &self.received);
        row(f, "sent", format!("{} packets, {} frames", sent.packets, sent.frames))?;
        let size = received.bytes as f64 / received.packets.max(1) as f64;
        let came = format!(
            "{} packets of {size:.0} bytes ({:.0} a second), {} frames",
            received.packets, self.packets_per_second, received.frames
        );
        row(f, "received", came)?;
        let share = 100.0 * received.lost as f64 / (received.packets + received.lost).max(1) as f64;
        let missed = format!(
            "{} missed at first, {} retransmitted, {} lost ({share:.4} %)",
            received.missed, received.retransmitted, received.lost
        );
        row(f, "loss", missed)?;
        let flaws = format!(
            "{} corrupt packets, {} broken frames, {} undecodable, {} picture ids out of order",
            received.corrupt, received.broken, received.undecodable, received.picture_ids
        );
        row(f, "flaws", flaws)?;
        let unread = format!(
            "{} by the server, {} by this program",
            self.dropped_by_server, self.dropped_by_generator
        );
        row(f, "datagrams not read in time", unread)?;
        let asked = format!(
            "{} asked for, {} reached publishers; {} changes of layer",
            received.key_frame_requests, sent.key_frames_asked, received.switches
        );
        row(f, "key frames", asked)?;
        writeln!(f, "  times, ms: median / 90th / 99th percentile / longest")?;
        for (name, of) in [
            ("  latency of pictures", &self.picture_latency_ms),
            ("  latency of sounds", &self.sound_latency_ms),
            ("  from picture to picture", &self.picture_gap_ms),
            ("  subscription to first picture", &self.first_frame_ms),
        ] {
            if of.count > 0 {
                row(f, name, times(of))?;
            }
        }
        if !self.processes.is_empty() {
            let cost = format!(
                "{:.0} ns by the process that forwards, {:.0} ns by all",
                self.forwarding_ns_per_packet, self.all_ns_per_packet
            );
            row(f, "CPU per received packet", cost)?;
            writeln!(
                f,
                "  {:<34} {:>8} {:>34}",
                "processes", "cores", "KiB: idle / published / full / after"
            )?;
        }
        for process in &self.processes {
            let resident = [
                process.resident_idle,
                process.resident_published,
                process.resident_full,
                process.resident_after,
            ];
            let resident = resident.map(|bytes| format!("{:.0}", kib(bytes))).join(" / ");
            writeln!(f, "    {:<32} {:>8.3} {resident:>34}", process.name, process.cores)?;
        }
        if let Some(bytes) = self.bytes_per_subscriber {
            row(f, "memory per subscriber", format!("{:.1} KiB", bytes / 1024.0))?;
        }
        if let Some(churn) = &self.churn {
            row(f, "came and left", format!("{} times, {:.1} a second", churn.cycles, churn.per_second))?;
            for (name, before, after) in &churn.resident {
                let change = 100.0 * (*after as f64 / (*before).max(1) as f64 - 1.0);
                let resident = format!("{:.0} → {:.0} KiB ({change:+.1} %)", kib(*before), kib(*after));
                row(f, &format!("  {name}"), resident)?;
            }
        }
        row(f, "this program", format!("{:.2} cores", self.generator_cores))?;
        row(f, "verdict", if self.is_good() { "all whole" } else { "NOT all whole" }.to_owned())
    }
}
