//! A way to a client that carries so much and no more: a queue that drops at its end, and a delay; and the client's reports on what came
//! through, as browsers send them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kaigi_access_node::forward::TransportCcReceiver;
use kaigi_media::rtp::RtpHeader;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Client, Received};

/// The id of the transport-wide numbers in the clients' offers.
pub const TRANSPORT_CC: u8 = 3;
/// What IP and UDP add to a datagram.
const HEADERS: usize = 28;

pub struct Narrow {
    /// bit/s
    pub capacity: f64,
    /// Longest wait in the queue.
    pub queue: Duration,
    pub delay: Duration,
    /// The longest wait there was since it was last looked at.
    pub waited: Duration,
    /// Packets that were dropped since then.
    pub dropped: usize,
    /// What arrived since then, in bytes.
    pub carried: usize,
    /// When the queue is empty.
    free_at: Option<Instant>,
    arriving: VecDeque<(Instant, Vec<u8>)>,
    receiver: TransportCcReceiver,
    reports: VecDeque<(Instant, Vec<u8>)>,
    pub silent: bool,
    /// The share of the datagrams that is lost, at random.
    pub loses: f64,
    random: StdRng,
    /// The same of the client's reports.
    pub loses_reports: f64,
}

impl Narrow {
    pub fn new(now: Instant, capacity: f64) -> Self {
        Self {
            capacity,
            queue: Duration::from_millis(300),
            delay: Duration::from_millis(20),
            waited: Duration::ZERO,
            dropped: 0,
            carried: 0,
            free_at: None,
            arriving: VecDeque::new(),
            receiver: TransportCcReceiver::new(now),
            reports: VecDeque::new(),
            silent: false,
            loses: 0.0,
            random: StdRng::seed_from_u64(11),
            loses_reports: 0.0,
        }
    }

    /// Whether the next of the client's reports is lost.
    pub fn loses_report(&mut self) -> bool {
        self.random.random_bool(self.loses_reports)
    }

    pub fn enter(&mut self, now: Instant, datagram: &[u8]) {
        if self.random.random_bool(self.loses) {
            self.dropped += 1;
            return;
        }
        let begins = self.free_at.unwrap_or(now).max(now);
        let wait = begins - now;
        if wait > self.queue {
            self.dropped += 1;
            return;
        }
        self.waited = self.waited.max(wait);
        let bits = 8.0 * (datagram.len() + HEADERS) as f64;
        let free_at = begins + Duration::from_secs_f64(bits / self.capacity);
        self.free_at = Some(free_at);
        self.arriving.push_back((free_at + self.delay, datagram.to_vec()));
    }

    /// Nothing gets through for that long.
    pub fn stand_still(&mut self, now: Instant, time: Duration) {
        self.free_at = Some(self.free_at.unwrap_or(now).max(now) + time);
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        let arrival = self.arriving.front().map(|(at, _)| *at);
        let report = self.reports.front().map(|(at, _)| *at);
        [arrival, report, self.receiver.next_timeout()].into_iter().flatten().min()
    }

    pub fn leave(&mut self, now: Instant, client: &mut Client) {
        while let Some((at, datagram)) = self.arriving.pop_front() {
            if at > now {
                self.arriving.push_front((at, datagram));
                return;
            }
            self.carried += datagram.len() + HEADERS;
            client.receive(at, &datagram);
            if let Some(Received::Rtp(header, packet)) = client.received.last()
                && let Some([high, low]) = extension(header, packet)
            {
                self.receiver.receive(at, u16::from_be_bytes([*high, *low]));
            }
        }
    }

    /// Reports that have come to the node's end of the way.
    pub fn reports(&mut self, now: Instant, client: &mut Client) -> Vec<Vec<u8>> {
        if self.receiver.next_timeout().is_some_and(|at| at <= now) {
            while let Some(report) = self.receiver.feedback(1, 1) {
                if !self.silent && !self.loses_report() {
                    let protected = client.protect_rtcp(&report);
                    self.reports.push_back((now + self.delay, protected));
                }
            }
        }
        let mut due = Vec::new();
        while let Some((_, report)) = self.reports.pop_front_if(|(at, _)| *at <= now) {
            due.push(report);
        }
        due
    }
}

fn extension<'p>(header: &RtpHeader, packet: &'p [u8]) -> Option<&'p [u8]> {
    header.extension(packet, TRANSPORT_CC).filter(|value| value.len() == 2)
}
