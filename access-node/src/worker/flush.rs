//! Everything that the node wants done, done.

use std::time::{Duration, Instant};

use kaigi_proto::v1::{self, layer_link_client::LayerLinkClient, media_link_client::MediaLinkClient};
use kaigi_worker::Channels;
use tokio::runtime::Handle;

use super::{
    WorkerGone, WorkerHandle, data::DataExit, departures::Departures, placement::Placement,
    siblings::Outward, sockets::Open, tcp::Connections,
};
use crate::{
    events::EventHub,
    node::{LinkCall, Node, Output},
};

/// Datagrams that wait to be sent at most, before more are received. At 1.2 kB each 5 MB.
const MAX_WAITING: usize = 4096;
/// Bytes of datagrams that are written before they are sent: they stay in the processor's own cache meanwhile, of which a tenth of a large one
/// are, and are enough that a system call for them costs little beside what is done for each.
const WRITTEN: usize = 128 << 10;
/// Deadline of calls to other nodes.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The ways out of a worker.
pub(super) struct Exit {
    pub(super) departures: Departures,
    pub(super) connections: Connections,
    pub(super) events: EventHub,
    pub(super) data: DataExit,
    pub(super) placement: Placement,
    pub(super) channels: Channels,
    /// Where calls to other nodes run.
    pub(super) calls: Handle,
    /// How their answers come back.
    pub(super) back: WorkerHandle,
    /// To the other workers.
    pub(super) outward: Outward,
}

impl Exit {
    /// [`Self::flush`], if much is waiting.
    pub(super) fn flush_if_full(&mut self, node: &mut Node, sockets: &Open) {
        let output = node.output();
        if output.waiting() >= MAX_WAITING {
            self.flush(node, sockets);
        }
    }

    /// Sends what is to be sent, but what waits for the rest of its frame, and begins the calls that are to be made.
    pub(super) fn flush(&mut self, node: &mut Node, sockets: &Open) {
        let now = Instant::now();
        let Self { departures, connections, events, outward, .. } = self;
        let mut send = |output: &mut Output| {
            // What other workers need time for goes first.
            outward.send(output);
            if !output.datagrams.is_empty() {
                departures.send(&sockets.udp, &mut output.datagrams, |id, bytes| {
                    connections.send(id, bytes);
                });
            }
        };
        node.deliver(now, |output| {
            (output.datagrams.bytes() >= WRITTEN).then(|| {
                send(output);
                Instant::now()
            })
        });
        let output = node.output();
        send(output);
        for (agent, event) in output.events.drain(..) {
            events.send(now, &agent, event);
        }
        if !output.link_datagrams.is_empty() {
            departures.send_plain(&sockets.link, &mut output.link_datagrams);
        }
        for call in output.calls.drain(..) {
            self.call(call);
        }
        // One that was opened again meanwhile is there.
        let mut ended = std::mem::take(&mut node.output().ended);
        for transport in ended.drain(..).filter(|transport| !node.has_transport(transport)) {
            self.placement.ended(&transport);
        }
        node.output().ended = ended;
        self.flush_data(node);
    }

    fn call(&self, call: LinkCall) {
        let (channels, back) = (self.channels.clone(), self.back.clone());
        match call {
            LinkCall::Attach { flow, endpoint, request } => {
                self.calls.spawn(async move {
                    let reply = attach(&channels, &endpoint, request.clone()).await;
                    let done = move |node: &mut Node, now| node.attached(now, flow, &request, reply);
                    // The worker has ended: there is nobody to tell.
                    let _: Result<(), WorkerGone> = back.call(done).await;
                });
            }
            LinkCall::Describe { endpoint, request } => {
                self.calls.spawn(async move {
                    let Ok(channel) = channels.to(&endpoint) else { return };
                    let call = async { LayerLinkClient::new(channel).describe(request).await };
                    // It is asked again before long.
                    let Ok(Ok(reply)) = tokio::time::timeout(CALL_TIMEOUT, call).await else { return };
                    let done =
                        move |node: &mut Node, now| node.described(now, &endpoint, &reply.into_inner());
                    let _: Result<(), WorkerGone> = back.call(done).await;
                });
            }
            LinkCall::Detach { endpoint, attachment } => {
                self.calls.spawn(async move {
                    let Ok(channel) = channels.to(&endpoint) else { return };
                    let request = v1::DetachRequest { attachment_id: attachment.to_string() };
                    let call = async { MediaLinkClient::new(channel).detach(request).await };
                    // If it fails the producer ends the flow by itself when it hears no reports.
                    let _: Result<_, _> = tokio::time::timeout(CALL_TIMEOUT, call).await;
                });
            }
        }
    }
}

async fn attach(
    channels: &Channels,
    endpoint: &str,
    request: v1::AttachRequest,
) -> Result<v1::AttachReply, tonic::Status> {
    let mut client = MediaLinkClient::new(channels.to(endpoint)?);
    match tokio::time::timeout(CALL_TIMEOUT, client.attach(request)).await {
        Ok(reply) => reply.map(tonic::Response::into_inner),
        Err(_) => Err(tonic::Status::deadline_exceeded("the producer does not answer")),
    }
}
