//! One track that this node produces, and those who consume it.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use kaigi_media::{
    link::{Feedback, LinkError, LinkProducer},
    rtp::RtpHeader,
    tally::Tally,
};
use kaigi_proto::{
    ids::{AttachmentId, TrackId},
    v1,
};
use parking_lot::Mutex;

use crate::{
    Audience, MediaClock,
    clock::{ntp, ntp_of},
};

/// What a track is.
#[derive(Clone, Debug)]
pub struct TrackDescription {
    /// Unique in the cluster.
    pub id: TrackId,
    /// Audio or video.
    pub kind: v1::MediaKind,
    /// Codec.
    pub format: v1::MediaFormat,
    /// On the link.
    pub payload_type: u8,
    /// Of its RTP timestamps.
    pub clock: MediaClock,
    /// Who takes it and those that are made with it.
    pub audience: Arc<Audience>,
}

/// When what came in at a time was captured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Captured {
    /// By this node's clock.
    pub came: Instant,
    /// By the clock of whoever captured it, in seconds since 1900.
    pub seconds: f64,
}

impl Captured {
    /// When that was captured which comes in at `now`.
    #[must_use]
    pub fn at(&self, now: Instant) -> f64 {
        self.seconds + now.saturating_duration_since(self.came).as_secs_f64()
    }
}

/// A produced track. Sending locks it for as long as its packets take to be protected and handed to the kernel.
pub struct OutputTrack {
    description: TrackDescription,
    socket: Arc<UdpSocket>,
    attachments: Mutex<Vec<Attachment>>,
    counted: Mutex<Counted>,
    key_frames: AtomicU64,
    listeners: AtomicUsize,
    key_frame_wanted: AtomicBool,
    next_sequence: AtomicU16,
    captured: Mutex<Option<Captured>>,
}

/// What was sent.
struct Counted {
    tally: Tally,
    /// Of the pictures.
    size: Option<v1::Resolution>,
}

struct Attachment {
    id: AttachmentId,
    link: LinkProducer,
}

impl OutputTrack {
    pub(crate) fn new(description: TrackDescription, socket: Arc<UdpSocket>) -> Self {
        Self {
            counted: Mutex::new(Counted { tally: Tally::new(description.kind), size: None }),
            key_frames: AtomicU64::new(0),
            description,
            socket,
            attachments: Mutex::default(),
            listeners: AtomicUsize::new(0),
            key_frame_wanted: AtomicBool::new(false),
            next_sequence: AtomicU16::new(rand::random()),
            captured: Mutex::default(),
        }
    }

    /// It is made of what somebody else captures, whose clock is told in place of this node's, so that it stays together with what else he
    /// captures; `None`: by this node's clock.
    pub fn set_captured(&self, captured: Option<Captured>) {
        *self.captured.lock() = captured;
    }

    /// What it is.
    #[must_use]
    pub fn description(&self) -> &TrackDescription {
        &self.description
    }

    /// Whether anybody is attached.
    #[must_use]
    pub fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody asked for a key frame since the last call.
    #[must_use]
    pub fn take_key_frame_request(&self) -> bool {
        self.key_frame_wanted.swap(false, Ordering::Relaxed)
    }

    /// The sequence number after that of the last packet sent; random before the first.
    #[must_use]
    pub fn next_sequence(&self) -> u16 {
        self.next_sequence.load(Ordering::Relaxed)
    }

    /// Sends an RTP packet to all who are attached. Never blocks: what the kernel does not take is lost.
    pub fn send(&self, packet: &[u8], now: Instant) {
        if let Ok(header) = RtpHeader::parse(packet) {
            self.next_sequence.store(header.sequence.wrapping_add(1), Ordering::Relaxed);
            if self.has_listeners() {
                self.counted.lock().tally.packet(now, packet.len(), header.timestamp, false);
            }
        }
        for attachment in self.attachments.lock().iter_mut() {
            let sent = attachment.link.protect_rtp(packet);
            self.transmit(&attachment.link, sent);
        }
    }

