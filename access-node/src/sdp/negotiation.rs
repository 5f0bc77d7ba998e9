//! What a transport's m-lines are for, and the answers that follow from it.
//!
//! Each publication or subscription track is bound to an m-line by its mid. An m-line that is bound is negotiated once, at the first
//! offer that has it, and answered the same from then on; one that is not, or no more, is answered inactive. Nothing is ever
//! dropped from an answer, so the client's m-lines keep their order.

use std::collections::{BTreeMap, HashMap};

use kaigi_proto::ids::SessionId;

use super::{
    Codec, Format, Kind,
    agreement::{
        Binding, Change, DtlsRole, Extensions, LocalDescription, Negotiated, Outcome, SendStream,
        URI_AUDIO_LEVEL, URI_DEPENDENCY, URI_MID, URI_PLAYOUT_DELAY, URI_REPAIRED_RID, URI_RID,
        URI_TRANSPORT_CC, Wish,
    },
    answer,
    format::{choose_to_receive, choose_to_send},
    offer::{Offer, OfferedMedia, Setup},
    simulcast::MAX_LAYERS,
};
use crate::ids::{Mid, Rid, Ssrc};

/// What old clients call their m-lines.
const OLD_MIDS: [&str; 2] = ["0", "1"];

#[derive(Debug)]
struct Bound {
    binding: Binding,
    negotiated: Option<Negotiated>,
}

/// The m-lines of one transport.
#[derive(Debug)]
pub struct Negotiation {
    local: LocalDescription,
    bound: BTreeMap<Mid, Bound>,
    /// M-lines that serve a binding of another mid, by the m-line's mid.
    stand_ins: HashMap<Mid, Mid>,
    role: Option<DtlsRole>,
    version: u64,
}

impl Negotiation {
    /// Nothing bound, nothing negotiated.
    #[must_use]
    pub fn new(local: LocalDescription) -> Self {
        Self { local, bound: BTreeMap::new(), stand_ins: HashMap::new(), role: None, version: 0 }
    }

    /// The node's half.
    #[must_use]
    pub fn local(&self) -> &LocalDescription {
        &self.local
    }

    /// ICE restarts: answers have these credentials from now on.
    pub fn restart_ice(&mut self, ufrag: String, password: String) {
        (self.local.ufrag, self.local.password) = (ufrag, password);
    }

    /// Whether a mid is bound.
    #[must_use]
    pub fn is_bound(&self, mid: &Mid) -> bool {
        self.bound.contains_key(mid)
    }

    /// Binds a mid, in place of whatever it was bound to.
    pub fn bind(&mut self, mid: Mid, binding: Binding) {
        self.bound.insert(mid, Bound { binding, negotiated: None });
    }

    /// Ends all bindings of a session.
    pub fn release(&mut self, session: &SessionId) {
        self.bound.retain(|_, bound| bound.binding.session != *session);
        self.stand_ins.retain(|_, mid| self.bound.contains_key(mid));
    }

    /// What was agreed on for a bound mid.
    #[must_use]
    pub fn negotiated(&self, mid: &Mid) -> Option<&Negotiated> {
        self.bound.get(mid)?.negotiated.as_ref()
    }

    /// Whether a stream of that format may be sent for a bound mid: as negotiated, or as may still be.
    #[must_use]
    pub fn may_carry(&self, mid: &Mid, format: Format) -> bool {
        let Some(bound) = self.bound.get(mid) else { return false };
        match (&bound.negotiated, &bound.binding.wish) {
            (_, Wish::Receive(_)) => false,
            (Some(negotiated), Wish::Send { .. }) => negotiated.format.carries(format),
            (None, Wish::Send { formats, .. }) => formats.iter().any(|wished| wished.carries(format)),
        }
    }

    /// The binding that an m-line serves.
    #[must_use]
    pub fn binding_of_line(&self, line: &Mid) -> Option<&Mid> {
        let by_name = || self.bound.get_key_value(line).map(|(mid, _)| mid);
        let elsewhere = |mid: &&Mid| self.stand_ins.values().any(|served| served == *mid);
        self.stand_ins.get(line).or_else(|| by_name().filter(|mid| !elsewhere(mid)))
    }

