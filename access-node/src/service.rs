//! The gRPC services: `AccessNode` for the agents, `MediaLink` and `DataLink` for other nodes.

use std::time::{Duration, Instant, SystemTime};

use kaigi_proto::{
    ids::{AttachmentId, IdError, RoomId, SessionId, StreamId, TransportId, WorkerId},
    v1::{
        self, access_node_server::AccessNode, data_link_server::DataLink, layer_link_server::LayerLink,
        media_link_server::MediaLink, signal_transport_request::Signal,
    },
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    events::EventHub,
    node::{ConsumerId, Node, NodeError, request},
    sctp::{self, ChannelId, Message},
    sdp::{MAX_SDP, Offer},
    worker::{DataConsumers, DataStream, ExchangeStream, WorkerHandle, Workers},
};

/// Largest message of an agent, in bytes: an offer and what is around it.
pub const MAX_MESSAGE: usize = MAX_SDP + 4096;

/// Transports whose counters are told by one call.
pub const MAX_COUNTED: usize = 100;

/// Longest wait for the first request of an exchange of data, which says of what stream.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// All services.
#[derive(Clone, Debug)]
pub struct Service {
    /// Does the work.
    pub workers: Workers,
    /// Tells the agents.
    pub events: EventHub,
    /// Carries data to other nodes.
    pub data: DataConsumers,
}

fn bad_id(error: IdError) -> Status {
    Status::invalid_argument(error.to_string())
}

#[tonic::async_trait]
impl AccessNode for Service {
    async fn open_publication(
        &self,
        request: Request<v1::OpenPublicationRequest>,
    ) -> Result<Response<v1::OpenSessionReply>, Status> {
        let (opened, tracks) = request::publication(request.into_inner())?;
        self.events.expect(Instant::now(), &opened.agent);
        let opens = opened.clone();
        let open = move |node: &mut Node, now| node.open_publication(now, &opens, tracks);
        self.workers.open(&opened, open).await??;
        Ok(Response::new(v1::OpenSessionReply {}))
    }

    async fn open_subscription(
        &self,
        request: Request<v1::OpenSubscriptionRequest>,
    ) -> Result<Response<v1::OpenSessionReply>, Status> {
        let (opened, tracks) = request::subscription(request.into_inner())?;
        self.events.expect(Instant::now(), &opened.agent);
        let opens = opened.clone();
        let open = move |node: &mut Node, now| node.open_subscription(now, &opens, tracks);
        self.workers.open(&opened, open).await??;
        Ok(Response::new(v1::OpenSessionReply {}))
    }

    async fn set_source(
        &self,
        request: Request<v1::SetSourceRequest>,
    ) -> Result<Response<v1::SetSourceReply>, Status> {
        let request = request.into_inner();
        let transport = TransportId::new(&request.transport_id).map_err(bad_id)?;
        let session = SessionId::new(&request.session_id).map_err(bad_id)?;
        let kind = request::kind(request.kind)?;
        let feed = match request.selected {
            Some(selected) => Some(request::selected(&selected, kind)?),
            None => request::feed(request.source, request.layers, request.wanted, kind)?,
        };
        let feed = feed.ok_or_else(|| Status::invalid_argument("source is missing"))?;
        self.workers
            .of(&transport)
            .call(move |node, now| node.set_source(now, &transport, &session, kind, feed))
            .await??;
        Ok(Response::new(v1::SetSourceReply {}))
    }

    async fn select_audio(
        &self,
        request: Request<v1::SelectAudioRequest>,
    ) -> Result<Response<v1::SelectAudioReply>, Status> {
        let request = request.into_inner();
        let room = RoomId::new(&request.room_id).map_err(bad_id)?;
        let selection = request.selection.ok_or_else(|| Status::invalid_argument("selection is missing"))?;
        let selection = request::selection(selection)?;
        let select = move |node: &mut Node, now| node.select_audio(now, &room, request.epoch, &selection);
        // Each worker that has transports of the room has takers of its own.
        let mut result = Err(NodeError::UnknownRoom);
        for worker in self.workers.iter() {
            match worker.call(select.clone()).await? {
                Err(NodeError::UnknownRoom) => {}
                told => result = told,
            }
        }
        result?;
        Ok(Response::new(v1::SelectAudioReply {}))
    }

    async fn close_session(
        &self,
        request: Request<v1::CloseSessionRequest>,
    ) -> Result<Response<v1::CloseSessionReply>, Status> {
        let request = request.into_inner();
        let transport = TransportId::new(&request.transport_id).map_err(bad_id)?;
        let session = SessionId::new(&request.session_id).map_err(bad_id)?;
        self.workers.of(&transport).call(move |node, _| node.close_session(&transport, &session)).await?;
        Ok(Response::new(v1::CloseSessionReply {}))
    }

