//! Data between nodes: streams of this node that others get, and streams of others that clients here get. Workers of one process are nodes
//! to each other in this: data are few beside media.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use kaigi_proto::ids::{StreamId, WorkerId};

use super::{DataSource, Node, NodeError};
use crate::{
    arena::Arena,
    keys::{DataFlowKey, DataFlowTag},
    sctp::{ChannelId, Message},
    timers::Timers,
};

/// First and longest pause before a stream is asked for again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Another node that gets the data of a stream of this one; whoever carries them chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// What is to be done about data between nodes.
#[derive(Clone, Debug)]
pub enum DataCall {
    /// A message for another node.
    Message {
        /// Which.
        consumer: ConsumerId,
        /// The message.
        message: Message,
        /// Where it came in, if that was here.
        channel: Option<ChannelId>,
    },
    /// So many channels of the stream are open, for one that sends to them.
    Channels {
        /// For whom.
        consumer: ConsumerId,
        /// How many.
        open: usize,
    },
    /// The stream has ended.
    End {
        /// For whom.
        consumer: ConsumerId,
    },
    /// Ask for a stream; its messages go to [`Node::data_arrived`], its end to [`Node::data_ended`].
    Subscribe {
        /// For which flow.
        flow: DataFlowKey,
        /// The node with the publisher.
        endpoint: String,
        /// The stream.
        stream: StreamId,
    },
    /// Want a stream no more.
    Unsubscribe {
        /// Of which flow.
        flow: DataFlowKey,
    },
}

/// A stream from another node.
#[derive(Debug)]
pub(super) struct DataFlow {
    stream: StreamId,
    /// A process that was started again has the endpoint of the one before, and none of its streams.
    worker: WorkerId,
    endpoint: String,
    failures: u32,
    /// When to ask again; `None` while it is asked for.
    retry_at: Option<Instant>,
}

/// Both directions.
#[derive(Debug, Default)]
pub(super) struct DataLinks {
    consumers: HashMap<StreamId, Vec<ConsumerId>>,
    pub(super) streams: HashMap<ConsumerId, StreamId>,
    /// Those that send, too.
    pub(super) exchanging: HashSet<ConsumerId>,
    pub(super) flows: Arena<DataFlow, DataFlowTag>,
    by_stream: HashMap<StreamId, DataFlowKey>,
    pub(super) timers: Timers<DataFlowKey>,
}

impl DataLinks {
    pub(super) fn consumers_of(&self, stream: &StreamId) -> &[ConsumerId] {
        self.consumers.get(stream).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn add_consumer(
        &mut self,
        id: ConsumerId,
        stream: &StreamId,
        limit: usize,
    ) -> Result<(), NodeError> {
        if self.streams.len() >= limit {
            return Err(NodeError::TooMany("consumers of data"));
        }
        if self.streams.insert(id, stream.clone()).is_none() {
            self.consumers.entry(stream.clone()).or_default().push(id);
        }
        Ok(())
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        self.exchanging.remove(&id);
        let Some(stream) = self.streams.remove(&id) else { return };
        let Some(consumers) = self.consumers.get_mut(&stream) else { return };
        consumers.retain(|other| *other != id);
        if consumers.is_empty() {
            self.consumers.remove(&stream);
        }
    }

    /// Forgets a stream's consumers and gives them.
    pub(super) fn end_stream(&mut self, stream: &StreamId) -> Vec<ConsumerId> {
        let consumers = self.consumers.remove(stream).unwrap_or_default();
        for consumer in &consumers {
            self.streams.remove(consumer);
            self.exchanging.remove(consumer);
        }
        consumers
    }
}

impl Node {
    /// Sees to it that the data of a stream of another node come in.
    pub(super) fn ensure_data_flow(&mut self, source: &DataSource) {
        let links = &mut self.net.data.links;
        if let Some(flow) = links.by_stream.get(&source.stream).and_then(|key| links.flows.get(*key)) {
            if flow.worker == source.worker {
                return;
            }
            self.end_data_flow(&source.stream);
        }
        let links = &mut self.net.data.links;
        if links.flows.len() >= self.config.limits.links {
            tracing::warn!(stream = %source.stream, "too many streams of data from other nodes");
            return;
        }
        let key = links.flows.insert(DataFlow {
            stream: source.stream.clone(),
            worker: source.worker.clone(),
            endpoint: source.endpoint.clone(),
            failures: 0,
            retry_at: None,
        });
        links.by_stream.insert(source.stream.clone(), key);
        self.ask_for_data(key);
    }

    fn ask_for_data(&mut self, key: DataFlowKey) {
        let Some(flow) = self.net.data.links.flows.get_mut(key) else { return };
        flow.retry_at = None;
        let (endpoint, stream) = (flow.endpoint.clone(), flow.stream.clone());
        self.net.output.data.push(DataCall::Subscribe { flow: key, endpoint, stream });
    }

    /// Nobody here wants the stream any more.
    pub(super) fn end_data_flow(&mut self, stream: &StreamId) {
        let links = &mut self.net.data.links;
        let Some(key) = links.by_stream.remove(stream) else { return };
        links.flows.remove(key);
        self.net.output.data.push(DataCall::Unsubscribe { flow: key });
    }

    /// Messages came from another node; `false` if nobody wants them any more.
    pub fn data_arrived(&mut self, now: Instant, flow: DataFlowKey, messages: &[Message]) -> bool {
        let Some(entry) = self.net.data.links.flows.get_mut(flow) else { return false };
        entry.failures = 0;
        let stream = entry.stream.clone();
        for message in messages {
            self.net.counters.data_link_messages_in += 1;
            self.fan_out(now, &stream, message, None);
        }
        true
    }

    /// Another node's stream has ended: with the publication, or by a failure, after which it is asked for again.
    pub fn data_ended(&mut self, now: Instant, key: DataFlowKey, result: Result<(), tonic::Status>) {
        let links = &mut self.net.data.links;
        let Some(flow) = links.flows.get_mut(key) else { return };
        // A stream of this process is not there yet, or not any more, which whoever opened the receivers will know.
        let may_come = flow.worker == self.config.worker;
        match result {
            Err(status) if may_come || status.code() != tonic::Code::NotFound => {
                tracing::debug!(stream = %flow.stream, endpoint = flow.endpoint, %status, "stream of data broken");
                let pause = RETRY.1.min(RETRY.0 * 2u32.saturating_pow(flow.failures.min(10)));
                flow.failures = flow.failures.saturating_add(1);
                flow.retry_at = Some(now + pause);
                links.timers.set(key, Some(now + pause));
            }
            Ok(()) | Err(_) => {
                let stream = flow.stream.clone();
                links.flows.remove(key);
                links.by_stream.remove(&stream);
                self.stream_ended(&stream);
            }
        }
    }

    pub(super) fn handle_data_timeouts(&mut self, now: Instant) {
        while let Some(key) = self.net.data.links.timers.pop_due(now) {
            let retry_at = self.net.data.links.flows.get(key).and_then(|flow| flow.retry_at);
            match retry_at {
                Some(at) if at <= now => self.ask_for_data(key),
                later => self.net.data.links.timers.set(key, later),
            }
        }
    }
}
