//! Keys of what a node keeps, below the modules that keep it: each names the other's entries without knowing what they are.

use crate::arena::Key;

/// Marks keys of clients' connections.
#[derive(Debug)]
pub enum TransportTag {}
/// Marks keys of flows to other nodes.
#[derive(Debug)]
pub enum AttachmentTag {}
/// Marks keys of flows from other nodes.
#[derive(Debug)]
pub enum FlowTag {}
/// Marks keys of streams of data from other nodes.
#[derive(Debug)]
pub enum DataFlowTag {}
/// Marks keys of tracks that can be forwarded.
#[derive(Debug)]
pub enum SourceTag {}
/// Marks keys of tracks' destinations.
#[derive(Debug)]
pub enum SinkTag {}

/// Finds a client's connection.
pub type TransportKey = Key<TransportTag>;
/// Finds a flow to another node.
pub type AttachmentKey = Key<AttachmentTag>;
/// Finds a flow from another node.
pub type FlowKey = Key<FlowTag>;
/// Finds a stream of data from another node.
pub type DataFlowKey = Key<DataFlowTag>;
/// Finds a track that can be forwarded.
pub type SourceKey = Key<SourceTag>;
/// Finds a track's destination.
pub type SinkKey = Key<SinkTag>;
