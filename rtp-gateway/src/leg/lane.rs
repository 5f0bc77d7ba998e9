//! A lane: one kind of media between a device's ports and a leg, both ways, with its RTCP.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use rtc::{
    rtcp::payload_feedbacks::{
        picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    rtp,
    shared::marshal::{Marshal, Unmarshal},
};
use serde::Serialize;
use tokio::{sync::broadcast, task::JoinSet};
use webrtc::media_stream::{
    track_local::{TrackLocal, TrackLocalEvent, static_rtp::TrackLocalStaticRTP},
    track_remote::{TrackRemote, TrackRemoteEvent},
};

use crate::media::{Arrival, Format, Outlet, Relabel, Use, for_device, from_device};

/// Where a device gets what comes from the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) rtp: Option<SocketAddr>,
    pub(crate) rtcp: Option<SocketAddr>,
}

/// What a device wants of one kind of media.
#[derive(Debug)]
pub(crate) struct LanePlan {
    pub(crate) format: Format,
    /// Where the device's RTP comes in, if it is sent.
    pub(crate) source: Option<Use>,
    /// Where its RTCP does.
    pub(crate) rtcp: Option<Use>,
    pub(crate) receives: bool,
    pub(crate) redirect: Redirect,
}

/// Both kinds; `None`: neither sent nor received.
#[derive(Debug, Default)]
pub(crate) struct MediaPlan {
    pub(crate) audio: Option<LanePlan>,
    pub(crate) video: Option<LanePlan>,
}

impl MediaPlan {
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &LanePlan> {
        self.audio.iter().chain(&self.video)
    }

    pub(crate) fn formats(&self) -> Vec<Format> {
        self.lanes().map(|lane| lane.format).collect()
    }
}

/// What went through a lane, in packets; seen from the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LaneCounts {
    sent: u64,
    sent_bytes: u64,
    /// Missing among the device's.
    lost: u64,
    received: u64,
    received_bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
}

/// See the module's description.
pub(crate) struct Lane {
    plan: LanePlan,
    local: Option<(Arc<TrackLocalStaticRTP>, u32)>,
    /// Of the payloads that are sent, as agreed with the far side.
    payload_type: AtomicU8,
    remote: Mutex<Option<(Arc<dyn TrackRemote>, u32)>>,
    relabel: Mutex<Relabel>,
    counters: Counters,
    outlet: Arc<Outlet>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane whose device sends on `local`, under an SSRC, if it does.
    pub(crate) fn new(
        plan: LanePlan,
        local: Option<(Arc<TrackLocalStaticRTP>, u32)>,
        outlet: Arc<Outlet>,
    ) -> Arc<Self> {
        Arc::new(Self {
            local,
            payload_type: AtomicU8::new(plan.format.payload_type),
            remote: Mutex::default(),
            relabel: Mutex::new(Relabel::new(plan.format.codec.clock_rate())),
            counters: Counters::default(),
            outlet,
            plan,
        })
    }

    fn is_video(&self) -> bool {
        self.plan.format.codec.is_video()
    }

    pub(crate) fn local(&self) -> Option<&Arc<TrackLocalStaticRTP>> {
        self.local.as_ref().map(|(track, _)| track)
    }

    pub(crate) fn agreed(&self, payload_type: u8) {
        self.payload_type.store(payload_type, Ordering::Relaxed);
    }

    /// Begins what goes from the device to the far side, which is connected now.
    pub(crate) fn begin(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        if let (Some(source), Some((track, ssrc))) = (&self.plan.source, &self.local) {
            tasks.spawn(self.clone().send(source.datagrams(), track.clone(), *ssrc));
            tasks.spawn(self.clone().hear(track.clone()));
        }
        if let Some(rtcp) = &self.plan.rtcp {
            tasks.spawn(self.clone().forward_rtcp(rtcp.datagrams()));
        }
    }

