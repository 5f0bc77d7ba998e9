//! The text of an answer.

use std::fmt::Write as _;

use super::{
    Kind,
    agreement::{
        Binding, DtlsRole, LocalDescription, Negotiated, URI_AUDIO_LEVEL, URI_DEPENDENCY, URI_MID,
        URI_PLAYOUT_DELAY, URI_REPAIRED_RID, URI_RID, URI_TRANSPORT_CC,
    },
    offer::{Direction, Offer, OfferedMedia},
    simulcast::MAX_LAYERS,
};
use crate::{ids::Rid, sctp::MAX_MESSAGE};

/// Writes into a string, which can't fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = write!($out, $($arg)*);
        $out.push_str("\r\n");
    }};
}

/// The answer to `offer`; `active` says for which m-lines there is an agreement by which something flows.
pub(super) fn write<'n>(
    local: &LocalDescription,
    offer: &Offer,
    role: DtlsRole,
    version: u64,
    active: impl Fn(&OfferedMedia) -> Option<(&'n Binding, &'n Negotiated)>,
) -> String {
    let mut out = String::with_capacity(2048);
    line!(out, "v=0");
    line!(out, "o=- {} {version} IN IP4 127.0.0.1", local.session_id);
    line!(out, "s=-");
    line!(out, "t=0 0");
    let data = offer.data_line();
    let taken = |index: usize, media: &OfferedMedia| {
        (media.kind.is_some() || Some(index) == data) && !media.rejected && offer.is_bundled(index)
    };
    if !offer.bundle.is_empty() {
        out.push_str("a=group:BUNDLE");
        for (_, media) in offer.media.iter().enumerate().filter(|(index, media)| taken(*index, media)) {
            let _ = write!(out, " {}", media.mid);
        }
        out.push_str("\r\n");
    }
    if offer.extmap_allow_mixed {
        line!(out, "a=extmap-allow-mixed");
    }
    line!(out, "a=ice-lite");
    line!(out, "a=msid-semantic: WMS *");
    for (index, media) in offer.media.iter().enumerate() {
        if !taken(index, media) {
            rejected(&mut out, media);
            continue;
        }
        if Some(index) == data {
            data_channels(&mut out, local, media, role);
            continue;
        }
        match active(media) {
            Some((binding, negotiated)) => {
                formats(&mut out, media, negotiated);
                transport(&mut out, local, media, role);
                flowing(&mut out, local, media, binding, negotiated);
            }
            None => {
                inactive_formats(&mut out, media);
                transport(&mut out, local, media, role);
                inactive_layers(&mut out, media);
                line!(out, "a={}", Direction::Inactive.as_str());
                if let Some(payload) = media.payloads.first() {
                    rtpmap(&mut out, payload.number, &payload.name, payload.clock_rate, payload.channels);
                }
            }
        }
    }
    out
}

/// An m-line that is refused for good: port 0 (RFC 3264 §6).
fn rejected(out: &mut String, media: &OfferedMedia) {
    let formats = if media.formats.is_empty() { "0".to_owned() } else { media.formats.join(" ") };
    line!(out, "m={} 0 {} {formats}", media.media, media.protocol);
    line!(out, "c=IN IP4 0.0.0.0");
    line!(out, "a=mid:{}", media.mid);
    line!(out, "a=inactive");
}

fn formats(out: &mut String, media: &OfferedMedia, negotiated: &Negotiated) {
    let _ = write!(out, "m={} 9 {}", media.media, media.protocol);
    let red = negotiated.red.as_ref().map(|(red, _)| *red);
    let payload = negotiated.payload.number;
    // Chromium sends with redundancy if that stands first.
    let numbers = if negotiated.send.is_some() { [Some(payload), red] } else { [red, Some(payload)] };
    for number in numbers.into_iter().flatten() {
        let _ = write!(out, " {number}");
    }
    if let Some((rtx, _)) = &negotiated.rtx {
        let _ = write!(out, " {rtx}");
    }
    if let Some(repair) = &negotiated.repair {
        let _ = write!(out, " {}", repair.number);
    }
    out.push_str("\r\n");
}

