//! A peer connection, its set-up and what it tells.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rtc::interceptor::Slot;
use rtc::rtp_transceiver::{
    RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
    rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
};
use tokio::sync::mpsc;
use webrtc::{
    data_channel::{DataChannel, RTCDataChannelInit},
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::TrackRemote,
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
        RTCConfigurationBuilder, RTCIceCandidateInit, RTCIceGatheringState, RTCIceServer,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder,
        register_default_interceptors,
    },
};

use super::deliver::Deliver;
use crate::media::Format;

/// Events that wait for the connection's task; of more, states and tracks are lost.
const MAX_EVENTS: usize = 64;
/// Longest wait for candidates of STUN and TURN servers.
const GATHERING: Duration = Duration::from_secs(3);
/// Behind all interceptors that read RTCP.
const LAST: usize = 14_000;
/// Bytes that wait in a data channel; who sends more loses it.
const SEND_BUFFER: usize = 1 << 20;

/// Where legs are and what helps them through.
#[derive(Clone, Debug)]
pub(crate) struct LegSettings {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ice_servers: Vec<RTCIceServer>,
}

/// Why a leg does not come about.
#[derive(Clone, Debug, thiserror::Error)]
#[error("WebRTC: {0}")]
pub(crate) struct LegError(String);

impl From<webrtc::error::Error> for LegError {
    fn from(error: webrtc::error::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a leg tells.
#[derive(Clone)]
pub(crate) enum LegEvent {
    State(RTCPeerConnectionState),
    Gathered,
    Track(Arc<dyn TrackRemote>),
    Channel(Arc<dyn DataChannel>),
}

struct Handler(mpsc::Sender<LegEvent>);

impl Handler {
    fn tell(&self, event: LegEvent) {
        // The leg itself must not wait for those who use it.
        if self.0.try_send(event).is_err() {
            tracing::debug!("an event of a leg is lost");
        }
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.tell(LegEvent::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.tell(LegEvent::State(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tell(LegEvent::Track(track));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        self.tell(LegEvent::Channel(channel));
    }
}

/// See the module's description.
pub(crate) struct Leg {
    connection: Arc<dyn PeerConnection>,
    events: mpsc::Receiver<LegEvent>,
    /// What came while candidates were waited for.
    early: Vec<LegEvent>,
}

impl std::fmt::Debug for Leg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leg").finish_non_exhaustive()
    }
}

impl Leg {
    /// One that knows these formats and no others.
    pub(crate) async fn new(settings: &LegSettings, formats: &[Format]) -> Result<Self, LegError> {
        let mut engine = MediaEngine::default();
        for format in formats {
            engine.register_codec(format.parameters(), format.kind())?;
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine)?;
        let registry = registry.with(Slot::from(LAST), Deliver::default());
        let configuration =
            RTCConfigurationBuilder::default().with_ice_servers(settings.ice_servers.clone()).build();
        let (to, events) = mpsc::channel(MAX_EVENTS);
        let addresses: Vec<SocketAddr> =
            settings.addresses.iter().map(|address| SocketAddr::new(*address, 0)).collect();
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
            .with_handler(Arc::new(Handler(to)))
            .with_udp_addrs(addresses)
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .build()
            .await?;
        Ok(Self { connection: Arc::new(connection), events, early: Vec::new() })
    }

    /// Adds a line that sends, and receives too where `receives`; gives what is sent on it, and its SSRC.
    pub(crate) async fn send(
        &self,
        format: Format,
        receives: bool,
    ) -> Result<(Arc<TrackLocalStaticRTP>, u32), LegError> {
        let ssrc: u32 = rand::random::<u32>().max(1);
        let name = format!("{ssrc:08x}");
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec: format.rtc(),
            ..Default::default()
        };
        let track =
            MediaStreamTrack::new("gateway".to_owned(), name.clone(), name, format.kind(), vec![coding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let direction = if receives {
            RTCRtpTransceiverDirection::Sendrecv
        } else {
            RTCRtpTransceiverDirection::Sendonly
        };
        let init = RTCRtpTransceiverInit { direction, ..Default::default() };
        let local: Arc<dyn TrackLocal> = track.clone();
        self.connection.add_transceiver_from_track(local, Some(init)).await?;
        Ok((track, ssrc))
    }

    /// Adds a line that receives.
    pub(crate) async fn receive(&self, kind: RtpCodecKind) -> Result<(), LegError> {
        let init =
            RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        self.connection.add_transceiver_from_kind(kind, Some(init)).await?;
        Ok(())
    }

    /// Adds a channel, the only one.
    pub(crate) async fn channel(
        &self,
        label: &str,
        init: RTCDataChannelInit,
    ) -> Result<Arc<dyn DataChannel>, LegError> {
        Ok(self.connection.create_data_channel(label, Some(init)).await?)
    }

    /// An offer with all candidates; with `trickles` it is not waited for them.
    pub(crate) async fn offer(&mut self, trickles: bool) -> Result<String, LegError> {
        let offer = self.connection.create_offer(None).await?;
        self.describe(offer, trickles).await
    }

    /// Takes an offer, and answers it with all candidates.
    pub(crate) async fn answer(&mut self, offer: String, directions: Directions) -> Result<String, LegError> {
        self.connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        for transceiver in self.connection.get_transceivers().await {
            let Some(kind) = transceiver_kind(&*transceiver).await else { continue };
            let wanted = directions.of(kind);
            if transceiver.direction().await? != wanted {
                transceiver.set_direction(wanted).await?;
            }
        }
        let answer = self.connection.create_answer(None).await?;
        self.describe(answer, false).await
    }

    async fn describe(
        &mut self,
        description: RTCSessionDescription,
        trickles: bool,
    ) -> Result<String, LegError> {
        let fallback = description.sdp.clone();
        self.connection.set_local_description(description).await?;
        if !trickles {
            let gathered = async {
                while let Some(event) = self.events.recv().await {
                    match event {
                        LegEvent::Gathered => break,
                        other => self.early.push(other),
                    }
                }
            };
            // Later candidates would only be better ones.
            let _: Result<_, _> = tokio::time::timeout(GATHERING, gathered).await;
        }
        Ok(self.connection.local_description().await.map_or(fallback, |description| description.sdp))
    }

    /// The payload type that was agreed for what is sent on a track.
    pub(crate) async fn payload_type(&self, track: &Arc<TrackLocalStaticRTP>) -> Option<u8> {
        let own: Arc<dyn TrackLocal> = track.clone();
        let own = own.track().await.track_id().to_owned();
        for sender in self.connection.get_senders().await {
            if sender.track().track_id().await == own {
                let parameters = sender.get_parameters().await.ok()?;
                return parameters.rtp_parameters.codecs.first().map(|codec| codec.payload_type);
            }
        }
        None
    }

    pub(crate) async fn take_answer(&self, answer: String) -> Result<(), LegError> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.connection.set_remote_description(answer).await?)
    }

    pub(crate) async fn take_candidate(&self, candidate: RTCIceCandidateInit) -> Result<(), LegError> {
        Ok(self.connection.add_ice_candidate(candidate).await?)
    }

    /// What it tells next; `None` at its end. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Option<LegEvent> {
        if self.early.is_empty() { self.events.recv().await } else { Some(self.early.remove(0)) }
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a leg does not close cleanly");
        }
    }
}

