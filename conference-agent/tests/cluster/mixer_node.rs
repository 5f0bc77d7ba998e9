//! The mixer-node: it makes whatever it is asked for.

use super::*;

/// The outputs of a part, as a mixer makes them.
fn outputs(
    mixer: &v1::Worker,
    of: &str,
    video: &[v1::VideoOutput],
    audio: &[v1::AudioOutput],
) -> Vec<v1::OutputSource> {
    let output = |id: &String, format: &Option<v1::MediaFormat>, kind: v1::MediaKind| v1::OutputSource {
        id: id.clone(),
        source: Some(v1::TrackSource {
            track_id: format!("{}-{of}-{id}", mixer.worker_id),
            worker_id: mixer.worker_id.clone(),
            endpoint: mixer.endpoint.clone(),
            kind: kind.into(),
            format: format.clone(),
        }),
    };
    let video = video.iter().map(|o| output(&o.id, &o.format, v1::MediaKind::Video));
    video.chain(audio.iter().map(|o| output(&o.id, &o.format, v1::MediaKind::Audio))).collect()
}

/// Shared by all servers.

#[tonic::async_trait]
impl v1::mixer_node_server::MixerNode for Everything {
    type EventsStream = Events<v1::MixerEvent>;

    /// One taker of each track.
    async fn stats(&self, request: Request<v1::MixerStatsRequest>) -> Answer<v1::MixerStatsReply> {
        let ids = request.into_inner().track_ids;
        let hangs = self.know(|known| {
            known.counted.push(ids.clone());
            known.mixer_hangs
        });
        if hangs {
            std::future::pending::<()>().await;
        }
        let track = |id: String| v1::TrackStats { track_id: id, takers: 1, ..Default::default() };
        Ok(Response::new(v1::MixerStatsReply { tracks: ids.into_iter().map(track).collect() }))
    }

    async fn set_view(&self, request: Request<v1::ViewDescription>) -> Answer<v1::ViewReply> {
        let view = request.into_inner();
        let mixer = self.know(|known| known.mixer_node.clone()).ok_or(Status::unavailable("dead"))?;
        let source = |what: &str, kind: v1::MediaKind, codec: &str| v1::TrackSource {
            track_id: format!("{}-{what}", view.label),
            worker_id: mixer.worker_id.clone(),
            endpoint: mixer.endpoint.clone(),
            kind: kind.into(),
            format: Some(v1::MediaFormat { codec: codec.into(), ..Default::default() }),
        };
        let minus = view.minus_participants.iter().map(|name| v1::MinusAudio {
            participant_id: name.clone(),
            audio: Some(source(&format!("minus-{name}"), v1::MediaKind::Audio, "opus")),
        });
        let outputs = outputs(&mixer, &view.label, &view.video_outputs, &view.audio_outputs);
        let reply = v1::ViewReply {
            outputs,
            video: Some(source("video", v1::MediaKind::Video, "vp8")),
            audio: Some(source("audio", v1::MediaKind::Audio, "opus")),
            minus_audio: minus.collect(),
            ..Default::default()
        };
        self.know(|known| known.views.push(view));
        Ok(Response::new(reply))
    }

    async fn remove_view(&self, request: Request<v1::RemoveViewRequest>) -> Answer<v1::RemoveViewReply> {
        self.know(|known| known.removed_views.push(request.into_inner().label));
        Ok(Response::new(v1::RemoveViewReply {}))
    }

    async fn set_transcoder(
        &self,
        request: Request<v1::TranscoderDescription>,
    ) -> Answer<v1::TranscoderReply> {
        let transcoder = request.into_inner();
        let mixer = self.know(|known| known.mixer_node.clone()).ok_or(Status::unavailable("dead"))?;
        let (video, audio) = (&transcoder.video_outputs, &transcoder.audio_outputs);
        let outputs = outputs(&mixer, &transcoder.id, video, audio);
        self.know(|known| known.transcoders.push(transcoder));
        Ok(Response::new(v1::TranscoderReply { outputs, failures: Vec::new() }))
    }

    async fn remove_transcoder(
        &self,
        request: Request<v1::RemoveTranscoderRequest>,
    ) -> Answer<v1::RemoveTranscoderReply> {
        self.know(|known| known.removed_transcoders.push(request.into_inner().id));
        Ok(Response::new(v1::RemoveTranscoderReply {}))
    }

    async fn events(&self, _: Request<v1::MixerEventsRequest>) -> Answer<Self::EventsStream> {
        let (sender, events) = mpsc::channel(64);
        *self.mixer_events.lock().unwrap() = Some(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }
}
