//! Tracks that cross between the workers of the process.
//!
//! A worker says to all others which tracks it wants, before they are published or after. The one that publishes a track gives it to each
//! that wants it, once, as it comes in: with its header and extensions, so that it is forwarded there as if it had come in there. What
//! the workers say to each other ([`Notice`]) is not lost; packets are, when a worker doesn't keep up with them, and are asked for again.

use std::time::Instant;

use kaigi_media::rtp::RtpHeader;
use kaigi_proto::ids::TrackId;

use super::{
    Links,
    attachment::{Attachment, Taker},
    flow::Way,
};
use crate::{
    forward::{Origin, Repair, Supply},
    ids::WorkerNumber,
    keys::{AttachmentKey, FlowKey, SourceKey},
    node::{
        Known, Node,
        crossings::{self, Crossing},
    },
    sdp::{Extensions, Format},
};

/// What one worker says to another.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A track is wanted as soon as it is published, and as long as it is.
    Want {
        /// Which.
        track: TrackId,
        /// What the one that wants it calls it.
        flow: FlowKey,
    },
    /// It is wanted no more.
    WantNoMore {
        /// Which.
        track: TrackId,
        /// What it was wanted as.
        flow: FlowKey,
    },
    /// A wanted track is published, or negotiated anew: its packets come.
    Supplied {
        /// What it is wanted as.
        flow: FlowKey,
        /// What the one that gives it calls it.
        attachment: AttachmentKey,
        /// What the packets are.
        supply: Supplied,
    },
    /// Its publication has ended.
    Ended {
        /// What it is wanted as.
        flow: FlowKey,
    },
    /// It is muted or goes on.
    Active {
        /// What it is wanted as.
        flow: FlowKey,
        /// Whether it flows.
        active: bool,
    },
    /// Somebody can't go on without a key frame.
    KeyFrameRequest {
        /// Of what.
        attachment: AttachmentKey,
    },
    /// Packets did not come.
    Missing {
        /// Of what.
        attachment: AttachmentKey,
        /// Their numbers.
        sequences: Vec<u16>,
    },
    /// So many get it.
    Takers {
        /// What.
        attachment: AttachmentKey,
        /// How many.
        count: u32,
    },
    /// What flows of these?
    Describe {
        /// Tracks, and whether somebody asks for them, so that they are to flow.
        tracks: Vec<(TrackId, bool)>,
    },
    /// What flows of those that are published here.
    Described {
        /// Those asked for.
        layers: Vec<(TrackId, Known)>,
    },
}

/// What the packets of a track are.
#[derive(Clone, Debug)]
pub struct Supplied {
    format: Format,
    extensions: Extensions,
    ssrc: Option<u32>,
    active: bool,
}

/// Who gives a track.
#[derive(Clone, Copy, Debug)]
pub(super) struct Giver {
    worker: WorkerNumber,
    attachment: AttachmentKey,
    /// How many get it here, as it was told.
    takers: u32,
}

impl Node {
    /// Makes it one of several workers of the process.
    #[must_use]
    pub fn among(mut self, own: WorkerNumber, count: u16) -> Self {
        self.net.others = (0..count).map(WorkerNumber).filter(|number| *number != own).collect();
        self
    }

    /// Sees to it that a track of this process comes in, whichever worker has it.
    pub(in crate::node) fn ensure_crossing(&mut self, source: SourceKey) {
        if self.net.others.is_empty() {
            return;
        }
        let Some(known) = self.forward.source(source).filter(|source| !source.is_published()) else { return };
        let track = known.track.clone();
        if let Some(&key) = self.net.links.flows_by_source.get(&source) {
            if self.net.links.flows.get(key).is_some_and(|flow| matches!(flow.way, Way::Worker(_))) {
                return self.tell_takers(key);
            }
            self.end_flow(key);
        }
        if let Some(flow) = self.add_flow(source, &track, Way::Worker(None)) {
            self.net.tell_all(&Notice::Want { track, flow });
        }
    }

    /// The track is going to be published here.
    pub(in crate::node) fn end_crossing(&mut self, source: SourceKey) {
        if let Some(&key) = self.net.links.flows_by_source.get(&source) {
            self.end_flow(key);
        }
    }

    pub(super) fn want_no_more(&mut self, flow: FlowKey, track: &TrackId) {
        self.net.tell_all(&Notice::WantNoMore { track: track.clone(), flow });
    }

