//! The gRPC service Group, and what stands before all others.

use std::time::Instant;

use kaigi_proto::{
    auth::Require,
    v1::{LeaderReply, LeaderRequest, group_server::Group},
};
use tonic::{Request, Response, Status, service::Interceptor};

use super::{Standing, Term, Watched};

/// See the module's description.
#[derive(Clone, Debug)]
pub(crate) struct GroupService {
    standing: Standing,
    endpoint: String,
}

impl GroupService {
    /// `endpoint`: of this process, empty = not known.
    pub(crate) fn new(standing: Standing, endpoint: String) -> Self {
        Self { standing, endpoint }
    }
}

#[tonic::async_trait]
impl Group for GroupService {
    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderReply>, Status> {
        let watched = self.standing.watch().borrow().clone();
        let reply = match watched {
            Watched::Leads(term) => LeaderReply {
                leads: self.standing.serves(term, Instant::now()),
                term: term.0,
                leader: self.endpoint.clone(),
            },
            Watched::Follows(leader, known) => LeaderReply {
                leads: false,
                term: known.0,
                leader: leader.map(|leader| leader.endpoint).unwrap_or_default(),
            },
        };
        Ok(Response::new(reply))
    }
}

/// Lets calls through that have the secret, in a term that is known to last.
#[derive(Clone, Debug)]
pub(crate) struct Led {
    pub(crate) require: Require,
    pub(crate) standing: Standing,
    pub(crate) term: Term,
}

impl Interceptor for Led {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let request = self.require.call(request)?;
        if self.standing.serves(self.term, Instant::now()) {
            Ok(request)
        } else {
            Err(Status::unavailable("this cluster-manager does not lead"))
        }
    }
}