    async fn send(
        self: Arc<Self>,
        mut datagrams: broadcast::Receiver<Bytes>,
        track: Arc<TrackLocalStaticRTP>,
        ssrc: u32,
    ) {
        while let Some(datagram) = next(&mut datagrams).await {
            // RTP and RTCP may share a port (RFC 5761 §4).
            if datagram.get(1).is_some_and(|second| (192..=223).contains(second)) {
                self.take_rtcp(datagram).await;
                continue;
            }
            let Some(packet) = self.relabelled(datagram, ssrc) else { continue };
            let bytes = packet.payload.len() as u64;
            if track.write_rtp(packet).await.is_ok() {
                self.counters.sent.fetch_add(1, Ordering::Relaxed);
                self.counters.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }

    /// A device's packet as the far side gets it; `None` if it is none, or of another payload type.
    fn relabelled(&self, mut datagram: Bytes, ssrc: u32) -> Option<rtp::Packet> {
        let mut packet = rtp::Packet::unmarshal(&mut datagram).ok()?;
        let header = &mut packet.header;
        if header.version != 2 || header.payload_type != self.plan.format.payload_type {
            return None;
        }
        let arrival =
            Arrival { ssrc: header.ssrc, sequence: header.sequence_number, timestamp: header.timestamp };
        let mut relabel = self.relabel.lock().unwrap_or_else(PoisonError::into_inner);
        (header.sequence_number, header.timestamp) = relabel.next(arrival, Instant::now());
        header.ssrc = ssrc;
        header.payload_type = self.payload_type.load(Ordering::Relaxed);
        // Extensions have numbers that were not agreed on here.
        header.extension = false;
        header.extensions.clear();
        header.extensions_padding = 0;
        header.csrc.clear();
        header.padding = false;
        Some(packet)
    }

    /// What the far side says of what it gets.
    async fn hear(self: Arc<Self>, track: Arc<TrackLocalStaticRTP>) {
        let ours = self.local.as_ref().map_or(0, |(_, ssrc)| *ssrc);
        while let Some(event) = track.poll().await {
            if let TrackLocalEvent::OnRtcpPacket(packets) = event
                && let Some(to) = self.plan.redirect.rtcp
            {
                let device = self.relabel.lock().unwrap_or_else(PoisonError::into_inner).source();
                if let Some(datagram) = for_device(&packets, ours, device) {
                    self.outlet.send(&datagram, to);
                }
            }
        }
    }

    async fn forward_rtcp(self: Arc<Self>, mut datagrams: broadcast::Receiver<Bytes>) {
        while let Some(datagram) = next(&mut datagrams).await {
            self.take_rtcp(datagram).await;
        }
    }

    async fn take_rtcp(&self, datagram: Bytes) {
        let Some(said) = from_device(datagram) else { return };
        if said.key_frame {
            self.ask_for_key_frame().await;
        }
        let remote = self.remote();
        if let (Some(bitrate), Some((track, ssrc))) = (said.bitrate, remote) {
            let sender_ssrc = self.local.as_ref().map_or(1, |(_, ssrc)| *ssrc);
            let estimate = ReceiverEstimatedMaximumBitrate { sender_ssrc, bitrate, ssrcs: vec![ssrc] };
            if let Err(error) = track.write_rtcp(vec![Box::new(estimate)]).await {
                tracing::debug!(%error, "an estimate is not sent");
            }
        }
    }

    fn remote(&self) -> Option<(Arc<dyn TrackRemote>, u32)> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the far side for a key frame; whether there is anybody to ask.
    pub(crate) async fn ask_for_key_frame(&self) -> bool {
        let Some((track, ssrc)) = self.remote().filter(|_| self.is_video()) else { return false };
        let sender_ssrc = self.local.as_ref().map_or(1, |(_, ssrc)| *ssrc);
        let loss = PictureLossIndication { sender_ssrc, media_ssrc: ssrc };
        track.write_rtcp(vec![Box::new(loss)]).await.is_ok()
    }

    /// Passes a track of the far side on to the device, to its end.
    pub(crate) async fn pass_on(self: Arc<Self>, track: Arc<dyn TrackRemote>) {
        let mut asked = false;
        while let Some(event) = track.poll().await {
            match event {
                TrackRemoteEvent::OnRtpPacket(mut packet) => {
                    if !asked {
                        asked = true;
                        let known = (track.clone(), packet.header.ssrc);
                        *self.remote.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
                        // A decoder that begins in the midst of a picture shows nothing.
                        self.ask_for_key_frame().await;
                    }
                    self.counters.received.fetch_add(1, Ordering::Relaxed);
                    let bytes = packet.payload.len() as u64;
                    self.counters.received_bytes.fetch_add(bytes, Ordering::Relaxed);
                    let Some(to) = self.plan.redirect.rtp else { continue };
                    let header = &mut packet.header;
                    header.payload_type = self.plan.format.payload_type;
                    header.extension = false;
                    header.extensions.clear();
                    header.extensions_padding = 0;
                    if let Ok(datagram) = packet.marshal() {
                        self.outlet.send(&datagram, to);
                    }
                }
                TrackRemoteEvent::OnRtcpPacket(packets) => {
                    if let Some(to) = self.plan.redirect.rtcp
                        && let Some(datagram) = for_device(&packets, 0, None)
                    {
                        self.outlet.send(&datagram, to);
                    }
                }
                TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => return,
                _ => {}
            }
        }
    }

    pub(crate) fn counts(&self) -> LaneCounts {
        let Counters { sent, sent_bytes, received, received_bytes } = &self.counters;
        LaneCounts {
            sent: sent.load(Ordering::Relaxed),
            sent_bytes: sent_bytes.load(Ordering::Relaxed),
            lost: self.relabel.lock().unwrap_or_else(PoisonError::into_inner).lost(),
            received: received.load(Ordering::Relaxed),
            received_bytes: received_bytes.load(Ordering::Relaxed),
        }
    }

    /// Where the device gets its RTP.
    pub(crate) fn goes_to(&self) -> Option<SocketAddr> {
        self.plan.redirect.rtp
    }
}

/// The next datagram; `None` when the port is closed. What came while nobody looked is lost.
async fn next(datagrams: &mut broadcast::Receiver<Bytes>) -> Option<Bytes> {
    loop {
        match datagrams.recv().await {
            Ok(datagram) => return Some(datagram),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                metrics::counter!("kaigi_gateway_datagrams_lost_total").increment(count);
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

/// The lanes of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) audio: Option<Arc<Lane>>,
    pub(crate) video: Option<Arc<Lane>>,
}

impl Lanes {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.audio.iter().chain(&self.video)
    }
}
