//! The processes of the cluster.

use axum::http::Method;
use kaigi_proto::{
    ids::WorkerId,
    v1::{Purpose, Resource, ResourceUse, Worker},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tonic::Code;

use super::{
    call::Call,
    error::RestError,
    operation::{Answered, Operation, Place, empty_response, json_response, service},
};
use crate::backend::{CLUSTER_TIMEOUT, CallError};

/// Load above which a process gets no new tasks, if it says none.
const DEFAULT_MAX_LOAD: f64 = 0.85;

/// What can be asked of the cluster.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        service(Method::GET, "/cluster/nodes", "listNodes", nodes)
            .doc("cluster", "List the processes of the cluster with their load")
            .more("By a super service. Kaigi's own.")
            .gives::<Vec<Node>>(),
        service(Method::POST, "/cluster/nodes/{node}/drain", "drainNode", drain)
            .doc("cluster", "Have a process hand over what it has, and end")
            .more("By a super service. It gets no new tasks from then on; the list shows it as draining until it is gone. Kaigi's own."),
        service(Method::GET, "/cluster/can-fit", "canFit", can_fit)
            .doc("cluster", "Tell whether something new would find a process now")
            .more("By a super service. Nothing is placed: others may take the room there is. Kaigi's own.")
            .asks("purpose", "What kind of process it would need.", purposes())
            .parameter(Place::Query, "isp", "The internet provider that has to be served.", json!({"type": "string"}))
            .parameter(Place::Query, "region", "The region that should be served.", json!({"type": "string"}))
            .gives::<Fit>(),
    ]
}

async fn nodes(call: Call) -> Answered {
    if !call.service.is_super {
        return Err(RestError::Forbidden);
    }
    let workers = call.api.backend.workers(CLUSTER_TIMEOUT).await?;
    Ok(json_response(workers.into_iter().filter_map(Node::of).collect::<Vec<_>>()))
}

async fn drain(call: Call) -> Answered {
    if !call.service.is_super {
        return Err(RestError::Forbidden);
    }
    let id: WorkerId = call.id("node")?;
    match call.api.backend.drain(&id).await {
        Ok(()) => {
            tracing::info!(worker = %id, "drained by management");
            Ok(empty_response())
        }
        Err(error) if error.is_not_found() => Err(RestError::NodeNotFound),
        Err(error) => Err(error.into()),
    }
}

async fn can_fit(call: Call) -> Answered {
    if !call.service.is_super {
        return Err(RestError::Forbidden);
    }
    let named = call.query("purpose").unwrap_or_default();
    let purpose = NodePurpose::ALL.into_iter().find(|purpose| purpose.name() == named);
    let purpose = purpose.ok_or_else(|| {
        let names = NodePurpose::ALL.map(NodePurpose::name).join(", ");
        RestError::BadRequest(format!("purpose must be one of {names}"))
    })?;
    let wish = |name| call.query(name).unwrap_or_default();
    let backend = &call.api.backend;
    let refusal = match backend.can_fit(purpose.into(), wish("isp"), wish("region")).await {
        Ok(nodes) => return Ok(json_response(Fit { fits: true, nodes, reason: None })),
        Err(refusal) => refusal,
    };
    let is_answer = match &refusal {
        CallError::Refused { code: Code::ResourceExhausted | Code::FailedPrecondition, .. } => true,
        // None is there, or nobody who knows.
        CallError::Refused { code: Code::Unavailable, .. } => {
            let purpose = Purpose::from(purpose);
            let takes = |worker: &Worker| worker.purpose() == purpose && !worker.draining;
            !backend.workers(CLUSTER_TIMEOUT).await?.iter().any(takes)
        }
        CallError::Refused { .. }
        | CallError::Timeout(_)
        | CallError::Unreachable(_)
        | CallError::Conflict => false,
    };
    if !is_answer {
        return Err(refusal.into());
    }
    Ok(json_response(Fit { fits: false, nodes: 0, reason: Some(refusal.to_string()) }))
}

fn purposes() -> serde_json::Value {
    json!({"type": "string", "enum": NodePurpose::ALL.map(NodePurpose::name)})
}

/// Whether something new would find a process.
#[derive(Debug, Serialize, JsonSchema)]
struct Fit {
    fits: bool,
    /// How many could be given it.
    nodes: u32,
    /// Why none could.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A process of the cluster.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Node {
    /// New at each start.
    id: String,
    purpose: NodePurpose,
    /// Where the other processes reach it; empty for a portal.
    endpoint: String,
    /// Where clients reach a portal, `host:port`; empty for all others.
    public_address: String,
    /// Whether clients reach it by TLS.
    secure: bool,
    /// The largest share of its resources that is taken, 0 to 1.
    load: f64,
    /// What limits this kind of process.
    resources: Vec<Taken>,
    /// Above this load it gets no new tasks.
    max_load: f64,
    /// How many are placed on it.
    tasks: u32,
    /// Internet providers whose clients it serves; empty = all.
    isps: Vec<String>,
    /// Regions whose clients it serves; empty = all.
    regions: Vec<String>,
    /// It keeps its tasks and gets no new ones.
    draining: bool,
    /// Since when it is known, Unix ms.
    since: u64,
}