    /// Answers an offer. `random` makes SSRCs.
    pub fn answer(&mut self, offer: &Offer, mut random: impl FnMut() -> u32) -> Outcome {
        let role = *self.role.get_or_insert(match offer.setup {
            Setup::ActPass | Setup::Active => DtlsRole::Server,
            Setup::Passive => DtlsRole::Client,
        });
        self.find_stand_ins(offer);
        let mut changes = Vec::new();
        for (index, media) in offer.media.iter().enumerate() {
            let Some(mid) = self.binding_of_line(&media.mid).cloned() else { continue };
            let Some(bound) = self.bound.get_mut(&mid) else { continue };
            if bound.negotiated.is_none() {
                let around = Around {
                    usable: offer.is_bundled(index) && !media.rejected,
                    mixed: offer.extmap_allow_mixed,
                };
                match negotiate(&bound.binding, media, around, &mut random) {
                    Ok(negotiated) => {
                        bound.negotiated = Some(negotiated);
                        changes.push(Change::Negotiated(mid.clone()));
                    }
                    Err(reason) => {
                        let session = bound.binding.session.clone();
                        self.release(&session);
                        changes.push(Change::Refused(session, reason));
                        continue;
                    }
                }
            }
            // Which layer an announced source is of shows in its packets only.
            let layered = bound.negotiated.as_ref().is_some_and(|negotiated| !negotiated.layers.is_empty());
            if let (Some(ssrc), true, Wish::Receive(_)) =
                (media.ssrc.filter(|_| !layered), media.direction.sends(), &bound.binding.wish)
            {
                let repairs = bound.negotiated.as_ref().is_some_and(|negotiated| negotiated.repair.is_some());
                changes.push(Change::Sources(mid.clone(), ssrc, media.rtx_ssrc));
                changes.extend(media.repair_ssrc.filter(|_| repairs).map(|ssrc| Change::Repairs(mid, ssrc)));
            }
        }
        // A session that was refused at a later m-line takes back what an earlier one negotiated.
        changes.retain(|change| match change {
            Change::Negotiated(mid) | Change::Sources(mid, ..) | Change::Repairs(mid, _) => {
                self.bound.contains_key(mid)
            }
            Change::Refused(..) => true,
        });
        self.version += 1;
        Outcome {
            answer: answer::write(&self.local, offer, role, self.version, |media| self.active(media)),
            changes,
            role,
        }
    }

    /// The binding that serves an m-line with what was agreed on, if it is to be answered active.
    fn active(&self, media: &OfferedMedia) -> Option<(&Binding, &Negotiated)> {
        let bound = self.bound.get(self.binding_of_line(&media.mid)?)?;
        let flows = match bound.binding.wish {
            Wish::Receive(_) => media.direction.sends(),
            Wish::Send { .. } => media.direction.receives(),
        };
        bound.negotiated.as_ref().filter(|_| flows && !media.rejected).map(|n| (&bound.binding, n))
    }

    /// Old clients say "0" and "1" for their m-lines, whatever the browser called them and in whatever order they stand: a binding of
    /// such a mid for which the offer has no m-line of its kind takes the first free one that goes its way. A binding of any other mid is
    /// one whose m-line the client has not offered yet.
    fn find_stand_ins(&mut self, offer: &Offer) {
        let named = |mid: &Mid, kind: Kind| {
            offer.media.iter().any(|media| media.mid == *mid && media.kind == Some(kind))
        };
        let homeless: Vec<Mid> = self
            .bound
            .iter()
            .filter(|(mid, bound)| {
                bound.negotiated.is_none()
                    && OLD_MIDS.contains(&mid.as_str())
                    && !named(mid, bound.binding.kind)
                    && !self.stand_ins.values().any(|served| served == *mid)
            })
            .map(|(mid, _)| mid.clone())
            .collect();
        for mid in homeless {
            let Some(bound) = self.bound.get(&mid) else { continue };
            let own = |media: &OfferedMedia| {
                self.bound.get(&media.mid).is_some_and(|bound| media.kind == Some(bound.binding.kind))
            };
            let line = offer.media.iter().find(|media| {
                !own(media)
                    && !self.stand_ins.contains_key(&media.mid)
                    && media.kind == Some(bound.binding.kind)
                    && match bound.binding.wish {
                        Wish::Receive(_) => media.direction.sends(),
                        Wish::Send { .. } => media.direction.receives(),
                    }
            });
            if let Some(line) = line {
                self.stand_ins.insert(line.mid.clone(), mid);
            }
        }
    }
}

/// What the rest of the offer says of an m-line.
#[derive(Clone, Copy)]
struct Around {
    usable: bool,
    /// Both forms of header extensions may be used in turns.
    mixed: bool,
}