    async fn close_transport(
        &self,
        request: Request<v1::CloseTransportRequest>,
    ) -> Result<Response<v1::CloseTransportReply>, Status> {
        let transport = TransportId::new(&request.into_inner().transport_id).map_err(bad_id)?;
        self.workers.of(&transport).call(move |node, now| node.close_transport(now, &transport)).await?;
        Ok(Response::new(v1::CloseTransportReply {}))
    }

    async fn signal_transport(
        &self,
        request: Request<v1::SignalTransportRequest>,
    ) -> Result<Response<v1::SignalReply>, Status> {
        let request = request.into_inner();
        let transport = TransportId::new(&request.transport_id).map_err(bad_id)?;
        let name = request.request_id;
        match request.signal {
            Some(Signal::Offer(sdp)) => {
                let offer = Offer::parse(&sdp).map_err(NodeError::from)?;
                self.workers
                    .of(&transport)
                    .call(move |node, now| node.offer_of(now, &transport, &offer, &name))
                    .await??;
            }
            Some(Signal::Candidate(_)) => {
                self.workers.of(&transport).call(move |node, now| node.candidate(now, &transport)).await??;
            }
            // Candidates that go away were never kept.
            Some(Signal::RemovedCandidates(_)) => {}
            None => return Err(Status::invalid_argument("signal is missing")),
        }
        Ok(Response::new(v1::SignalReply {}))
    }

    async fn estimate_bandwidth(
        &self,
        request: Request<v1::EstimateBandwidthRequest>,
    ) -> Result<Response<v1::EstimateBandwidthReply>, Status> {
        let transport = TransportId::new(&request.into_inner().transport_id).map_err(bad_id)?;
        let estimate =
            self.workers.of(&transport).call(move |node, now| node.estimate_bandwidth(now, &transport));
        Ok(Response::new(v1::EstimateBandwidthReply { bitrate: estimate.await?? }))
    }

    async fn set_active(
        &self,
        request: Request<v1::SetActiveRequest>,
    ) -> Result<Response<v1::SetActiveReply>, Status> {
        let request = request.into_inner();
        let transport = TransportId::new(&request.transport_id).map_err(bad_id)?;
        let session = SessionId::new(&request.session_id).map_err(bad_id)?;
        let (kind, active) = (request::kind(request.kind)?, request.active);
        self.workers
            .of(&transport)
            .call(move |node, now| node.set_active(now, &transport, &session, kind, active))
            .await??;
        Ok(Response::new(v1::SetActiveReply {}))
    }

    async fn stats(&self, request: Request<v1::StatsRequest>) -> Result<Response<v1::StatsReply>, Status> {
        let ids = request.into_inner().transport_ids;
        if ids.len() > MAX_COUNTED {
            return Err(Status::invalid_argument(format!("more than {MAX_COUNTED} transports at once")));
        }
        let ids: Result<Vec<_>, _> = ids.iter().map(TransportId::new).collect();
        let ids = ids.map_err(bad_id)?;
        let mut transports = Vec::new();
        // One by one: media wait while a transport is counted, which may have hundreds of tracks.
        for id in ids {
            let worker = self.workers.of(&id);
            let counted = worker.call(move |node, now| node.stats(now, SystemTime::now(), &[id]));
            transports.extend(counted.await?);
        }
        Ok(Response::new(v1::StatsReply { transports }))
    }

    async fn adopt_room(
        &self,
        request: Request<v1::AdoptRoomRequest>,
    ) -> Result<Response<v1::AdoptRoomReply>, Status> {
        let request = request.into_inner();
        let agent = WorkerId::new(&request.agent_id).map_err(bad_id)?;
        let room = RoomId::new(&request.room_id).map_err(bad_id)?;
        let named: Result<Vec<_>, _> = request.transport_ids.iter().map(TransportId::new).collect();
        self.events.expect(Instant::now(), &agent);
        let there = self.workers.adopt_room(&room, &agent, request.epoch, named.map_err(bad_id)?).await??;
        tracing::info!(%room, worker = %agent, transports = there.len(), "room adopted");
        let transport_ids = there.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::AdoptRoomReply { transport_ids }))
    }

    async fn adopt_transports(
        &self,
        request: Request<v1::AdoptTransportsRequest>,
    ) -> Result<Response<v1::AdoptTransportsReply>, Status> {
        let request = request.into_inner();
        let room = RoomId::new(&request.room_id).map_err(bad_id)?;
        let mut missing = Vec::new();
        // One by one: media wait meanwhile.
        for transport in request.transports {
            let (room, adopted) = (room.clone(), request::adopted(transport)?);
            let worker = self.workers.of(&adopted.transport);
            let adopt = move |node: &mut Node, now| node.adopt_transport(now, &room, request.epoch, &adopted);
            missing.extend(worker.call(adopt).await??.iter().map(ToString::to_string));
        }
        Ok(Response::new(v1::AdoptTransportsReply { missing_session_ids: missing }))
    }

    type EventsStream = ReceiverStream<Result<v1::AccessEvent, Status>>;

    async fn events(
        &self,
        request: Request<v1::AccessEventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let agent = WorkerId::new(&request.into_inner().agent_id).map_err(bad_id)?;
        tracing::info!(worker = %agent, "agent listens");
        Ok(Response::new(ReceiverStream::new(self.events.subscribe(agent))))
    }
}