/// How much of a resource is taken.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Taken {
    /// CPU in cores; packets sent a second; encoders of pictures that run; recordings, broadcasts and streams in; connections of clients.
    name: ResourceName,
    used: f64,
    capacity: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ResourceName {
    Cpu,
    Packets,
    Encoders,
    Pipelines,
    Connections,
}

impl Taken {
    /// `None` for one of a kind that is not known here.
    fn of(told: &ResourceUse) -> Option<Self> {
        let name = match told.resource() {
            Resource::Unspecified => return None,
            Resource::Cpu => ResourceName::Cpu,
            Resource::Packets => ResourceName::Packets,
            Resource::Encoders => ResourceName::Encoders,
            Resource::Pipelines => ResourceName::Pipelines,
            Resource::Connections => ResourceName::Connections,
        };
        Some(Self { name, used: told.used, capacity: told.capacity })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum NodePurpose {
    Portal,
    Conference,
    Access,
    Mixer,
    Streaming,
    Gateway,
}

impl NodePurpose {
    const ALL: [Self; 6] =
        [Self::Portal, Self::Conference, Self::Access, Self::Mixer, Self::Streaming, Self::Gateway];

    fn name(self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Conference => "conference",
            Self::Access => "access",
            Self::Mixer => "mixer",
            Self::Streaming => "streaming",
            Self::Gateway => "gateway",
        }
    }
}

impl From<NodePurpose> for Purpose {
    fn from(purpose: NodePurpose) -> Self {
        match purpose {
            NodePurpose::Portal => Self::Portal,
            NodePurpose::Conference => Self::Conference,
            NodePurpose::Access => Self::Access,
            NodePurpose::Mixer => Self::Mixer,
            NodePurpose::Streaming => Self::Streaming,
            NodePurpose::Gateway => Self::Gateway,
        }
    }
}

impl Node {
    /// `None` for a process of a kind that is not known here.
    fn of(worker: Worker) -> Option<Self> {
        let purpose = match worker.purpose() {
            Purpose::Unspecified => return None,
            Purpose::Portal => NodePurpose::Portal,
            Purpose::Conference => NodePurpose::Conference,
            Purpose::Access => NodePurpose::Access,
            Purpose::Mixer => NodePurpose::Mixer,
            Purpose::Streaming => NodePurpose::Streaming,
            Purpose::Gateway => NodePurpose::Gateway,
        };
        Some(Self {
            purpose,
            id: worker.worker_id,
            endpoint: worker.endpoint,
            public_address: worker.public_address,
            secure: worker.secure,
            load: if worker.load.is_finite() { worker.load } else { 1.0 },
            resources: worker.resources.iter().filter_map(Taken::of).collect(),
            max_load: if worker.max_load > 0.0 { worker.max_load } else { DEFAULT_MAX_LOAD },
            tasks: worker.tasks,
            isps: worker.isps,
            regions: worker.regions,
            draining: worker.draining,
            since: worker.registered_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_is_no_number_is_full() {
        let node =
            |load| Node::of(Worker { purpose: Purpose::Mixer.into(), load, ..Worker::default() }).unwrap();
        assert_eq!((node(f64::NAN).load, node(0.5).load, node(0.5).max_load), (1.0, 0.5, 0.85));
        assert_eq!(Node::of(Worker::default()), None);
    }

    #[test]
    fn what_a_load_is_made_of() {
        let told = [(Resource::Cpu, 0.5, 2.0), (Resource::Encoders, 3.0, 16.0)];
        let told =
            told.map(|(resource, used, capacity)| ResourceUse { resource: resource.into(), used, capacity });
        let unknown = ResourceUse { resource: 99, used: 1.0, capacity: 1.0 };
        let resources = [&told[..], &[unknown]].concat();
        let node =
            Node::of(Worker { purpose: Purpose::Mixer.into(), resources, ..Worker::default() }).unwrap();
        assert_eq!(
            serde_json::to_value(node.resources).unwrap(),
            json!([{"name": "cpu", "used": 0.5, "capacity": 2.0}, {"name": "encoders", "used": 3.0, "capacity": 16.0}])
        );
    }
}
