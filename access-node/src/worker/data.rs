//! Data to and from other nodes, carried by gRPC streams.
//!
//! To a node that reads too slowly at most [`MAX_QUEUED`] are kept; then its stream ends. A node that gets data reads no faster than
//! its worker takes them.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use kaigi_proto::{
    ids::StreamId,
    v1::{self, data_link_client::DataLinkClient},
};
use kaigi_worker::Channels;
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::{WorkerHandle, flush::Exit};
use crate::{
    keys::DataFlowKey,
    node::{ConsumerId, DataCall, Node},
    sctp::{MAX_MESSAGE, Message},
};

/// Bytes and messages that may wait for another node. It serves many receivers, and the way between nodes is wide: this is a second
/// of 32 Mbit/s.
const MAX_QUEUED: (usize, usize) = (4 * 1024 * 1024, 8192);
/// Deadline for the beginning of a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

type Item = Result<v1::DataMessage, Status>;

#[derive(Debug)]
struct Consumer {
    sender: mpsc::Sender<Item>,
    queued: Arc<AtomicUsize>,
}

/// The nodes that data go to.
#[derive(Clone, Debug, Default)]
pub struct DataConsumers {
    open: Arc<Mutex<HashMap<ConsumerId, Consumer>>>,
    next: Arc<AtomicU64>,
}

/// A consumer's messages.
#[derive(Debug)]
pub struct DataStream {
    receiver: mpsc::Receiver<Item>,
    queued: Arc<AtomicUsize>,
}

impl Stream for DataStream {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let item = ready!(self.receiver.poll_recv(context));
        if let Some(Ok(message)) = &item {
            self.queued.fetch_sub(message.payload.len(), Ordering::Relaxed);
        }
        Poll::Ready(item)
    }
}

impl DataConsumers {
    /// A consumer for a node that asks.
    #[must_use]
    pub fn open(&self) -> (ConsumerId, DataStream) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED.1);
        let queued = Arc::new(AtomicUsize::new(0));
        let id = ConsumerId(self.next.fetch_add(1, Ordering::Relaxed));
        self.lock().insert(id, Consumer { sender, queued: queued.clone() });
        (id, DataStream { receiver, queued })
    }

    /// Takes out those that nobody reads any more.
    #[must_use]
    pub fn take_closed(&self) -> Vec<ConsumerId> {
        let mut open = self.lock();
        let closed: Vec<_> =
            open.iter().filter(|(_, consumer)| consumer.sender.is_closed()).map(|(id, _)| *id).collect();
        for id in &closed {
            open.remove(id);
        }
        closed
    }

    /// Queues a message; `false` if there is no such consumer (any more), or it is too slow and has been ended.
    fn send(&self, id: ConsumerId, message: Message) -> bool {
        let mut open = self.lock();
        let Some(consumer) = open.get(&id) else { return false };
        let length = message.payload.len();
        let fits = consumer.queued.load(Ordering::Relaxed) + length <= MAX_QUEUED.0;
        // One place is left for the error.
        if fits && consumer.sender.capacity() > 1 {
            consumer.queued.fetch_add(length, Ordering::Relaxed);
            let item = v1::DataMessage { payload: message.payload, text: message.text };
            if consumer.sender.try_send(Ok(item)).is_ok() {
                return true;
            }
        } else {
            tracing::warn!(consumer = id.0, "another node takes data too slowly, its stream ends");
            let _ = consumer.sender.try_send(Err(Status::resource_exhausted("too slow")));
        }
        open.remove(&id);
        false
    }

    /// Ends a consumer's stream once what is queued is read.
    fn end(&self, id: ConsumerId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConsumerId, Consumer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's side of both directions.
pub(super) struct DataExit {
    consumers: DataConsumers,
    flows: HashMap<DataFlowKey, AbortHandle>,
}

impl DataExit {
    pub(super) fn new(consumers: DataConsumers) -> Self {
        Self { consumers, flows: HashMap::new() }
    }
}

impl Exit {
    /// Does what is to be done about data between nodes.
    pub(super) fn flush_data(&mut self, node: &mut Node) {
        if node.output().data.is_empty() {
            return;
        }
        for call in std::mem::take(&mut node.output().data) {
            match call {
                DataCall::Message { consumer, message } => {
                    if !self.data.consumers.send(consumer, message) {
                        node.close_data_consumer(consumer);
                    }
                }
                DataCall::End { consumer } => self.data.consumers.end(consumer),
                DataCall::Subscribe { flow, endpoint, stream } => {
                    let (channels, back) = (self.channels.clone(), self.back.clone());
                    let task = self.calls.spawn(async move {
                        let result = read(&channels, &back, flow, &endpoint, stream).await;
                        let done = move |node: &mut Node, now| node.data_ended(now, flow, result);
                        // The worker has ended: there is nobody to tell.
                        let _ = back.call(done).await;
                    });
                    self.data.flows.retain(|_, task| !task.is_finished());
                    self.data.flows.insert(flow, task.abort_handle());
                }
                DataCall::Unsubscribe { flow } => {
                    if let Some(task) = self.data.flows.remove(&flow) {
                        task.abort();
                    }
                }
            }
        }
    }
}

/// Carries a stream from another node to the worker until it ends.
async fn read(
    channels: &Channels,
    back: &WorkerHandle,
    flow: DataFlowKey,
    endpoint: &str,
    stream: StreamId,
) -> Result<(), Status> {
    let mut client =
        DataLinkClient::new(channels.to(endpoint)?).max_decoding_message_size(MAX_MESSAGE + 1024);
    let request = v1::DataRequest { stream_id: stream.to_string() };
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.subscribe(request)).await;
    let messages = opened.map_err(|_| Status::deadline_exceeded("the other node does not answer"))??;
    let mut messages = messages.into_inner();
    while let Some(next) = messages.next().await {
        let batch = [message(next?)];
        let take = move |node: &mut Node, now| node.data_arrived(now, flow, &batch);
        if !back.call(take).await? {
            return Ok(());
        }
    }
    Ok(())
}

fn message(message: v1::DataMessage) -> Message {
    Message { payload: message.payload, text: message.text }
}
