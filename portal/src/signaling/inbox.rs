//! The way of requests from the Socket.IO library to the connection's actor: a bounded queue that keeps their order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use socketioxide::{
    adapter::LocalAdapter,
    extract::AckSender,
    handler::{FromMessageParts, MessageHandler, Value as Packet},
    socket::Socket,
};
use tokio::sync::mpsc;

/// Requests that wait at most. A client that gathers many ICE candidates sends some dozens at once.
const MAX_REQUESTS: usize = 256;
/// Of the largest messages, so many may wait.
const MAX_LARGEST: usize = 2;
/// What is answered to a request that finds the queue full.
const OVERFLOW: &str = "Too many requests";

/// A request as it came.
pub(crate) struct Incoming {
    text: Waiting,
    ack: Ack,
}

impl Incoming {
    /// Where the answer goes.
    pub(crate) fn into_ack(self) -> Ack {
        self.ack
    }

    /// The event's name and its data; arguments after the first are of no use to anybody. `None` if it is no event.
    pub(crate) fn parse(&self) -> Option<(String, Value)> {
        let mut arguments = serde_json::from_str::<Vec<Value>>(&self.text.text).ok()?.into_iter();
        match arguments.next()? {
            Value::String(name) => Some((name, arguments.next().unwrap_or_default())),
            _ => None,
        }
    }
}

/// A text that counts as waiting until it is dropped.
struct Waiting {
    text: String,
    total: Arc<AtomicUsize>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.total.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

/// The answer to a request; to one that wants none, nothing is sent.
pub(crate) struct Ack(AckSender);

impl Ack {
    /// Answers `ok`, with or without data. An answer that can't be sent is lost with its connection.
    pub(super) fn ok(self, data: Option<Value>) {
        match data {
            Some(data) => self.0.send(&("ok", data)),
            None => self.0.send(&("ok",)),
        }
        .ok();
    }

    /// Answers with that, or with nothing at all.
    pub(crate) fn plain(self, data: Option<&Value>) {
        match data {
            Some(data) => self.0.send(data),
            None => self.0.send(&[(); 0]),
        }
        .ok();
    }

    /// Answers `error` with a text.
    pub(super) fn error(self, text: &str) {
        self.0.send(&("error", text)).ok();
    }
}

/// Takes every event of a socket and queues it.
pub(crate) struct Inbox {
    queue: mpsc::Sender<Incoming>,
    waiting: Arc<AtomicUsize>,
    /// Bytes that wait at most.
    max_bytes: usize,
}

impl Inbox {
    /// An inbox and the end that the actor reads. `largest`: a message's most bytes.
    pub(crate) fn new(largest: usize) -> (Self, mpsc::Receiver<Incoming>) {
        let (queue, requests) = mpsc::channel(MAX_REQUESTS);
        (Self { queue, waiting: Arc::default(), max_bytes: MAX_LARGEST * largest }, requests)
    }
}

impl MessageHandler<LocalAdapter, Self> for Inbox {
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, mut packet: Packet, ack_id: Option<i64>) {
        let Ok(ack) = AckSender::from_message_parts(&socket, &mut packet, &ack_id);
        let text = match packet {
            Packet::Str(text, _) => text.as_str().to_owned(),
            Packet::Bytes(_) => return,
        };
        let waiting = self.waiting.fetch_add(text.len(), Ordering::Relaxed) + text.len();
        let incoming = Incoming { text: Waiting { text, total: self.waiting.clone() }, ack: Ack(ack) };
        if waiting > self.max_bytes {
            return refuse(incoming);
        }
        // Full: the request is refused. Closed: the connection has ended.
        if let Err(mpsc::error::TrySendError::Full(incoming)) = self.queue.try_send(incoming) {
            refuse(incoming);
        }
    }
}

fn refuse(incoming: Incoming) {
    metrics::counter!("kaigi_portal_requests_refused_total").increment(1);
    incoming.into_ack().error(OVERFLOW);
}
