//! The gRPC service of this node.

use std::{pin::Pin, sync::Arc, time::Instant};

use futures::{Stream, StreamExt};
use kaigi_proto::{
    ids::{TrackId, WorkerId},
    v1,
    v1::{layer_link_server::LayerLink, mixer_node_server::MixerNode},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::node::Node;

/// Tracks whose counters are told by one call.
pub const MAX_COUNTED: usize = 1000;
/// Tracks that are described by one call.
pub const MAX_DESCRIBED: usize = 256;

/// See the module.
#[derive(Clone)]
pub struct Service(pub Arc<Node>);

#[tonic::async_trait]
impl MixerNode for Service {
    async fn set_view(
        &self,
        request: Request<v1::ViewDescription>,
    ) -> Result<Response<v1::ViewReply>, Status> {
        Ok(Response::new(self.0.set_view(request.into_inner(), Instant::now())?))
    }

    async fn remove_view(
        &self,
        request: Request<v1::RemoveViewRequest>,
    ) -> Result<Response<v1::RemoveViewReply>, Status> {
        self.0.remove_view(request.into_inner())?;
        Ok(Response::new(v1::RemoveViewReply {}))
    }

    async fn set_transcoder(
        &self,
        request: Request<v1::TranscoderDescription>,
    ) -> Result<Response<v1::TranscoderReply>, Status> {
        Ok(Response::new(self.0.set_transcoder(request.into_inner(), Instant::now())?))
    }

    async fn remove_transcoder(
        &self,
        request: Request<v1::RemoveTranscoderRequest>,
    ) -> Result<Response<v1::RemoveTranscoderReply>, Status> {
        self.0.remove_transcoder(request.into_inner())?;
        Ok(Response::new(v1::RemoveTranscoderReply {}))
    }

    async fn stats(
        &self,
        request: Request<v1::MixerStatsRequest>,
    ) -> Result<Response<v1::MixerStatsReply>, Status> {
        let ids = request.into_inner().track_ids;
        if ids.len() > MAX_COUNTED {
            return Err(Status::invalid_argument(format!("more than {MAX_COUNTED} tracks at once")));
        }
        let ids: Result<Vec<_>, _> = ids.iter().map(TrackId::new).collect();
        let ids = ids.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let tracks = self.0.context().outputs.stats(&ids, Instant::now());
        Ok(Response::new(v1::MixerStatsReply { tracks }))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::MixerEvent, Status>> + Send>>;

    async fn events(
        &self,
        request: Request<v1::MixerEventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let agent = WorkerId::new(request.into_inner().agent_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let told = self.0.context().events.open(agent.as_str());
        Ok(Response::new(Box::pin(ReceiverStream::new(told).map(Ok))))
    }
}

#[tonic::async_trait]
impl LayerLink for Service {
    async fn describe(
        &self,
        request: Request<v1::DescribeLayersRequest>,
    ) -> Result<Response<v1::DescribeLayersReply>, Status> {
        let ids = request.into_inner().track_ids;
        // What is no id is no track of this node.
        let ids: Vec<_> = ids.iter().take(MAX_DESCRIBED).filter_map(|id| TrackId::new(id).ok()).collect();
        let layers = self.0.describe_layers(&ids, Instant::now());
        Ok(Response::new(v1::DescribeLayersReply { layers }))
    }
}
