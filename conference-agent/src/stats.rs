//! Asking nodes what they count: of each at most once a second, for all who want to know together, and so of the room itself if all of it
//! is wanted. A node that does not answer in time costs its own part only.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use kaigi_proto::{
    ids::WorkerId,
    v1::{
        self, access_node_client::AccessNodeClient, mixer_node_client::MixerNodeClient,
        streaming_node_client::StreamingNodeClient,
    },
};
use kaigi_worker::Channels;
use tokio::{sync::watch, time::Instant};
use tonic::Status;

use crate::room::{Countable, NodeStats, Question};

/// Between two questions to a node or a room.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for a node; what it has answered until then counts.
const DEADLINE: Duration = Duration::from_secs(2);
/// Transports of one call, as many as access-nodes take.
const TRANSPORTS: usize = 100;
/// Tracks of one call, as many as mixer-nodes take.
const TRACKS: usize = 1000;
/// Largest reply: the transports of one call, each with as many subscriptions as it may have.
const MAX_REPLY: usize = 64 << 20;

/// What was asked within the last second, or is not answered yet, with the answers.
#[derive(Debug)]
struct Lately<K, T>(Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>);

impl<K, T> Default for Lately<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, T: Clone + Send + Sync + 'static> Lately<K, T> {
    /// What `ask` gives, or gave lately to another. It runs on if its caller goes away. `None` if it panics.
    async fn get(&self, key: K, ask: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut answer = {
            let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let failed = |answer: &watch::Receiver<Option<T>>| answer.has_changed().is_err();
            match asked.get(&key).filter(|answer| answer.borrow().is_some() || !failed(answer)) {
                Some(answer) => answer.clone(),
                None => {
                    let (tell, answer) = watch::channel(None);
                    asked.insert(key.clone(), answer.clone());
                    tokio::spawn(Self::answer(Arc::clone(&self.0), key, tell, ask));
                    answer
                }
            }
        };
        answer.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn answer(
        asked: Arc<Mutex<HashMap<K, watch::Receiver<Option<T>>>>>,
        key: K,
        tell: watch::Sender<Option<T>>,
        ask: impl Future<Output = T>,
    ) {
        let since = Instant::now();
        tell.send_replace(Some(ask.await));
        tokio::time::sleep_until(since + INTERVAL).await;
        asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// The questions of one room.
#[derive(Debug)]
pub(crate) struct Desk {
    channels: Channels,
    nodes: Lately<WorkerId, Arc<NodeStats>>,
    whole: Lately<(), Result<Arc<v1::RoomStatsReply>, Status>>,
}

impl Desk {
    pub(crate) fn new(channels: Channels) -> Self {
        Self { channels, nodes: Lately::default(), whole: Lately::default() }
    }

    /// All that `ask` finds out of the room, or found out less than a second ago.
    pub(crate) async fn whole(
        &self,
        ask: impl Future<Output = Result<v1::RoomStatsReply, Status>> + Send + 'static,
    ) -> Result<v1::RoomStatsReply, Status> {
        let told = self.whole.get((), async { ask.await.map(Arc::new) }).await;
        told.unwrap_or_else(|| Err(Status::internal("statistics failed"))).map(Arc::unwrap_or_clone)
    }

    /// What the nodes count, or counted less than a second ago.
    pub(crate) async fn ask(desk: &Arc<Self>, questions: Vec<Question>) -> Vec<Arc<NodeStats>> {
        let answers = questions.into_iter().map(|question| {
            let asking = Arc::clone(desk);
            let worker = question.node.worker.clone();
            desk.nodes.get(worker, async move { Arc::new(asking.count(&question).await) })
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    async fn count(&self, question: &Question) -> NodeStats {
        let mut counted = NodeStats::default();
        let all = async {
            match &question.of {
                Countable::Transports(ids) => {
                    for ids in ids.chunks(TRANSPORTS) {
                        let ids = ids.iter().map(ToString::to_string).collect();
                        let counted_now = self.transports(&question.node.endpoint, ids).await?;
                        let named = counted_now.into_iter().map(|t| (t.transport_id.clone(), t));
                        counted.transports.extend(named);
                    }
                }
                Countable::Tracks(ids) | Countable::Pulled(ids) => {
                    for ids in ids.chunks(TRACKS) {
                        let ids = ids.iter().map(ToString::to_string).collect();
                        let counted_now = match question.of {
                            Countable::Pulled(_) => self.pulled(&question.node.endpoint, ids).await?,
                            _ => self.tracks(&question.node.endpoint, ids).await?,
                        };
                        counted.tracks.extend(counted_now.into_iter().map(|t| (t.track_id.clone(), t)));
                    }
                }
            }
            Ok::<(), Status>(())
        };
        match tokio::time::timeout(DEADLINE, all).await {
            Ok(Ok(())) => {}
            Ok(Err(status)) => {
                tracing::debug!(worker = %question.node.worker, %status, "statistics are incomplete")
            }
            Err(_) => {
                tracing::debug!(worker = %question.node.worker, "statistics are incomplete: no answer in time")
            }
        }
        counted
    }

    async fn transports(
        &self,
        endpoint: &str,
        transport_ids: Vec<String>,
    ) -> Result<Vec<v1::TransportStats>, Status> {
        let client = AccessNodeClient::new(self.channels.to(endpoint)?);
        let mut client = client.max_decoding_message_size(MAX_REPLY);
        Ok(client.stats(v1::StatsRequest { transport_ids }).await?.into_inner().transports)
    }

    async fn tracks(&self, endpoint: &str, track_ids: Vec<String>) -> Result<Vec<v1::TrackStats>, Status> {
        let client = MixerNodeClient::new(self.channels.to(endpoint)?);
        let mut client = client.max_decoding_message_size(MAX_REPLY);
        Ok(client.stats(v1::MixerStatsRequest { track_ids }).await?.into_inner().tracks)
    }

    async fn pulled(&self, endpoint: &str, track_ids: Vec<String>) -> Result<Vec<v1::TrackStats>, Status> {
        let mut client = StreamingNodeClient::new(self.channels.to(endpoint)?);
        Ok(client.stats(v1::StreamingStatsRequest { track_ids }).await?.into_inner().tracks)
    }
}
