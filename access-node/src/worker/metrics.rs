//! Counters as metrics, and the worker's load.

use std::time::{Duration, Instant};

use kaigi_worker::LoadGauge;
use metrics::{counter, gauge};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use super::flush::Exit;
use crate::node::Node;

/// What was measured last.
#[derive(Debug)]
pub(super) struct Metrics {
    /// The worker's number, by which its metrics are told from the others'.
    worker: String,
    measured: Option<(Instant, Duration)>,
}

impl Metrics {
    pub(super) fn new(number: usize) -> Self {
        Self { worker: number.to_string(), measured: None }
    }

    /// Publishes what the node has counted, and the share of a core that this thread has used since the last time.
    pub(super) fn publish(&mut self, node: &Node, exit: &Exit, load: &LoadGauge) {
        let c = node.counters();
        let sums = [
            ("kaigi_access_packets_received_total", c.packets_in),
            ("kaigi_access_received_bytes_total", c.bytes_in),
            ("kaigi_access_packets_sent_total", c.packets_out),
            ("kaigi_access_sent_bytes_total", c.bytes_out),
            ("kaigi_access_link_packets_received_total", c.link_packets_in),
            ("kaigi_access_link_packets_sent_total", c.link_packets_out),
            ("kaigi_access_worker_packets_received_total", c.worker_packets_in),
            ("kaigi_access_worker_packets_sent_total", c.worker_packets_out),
            ("kaigi_access_worker_packets_not_sent_total", exit.outward.dropped()),
            ("kaigi_access_nacks_received_total", c.nacks_in),
            ("kaigi_access_packets_requested_total", c.nacks_out),
            ("kaigi_access_packets_retransmitted_total", c.retransmissions),
            ("kaigi_access_key_frame_requests_received_total", c.key_frame_requests_in),
            ("kaigi_access_key_frame_requests_sent_total", c.key_frame_requests_out),
            ("kaigi_access_transport_cc_received_total", c.transport_cc_in),
            ("kaigi_access_datagrams_of_strangers_total", c.strangers),
            ("kaigi_access_datagrams_malformed_total", c.malformed),
            ("kaigi_access_datagrams_not_sent_total", exit.departures.dropped()),
            ("kaigi_access_messages_sent_total", exit.departures.sent()),
            ("kaigi_access_ice_restarts_total", c.ice_restarts),
            ("kaigi_access_data_messages_received_total", c.data_messages_in),
            ("kaigi_access_data_received_bytes_total", c.data_bytes_in),
            ("kaigi_access_data_messages_sent_total", c.data_messages_out),
            ("kaigi_access_data_sent_bytes_total", c.data_bytes_out),
            ("kaigi_access_data_messages_lost_total", c.data_lost),
            ("kaigi_access_data_slow_receivers_total", c.data_slow_receivers),
            ("kaigi_access_data_link_messages_received_total", c.data_link_messages_in),
            ("kaigi_access_data_link_messages_sent_total", c.data_link_messages_out),
            ("kaigi_access_transports_failed_total", c.transports_failed),
        ];
        for (name, sum) in sums {
            counter!(name, "worker" => self.worker.clone()).absolute(sum);
        }
        let (tracks, streams) = node.streams();
        gauge!("kaigi_access_transports", "worker" => self.worker.clone()).set(node.transports() as f64);
        gauge!("kaigi_access_tracks", "worker" => self.worker.clone()).set(tracks as f64);
        gauge!("kaigi_access_streams", "worker" => self.worker.clone()).set(streams as f64);
        self.measure(load);
    }

    fn measure(&mut self, load: &LoadGauge) {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else { return };
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let now = (Instant::now(), Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
        if let Some((at, used)) = self.measured.replace(now) {
            let wall = now.0.duration_since(at).as_secs_f64();
            load.set(now.1.saturating_sub(used).as_secs_f64() / wall);
            gauge!("kaigi_access_worker_cpu_load", "worker" => self.worker.clone()).set(load.get());
        }
    }
}