    /// Says how many get what another worker gives, if that has changed.
    pub(super) fn tell_takers(&mut self, key: FlowKey) {
        let Some(flow) = self.net.links.flows.get_mut(key) else { return };
        let Way::Worker(Some(giver)) = &mut flow.way else { return };
        let Some(source) = self.forward.source(flow.source) else { return };
        let count = u32::try_from(source.sinks().len()).unwrap_or(u32::MAX);
        if std::mem::replace(&mut giver.takers, count) != count {
            let Giver { worker, attachment, .. } = *giver;
            self.net.tell(worker, Notice::Takers { attachment, count });
        }
    }

    /// A publisher's track can flow: those who want it get it.
    pub(in crate::node) fn supply_workers(&mut self, now: Instant, source: SourceKey) {
        let Some(track) = self.forward.source(source).map(|source| source.track.clone()) else { return };
        let workers: Vec<_> = self.net.links.wants.of(&track).iter().map(|want| want.worker).collect();
        for worker in workers {
            self.supply_worker(now, source, worker);
        }
    }

    /// Gives a track to a worker that wants it, if it is published here.
    fn supply_worker(&mut self, now: Instant, key: SourceKey, worker: WorkerNumber) {
        let Some(source) = self.forward.source(key) else { return };
        let Some(Supply { origin: Origin::Publisher(_), format, extensions, ssrc, .. }) = source.supply
        else {
            return;
        };
        let supply = Supplied { format, extensions, ssrc, active: source.active };
        let (track, kind) = (source.track.clone(), source.kind);
        let Links { wants, attachments, .. } = &mut self.net.links;
        let Some(want) = wants.of(&track).iter_mut().find(|want| want.worker == worker) else { return };
        let flow = want.flow;
        let before = want.attachment;
        let attachment = *want.attachment.get_or_insert_with(|| {
            attachments.insert_with(|key| Attachment {
                taker: Taker::Worker { number: worker, flow },
                sink: self.forward.add_link_sink(kind, key),
            })
        });
        self.net.tell(worker, Notice::Supplied { flow, attachment, supply });
        if before.is_none()
            && let Some(sink) = self.net.links.attachments.get(attachment).map(|a| a.sink)
        {
            self.forward.connect(now, sink, key, &mut self.net);
        }
    }

    /// A publication's track ends: for other workers, then here. Whoever gets it here gets it from another worker, if one has it later.
    pub(in crate::node) fn unpublish(&mut self, source: SourceKey) {
        if let Some(track) = self.forward.source(source).map(|source| source.track.clone()) {
            let ended = self.net.links.wants.of(&track).iter_mut();
            let ended: Vec<_> =
                ended.filter_map(|w| Some((w.worker, w.flow, w.attachment.take()?))).collect();
            for (worker, flow, attachment) in ended {
                self.end_attachment(attachment);
                self.net.tell(worker, Notice::Ended { flow });
            }
        }
        self.forward.release_claim(source);
        self.ensure_crossing(source);
    }

    /// A publication's track is muted or goes on: for other workers, too.
    pub(in crate::node) fn set_published_active(&mut self, now: Instant, source: SourceKey, active: bool) {
        if let Some(track) = self.forward.source(source).map(|source| source.track.clone()) {
            let wants = self.net.links.wants.of(&track).iter().filter(|want| want.attachment.is_some());
            let wants: Vec<_> = wants.map(|want| (want.worker, want.flow)).collect();
            for (worker, flow) in wants {
                self.net.tell(worker, Notice::Active { flow, active });
            }
        }
        self.forward.set_source_active(now, source, active, &mut self.net);
    }