#[tonic::async_trait]
impl MediaLink for Service {
    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachReply>, Status> {
        let request = request.into_inner();
        let attach = move |node: &mut Node, now| node.attach(now, &request);
        let reply = self.workers.find(NodeError::UnknownTrack, attach).await??;
        Ok(Response::new(reply))
    }

    async fn detach(&self, request: Request<v1::DetachRequest>) -> Result<Response<v1::DetachReply>, Status> {
        let id = AttachmentId::new(&request.into_inner().attachment_id).map_err(bad_id)?;
        self.workers.all(move |node, _| node.detach(&id)).await?;
        Ok(Response::new(v1::DetachReply {}))
    }
}

#[tonic::async_trait]
impl LayerLink for Service {
    async fn describe(
        &self,
        request: Request<v1::DescribeLayersRequest>,
    ) -> Result<Response<v1::DescribeLayersReply>, Status> {
        let request = request.into_inner();
        let mut layers = Vec::new();
        for worker in self.workers.iter() {
            let request = request.clone();
            let reply = worker.call(move |node, now| node.describe_layers(now, &request)).await?;
            layers.extend(reply.layers);
        }
        Ok(Response::new(v1::DescribeLayersReply { layers }))
    }
}

#[tonic::async_trait]
impl DataLink for Service {
    type SubscribeStream = DataStream;
    type ExchangeStream = ExchangeStream;

    async fn subscribe(&self, request: Request<v1::DataRequest>) -> Result<Response<DataStream>, Status> {
        let stream = StreamId::new(&request.into_inner().stream_id).map_err(bad_id)?;
        let (consumer, messages) = self.data.open();
        // If this is refused, or the caller goes away, the consumer is found closed.
        let open = move |node: &mut Node, _| node.open_data_consumer(consumer, &stream);
        self.workers.find(NodeError::UnknownStream, open).await??;
        Ok(Response::new(messages.into()))
    }

    async fn exchange(
        &self,
        request: Request<Streaming<v1::DataExchangeRequest>>,
    ) -> Result<Response<ExchangeStream>, Status> {
        let mut requests = request.into_inner();
        let first = tokio::time::timeout(FIRST_REQUEST, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first request"))??;
        let stream = StreamId::new(&first.unwrap_or_default().stream_id).map_err(bad_id)?;
        let (consumer, replies) = self.data.open();
        for worker in self.workers.iter() {
            let stream = stream.clone();
            let open = move |node: &mut Node, _: Instant| node.open_data_exchange(consumer, &stream);
            match worker.call(open).await? {
                Err(NodeError::UnknownStream) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    tokio::spawn(exchanged(requests, worker.clone(), consumer, self.data.clone()));
                    return Ok(Response::new(replies));
                }
            }
        }
        Err(NodeError::UnknownStream.into())
    }
}

/// Brings what a caller sends to the publisher's channels, until either side ends.
async fn exchanged(
    mut requests: Streaming<v1::DataExchangeRequest>,
    worker: WorkerHandle,
    consumer: ConsumerId,
    data: DataConsumers,
) {
    while let Ok(Some(request)) = requests.message().await {
        let Some(message) = request.message else { continue };
        let channel = message.channel.map(u16::try_from).transpose();
        let Ok(channel) = channel.map(|channel| channel.map(ChannelId)) else { continue };
        if message.payload.len() > sctp::MAX_MESSAGE {
            tracing::warn!(bytes = message.payload.len(), "a message is too large for a data channel");
            continue;
        }
        let message = Message { payload: message.payload, text: message.text };
        let send = move |node: &mut Node, now| node.send_to_publisher(now, consumer, channel, &message);
        if !worker.call(send).await.unwrap_or(false) {
            break;
        }
    }
    // A worker that has ended has forgotten it.
    let _ = worker.call(move |node, _| node.close_data_consumer(consumer)).await;
    data.end(consumer);
}