fn negotiate(
    binding: &Binding,
    media: &OfferedMedia,
    offer: Around,
    random: &mut impl FnMut() -> u32,
) -> Result<Negotiated, String> {
    let kind = binding.kind;
    if media.kind != Some(kind) {
        return Err(format!("m-line {} is not of kind {}", media.mid, kind.as_str()));
    }
    if !offer.usable {
        return Err(format!("m-line {} is rejected or not bundled", media.mid));
    }
    let title = match kind {
        Kind::Audio => "Audio",
        Kind::Video => "Video",
    };
    let (payload, format) = match &binding.wish {
        Wish::Receive(_) if !media.direction.sends() => {
            return Err(format!("m-line {} does not send", media.mid));
        }
        Wish::Send { .. } if !media.direction.receives() => {
            return Err(format!("m-line {} does not receive", media.mid));
        }
        Wish::Receive(accepted) => {
            choose_to_receive(media, accepted).ok_or_else(|| format!("{title} format unacceptable"))?
        }
        Wish::Send { formats, client_order } => choose_to_send(media, formats, *client_order)
            .ok_or_else(|| format!("No proper {} codec", kind.as_str()))?,
    };
    let sends = matches!(binding.wish, Wish::Send { .. });
    let layers = if sends { Vec::new() } else { layers(media, kind, payload.number) };
    let mut extensions = extensions(media, kind, offer.mixed);
    if sends {
        extensions.mid = None;
    } else {
        extensions.playout_delay = None;
    }
    // Retransmissions whose layer can't be told are of no use.
    let tells = layers.is_empty() || extensions.repaired_rid.is_some();
    let rtx = media
        .rtx_of(payload.number)
        .filter(|_| kind == Kind::Video && tells && payload.feedback.iter().any(|f| f == "nack"))
        .map(|rtx| (rtx.number, rtx.fmtp.clone()));
    let mut payload = payload.clone();
    payload.feedback.retain(|value| {
        matches!(value.as_str(), "nack" | "nack pli" | "ccm fir" | "transport-cc" | "goog-remb")
    });
    // A packet that is retransmitted as it was must be the same to the bit, or the SRTP key stream protects two texts; so a stream
    // whose retransmissions have no source of their own carries no transport-wide numbers.
    let resent_in_place = sends && rtx.is_none() && payload.feedback.iter().any(|f| f == "nack");
    if resent_in_place || !payload.feedback.iter().any(|f| f == "transport-cc") {
        extensions.transport_cc = None;
    }
    if resent_in_place {
        (extensions.dependency, extensions.playout_delay) = (None, None);
    }
    if extensions.transport_cc.is_none() {
        payload.feedback.retain(|value| value != "transport-cc");
    }
    // What clients can take in all is of use where they do not report on each packet. What this node can take it says to nobody:
    // publishers that do not know feedback on each packet go by the losses in its receiver reports.
    if !sends || extensions.transport_cc.is_some() {
        payload.feedback.retain(|value| value != "goog-remb");
    }
    // The same of redundancy: what is added to a packet depends on when it is sent.
    let red = media
        .red_of(&payload)
        .filter(|_| format.codec == Codec::Opus && !resent_in_place)
        .map(|red| (red.number, red.fmtp.clone()));
    // Layers have none.
    let repair = media
        .repair()
        .filter(|_| kind == Kind::Video && layers.is_empty() && (sends || media.repair_ssrc.is_some()))
        .cloned();
    let mut random_if = |wanted: bool| wanted.then(|| Ssrc(random()));
    let send = sends.then(|| SendStream {
        ssrc: random_if(true).unwrap_or(Ssrc(0)),
        rtx_ssrc: random_if(rtx.is_some()),
        repair_ssrc: random_if(repair.is_some()),
    });
    Ok(Negotiated { format, payload, rtx, red, repair, extensions, layers, send })
}

/// The layers to receive: what the client offers, up to [`MAX_LAYERS`], if its packets tell which layer they are of.
fn layers(media: &OfferedMedia, kind: Kind, payload: u8) -> Vec<Rid> {
    if kind != Kind::Video || media.extension(URI_RID).is_none() {
        return Vec::new();
    }
    let fitting = media.layers.iter().filter(|layer| layer.may_have(payload));
    fitting.take(MAX_LAYERS).map(|layer| layer.rid.clone()).collect()
}

/// Those of an m-line that this node writes or reads.
fn extensions(media: &OfferedMedia, kind: Kind, mixed: bool) -> Extensions {
    Extensions {
        mid: media.extension(URI_MID),
        rid: media.extension(URI_RID),
        repaired_rid: media.extension(URI_REPAIRED_RID),
        audio_level: media.extension(URI_AUDIO_LEVEL).filter(|_| kind == Kind::Audio),
        transport_cc: media.extension(URI_TRANSPORT_CC),
        // Structures take the two-byte form, in between the others (RFC 8285 §4.1.2).
        dependency: media.extension(URI_DEPENDENCY).filter(|_| kind == Kind::Video && mixed),
        playout_delay: media.extension(URI_PLAYOUT_DELAY).filter(|_| kind == Kind::Video),
    }
}
