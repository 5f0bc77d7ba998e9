//! What the hub goes by.

use kaigi_outbound::Reach;

use super::webhook::{Backoff, QueueLimits};

/// Bytes that may wait for one webhook for each event that may: so many events of usual size, or fewer large ones.
const BYTES_PER_EVENT: usize = 4096;

/// How much is kept, and where webhooks may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSettings {
    /// Events kept for those who come back and ask what they missed.
    pub kept: usize,
    /// Events that may wait for one webhook.
    pub webhook_queue: usize,
    /// Where webhooks may be sent.
    pub targets: Reach,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { kept: 4096, webhook_queue: 1000, targets: Reach::default() }
    }
}

impl EventSettings {
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        QueueLimits { events: self.webhook_queue, bytes: self.webhook_queue * BYTES_PER_EVENT }
    }

    pub(crate) fn backoff() -> Backoff {
        Backoff::default()
    }
}
