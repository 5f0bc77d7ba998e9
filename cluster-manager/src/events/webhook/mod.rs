//! Webhooks: [`Deliveries`] decides (pure), [`Sender`] sends.

mod backoff;
mod deliveries;
mod hook;
mod send;
mod sign;

pub(crate) use backoff::Backoff;
pub(crate) use deliveries::{Attempt, Deliveries, GIVE_UP_AFTER, Output, WebhookKey};
pub(crate) use hook::{Hook, Outcome, QueueLimits, Record};
pub(crate) use send::Sender;

#[cfg(test)]
pub(crate) mod tests;
