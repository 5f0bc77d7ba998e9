//! The conference-agent with its one room.

use super::*;

/// An access-node's answer, if it is a whole offer. Its credentials follow the client's; payload 126 is no format that the room takes.
fn answer_to(offer: &str) -> String {
    let Some(ufrag) = offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")) else {
        return format!("answer to {offer}");
    };
    let server: String = ufrag.chars().rev().collect();
    let mut answer = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n");
    for section in offer.split("\r\nm=").skip(1) {
        let mid = section.lines().find(|line| line.starts_with("a=mid:")).unwrap();
        let line = section.lines().next().unwrap();
        let direction = if line.ends_with(" 126") { "inactive" } else { "sendrecv" };
        answer.push_str(&format!(
            "m={line}\r\na=candidate:1 1 udp 1 192.0.2.1 10000 typ host\r\na=end-of-candidates\r\n\
             a=ice-ufrag:{server}\r\na=ice-pwd:{}\r\n{mid}\r\na={direction}\r\n",
            "p".repeat(22)
        ));
    }
    answer
}

#[tonic::async_trait]
impl Conference for Cluster {
    type JoinStream = BoxFlow<JoinEvent>;
    type ResumeStream = BoxFlow<JoinEvent>;

    async fn room_stats(
        &self,
        request: Request<RoomStatsRequest>,
    ) -> Result<Response<RoomStatsReply>, Status> {
        let RoomStatsRequest { stream_id, subscription_id, .. } = request.into_inner();
        self.asked("room_stats", json!({"stream": stream_id, "subscription": subscription_id}))?;
        let mut stats = self.state().stats.clone();
        let all = stream_id.is_empty() && subscription_id.is_empty();
        stats.streams.retain(|s| all || s.stream_id == stream_id);
        stats.subscriptions.retain(|s| all || s.subscription_id == subscription_id);
        Ok(Response::new(stats))
    }

    async fn start_analytics(
        &self,
        request: Request<kaigi_proto::v1::StartAnalyticsRequest>,
    ) -> Result<Response<kaigi_proto::v1::Analytics>, Status> {
        let kaigi_proto::v1::StartAnalyticsRequest { algorithm, parameters, media, .. } =
            request.into_inner();
        let media = media.ok_or_else(|| Status::invalid_argument("no media"))?;
        self.asked("start_analytics", json!([algorithm, parameters, media.from]))?;
        let mut state = self.state();
        let analytics = kaigi_proto::v1::Analytics {
            id: format!("{}", state.analytics.len() + 1),
            stream_id: format!("{algorithm}{}", media.from),
            algorithm,
            parameters,
            track: Some(EgressTrack {
                kind: media.kind,
                from: media.from,
                format: media.format,
                active: true,
                ..EgressTrack::default()
            }),
            state: kaigi_proto::v1::OutputState::Active.into(),
            reason: String::new(),
        };
        state.analytics.push(analytics.clone());
        Ok(Response::new(analytics))
    }

    async fn stop_analytics(
        &self,
        request: Request<kaigi_proto::v1::AnalyticsRequest>,
    ) -> Result<Response<kaigi_proto::v1::StopAnalyticsReply>, Status> {
        let id = request.into_inner().analytics_id;
        let mut state = self.state();
        let before = state.analytics.len();
        state.analytics.retain(|analytics| analytics.id != id);
        if state.analytics.len() == before {
            return Err(Status::not_found("Analytics do NOT exist"));
        }
        Ok(Response::new(kaigi_proto::v1::StopAnalyticsReply {}))
    }

    async fn list_analytics(
        &self,
        _: Request<RoomRequest>,
    ) -> Result<Response<kaigi_proto::v1::ListAnalyticsReply>, Status> {
        Ok(Response::new(kaigi_proto::v1::ListAnalyticsReply { analytics: self.state().analytics.clone() }))
    }