/// What is sent and received of an offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directions {
    /// Sends, receives.
    pub(crate) audio: (bool, bool),
    pub(crate) video: (bool, bool),
}

impl Directions {
    fn of(self, kind: RtpCodecKind) -> RTCRtpTransceiverDirection {
        let (sends, receives) = if kind == RtpCodecKind::Video { self.video } else { self.audio };
        match (sends, receives) {
            (true, true) => RTCRtpTransceiverDirection::Sendrecv,
            (true, false) => RTCRtpTransceiverDirection::Sendonly,
            (false, true) => RTCRtpTransceiverDirection::Recvonly,
            (false, false) => RTCRtpTransceiverDirection::Inactive,
        }
    }
}

async fn transceiver_kind(transceiver: &dyn webrtc::rtp_transceiver::RtpTransceiver) -> Option<RtpCodecKind> {
    if let Ok(Some(sender)) = transceiver.sender().await {
        return Some(sender.track().kind().await);
    }
    match transceiver.receiver().await {
        Ok(Some(receiver)) => Some(receiver.track().kind().await),
        Ok(None) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leg::lines;

    #[tokio::test]
    async fn an_offer_has_a_line_for_each_way() {
        let _: Result<_, _> = rustls::crypto::ring::default_provider().install_default();
        let settings = LegSettings { addresses: vec!["127.0.0.1".parse().unwrap()], ice_servers: Vec::new() };
        let (picture, sound) = (Format::usual(true), Format::usual(false));
        let mut leg = Leg::new(&settings, &[picture, sound]).await.unwrap();
        leg.send(sound, false).await.unwrap();
        leg.send(picture, false).await.unwrap();
        leg.receive(picture.kind()).await.unwrap();
        let offer = leg.offer(true).await.unwrap();
        let found: Vec<_> = lines(&offer).into_iter().map(|l| (l.is_video, l.sends, l.receives)).collect();
        assert_eq!(found, [(false, true, false), (true, true, false), (true, false, true)], "{offer}");
        leg.close().await;
    }
}
