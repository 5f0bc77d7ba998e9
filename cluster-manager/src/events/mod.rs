//! What happens in rooms, passed on to whoever of the service wants to know.
//!
//! The [hub](Hub) numbers events, keeps the last ones in a [log], tells [watchers] (the portals' server-sent events), and delivers to
//! [webhooks](webhook), for which a [journal] is kept.

mod documents;
mod event;
mod hub;
mod ids;
mod journal;
mod log;
mod publishers;
mod service;
mod settings;
mod watchers;
mod webhook;

#[cfg(test)]
mod tests;

pub(crate) use hub::start;
pub(crate) use service::EventsService;
pub use settings::EventSettings;
pub(crate) use webhook::Sender;