/// An m-line needs a format even if nothing flows; the client's first one offends nobody.
fn inactive_formats(out: &mut String, media: &OfferedMedia) {
    let first = media.payloads.first().map(|p| p.number.to_string());
    let format = first.as_ref().or(media.formats.first()).map_or("0", String::as_str);
    line!(out, "m={} 9 {} {format}", media.media, media.protocol);
}

/// The m-line of data channels (RFC 8841 §10.3). It is agreed to whether or not there is anything to send: channels are opened on it
/// without another offer.
fn data_channels(out: &mut String, local: &LocalDescription, media: &OfferedMedia, role: DtlsRole) {
    line!(out, "m={} 9 {} {}", media.media, media.protocol, media.formats.join(" "));
    line!(out, "c=IN IP4 0.0.0.0");
    connection(out, local, role);
    line!(out, "a=mid:{}", media.mid);
    line!(out, "a=sctp-port:5000");
    line!(out, "a=max-message-size:{MAX_MESSAGE}");
}

/// What every m-line says of the transport that all share.
fn transport(out: &mut String, local: &LocalDescription, media: &OfferedMedia, role: DtlsRole) {
    line!(out, "c=IN IP4 0.0.0.0");
    line!(out, "a=rtcp:9 IN IP4 0.0.0.0");
    connection(out, local, role);
    line!(out, "a=mid:{}", media.mid);
    line!(out, "a=rtcp-mux");
    if media.reduced_size_rtcp {
        line!(out, "a=rtcp-rsize");
    }
}

/// How the node is reached, and who begins.
fn connection(out: &mut String, local: &LocalDescription, role: DtlsRole) {
    for candidate in &local.candidates {
        line!(out, "a=candidate:{candidate}");
    }
    line!(out, "a=end-of-candidates");
    line!(out, "a=ice-ufrag:{}", local.ufrag);
    line!(out, "a=ice-pwd:{}", local.password);
    line!(out, "a=fingerprint:{}", local.fingerprint);
    let setup = match role {
        DtlsRole::Client => "active",
        DtlsRole::Server => "passive",
    };
    line!(out, "a=setup:{setup}");
}

fn flowing(
    out: &mut String,
    local: &LocalDescription,
    media: &OfferedMedia,
    binding: &Binding,
    negotiated: &Negotiated,
) {
    let kept = |rid: &&Rid| media.layers.iter().any(|layer| layer.rid == **rid);
    let layers: Vec<&Rid> = negotiated.layers.iter().filter(kept).collect();
    let extensions = [
        (URI_AUDIO_LEVEL, negotiated.extensions.audio_level),
        (URI_TRANSPORT_CC, negotiated.extensions.transport_cc),
        (URI_MID, media.extension(URI_MID)),
        (URI_DEPENDENCY, negotiated.extensions.dependency),
    ];
    extmaps(out, extensions.into_iter().chain(kept_extensions(media)));
    let direction = if negotiated.send.is_some() { Direction::SendOnly } else { Direction::RecvOnly };
    line!(out, "a={}", direction.as_str());
    let payload = &negotiated.payload;
    rtpmap(out, payload.number, &payload.name, payload.clock_rate, payload.channels);
    for feedback in &payload.feedback {
        line!(out, "a=rtcp-fb:{} {feedback}", payload.number);
    }
    if !payload.fmtp.is_empty() {
        line!(out, "a=fmtp:{} {}", payload.number, payload.fmtp);
    }
    if let Some((red, fmtp)) = &negotiated.red {
        rtpmap(out, *red, "red", payload.clock_rate, payload.channels);
        line!(out, "a=fmtp:{red} {fmtp}");
    }
    if let Some((rtx, fmtp)) = &negotiated.rtx {
        rtpmap(out, *rtx, "rtx", payload.clock_rate, 1);
        line!(out, "a=fmtp:{rtx} {fmtp}");
    }
    if let Some(repair) = &negotiated.repair {
        rtpmap(out, repair.number, &repair.name, repair.clock_rate, 1);
        let is_offered = repair.feedback.iter().any(|value| value == "transport-cc");
        if is_offered && negotiated.extensions.transport_cc.is_some() {
            line!(out, "a=rtcp-fb:{} transport-cc", repair.number);
        }
        if !repair.fmtp.is_empty() {
            line!(out, "a=fmtp:{} {}", repair.number, repair.fmtp);
        }
    }
    simulcast(out, &layers);
    let Some(send) = &negotiated.send else { return };
    let stream = binding.session.as_str();
    let msid = format!("{stream} {stream}-{}", binding.kind.as_str());
    let name = local.session_id;
    line!(out, "a=msid:{msid}");
    if let Some(rtx) = send.rtx_ssrc {
        line!(out, "a=ssrc-group:FID {} {rtx}", send.ssrc);
    }
    if let Some(repair) = send.repair_ssrc {
        line!(out, "a=ssrc-group:FEC-FR {} {repair}", send.ssrc);
    }
    for ssrc in [Some(send.ssrc), send.rtx_ssrc, send.repair_ssrc].into_iter().flatten() {
        line!(out, "a=ssrc:{ssrc} cname:{name}");
        line!(out, "a=ssrc:{ssrc} msid:{msid}");
    }
}

