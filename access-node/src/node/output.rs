//! What the node wants done.

use kaigi_proto::{
    ids::{AttachmentId, TransportId, WorkerId},
    v1,
};

use super::{Crossings, DataCall, Datagrams, LinkDatagrams, Notice};
use crate::{ids::WorkerNumber, keys::FlowKey};

/// A call to another node's `MediaLink`.
#[derive(Clone, Debug)]
pub enum LinkCall {
    /// Ask for a track; what comes of it goes to [`super::Node::attached`].
    Attach {
        /// For which flow.
        flow: FlowKey,
        /// The producing node.
        endpoint: String,
        /// What to send.
        request: v1::AttachRequest,
    },
    /// End a flow; nobody waits for the answer.
    Detach {
        /// The producing node.
        endpoint: String,
        /// Which flow.
        attachment: AttachmentId,
    },
    /// Ask for what layers there are; the answer goes to [`super::Node::described`].
    Describe {
        /// The producing node.
        endpoint: String,
        /// Which.
        request: v1::DescribeLayersRequest,
    },
}

/// Everything to be done, in order; to be emptied after each call or batch of datagrams.
#[derive(Debug, Default)]
pub struct Output {
    /// To clients.
    pub datagrams: Datagrams,
    /// To other nodes.
    pub link_datagrams: LinkDatagrams,
    /// Packets to other workers of the process.
    pub crossings: Crossings,
    /// What other workers of the process are told; before those packets.
    pub notices: Vec<(WorkerNumber, Notice)>,
    /// Transports that have ended.
    pub ended: Vec<TransportId>,
    /// For the agent that serves the room.
    pub events: Vec<(WorkerId, v1::AccessEvent)>,
    /// To other nodes.
    pub calls: Vec<LinkCall>,
    /// Data to and from other nodes.
    pub data: Vec<DataCall>,
}

impl Output {
    /// Packets that are to be sent.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.datagrams.len() + self.link_datagrams.len() + self.crossings.len()
    }
}