    /// Another worker says something.
    pub fn handle_notice(&mut self, now: Instant, from: WorkerNumber, notice: Notice) {
        match notice {
            Notice::Want { track, flow } => {
                let before = self.net.links.wants.add(&track, from, flow);
                if let Some(attachment) = before.and_then(|want| want.attachment) {
                    self.end_attachment(attachment);
                }
                if let Some(source) = self.forward.find(&track) {
                    self.supply_worker(now, source, from);
                }
            }
            Notice::WantNoMore { track, flow } => {
                let want = self.net.links.wants.remove(&track, from, flow);
                if let Some(attachment) = want.and_then(|want| want.attachment) {
                    self.end_attachment(attachment);
                }
            }
            Notice::Supplied { flow, attachment, supply } => {
                self.supplied(now, flow, Giver { worker: from, attachment, takers: 0 }, &supply);
            }
            Notice::Ended { flow } => {
                if let Some(source) = self.given_by(flow, from, |giver| *giver = None) {
                    self.forward.end_supply(source);
                }
            }
            Notice::Active { flow, active } => {
                if let Some(source) = self.given_by(flow, from, |_| {}) {
                    self.forward.set_source_active(now, source, active, &mut self.net);
                }
            }
            Notice::KeyFrameRequest { attachment } => {
                if let Some(sink) = self.net.links.attachments.get(attachment).map(|a| a.sink) {
                    self.forward.key_frame_request(now, sink, &mut self.net);
                }
            }
            Notice::Missing { attachment, sequences } => {
                if let Some(sink) = self.net.links.attachments.get(attachment).map(|a| a.sink) {
                    let repair = Repair::default();
                    self.forward.retransmit(now, sink, sequences.into_iter(), repair, &mut self.net);
                }
            }
            Notice::Takers { attachment, count } => {
                if let Some(sink) = self.net.links.attachments.get(attachment).map(|a| a.sink) {
                    self.forward.set_takers(sink, count);
                }
            }
            Notice::Describe { tracks } => {
                let asked = tracks.iter().filter(|(_, asked)| *asked).map(|(track, _)| track.clone());
                self.asked_elsewhere(now, asked.collect::<Vec<_>>().into_iter());
                let layers = tracks.into_iter().filter_map(|(track, _)| {
                    let source = self.forward.find(&track)?;
                    let source = self.forward.source_mut(source).filter(|source| source.is_published())?;
                    Some((track, Known::of(now, source)))
                });
                let layers: Vec<_> = layers.collect();
                if !layers.is_empty() {
                    self.net.tell(from, Notice::Described { layers });
                }
            }
            Notice::Described { layers } => self.net.remote.described_by_worker(now, layers),
        }
    }

    /// The source of a flow that another worker gives, or gave last.
    fn given_by(
        &mut self,
        flow: FlowKey,
        worker: WorkerNumber,
        change: impl FnOnce(&mut Option<Giver>),
    ) -> Option<SourceKey> {
        let flow = self.net.links.flows.get_mut(flow)?;
        let Way::Worker(giver) = &mut flow.way else { return None };
        if giver.is_none_or(|giver| giver.worker != worker) {
            return None;
        }
        change(giver);
        Some(flow.source)
    }

    fn supplied(&mut self, now: Instant, key: FlowKey, by: Giver, supplied: &Supplied) {
        let Some(flow) = self.net.links.flows.get_mut(key) else { return };
        let (source, Way::Worker(giver)) = (flow.source, &mut flow.way) else { return };
        *giver = Some(by);
        let supply = Supply {
            origin: Origin::Worker(key),
            format: supplied.format,
            extensions: supplied.extensions,
            nack: true,
            red: None,
            ssrc: supplied.ssrc,
        };
        self.forward.supply(now, source, supply, &mut self.net);
        self.forward.set_source_active(now, source, supplied.active, &mut self.net);
        self.tell_takers(key);
    }

    /// A record came from another worker; whole, as [`crossings::record_length`] says.
    pub fn handle_crossing(&mut self, now: Instant, from: WorkerNumber, record: &[u8]) {
        let Some((key, crossing)) = crossings::read(record) else { return };
        // What still comes after the track is wanted no more is for nobody.
        let Some(source) = self.given_by(key, from, |_| {}) else { return };
        match crossing {
            Crossing::Packet(packet) => {
                self.net.counters.worker_packets_in += 1;
                let Ok(header) = RtpHeader::parse(packet) else { return };
                self.forward.receive(now, source, packet, &header, false, &mut self.net);
            }
            Crossing::Report { ntp, rtp } => self.forward.sender_report(now, source, ntp, rtp, &mut self.net),
        }
    }
}

impl Links {
    /// Whom feedback of a flow from another worker goes to.
    pub(in crate::node) fn giver(&self, key: FlowKey) -> Option<(WorkerNumber, AttachmentKey)> {
        match self.flows.get(key)?.way {
            Way::Worker(giver) => giver.map(|giver| (giver.worker, giver.attachment)),
            Way::Node(_) => None,
        }
    }
}
