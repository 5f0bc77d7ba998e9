//! Tracks of this worker that others get.

use std::time::Instant;

use kaigi_media::link::{CONSUMER_TIMEOUT, Feedback, LinkProducer};
use kaigi_proto::{
    ids::{AttachmentId, TrackId},
    v1,
};

use super::{LinkTimer, Node};
use crate::{
    forward::{Origin, Repair},
    ids::WorkerNumber,
    keys::{AttachmentKey, FlowKey, SinkKey},
    node::NodeError,
    sdp::Kind,
};

/// Payload types on the link between nodes, where each flow has one format only.
const AUDIO_PAYLOAD: u8 = 111;
/// See [`AUDIO_PAYLOAD`].
const VIDEO_PAYLOAD: u8 = 96;

/// A flow to others.
#[derive(Debug)]
pub struct Attachment {
    pub(in crate::node) taker: Taker,
    pub(super) sink: SinkKey,
}

/// Whom it goes to.
#[derive(Debug)]
pub(in crate::node) enum Taker {
    /// Another node.
    Node { id: AttachmentId, producer: Box<LinkProducer> },
    /// Another worker of the process, which knows it by its own key.
    Worker { number: WorkerNumber, flow: FlowKey },
}

impl Node {
    /// Another node wants a track of this one.
    ///
    /// # Errors
    /// If the track is not published here (yet), or the request is unusable.
    pub fn attach(
        &mut self,
        now: Instant,
        request: &v1::AttachRequest,
    ) -> Result<v1::AttachReply, NodeError> {
        let id = AttachmentId::new(&request.attachment_id)?;
        let track = TrackId::new(&request.track_id)?;
        let source_key = self.forward.find(&track).ok_or(NodeError::UnknownTrack)?;
        let source = self.forward.source(source_key).ok_or(NodeError::UnknownTrack)?;
        let supply = source.supply.as_ref().ok_or(NodeError::UnknownTrack)?;
        let Origin::Publisher(_) = supply.origin else { return Err(NodeError::UnknownTrack) };
        let (kind, format) = (source.kind, supply.format);
        let payload_type = match kind {
            Kind::Audio => AUDIO_PAYLOAD,
            Kind::Video => VIDEO_PAYLOAD,
        };
        let (dependency, audio_level) = match kind {
            Kind::Audio => (None, supply.extensions.audio_level),
            Kind::Video => (supply.extensions.dependency, None),
        };
        let reply = v1::AttachReply {
            producer_address: self.config.link_address.to_string(),
            format: Some(format.to_message()),
            payload_type: payload_type.into(),
            clock_rate: format.clock_rate(),
            dependency_descriptor_id: dependency.map_or(0, u32::from),
            audio_level_id: audio_level.map_or(0, u32::from),
        };
        if self.by_attachment.contains_key(&id) {
            return Ok(reply);
        }
        if self.by_attachment.len() >= self.config.limits.links {
            return Err(NodeError::TooMany("attachments"));
        }
        let producer = LinkProducer::new(now, request, payload_type)
            .map_err(|error| NodeError::Invalid(error.to_string()))?
            .keeping(dependency.or(audio_level));
        let consumer = (producer.consumer_address(), producer.ssrc());
        if self.net.links.by_consumer.contains_key(&consumer) {
            return Err(NodeError::InUse("SSRC"));
        }
        // The sink is made first so that the attachment never lacks one; its key is filled in once the attachment has one.
        let links = &mut self.net.links;
        let key = links.attachments.insert_with(|key| {
            let sink = self.forward.add_link_sink(kind, key);
            Attachment { taker: Taker::Node { id: id.clone(), producer: Box::new(producer) }, sink }
        });
        links.by_consumer.insert(consumer, key);
        links.timers.set(LinkTimer::Attachment(key), Some(now + CONSUMER_TIMEOUT));
        self.by_attachment.insert(id, key);
        if let Some(sink) = self.net.links.attachments.get(key).map(|a| a.sink) {
            self.forward.connect(now, sink, source_key, &mut self.net);
        }
        tracing::debug!(%track, consumer = %consumer.0, "attached");
        Ok(reply)
    }

    /// Another node wants a track no more.
    pub fn detach(&mut self, id: &AttachmentId) {
        if let Some(key) = self.by_attachment.get(id) {
            self.end_attachment(*key);
        }
    }

    pub(super) fn end_attachment(&mut self, key: AttachmentKey) {
        let Some(attachment) = self.net.links.attachments.remove(key) else { return };
        match attachment.taker {
            Taker::Node { id, producer } => {
                self.by_attachment.remove(&id);
                self.net.links.by_consumer.remove(&(producer.consumer_address(), producer.ssrc()));
            }
            Taker::Worker { .. } => {}
        }
        for source in self.forward.remove_sink(attachment.sink) {
            self.release_source(source);
        }
    }

    pub(super) fn handle_feedback(&mut self, now: Instant, key: AttachmentKey, bytes: &[u8]) {
        let Some(attachment) = self.net.links.attachments.get_mut(key) else { return };
        let (sink, Taker::Node { producer, .. }) = (attachment.sink, &mut attachment.taker) else { return };
        let Ok(feedback) = producer.unprotect_rtcp(now, bytes) else {
            self.net.counters.malformed += 1;
            return;
        };
        for feedback in feedback {
            match feedback {
                // Whoever has just come can't wait for the publisher's next report, and one may have been lost.
                Feedback::Report => self.forward.repeat_report(sink, &mut self.net),
                Feedback::KeyFrameRequest => self.forward.key_frame_request(now, sink, &mut self.net),
                Feedback::Nack(missing) => {
                    let repair = Repair::default();
                    self.forward.retransmit(now, sink, missing.into_iter(), repair, &mut self.net);
                }
            }
        }
    }
}
