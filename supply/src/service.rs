//! The media link's gRPC service.

use std::{sync::Arc, time::Instant};

use kaigi_proto::{
    ids::AttachmentId,
    v1::{self, media_link_server::MediaLink},
};
use tonic::{Request, Response, Status};

use crate::Outputs;

/// Lets others attach the tracks of this node.
#[derive(Clone, Debug)]
pub struct LinkService(pub Arc<Outputs>);

#[tonic::async_trait]
impl MediaLink for LinkService {
    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachReply>, Status> {
        Ok(Response::new(self.0.attach(request.get_ref(), Instant::now())?))
    }

    async fn detach(&self, request: Request<v1::DetachRequest>) -> Result<Response<v1::DetachReply>, Status> {
        let id = AttachmentId::new(request.into_inner().attachment_id)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.0.detach(&id);
        Ok(Response::new(v1::DetachReply {}))
    }
}
