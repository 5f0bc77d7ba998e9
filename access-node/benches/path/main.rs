//! The whole path over real sockets: what a worker spends on each packet that it forwards, beside two minimal forwarders that do as
//! little as can be done: receive, decrypt, put another number and source into the header, encrypt, send.
//!
//! One publisher sends 30 frames a second of five packets of 1,200 bytes (1.44 Mbit/s) to a number of subscribers. Counted is the CPU
//! time, user and system, of the threads that forward; over loopback that includes the receiving half of the kernel's work. Numbers on the
//! command line are the numbers of subscribers to measure with.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod minimal;
mod peers;
#[path = "../../tests/support/mod.rs"]
mod support;
mod worker;

use std::time::{Duration, Instant};

use peers::{Publisher, Subscribers};

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
    /// CPU time that the forwarding threads have used so far.
    fn used(&mut self) -> Duration;
}

/// CPU time per forwarded packet, and the share of packets that came.
fn measure(forwarder: &mut dyn Forwarder, subscribers: &Subscribers) -> (Duration, f64) {
    let (before, received_before) = (forwarder.used(), subscribers.received());
    let begin = Instant::now();
    let frames = TIME.as_secs() as u32 * FRAME_RATE;
    let mut sent = 0;
    for frame in 0..frames {
        let due = begin + Duration::from_secs(1) * frame / FRAME_RATE;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        sent += forwarder.publisher().send_frame();
    }
    let expected = sent * subscribers.len();
    let deadline = Instant::now() + Duration::from_secs(2);
    while subscribers.received() < received_before + expected && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let received = subscribers.received() - received_before;
    let used = forwarder.used() - before;
    (used / u32::try_from(expected).unwrap(), received as f64 / expected as f64)
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
        let mut costs = vec![Vec::new(); forwarders.len()];
        for _ in 0..ROUNDS {
            for (forwarder, costs) in forwarders.iter_mut().zip(&mut costs) {
                costs.push(measure(forwarder.as_mut(), &subscribers));
            }
        }
        println!("1 → {count}: CPU per forwarded packet, and of it as a multiple");
        let mut floor = None;
        for (forwarder, mut costs) in forwarders.iter().zip(costs) {
            let came = costs.iter().map(|(_, came)| came).sum::<f64>() / costs.len() as f64;
            costs.sort_by_key(|(cost, _)| *cost);
            let (least, median, most) = (costs[0].0, costs[costs.len() / 2].0, costs[costs.len() - 1].0);
            let together = *floor.get_or_insert(median);
            println!(
                "  {:34} {:>6} ns ({}–{})  ×{:.2}  {:.1} % came",
                forwarder.name(),
                median.as_nanos(),
                least.as_nanos(),
                most.as_nanos(),
                median.as_secs_f64() / together.as_secs_f64(),
                came * 100.0
            );
        }
    }
}
