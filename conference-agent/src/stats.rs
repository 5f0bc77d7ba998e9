//! Asking nodes what they count: of each at most once a second, for all who want to know together. A node that does not answer in time
//! costs its own part only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::{
    ids::WorkerId,
    v1::{self, access_node_client::AccessNodeClient, mixer_node_client::MixerNodeClient},
};
use kaigi_worker::Channels;
use tokio::{sync::watch, time::Instant};
use tonic::Status;

use crate::room::{Countable, NodeStats, Question};

/// Between two questions to a node.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait for a node; what it has answered until then counts.
const DEADLINE: Duration = Duration::from_secs(2);
/// Transports of one call: an access-node's media wait while it counts.
const TRANSPORTS: usize = 100;
/// Tracks of one call to a mixer-node.
const TRACKS: usize = 1000;
/// Largest reply: the transports of one call, each with as many subscriptions as it may have.
const MAX_REPLY: usize = 64 << 20;

type Answer = watch::Receiver<Option<Arc<NodeStats>>>;

/// The questions of one room.
#[derive(Debug)]
pub(crate) struct Desk {
    channels: Channels,
    /// Asked within the last second, or not answered yet.
    asked: Mutex<HashMap<WorkerId, Answer>>,
}

impl Desk {
    pub(crate) fn new(channels: Channels) -> Self {
        Self { channels, asked: Mutex::default() }
    }

    /// What the nodes count, or counted less than a second ago.
    pub(crate) async fn ask(desk: &Arc<Self>, questions: Vec<Question>) -> Vec<Arc<NodeStats>> {
        let answers: Vec<Answer> =
            questions.into_iter().map(|question| Self::answer(desk, question)).collect();
        let mut counted = Vec::new();
        for mut answer in answers {
            if let Ok(known) = answer.wait_for(Option::is_some).await {
                counted.extend(known.clone());
            }
        }
        counted
    }

    fn answer(desk: &Arc<Self>, question: Question) -> Answer {
        let mut asked = desk.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = question.node.worker.clone();
        if let Some(answer) = asked.get(&worker) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        asked.insert(worker.clone(), answer.clone());
        let desk = desk.clone();
        tokio::spawn(async move {
            let since = Instant::now();
            tell.send_replace(Some(Arc::new(desk.count(&question).await)));
            tokio::time::sleep_until(since + INTERVAL).await;
            desk.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
        });
        answer
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
                Countable::Tracks(ids) => {
                    for ids in ids.chunks(TRACKS) {
                        let ids = ids.iter().map(ToString::to_string).collect();
                        let counted_now = self.tracks(&question.node.endpoint, ids).await?;
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
}
