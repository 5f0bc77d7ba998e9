//! The access-node: it agrees to everything that is offered.

use super::*;

#[tonic::async_trait]
impl v1::access_node_server::AccessNode for Everything {
    type EventsStream = Events<v1::AccessEvent>;

    /// All sessions on each transport, with one picture of 1,000 packets.
    async fn stats(&self, request: Request<v1::StatsRequest>) -> Answer<v1::StatsReply> {
        let ids = request.into_inner().transport_ids;
        let sessions = self.know(|known| {
            known.counted.push(ids.clone());
            known.sessions.clone()
        });
        let tracks = vec![v1::TrackStats {
            kind: v1::MediaKind::Video.into(),
            packets: 1000,
            limit: v1::Limit::None.into(),
            ..Default::default()
        }];
        let session = |id: &String| v1::SessionStats { session_id: id.clone(), tracks: tracks.clone() };
        let transport = |id: String| v1::TransportStats {
            transport_id: id,
            rtt_us: 30_000,
            estimated_bitrate: 2_000_000,
            sessions: sessions.iter().map(session).collect(),
        };
        Ok(Response::new(v1::StatsReply { transports: ids.into_iter().map(transport).collect() }))
    }

    async fn open_publication(&self, r: Request<v1::OpenPublicationRequest>) -> Answer<v1::OpenSessionReply> {
        self.know(|known| known.sessions.push(r.into_inner().session_id));
        Ok(Response::new(v1::OpenSessionReply {}))
    }

    async fn open_subscription(
        &self,
        r: Request<v1::OpenSubscriptionRequest>,
    ) -> Answer<v1::OpenSessionReply> {
        let request = r.into_inner();
        self.know(|known| {
            known.sessions.push(request.session_id.clone());
            known.opened.push(request);
        });
        Ok(Response::new(v1::OpenSessionReply {}))
    }

    async fn set_source(&self, request: Request<v1::SetSourceRequest>) -> Answer<v1::SetSourceReply> {
        self.know(|known| known.sources.push(request.into_inner()));
        Ok(Response::new(v1::SetSourceReply {}))
    }

    async fn select_audio(&self, _: Request<v1::SelectAudioRequest>) -> Answer<v1::SelectAudioReply> {
        Ok(Response::new(v1::SelectAudioReply {}))
    }

    async fn close_session(&self, r: Request<v1::CloseSessionRequest>) -> Answer<v1::CloseSessionReply> {
        self.know(|known| known.sessions.retain(|session| *session != r.get_ref().session_id));
        Ok(Response::new(v1::CloseSessionReply {}))
    }

    async fn close_transport(
        &self,
        r: Request<v1::CloseTransportRequest>,
    ) -> Answer<v1::CloseTransportReply> {
        self.know(|known| known.closed_transports.push(r.into_inner().transport_id));
        Ok(Response::new(v1::CloseTransportReply {}))
    }

    /// Answers each offer, connects, and establishes all sessions that are open.
    async fn signal_transport(&self, r: Request<v1::SignalTransportRequest>) -> Answer<v1::SignalReply> {
        let request = r.into_inner();
        self.know(|known| known.signals.push(request.clone()));
        let transport = request.transport_id;
        if let Some(v1::signal_transport_request::Signal::Offer(offer)) = request.signal {
            let everything = self.clone();
            tokio::spawn(async move {
                let answer = format!("answer to {offer}");
                everything.access_event(&transport, access_event::Event::Answer(answer)).await;
                let ready = access_event::Event::TransportReady(v1::TransportReady {});
                everything.access_event(&transport, ready).await;
                for session_id in everything.know(|known| known.sessions.clone()) {
                    if let Some(tracks) = everything.know(|known| known.negotiate(&session_id)) {
                        let established = v1::SessionEstablished { session_id, tracks };
                        let established = access_event::Event::SessionEstablished(established);
                        everything.access_event(&transport, established).await;
                        continue;
                    }
                    let track = |mid: &str, kind: v1::MediaKind, codec: &str, sample_rate, channels| {
                        v1::NegotiatedTrack {
                            mid: mid.into(),
                            kind: kind.into(),
                            track_id: format!("{transport}-{mid}"),
                            format: Some(v1::MediaFormat {
                                codec: codec.into(),
                                sample_rate,
                                channels,
                                ..Default::default()
                            }),
                        }
                    };
                    let tracks = vec![
                        track("0", v1::MediaKind::Audio, "opus", 48000, 2),
                        track("1", v1::MediaKind::Video, "vp8", 0, 0),
                    ];
                    let established = v1::SessionEstablished { session_id, tracks };
                    everything
                        .access_event(&transport, access_event::Event::SessionEstablished(established))
                        .await;
                }
            });
        }
        Ok(Response::new(v1::SignalReply {}))
    }

    async fn adopt_room(&self, r: Request<v1::AdoptRoomRequest>) -> Answer<v1::AdoptRoomReply> {
        let request = r.into_inner();
        self.know(|known| known.adopted.push((request.room_id, request.epoch)));
        Ok(Response::new(v1::AdoptRoomReply { transport_ids: request.transport_ids }))
    }

    async fn adopt_transports(
        &self,
        r: Request<v1::AdoptTransportsRequest>,
    ) -> Answer<v1::AdoptTransportsReply> {
        let sessions = r.into_inner().transports.into_iter().flat_map(|transport| transport.sessions);
        self.know(|known| known.adopted_sessions.extend(sessions));
        Ok(Response::new(v1::AdoptTransportsReply::default()))
    }

    async fn set_active(&self, _: Request<v1::SetActiveRequest>) -> Answer<v1::SetActiveReply> {
        Ok(Response::new(v1::SetActiveReply {}))
    }

    async fn estimate_bandwidth(
        &self,
        _: Request<v1::EstimateBandwidthRequest>,
    ) -> Answer<v1::EstimateBandwidthReply> {
        Ok(Response::new(v1::EstimateBandwidthReply { bitrate: 1_200_000 }))
    }

    async fn events(&self, _: Request<v1::AccessEventsRequest>) -> Answer<Self::EventsStream> {
        let (sender, events) = mpsc::channel(64);
        *self.access_events.lock().unwrap() = Some(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }
}