    /// Pictures have that size from now on, in pixels.
    pub fn set_size(&self, width: u32, height: u32) {
        self.counted.lock().size = Some(v1::Resolution { width, height });
    }

    /// A key frame was made.
    pub fn count_key_frame(&self) {
        self.key_frames.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted: a packet once, however many got it.
    #[must_use]
    pub fn stats(&self, now: Instant) -> v1::TrackStats {
        let takers = u32::try_from(self.listeners.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let counted = self.counted.lock();
        v1::TrackStats {
            track_id: self.description.id.to_string(),
            key_frames: self.key_frames.load(Ordering::Relaxed),
            resolution: counted.size,
            takers,
            ..counted.tally.to_message(now)
        }
    }

    pub(crate) fn attach(
        &self,
        id: AttachmentId,
        request: &v1::AttachRequest,
        now: Instant,
    ) -> Result<(), LinkError> {
        let link = LinkProducer::new(now, request, self.description.payload_type)?;
        let mut attachments = self.attachments.lock();
        attachments.retain(|attachment| attachment.id != id);
        attachments.push(Attachment { id, link });
        self.key_frame_wanted.store(true, Ordering::Relaxed);
        self.count(&attachments);
        Ok(())
    }

    pub(crate) fn detach(&self, id: &AttachmentId) {
        let mut attachments = self.attachments.lock();
        attachments.retain(|attachment| attachment.id != *id);
        self.count(&attachments);
    }

    /// Takes what an attachment's consumer sent. Whether it was authentic.
    pub(crate) fn feedback(&self, id: &AttachmentId, datagram: &[u8], now: Instant) -> bool {
        let mut attachments = self.attachments.lock();
        let Some(attachment) = attachments.iter_mut().find(|attachment| attachment.id == *id) else {
            return false;
        };
        let Ok(feedback) = attachment.link.unprotect_rtcp(now, datagram) else {
            return false;
        };
        if feedback.contains(&Feedback::KeyFrameRequest) {
            self.key_frame_wanted.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Sends sender reports and ends the attachments whose consumers have been silent for too long; their ids.
    pub(crate) fn tick(&self, now: Instant) -> Vec<AttachmentId> {
        // Receivers bring sound and picture together by when both were captured.
        let timestamp = self.description.clock.timestamp_of_capture(now);
        let captured = *self.captured.lock();
        let wall = captured.map_or_else(|| ntp(SystemTime::now()), |captured| ntp_of(captured.at(now)));
        let mut attachments = self.attachments.lock();
        let mut ended = Vec::new();
        attachments.retain_mut(|attachment| {
            let silent = attachment.link.is_silent(now);
            if silent {
                ended.push(attachment.id.clone());
            } else {
                let report = attachment.link.sender_report(wall, timestamp);
                self.transmit(&attachment.link, report);
            }
            !silent
        });
        self.count(&attachments);
        ended
    }

    fn count(&self, attachments: &[Attachment]) {
        let before = self.listeners.swap(attachments.len(), Ordering::Relaxed);
        self.description.audience.change(before, attachments.len());
    }

    fn transmit(&self, link: &LinkProducer, datagram: Result<bytes::BytesMut, LinkError>) {
        let sent = datagram.map(|datagram| self.socket.send_to(&datagram, link.consumer_address()));
        match sent {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                metrics::counter!("kaigi_supply_lost_packets_total").increment(1);
                tracing::trace!(%error, "packet not taken by the kernel");
            }
            Err(error) => tracing::debug!(%error, "packet not protected"),
        }
    }
}

impl Drop for OutputTrack {
    fn drop(&mut self) {
        self.count(&[]);
    }
}

impl std::fmt::Debug for OutputTrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputTrack").field("id", &self.description.id).finish_non_exhaustive()
    }
}
