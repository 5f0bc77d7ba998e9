//! The whole path over real sockets: what a worker spends on each packet that it forwards, beside two minimal forwarders that do as
//! little as can be done: receive, decrypt, put another number and source into the header, encrypt, send. To all of them subscribers report
//! what they get, as browsers do; the minimal forwarders drop that unread.
//!
//! One publisher sends 30 frames a second of five packets of 1,200 bytes (1.44 Mbit/s) to a number of subscribers. Counted is the CPU
//! time, user and system, of the threads that forward; over loopback that includes the receiving half of the kernel's work. Numbers on the
//! command line are the numbers of subscribers to measure with. Measured is also how long after the publisher's last packet of a frame the
//! kernel had it for each of the subscribers.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod minimal;
mod peers;
mod reports;
#[path = "../../tests/support/mod.rs"]
mod support;
mod worker;

use std::time::{Duration, Instant, SystemTime};

use peers::{Publisher, Subscribers};
use reports::Reporter;

/// Rounds of everything; the median counts.
const ROUNDS: usize = 3;
/// Duration of one measurement. All of them end before clients that check no more are given up, after 30 s.
const TIME: Duration = Duration::from_secs(2);
/// Frames of the publisher a second.
const FRAME_RATE: u32 = 30;

/// Forwards what a publisher sends to subscribers.
trait Forwarder {
    fn name(&self) -> &'static str;
    fn publisher(&mut self) -> &mut Publisher;
    /// Those who report to it, in the order of the subscribers.
    fn reporters(&mut self) -> &mut Vec<Reporter>;
    /// CPU time that the forwarding threads have used so far.
    fn used(&mut self) -> Duration;
}

/// What one measurement found.
struct Measured {
    /// CPU time per forwarded packet.
    cost: Duration,
    /// Share of packets that came.
    came: f64,
    /// From the sending of a frame's last packet to each of its arrivals, ascending.
    delays: Vec<Duration>,
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

fn measure(forwarder: &mut dyn Forwarder, subscribers: &Subscribers) -> Measured {
    subscribers.report(std::mem::take(forwarder.reporters()));
    let (before, received_before) = (forwarder.used(), subscribers.received());
    subscribers.take_frames();
    let begin = Instant::now();
    let frames = TIME.as_secs() as u32 * FRAME_RATE;
    let (mut sent, mut sent_at) = (0, Vec::new());
    for frame in 0..frames {
        let due = begin + Duration::from_secs(1) * frame / FRAME_RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sent += forwarder.publisher().send_frame();
        sent_at.push(since_epoch());
    }
    let expected = sent * subscribers.len();
    let deadline = Instant::now() + Duration::from_secs(2);
    while subscribers.received() < received_before + expected && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let received = subscribers.received() - received_before;
    let used = forwarder.used() - before;
    *forwarder.reporters() = subscribers.report(Vec::new());
    // Where a frame was lost it is not known which ones came.
    let whole = subscribers.take_frames().into_iter().filter(|arrivals| arrivals.len() == sent_at.len());
    let delay = |(arrival, sent): (Duration, &Duration)| arrival.saturating_sub(*sent);
    let mut delays: Vec<_> =
        whole.flat_map(|arrivals| arrivals.into_iter().zip(&sent_at).map(delay)).collect();
    delays.sort_unstable();
    Measured {
        cost: used / u32::try_from(expected).unwrap(),
        came: received as f64 / expected as f64,
        delays,
    }
}

fn main() {
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let counts = if asked.is_empty() { vec![10, 50, 100] } else { asked };
    for count in counts {
        let mut subscribers = Subscribers::new(count);
        let mut forwarders: [Box<dyn Forwarder>; 4] = [
            Box::new(minimal::start(&subscribers, minimal::Sending::FramesTogether)),
            Box::new(minimal::start(&subscribers, minimal::Sending::EachAlone)),
            Box::new(worker::start(&subscribers, 1)),
            Box::new(worker::start(&subscribers, 2)),
        ];
        subscribers.read();
        let mut costs: Vec<Vec<Measured>> = forwarders.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (forwarder, costs) in forwarders.iter_mut().zip(&mut costs) {
                costs.push(measure(forwarder.as_mut(), &subscribers));
            }
        }
        println!("1 → {count}: CPU per forwarded packet, and of it as a multiple");
        let mut floor = None;
        for (forwarder, mut rounds) in forwarders.iter().zip(costs) {
            let came = rounds.iter().map(|round| round.came).sum::<f64>() / rounds.len() as f64;
            rounds.sort_by_key(|round| round.cost);
            let cost = |at: usize| rounds[at].cost;
            let (least, median, most) = (cost(0), cost(rounds.len() / 2), cost(rounds.len() - 1));
            let together = *floor.get_or_insert(median);
            let mut delays: Vec<_> = rounds.iter().flat_map(|round| &round.delays).collect();
            delays.sort_unstable();
            let delay = |percent: usize| {
                let at = (delays.len() * percent / 100).min(delays.len().saturating_sub(1));
                delays.get(at).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1000.0)
            };
            println!(
                "  {:34} {:>6} ns ({}–{})  ×{:.2}  {:.1} % came  frames after {:.2} ms, 99th percentile {:.2} ms",
                forwarder.name(),
                median.as_nanos(),
                least.as_nanos(),
                most.as_nanos(),
                median.as_secs_f64() / together.as_secs_f64(),
                came * 100.0,
                delay(50),
                delay(99)
            );
        }
    }
}
