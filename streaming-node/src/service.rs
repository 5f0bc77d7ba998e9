//! The gRPC service of this node.

use std::{pin::Pin, sync::Arc, time::Instant};

use futures::{Stream, StreamExt};
use kaigi_proto::{
    ids::{TrackId, WorkerId},
    v1::{self, streaming_node_server::StreamingNode},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::node::Node;

/// Tracks whose counters are told by one call.
pub const MAX_COUNTED: usize = 1000;

/// See the module.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<Node>);

fn failed(_: tokio::task::JoinError) -> Status {
    Status::internal("the task failed")
}

#[tonic::async_trait]
impl StreamingNode for Service {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::OutputEvent, Status>> + Send>>;

    async fn set_output(
        &self,
        request: Request<v1::OutputDescription>,
    ) -> Result<Response<v1::OutputReply>, Status> {
        let (node, description) = (Arc::clone(&self.0), request.into_inner());
        let set = move || {
            let target = node.check(&description)?;
            node.set(&description, target, Instant::now())
        };
        Ok(Response::new(tokio::task::spawn_blocking(set).await.map_err(failed)??))
    }

    async fn remove_output(
        &self,
        request: Request<v1::RemoveOutputRequest>,
    ) -> Result<Response<v1::RemoveOutputReply>, Status> {
        let (node, request) = (Arc::clone(&self.0), request.into_inner());
        tokio::task::spawn_blocking(move || node.remove(&request)).await.map_err(failed)??;
        Ok(Response::new(v1::RemoveOutputReply {}))
    }

    async fn set_input(
        &self,
        request: Request<v1::InputDescription>,
    ) -> Result<Response<v1::InputReply>, Status> {
        let (node, description) = (Arc::clone(&self.0), request.into_inner());
        let set = move || {
            let source = node.check_input(&description)?;
            node.set_input(&description, source, Instant::now())
        };
        Ok(Response::new(tokio::task::spawn_blocking(set).await.map_err(failed)??))
    }

    async fn remove_input(
        &self,
        request: Request<v1::RemoveInputRequest>,
    ) -> Result<Response<v1::RemoveInputReply>, Status> {
        self.0.remove_input(&request.into_inner())?;
        Ok(Response::new(v1::RemoveInputReply {}))
    }

    async fn stats(
        &self,
        request: Request<v1::StreamingStatsRequest>,
    ) -> Result<Response<v1::StreamingStatsReply>, Status> {
        let ids = request.into_inner().track_ids;
        if ids.len() > MAX_COUNTED {
            return Err(Status::invalid_argument(format!("more than {MAX_COUNTED} tracks at once")));
        }
        let ids: Result<Vec<_>, _> = ids.iter().map(TrackId::new).collect();
        let ids = ids.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let tracks = self.0.place().outputs.stats(&ids, Instant::now());
        Ok(Response::new(v1::StreamingStatsReply { tracks }))
    }

    async fn events(
        &self,
        request: Request<v1::StreamingEventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let agent = WorkerId::new(request.into_inner().agent_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let told = self.0.events().open(agent.as_str());
        Ok(Response::new(Box::pin(ReceiverStream::new(told).map(Ok))))
    }
}
