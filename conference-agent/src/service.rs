//! The gRPC service: requests are parsed, put to their room, and its replies become the protocol's.

use std::{sync::Arc, time::Duration};

use kaigi_proto::v1::{self, conference_server::Conference};
use tonic::{Request, Response, Status};

use crate::{
    actor::After,
    audience::EventStream,
    parse,
    room::{Command, Reply},
    rooms::Rooms,
};

/// Serves the rooms of this process.
#[derive(Debug)]
pub(crate) struct ConferenceService {
    rooms: Arc<Rooms>,
}

type Answer<T> = Result<Response<T>, Status>;

impl ConferenceService {
    pub(crate) fn new(rooms: Arc<Rooms>) -> Self {
        Self { rooms }
    }

    async fn ask(&self, room: &str, command: Command) -> Result<Reply, Status> {
        self.ask_once(room, String::new(), command).await
    }

    /// Asks for what must not be done twice.
    async fn ask_once(&self, room: &str, request_id: String, command: Command) -> Result<Reply, Status> {
        self.rooms.request(&parse::room_id(room)?, parse::request_key(request_id)?, command).await
    }

    /// For requests whose reply says nothing but that it is done.
    async fn order<T: Default>(&self, room: &str, request_id: String, command: Command) -> Answer<T> {
        match self.ask_once(room, request_id, command).await? {
            Reply::Done => Ok(Response::new(T::default())),
            other => Err(unexpected(&other)),
        }
    }

    async fn session(&self, room: &str, request_id: String, command: Command) -> Answer<v1::SessionReply> {
        match self.ask_once(room, request_id, command).await? {
            Reply::Session { session, transport, data } => Ok(Response::new(v1::SessionReply {
                session_id: session.to_string(),
                transport_id: transport.to_string(),
                data,
            })),
            other => Err(unexpected(&other)),
        }
    }
}

