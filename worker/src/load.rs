//! How much a worker has to do, and measuring it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kaigi_proto::v1::Resource;
use tokio_util::sync::CancellationToken;

use crate::Capacity;

/// Seconds of which the CPU use that counts as load is the mean. What begins costs most at first (a pipeline, a handshake), for a second or two,
/// in which nobody should be sent away; what was placed a moment ago is [expected](crate::Capacity) at the cluster-manager meanwhile.
const SMOOTHING: usize = 5;

/// A share of something, 0..1; set by whoever measures it.
#[derive(Clone, Debug, Default)]
pub struct LoadGauge(Arc<AtomicU64>);

impl LoadGauge {
    /// Sets it; values outside of 0..1 are clamped.
    pub fn set(&self, load: f64) {
        self.0.store(load.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// The last value set.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// The mean of the last five values, of which those that are not there yet are 0.
#[derive(Clone, Debug, Default)]
pub struct Smoothed(VecDeque<f64>);

impl Smoothed {
    /// Takes a value, one each second; the mean then.
    pub fn push(&mut self, value: f64) -> f64 {
        if self.0.len() == SMOOTHING {
            self.0.pop_front();
        }
        self.0.push_back(value);
        self.0.iter().sum::<f64>() / SMOOTHING as f64
    }
}

/// The cores of this machine, or of the container's limit.
#[must_use]
pub fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64)
}

/// Measures this process's CPU use once a second into `capacity`, smoothed. Runs until cancelled.
pub async fn process_cpu_load(capacity: Capacity, stop: CancellationToken) {
    let (cores, mut smoothed) = (cores(), Smoothed::default());
    let mut last = (Instant::now(), process_cpu_seconds());
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = stop.cancelled() => return,
        }
        let now = (Instant::now(), process_cpu_seconds());
        let wall = now.0.duration_since(last.0).as_secs_f64();
        if let (Some(then), Some(used)) = (last.1, now.1) {
            let used = ((used - then) / wall).clamp(0.0, cores);
            metrics::gauge!("kaigi_process_cpu_load").set(used / cores);
            capacity.set(Resource::Cpu, smoothed.push(used));
        }
        last = now;
    }
}

/// User and system time of this process, in seconds.
fn process_cpu_seconds() -> Option<f64> {
    use nix::sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    };
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_of_work_is_not_a_full_load() {
        let mut smoothed = Smoothed::default();
        assert_eq!((smoothed.push(1.0), smoothed.push(1.0)), (0.2, 0.4));
        assert_eq!([1.0; 4].map(|use_| smoothed.push(use_)), [0.6, 0.8, 1.0, 1.0]);
        assert_eq!(smoothed.push(0.0), 0.8);
    }
}