    async fn start_egress(&self, request: Request<StartEgressRequest>) -> Result<Response<Egress>, Status> {
        use kaigi_proto::v1::{egress, start_egress_request::Target};
        let StartEgressRequest { media, target, each, .. } = request.into_inner();
        self.asked("start_egress", json!(media.iter().map(|m| &m.from).collect::<Vec<_>>()))?;
        let tracks = media.into_iter().map(|media| EgressTrack {
            kind: media.kind,
            from: media.from,
            format: media.format,
            parameters: media.parameters,
            bitrate_multiplier: media.bitrate_multiplier,
            active: true,
        });
        let mut state = self.state();
        let egress = Egress {
            id: format!("e{}", state.egresses.len() + 1),
            tracks: tracks.collect(),
            target: target.map(|target| match target {
                Target::Recording(recording) => egress::Target::Recording(recording),
                Target::Broadcast(broadcast) => egress::Target::Broadcast(broadcast),
            }),
            each,
            ..Egress::default()
        };
        state.egresses.push(egress.clone());
        Ok(Response::new(egress))
    }
    async fn update_egress(&self, request: Request<UpdateEgressRequest>) -> Result<Response<Egress>, Status> {
        let UpdateEgressRequest { egress_id, video_active, .. } = request.into_inner();
        self.asked("update_egress", json!({"id": egress_id, "video": video_active}))?;
        let found = self.state().egresses.iter().find(|egress| egress.id == egress_id).cloned();
        found.map(Response::new).ok_or(Status::not_found("Egress does NOT exist"))
    }
    async fn stop_egress(
        &self,
        request: Request<EgressRequest>,
    ) -> Result<Response<StopEgressReply>, Status> {
        let EgressRequest { egress_id, .. } = request.into_inner();
        self.asked("stop_egress", json!(egress_id))?;
        self.state().egresses.retain(|egress| egress.id != egress_id);
        Ok(Response::new(StopEgressReply {}))
    }
    async fn start_ingest(&self, request: Request<StartIngestRequest>) -> Result<Response<Stream>, Status> {
        let request = request.into_inner();
        self.asked(
            "start_ingest",
            json!({"url": request.url, "udp": request.udp, "attributes": request.attributes}),
        )?;
        let id = (self.state().ingests.len() + 1).to_string();
        self.state().ingests.push(Ingest {
            id: id.clone(),
            url: kaigi_proto::redact::url(&request.url),
            udp: request.udp,
            audio: request.audio,
            video: request.video,
            state: OutputState::Trouble.into(),
            reason: "gone".into(),
            ..Ingest::default()
        });
        Ok(Response::new(Stream {
            id,
            r#type: StreamType::Forward.into(),
            info_type: "streaming".into(),
            owner: "admin".into(),
            attributes: request.attributes,
            ..Stream::default()
        }))
    }
    async fn listen_ingest(&self, request: Request<StartIngestRequest>) -> Result<Response<Ingest>, Status> {
        let request = request.into_inner();
        self.asked("listen_ingest", json!({"url": request.url, "key": request.listen_key}))?;
        let id = (self.state().ingests.len() + 1).to_string();
        let ingest = Ingest {
            id,
            url: "rtmp://live.example/live".into(),
            listens: true,
            listen_protocol: request.listen_protocol,
            audio: request.audio,
            video: request.video,
            state: OutputState::Starting.into(),
            ..Ingest::default()
        };
        self.state().ingests.push(ingest.clone());
        Ok(Response::new(ingest))
    }
    async fn list_ingests(&self, _: Request<RoomRequest>) -> Result<Response<ListIngestsReply>, Status> {
        Ok(Response::new(ListIngestsReply { ingests: self.state().ingests.clone() }))
    }
    async fn list_egresses(&self, _: Request<RoomRequest>) -> Result<Response<ListEgressesReply>, Status> {
        Ok(Response::new(ListEgressesReply { egresses: self.state().egresses.clone() }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<Self::ResumeStream>, Status> {
        let ResumeRequest { participant_id: id, after_seq, .. } = request.into_inner();
        self.asked("resume", json!({"participant": id, "after": after_seq}))?;
        let (events, flow) = mpsc::channel(256);
        let (older, missed) = {
            let mut state = self.state();
            let member =
                state.members.get_mut(&id).ok_or_else(|| Status::not_found("Participant has not joined"))?;
            let older = std::mem::replace(&mut member.1, events.clone());
            let (told, acknowledged) = state.told.get_mut(&id).unwrap();
            *acknowledged = after_seq.max(*acknowledged);
            (older, told.iter().filter(|e| e.seq > *acknowledged).cloned().collect::<Vec<_>>())
        };
        let dropped = join_event::Event::Dropped(Dropped { reason: "Taken over".into() });
        let _: Result<_, _> = older.send(Ok(JoinEvent { seq: 0, event: Some(dropped) })).await;
        for event in missed {
            events.send(Ok(event)).await.unwrap();
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(flow))))
    }
    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeReply>, Status> {
        let AcknowledgeRequest { participant_id, seq, .. } = request.into_inner();
        self.asked("acknowledge", json!({"participant": participant_id, "seq": seq}))?;
        if let Some((_, acknowledged)) = self.state().told.get_mut(&participant_id) {
            *acknowledged = seq.max(*acknowledged);
        }
        Ok(Response::new(AcknowledgeReply {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        let request = request.into_inner();
        self.asked("join", json!({"room": request.room_id, "role": request.role, "user": request.user, "window": request.resume_window_ms}))?;
        let flags = KindFlags { audio: true, video: true };
        let permission = Some(Permission { publish: Some(flags), subscribe: Some(flags) });
        let me = Participant {
            id: request.participant_id.clone(),
            user: request.user,
            role: request.role,
            permission,
        };
        let (events, flow) = mpsc::channel(256);
        let participants = {
            let mut state = self.state();
            state.live = true;
            state.told.insert(request.participant_id.clone(), (Vec::new(), 0));
            state.members.insert(request.participant_id.clone(), (me, events.clone()));
            state.members.values().map(|(p, _)| p.clone()).collect()
        };
        let joined = Joined {
            permission,
            views: vec!["common".into()],
            participants,
            streams: vec![mixed()],
            epoch: 1,
        };
        events.send(Ok(JoinEvent { seq: 0, event: Some(join_event::Event::Joined(joined)) })).await.unwrap();
        // A notification right behind: it must not overtake the answer to the login.
        let early = TextEvent { from: "room".into(), to_all: true, message: "early".into() };
        self.tell_one(&request.participant_id, join_event::Event::Text(early)).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(flow))))
    }
    async fn leave(&self, request: Request<LeaveRoomRequest>) -> Result<Response<LeaveRoomReply>, Status> {
        let id = request.into_inner().participant_id;
        self.asked("leave", json!(id))?;
        self.state().members.remove(&id);
        Ok(Response::new(LeaveRoomReply {}))
    }
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<SessionReply>, Status> {
        let request = request.into_inner();
        let attributes: Value = serde_json::from_str(&request.attributes).unwrap_or_default();
        let mut asked = json!({"tracks": request.tracks.len(), "attributes": attributes});
        if request.data {
            asked["data"] = true.into();
        }
        if request.any_label {
            asked["anyLabel"] = true.into();
        }
        self.asked("publish", asked)?;
        let early = std::mem::take(&mut self.state().told_early);
        let told_something = !early.is_empty();
        for event in early {
            self.tell(event).await;
        }
        if told_something {
            // Long enough for the events to be there before the answer.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let session_id = "0a".repeat(16);
        let transport_id =
            if request.transport_id.is_empty() { session_id.clone() } else { request.transport_id };
        let data = request.data.then(|| DataSource {
            stream_id: session_id.clone(),
            worker_id: "access".into(),
            endpoint: self.endpoint(),
        });
        Ok(Response::new(SessionReply { session_id, transport_id, data }))
    }
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<SessionReply>, Status> {
        let request = request.into_inner();
        let from: Vec<_> = request.tracks.iter().map(|track| track.from.clone()).collect();
        self.asked(
            "subscribe",
            json!({"from": from, "data": request.data_from, "transport": request.transport_id}),
        )?;
        self.state().subscribed.push(request.clone());
        let session_id = "0b".repeat(16);
        let transport_id = Some(request.transport_id).filter(|id| !id.is_empty());
        let transport_id = transport_id.unwrap_or_else(|| session_id.clone());
        Ok(Response::new(SessionReply { session_id, transport_id, data: None }))
    }
    async fn unpublish(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionReply>, Status> {
        self.asked("unpublish", json!(request.into_inner().session_id))?;
        Ok(Response::new(EndSessionReply {}))
    }
    async fn unsubscribe(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionReply>, Status> {
        self.asked("unsubscribe", json!(request.into_inner().session_id))?;
        Ok(Response::new(EndSessionReply {}))
    }
    async fn control_stream(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let operation = request.into_inner().operation.unwrap();
        self.asked("control_stream", json!(format!("{operation:?}")))?;
        let region = match operation {
            control_request::Operation::GetRegion(_) => "2".to_owned(),
            _ => String::new(),
        };
        Ok(Response::new(ControlReply { region, estimated_bitrate: 0 }))
    }
    async fn control_subscription(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let operation = request.into_inner().operation.unwrap();
        self.asked("control_subscription", json!(format!("{operation:?}")))?;
        Ok(Response::new(ControlReply { region: String::new(), estimated_bitrate: 1_250_000 }))
    }
    async fn signal(&self, request: Request<SignalRequest>) -> Result<Response<SignalReply>, Status> {
        let SignalRequest { participant_id, transport_id, signal, .. } = request.into_inner();
        let signal = signal.unwrap();
        self.asked("signal", json!(format!("{signal:?}")))?;
        if let signal_request::Signal::Offer(sdp) = signal {
            let told = [
                progress::Progress::Answer(answer_to(&sdp)),
                progress::Progress::TransportReady(TransportReady {}),
                progress::Progress::SessionReady(transport_id.clone()),
            ];
            for what in told {
                let event = Progress { transport_id: transport_id.clone(), progress: Some(what) };
                self.tell_one(&participant_id, join_event::Event::Progress(event)).await;
            }
        }
        Ok(Response::new(SignalReply {}))
    }
    async fn text(&self, request: Request<TextRequest>) -> Result<Response<TextReply>, Status> {
        let TextRequest { participant_id, to, message, .. } = request.into_inner();
        self.asked("text", json!({"to": to, "message": message}))?;
        if to != "all" && !self.state().members.contains_key(&to) {
            return Err(Status::not_found(format!("Target participant does NOT exist: {to}")));
        }
        let event = TextEvent { from: participant_id, to_all: to == "all", message };
        self.tell(join_event::Event::Text(event)).await;
        Ok(Response::new(TextReply {}))
    }

    async fn list_participants(
        &self,
        _: Request<RoomRequest>,
    ) -> Result<Response<ListParticipantsReply>, Status> {
        let participants = self.state().members.values().map(|(p, _)| p.clone()).collect();
        Ok(Response::new(ListParticipantsReply { participants }))
    }
    async fn drop_participant(
        &self,
        request: Request<ParticipantRequest>,
    ) -> Result<Response<DropParticipantReply>, Status> {
        let id = request.into_inner().participant_id;
        let member = self.state().members.remove(&id);
        let (_, events) = member.ok_or_else(|| Status::not_found("Participant does NOT exist"))?;
        let dropped = join_event::Event::Dropped(Dropped { reason: "Dropped by management".into() });
        events.send(Ok(JoinEvent { seq: 0, event: Some(dropped) })).await.unwrap();
        Ok(Response::new(DropParticipantReply {}))
    }
    async fn update_participant(
        &self,
        request: Request<UpdateParticipantRequest>,
    ) -> Result<Response<Participant>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let member = state.members.get_mut(&request.participant_id);
        let (participant, _) = member.ok_or_else(|| Status::not_found("Participant has not joined"))?;
        let mut permission = participant.permission.unwrap_or_default();
        let publish = permission.publish.get_or_insert_default();
        publish.audio = request.publish_audio.unwrap_or(publish.audio);
        participant.permission = Some(permission);
        Ok(Response::new(participant.clone()))
    }
    async fn list_streams(&self, _: Request<RoomRequest>) -> Result<Response<ListStreamsReply>, Status> {
        Ok(Response::new(ListStreamsReply { streams: vec![mixed()] }))
    }
    async fn update_stream(&self, request: Request<UpdateStreamRequest>) -> Result<Response<Stream>, Status> {
        let request = request.into_inner();
        self.asked("update_stream", json!(format!("{:?}", request.operations)))?;
        if request.stream_id == mixed().id {
            Ok(Response::new(mixed()))
        } else {
            Err(Status::not_found("Stream does NOT exist"))
        }
    }
    async fn delete_stream(
        &self,
        request: Request<StreamRequest>,
    ) -> Result<Response<DeleteStreamReply>, Status> {
        self.asked("delete_stream", json!(request.into_inner().stream_id))?;
        Ok(Response::new(DeleteStreamReply {}))
    }
    async fn take_over(&self, _: Request<RoomRequest>) -> Result<Response<TakeOverReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn destroy_room(
        &self,
        request: Request<RoomRequest>,
    ) -> Result<Response<DestroyRoomReply>, Status> {
        self.asked("destroy_room", json!(request.into_inner().room_id))?;
        Ok(Response::new(DestroyRoomReply {}))
    }
}
