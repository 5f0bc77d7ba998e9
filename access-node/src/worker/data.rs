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
    v1::{self, data_exchange_reply::Event as ExchangeEvent, data_link_client::DataLinkClient},
};
use kaigi_worker::Channels;
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::{WorkerHandle, flush::Exit};
use crate::{
    keys::DataFlowKey,
    node::{ConsumerId, DataCall, Node},
    sctp::{ChannelId, MAX_MESSAGE, Message},
};

/// Bytes and messages that may wait for another node. It serves many receivers, and the way between nodes is wide: this is a second
/// of 32 Mbit/s.
const MAX_QUEUED: (usize, usize) = (4 * 1024 * 1024, 8192);
/// Deadline for the beginning of a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

type Item = Result<v1::DataExchangeReply, Status>;

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

/// A consumer's messages, and how many channels there are, if it was opened for both.
#[derive(Debug)]
pub struct ExchangeStream {
    receiver: mpsc::Receiver<Item>,
    queued: Arc<AtomicUsize>,
}

impl Stream for ExchangeStream {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let item = ready!(self.receiver.poll_recv(context));
        if let Some(Ok(v1::DataExchangeReply { event: Some(ExchangeEvent::Message(message)) })) = &item {
            self.queued.fetch_sub(message.payload.len(), Ordering::Relaxed);
        }
        Poll::Ready(item)
    }
}

/// A consumer's messages alone.
#[derive(Debug)]
pub struct DataStream(ExchangeStream);

impl From<ExchangeStream> for DataStream {
    fn from(stream: ExchangeStream) -> Self {
        Self(stream)
    }
}

impl Stream for DataStream {
    type Item = Result<v1::DataMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let item = match ready!(Pin::new(&mut self.0).poll_next(context)) {
                Some(Ok(v1::DataExchangeReply { event: Some(ExchangeEvent::Message(message)) })) => {
                    Ok(message)
                }
                Some(Ok(v1::DataExchangeReply { event: Some(ExchangeEvent::Channels(_)) | None })) => {
                    continue;
                }
                Some(Err(status)) => Err(status),
                None => return Poll::Ready(None),
            };
            return Poll::Ready(Some(item));
        }
    }
}

impl DataConsumers {
    /// A consumer for a node that asks.
    #[must_use]
    pub fn open(&self) -> (ConsumerId, ExchangeStream) {
        let (sender, receiver) = mpsc::channel(MAX_QUEUED.1);
        let queued = Arc::new(AtomicUsize::new(0));
        let id = ConsumerId(self.next.fetch_add(1, Ordering::Relaxed));
        self.lock().insert(id, Consumer { sender, queued: queued.clone() });
        (id, ExchangeStream { receiver, queued })
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
    fn send(&self, id: ConsumerId, message: Message, channel: Option<ChannelId>) -> bool {
        let mut open = self.lock();
        let Some(consumer) = open.get(&id) else { return false };
        let length = message.payload.len();
        let fits = consumer.queued.load(Ordering::Relaxed) + length <= MAX_QUEUED.0;
        // One place is left for the error.
        if fits && consumer.sender.capacity() > 1 {
            consumer.queued.fetch_add(length, Ordering::Relaxed);
            let channel = channel.map(|channel| u32::from(channel.0));
            let item = v1::DataMessage { payload: message.payload, text: message.text, channel };
            if consumer.sender.try_send(Ok(reply(ExchangeEvent::Message(item)))).is_ok() {
                return true;
            }
        } else {
            tracing::warn!(consumer = id.0, "another node takes data too slowly, its stream ends");
            let _ = consumer.sender.try_send(Err(Status::resource_exhausted("too slow")));
        }
        open.remove(&id);
        false
    }

    /// Tells a consumer how many channels there are. One with too much in its queue will be ended by the next message.
    fn tell(&self, id: ConsumerId, open: usize) {
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        if let Some(consumer) = self.lock().get(&id).filter(|consumer| consumer.sender.capacity() > 1) {
            let _ = consumer.sender.try_send(Ok(reply(ExchangeEvent::Channels(open))));
        }
    }

    /// Ends a consumer's stream once what is queued is read.
    pub(crate) fn end(&self, id: ConsumerId) {
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
                DataCall::Message { consumer, message, channel } => {
                    if !self.data.consumers.send(consumer, message, channel) {
                        node.close_data_consumer(consumer);
                    }
                }
                DataCall::Channels { consumer, open } => self.data.consumers.tell(consumer, open),
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

fn reply(event: ExchangeEvent) -> v1::DataExchangeReply {
    v1::DataExchangeReply { event: Some(event) }
}

fn message(message: v1::DataMessage) -> Message {
    Message { payload: message.payload, text: message.text }
}