/// The extensions that tell the layer, and how long pictures are to be kept, on every video m-line that offers them (as the one that tells
/// the m-line): a browser to which they were refused once does not offer them again on that connection, not even on a new m-line with
/// layers, and then takes its own offer for invalid, or sends packets that nobody can tell apart.
fn kept_extensions(media: &OfferedMedia) -> impl Iterator<Item = (&'static str, Option<u8>)> {
    let offered = |uri| (uri, media.extension(uri).filter(|_| media.kind == Some(Kind::Video)));
    [URI_RID, URI_REPAIRED_RID, URI_PLAYOUT_DELAY].map(offered).into_iter()
}

/// Layers of an m-line on which nothing flows, yet or any more. A browser goes on offering the layers of a sender that was stopped.
fn inactive_layers(out: &mut String, media: &OfferedMedia) {
    let dependency = media.extension(URI_DEPENDENCY).filter(|_| media.kind == Some(Kind::Video));
    let extensions = [(URI_MID, media.extension(URI_MID)), (URI_DEPENDENCY, dependency)];
    extmaps(out, extensions.into_iter().chain(kept_extensions(media)));
    if media.extension(URI_RID).is_some() && media.kind == Some(Kind::Video) {
        let layers: Vec<&Rid> = media.layers.iter().take(MAX_LAYERS).map(|layer| &layer.rid).collect();
        simulcast(out, &layers);
    }
}

fn extmaps(out: &mut String, extensions: impl Iterator<Item = (&'static str, Option<u8>)>) {
    for (uri, id) in extensions {
        if let Some(id) = id {
            line!(out, "a=extmap:{id} {uri}");
        }
    }
}

/// The layers that are received (RFC 8853 §5.3.2).
fn simulcast(out: &mut String, layers: &[&Rid]) {
    if layers.is_empty() {
        return;
    }
    for rid in layers {
        line!(out, "a=rid:{rid} recv");
    }
    let list: Vec<_> = layers.iter().map(|rid| rid.as_str()).collect();
    line!(out, "a=simulcast:recv {}", list.join(";"));
}

fn rtpmap(out: &mut String, number: u8, name: &str, clock_rate: u32, channels: u32) {
    if channels > 1 {
        line!(out, "a=rtpmap:{number} {name}/{clock_rate}/{channels}");
    } else {
        line!(out, "a=rtpmap:{number} {name}/{clock_rate}");
    }
}