fn egress(reply: Reply) -> Answer<v1::Egress> {
    match reply {
        Reply::Egress(egress) => Ok(Response::new(*egress)),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Status {
    Status::internal(format!("the room gave another kind of reply: {reply:?}"))
}

#[tonic::async_trait]
impl Conference for ConferenceService {
    type JoinStream = EventStream;
    type ResumeStream = EventStream;

    async fn room_stats(&self, request: Request<v1::RoomStatsRequest>) -> Answer<v1::RoomStatsReply> {
        let request = request.into_inner();
        let (room, of) = (parse::room_id(&request.room_id)?, parse::counted(&request)?);
        self.rooms.stats(&room, of).await.map(Response::new)
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Answer<EventStream> {
        let request = request.into_inner();
        let room = parse::room_id(&request.room_id)?;
        let window = Duration::from_millis(request.resume_window_ms);
        self.rooms.join(&room, parse::join(request)?, window).await.map(Response::new)
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<EventStream> {
        let request = request.into_inner();
        let (room, participant) =
            (parse::room_id(&request.room_id)?, parse::participant_id(&request.participant_id)?);
        let (seq, exact) = (request.after_seq, request.exact);
        let after = if request.same_portal { After::Portal { seq } } else { After::Client { seq, exact } };
        self.rooms.resume(&room, participant, after).await.map(Response::new)
    }

    async fn acknowledge(&self, request: Request<v1::AcknowledgeRequest>) -> Answer<v1::AcknowledgeReply> {
        let request = request.into_inner();
        let (room, participant) =
            (parse::room_id(&request.room_id)?, parse::participant_id(&request.participant_id)?);
        self.rooms.acknowledge(&room, participant, request.seq, request.exact).await?;
        Ok(Response::new(v1::AcknowledgeReply {}))
    }

    async fn leave(&self, request: Request<v1::LeaveRoomRequest>) -> Answer<v1::LeaveRoomReply> {
        let request = request.into_inner();
        self.order(&request.room_id, String::new(), parse::leave(&request)?).await
    }

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Answer<v1::SessionReply> {
        let request = request.into_inner();
        let (room, id) = (request.room_id.clone(), request.request_id.clone());
        self.session(&room, id, parse::publish(request)?).await
    }

    async fn subscribe(&self, request: Request<v1::SubscribeRequest>) -> Answer<v1::SessionReply> {
        let request = request.into_inner();
        let (room, id) = (request.room_id.clone(), request.request_id.clone());
        self.session(&room, id, parse::subscribe(request)?).await
    }

    async fn unpublish(&self, request: Request<v1::EndSessionRequest>) -> Answer<v1::EndSessionReply> {
        let request = request.into_inner();
        self.order(&request.room_id, request.request_id.clone(), parse::unpublish(&request)?).await
    }

    async fn unsubscribe(&self, request: Request<v1::EndSessionRequest>) -> Answer<v1::EndSessionReply> {
        let request = request.into_inner();
        self.order(&request.room_id, request.request_id.clone(), parse::unsubscribe(&request)?).await
    }

    async fn control_stream(&self, request: Request<v1::ControlRequest>) -> Answer<v1::ControlReply> {
        let request = request.into_inner();
        let room = request.room_id.clone();
        match self.ask(&room, parse::control_stream(request)?).await? {
            Reply::Done => Ok(Response::new(v1::ControlReply::default())),
            Reply::Region(region) => {
                Ok(Response::new(v1::ControlReply { region, ..v1::ControlReply::default() }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn control_subscription(&self, request: Request<v1::ControlRequest>) -> Answer<v1::ControlReply> {
        let request = request.into_inner();
        let room = request.room_id.clone();
        match self.ask(&room, parse::control_subscription(request)?).await? {
            Reply::Done => Ok(Response::new(v1::ControlReply::default())),
            Reply::Bandwidth(estimated_bitrate) => {
                Ok(Response::new(v1::ControlReply { estimated_bitrate, ..v1::ControlReply::default() }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn signal(&self, request: Request<v1::SignalRequest>) -> Answer<v1::SignalReply> {
        let request = request.into_inner();
        let (room, id) = (request.room_id.clone(), request.request_id.clone());
        self.order(&room, id, parse::signal(request)?).await
    }

    async fn text(&self, request: Request<v1::TextRequest>) -> Answer<v1::TextReply> {
        let request = request.into_inner();
        let (room, id) = (request.room_id.clone(), request.request_id.clone());
        self.order(&room, id, parse::text(request)?).await
    }

    async fn list_participants(
        &self,
        request: Request<v1::RoomRequest>,
    ) -> Answer<v1::ListParticipantsReply> {
        match self.ask(&request.into_inner().room_id, Command::ListParticipants).await? {
            Reply::Participants(participants) => {
                Ok(Response::new(v1::ListParticipantsReply { participants }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn drop_participant(
        &self,
        request: Request<v1::ParticipantRequest>,
    ) -> Answer<v1::DropParticipantReply> {
        let request = request.into_inner();
        self.order(&request.room_id, request.request_id.clone(), parse::drop_participant(&request)?).await
    }

    async fn update_participant(
        &self,
        request: Request<v1::UpdateParticipantRequest>,
    ) -> Answer<v1::Participant> {
        let request = request.into_inner();
        match self.ask(&request.room_id, parse::update_participant(&request)?).await? {
            Reply::Participant(participant) => Ok(Response::new(participant)),
            other => Err(unexpected(&other)),
        }
    }

    async fn list_streams(&self, request: Request<v1::RoomRequest>) -> Answer<v1::ListStreamsReply> {
        match self.ask(&request.into_inner().room_id, Command::ListStreams).await? {
            Reply::Streams(streams) => Ok(Response::new(v1::ListStreamsReply { streams })),
            other => Err(unexpected(&other)),
        }
    }

    async fn update_stream(&self, request: Request<v1::UpdateStreamRequest>) -> Answer<v1::Stream> {
        let request = request.into_inner();
        let room = request.room_id.clone();
        match self.ask(&room, parse::update_stream(request)?).await? {
            Reply::Stream(stream) => Ok(Response::new(*stream)),
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_stream(&self, request: Request<v1::StreamRequest>) -> Answer<v1::DeleteStreamReply> {
        let request = request.into_inner();
        self.order(&request.room_id, request.request_id.clone(), parse::delete_stream(&request)?).await
    }

    async fn start_egress(&self, request: Request<v1::StartEgressRequest>) -> Answer<v1::Egress> {
        let request = request.into_inner();
        let room = parse::room_id(&request.room_id)?;
        let key = parse::request_key(request.request_id.clone())?;
        egress(self.rooms.request_starting(&room, key, parse::start_egress(request)?).await?)
    }

    async fn update_egress(&self, request: Request<v1::UpdateEgressRequest>) -> Answer<v1::Egress> {
        let request = request.into_inner();
        let room = request.room_id.clone();
        egress(self.ask(&room, parse::update_egress(request)?).await?)
    }

    async fn stop_egress(&self, request: Request<v1::EgressRequest>) -> Answer<v1::StopEgressReply> {
        let request = request.into_inner();
        self.order(&request.room_id, request.request_id, Command::StopEgress { egress: request.egress_id })
            .await
    }

    async fn list_egresses(&self, request: Request<v1::RoomRequest>) -> Answer<v1::ListEgressesReply> {
        match self.ask(&request.into_inner().room_id, Command::ListEgresses).await? {
            Reply::Egresses(egresses) => Ok(Response::new(v1::ListEgressesReply { egresses })),
            other => Err(unexpected(&other)),
        }
    }

    async fn start_analytics(&self, request: Request<v1::StartAnalyticsRequest>) -> Answer<v1::Analytics> {
        let request = request.into_inner();
        let room = parse::room_id(&request.room_id)?;
        match self.rooms.request_starting(&room, None, parse::start_analytics(request)?).await? {
            Reply::Analytics(analytics) => Ok(Response::new(*analytics)),
            other => Err(unexpected(&other)),
        }
    }

    async fn stop_analytics(&self, request: Request<v1::AnalyticsRequest>) -> Answer<v1::StopAnalyticsReply> {
        let request = request.into_inner();
        self.order(
            &request.room_id,
            String::new(),
            Command::StopAnalytics { analytics: request.analytics_id },
        )
        .await
    }

    async fn list_analytics(&self, request: Request<v1::RoomRequest>) -> Answer<v1::ListAnalyticsReply> {
        match self.ask(&request.into_inner().room_id, Command::ListAnalytics).await? {
            Reply::AllAnalytics(analytics) => Ok(Response::new(v1::ListAnalyticsReply { analytics })),
            other => Err(unexpected(&other)),
        }
    }

    async fn start_ingest(&self, request: Request<v1::StartIngestRequest>) -> Answer<v1::Stream> {
        let request = request.into_inner();
        let room = parse::room_id(&request.room_id)?;
        let key = parse::request_key(request.request_id.clone())?;
        match self.rooms.request_starting(&room, key, parse::start_ingest(request)?).await? {
            Reply::Stream(stream) => Ok(Response::new(*stream)),
            other => Err(unexpected(&other)),
        }
    }

    async fn listen_ingest(&self, request: Request<v1::StartIngestRequest>) -> Answer<v1::Ingest> {
        let request = request.into_inner();
        let room = parse::room_id(&request.room_id)?;
        let key = parse::request_key(request.request_id.clone())?;
        match self.rooms.request_starting(&room, key, parse::listen_ingest(request)?).await? {
            Reply::Ingest(ingest) => Ok(Response::new(*ingest)),
            other => Err(unexpected(&other)),
        }
    }

    async fn list_ingests(&self, request: Request<v1::RoomRequest>) -> Answer<v1::ListIngestsReply> {
        match self.ask(&request.into_inner().room_id, Command::ListIngests).await? {
            Reply::Ingests(ingests) => Ok(Response::new(v1::ListIngestsReply { ingests })),
            other => Err(unexpected(&other)),
        }
    }

    async fn take_over(&self, request: Request<v1::RoomRequest>) -> Answer<v1::TakeOverReply> {
        self.rooms.take_over(&parse::room_id(&request.into_inner().room_id)?).await?;
        Ok(Response::new(v1::TakeOverReply {}))
    }

    async fn destroy_room(&self, request: Request<v1::RoomRequest>) -> Answer<v1::DestroyRoomReply> {
        let reason = "Room destruction".to_owned();
        self.order(&request.into_inner().room_id, String::new(), Command::Destroy { reason }).await
    }
}
