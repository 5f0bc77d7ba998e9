//! Session descriptions: a browser's offers and answers, shortened to what matters, and what of a server's is needed.

use std::{fmt::Write as _, net::SocketAddr};

use super::ice::Credentials;
use crate::recording::Codec;

/// Writes into a string, which can't fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = write!($out, $($arg)*);
        $out.push_str("\r\n");
    }};
}

const URI_AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const URI_TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const URI_MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const URI_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const URI_REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";

/// Ids of header extensions in offers, as Chromium numbers them.
const OFFERED: Extensions = Extensions {
    audio_level: Some(1),
    transport_cc: Some(3),
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
};

/// Ids of header extensions; `None`: not agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) audio_level: Option<u8>,
    pub(super) transport_cc: Option<u8>,
    pub(super) mid: Option<u8>,
    pub(super) rid: Option<u8>,
    pub(super) repaired_rid: Option<u8>,
}

/// Where media flows on an m-line, seen from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Send,
    Receive,
    Inactive,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Send => "sendonly",
            Self::Receive => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// An m-line of the peer's own description.
#[derive(Clone, Debug)]
pub(super) struct Own<'l> {
    pub(super) mid: &'l str,
    pub(super) codec: Codec,
    pub(super) direction: Direction,
    /// Sources that are sent with, if they are announced: simulcast is not.
    pub(super) ssrcs: &'l [(u32, u32)],
    pub(super) rids: &'l [String],
}

/// What all m-lines share.
pub(super) struct Transport<'t> {
    pub(super) credentials: &'t Credentials,
    pub(super) fingerprint: &'t str,
    pub(super) version: u32,
}

/// Payload type, name with clock rate, and that of retransmissions.
fn payload(codec: Codec) -> (u8, &'static str, Option<u8>) {
    match codec {
        Codec::Vp8 => (96, "VP8/90000", Some(97)),
        Codec::H264 => (102, "H264/90000", Some(103)),
        Codec::Opus => (111, "opus/48000/2", None),
    }
}

fn head(out: &mut String, transport: &Transport<'_>, mids: &[&str]) {
    line!(out, "v=0");
    line!(out, "o=- 5498186869896684180 {} IN IP4 127.0.0.1", transport.version);
    line!(out, "s=-");
    line!(out, "t=0 0");
    line!(out, "a=group:BUNDLE {}", mids.join(" "));
    line!(out, "a=extmap-allow-mixed");
    line!(out, "a=msid-semantic: WMS stream");
}

fn connection(out: &mut String, transport: &Transport<'_>, setup: &str) {
    line!(out, "c=IN IP4 0.0.0.0");
    line!(out, "a=rtcp:9 IN IP4 0.0.0.0");
    line!(out, "a=ice-ufrag:{}", transport.credentials.ufrag);
    line!(out, "a=ice-pwd:{}", transport.credentials.password);
    line!(out, "a=ice-options:trickle");
    line!(out, "a=fingerprint:{}", transport.fingerprint);
    line!(out, "a=setup:{setup}");
}

fn extensions(out: &mut String, ids: &Extensions, codec: Codec) {
    let audio = codec.is_audio();
    let all = [
        (ids.audio_level.filter(|_| audio), URI_AUDIO_LEVEL),
        (ids.transport_cc, URI_TRANSPORT_CC),
        (ids.mid, URI_MID),
        (ids.rid.filter(|_| !audio), URI_RID),
        (ids.repaired_rid.filter(|_| !audio), URI_REPAIRED_RID),
    ];
    for (id, uri) in all {
        if let Some(id) = id {
            line!(out, "a=extmap:{id} {uri}");
        }
    }
}

fn formats(out: &mut String, codec: Codec, number: u8, name: &str, rtx: Option<u8>) {
    line!(out, "a=rtpmap:{number} {name}");
    let feedback: &[&str] =
        if codec.is_audio() { &["transport-cc"] } else { &["transport-cc", "ccm fir", "nack", "nack pli"] };
    for kind in feedback {
        line!(out, "a=rtcp-fb:{number} {kind}");
    }
    match codec {
        Codec::Opus => line!(out, "a=fmtp:{number} minptime=10;useinbandfec=1"),
        Codec::H264 => line!(
            out,
            "a=fmtp:{number} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
        ),
        Codec::Vp8 => {}
    }
    if let Some(rtx) = rtx {
        line!(out, "a=rtpmap:{rtx} rtx/90000");
        line!(out, "a=fmtp:{rtx} apt={number}");
    }
}

fn kind(codec: Codec) -> &'static str {
    if codec.is_audio() { "audio" } else { "video" }
}

/// An offer.
pub(super) fn offer(transport: &Transport<'_>, lines: &[Own<'_>]) -> String {
    let mut out = String::with_capacity(512 + 900 * lines.len());
    let mids: Vec<_> = lines.iter().map(|line| line.mid).collect();
    head(&mut out, transport, &mids);
    for own in lines {
        let (number, name, rtx) = payload(own.codec);
        let types = rtx.map_or_else(|| number.to_string(), |rtx| format!("{number} {rtx}"));
        line!(out, "m={} 9 UDP/TLS/RTP/SAVPF {types}", kind(own.codec));
        connection(&mut out, transport, "actpass");
        line!(out, "a=mid:{}", own.mid);
        extensions(&mut out, &OFFERED, own.codec);
        line!(out, "a={}", own.direction.as_str());
        if own.direction == Direction::Send {
            line!(out, "a=msid:stream track-{}", own.mid);
        }
        line!(out, "a=rtcp-mux");
        line!(out, "a=rtcp-rsize");
        formats(&mut out, own.codec, number, name, rtx);
        for rid in own.rids {
            line!(out, "a=rid:{rid} send");
        }
        if !own.rids.is_empty() {
            line!(out, "a=simulcast:send {}", own.rids.join(";"));
        } else if let (Direction::Send, Some((ssrc, again))) = (own.direction, own.ssrcs.first()) {
            if rtx.is_some() {
                line!(out, "a=ssrc-group:FID {ssrc} {again}");
            }
            for ssrc in [Some(ssrc), rtx.map(|_| again)].into_iter().flatten() {
                line!(out, "a=ssrc:{ssrc} cname:kaigi");
                line!(out, "a=ssrc:{ssrc} msid:stream track-{}", own.mid);
            }
        }
    }
    out
}

/// An answer to an offer whose lines are all to be received.
pub(super) fn answer(transport: &Transport<'_>, offered: &Description, lines: &[Own<'_>]) -> String {
    let mut out = String::with_capacity(512 + 900 * lines.len());
    let mids: Vec<_> = lines.iter().map(|line| line.mid).collect();
    head(&mut out, transport, &mids);
    for (own, theirs) in lines.iter().zip(&offered.lines) {
        let (_, name, _) = payload(own.codec);
        let (number, rtx) = theirs.formats(own.codec).unwrap_or((0, None));
        let types = rtx.map_or_else(|| number.to_string(), |rtx| format!("{number} {rtx}"));
        line!(out, "m={} 9 UDP/TLS/RTP/SAVPF {types}", kind(own.codec));
        connection(&mut out, transport, "active");
        line!(out, "a=mid:{}", own.mid);
        extensions(&mut out, &theirs.extensions, own.codec);
        line!(out, "a={}", own.direction.as_str());
        line!(out, "a=rtcp-mux");
        line!(out, "a=rtcp-rsize");
        formats(&mut out, own.codec, number, name, rtx);
    }
    out
}

/// An m-line of the server's description.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) mid: String,
    /// Seen from the peer.
    pub(super) flows: bool,
    types: Vec<(u8, String)>,
    /// Retransmission type, and of what.
    apt: Vec<(u8, u8)>,
    pub(super) extensions: Extensions,
    /// In the order in which they are named; with retransmissions the second is theirs.
    pub(super) ssrcs: Vec<u32>,
}

impl Line {
    /// Payload types of a codec, and of its retransmissions; `None` if it was not agreed on.
    pub(super) fn formats(&self, codec: Codec) -> Option<(u8, Option<u8>)> {
        let (_, name, _) = payload(codec);
        let name = name.split('/').next().unwrap_or_default();
        let (number, _) = self.types.iter().find(|(_, other)| other.eq_ignore_ascii_case(name))?;
        let rtx = self.apt.iter().find(|(_, of)| of == number).map(|(rtx, _)| *rtx);
        Some((*number, rtx))
    }
}

/// What is needed of a server's description.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) credentials: Credentials,
    /// "sha-256 AB:CD:…".
    pub(super) fingerprint: String,
    /// It begins the DTLS handshake.
    pub(super) begins: bool,
    /// By UDP, in its order.
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) lines: Vec<Line>,
}

impl Description {
    /// Reads an offer or answer; `None` if it lacks what all have.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut ufrag, mut password, mut fingerprint) = (None, None, None);
        let mut candidates = Vec::new();
        let mut begins = false;
        let mut lines: Vec<Line> = Vec::new();
        for line in text.lines() {
            if line.starts_with("m=") {
                let refused = line.split(' ').nth(1) == Some("0");
                lines.push(Line { flows: !refused, ..Line::default() });
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => _ = ufrag.get_or_insert(value),
                "ice-pwd" => _ = password.get_or_insert(value),
                "fingerprint" => _ = fingerprint.get_or_insert(value),
                "setup" => begins = value == "active",
                "candidate" => {
                    if let Some(address) = candidate(value).filter(|address| !candidates.contains(address)) {
                        candidates.push(address);
                    }
                }
                _ => {
                    if let Some(last) = lines.last_mut() {
                        attribute_of(last, name, value);
                    }
                }
            }
        }
        Some(Self {
            credentials: Credentials { ufrag: ufrag?.to_owned(), password: password?.to_owned() },
            fingerprint: fingerprint?.to_owned(),
            begins,
            candidates,
            lines,
        })
    }
}

/// foundation component transport priority address port "typ" …
fn candidate(value: &str) -> Option<SocketAddr> {
    let fields: Vec<_> = value.split(' ').collect();
    let is_udp = fields.get(2)?.eq_ignore_ascii_case("udp") && *fields.get(1)? == "1";
    is_udp.then_some(())?;
    Some(SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?))
}

fn attribute_of(line: &mut Line, name: &str, value: &str) {
    let first = value.split(' ').next().unwrap_or_default();
    match name {
        "mid" => line.mid = value.to_owned(),
        "inactive" => line.flows = false,
        "rtpmap" => {
            let codec = value.split(' ').nth(1).and_then(|codec| codec.split('/').next());
            if let (Ok(number), Some(codec)) = (first.parse(), codec) {
                line.types.push((number, codec.to_owned()));
            }
        }
        "fmtp" => {
            let apt = value.split_once("apt=").map(|(_, apt)| apt.trim());
            if let (Ok(number), Some(Ok(of))) = (first.parse(), apt.map(str::parse)) {
                line.apt.push((number, of));
            }
        }
        "extmap" => {
            let id = first.split('/').next().and_then(|id| id.parse().ok());
            let uri = value.split(' ').nth(1).unwrap_or_default();
            let ids = &mut line.extensions;
            match uri {
                URI_AUDIO_LEVEL => ids.audio_level = id,
                URI_TRANSPORT_CC => ids.transport_cc = id,
                URI_MID => ids.mid = id,
                URI_RID => ids.rid = id,
                URI_REPAIRED_RID => ids.repaired_rid = id,
                _ => {}
            }
        }
        "ssrc-group" => {
            let mut ssrcs = value.strip_prefix("FID ").unwrap_or_default().split(' ');
            line.ssrcs.extend(ssrcs.by_ref().map_while(|ssrc| ssrc.parse::<u32>().ok()));
        }
        "ssrc" => {
            if let Ok(ssrc) = first.parse()
                && !line.ssrcs.contains(&ssrc)
            {
                line.ssrcs.push(ssrc);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use kaigi_access_node::sdp::Offer;

    use super::*;

    fn transport(credentials: &Credentials) -> Transport<'_> {
        let fingerprint = "sha-256 AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99";
        Transport { credentials, fingerprint, version: 2 }
    }

    #[test]
    fn offers_are_what_the_access_node_reads() {
        let credentials = Credentials { ufrag: "abcd".into(), password: "0123456789012345678901".into() };
        let rids = ["q", "h", "f"].map(str::to_owned);
        let own = |mid, codec, direction, rids| Own { mid, codec, direction, ssrcs: &[(7, 8)], rids };
        let lines = [
            own("0", Codec::Opus, Direction::Send, &[][..]),
            own("1", Codec::Vp8, Direction::Send, &rids),
            own("2", Codec::H264, Direction::Receive, &[]),
        ];
        let text = offer(&transport(&credentials), &lines);
        Offer::parse(&text).unwrap();
        assert!(text.contains("a=simulcast:send q;h;f\r\n"));
        assert!(text.contains("a=ssrc:7 cname:kaigi\r\n"));
        let read = Description::parse(&text).unwrap();
        assert_eq!(read.credentials, credentials);
        assert_eq!(read.lines[1].formats(Codec::Vp8), Some((96, Some(97))));
        assert_eq!(read.lines[1].formats(Codec::H264), None);
        assert_eq!(read.lines[1].extensions, Extensions { audio_level: None, ..OFFERED });
        assert_eq!(read.lines[0].ssrcs, [7]);
    }

    #[test]
    fn answers_are_read() {
        let text = "v=0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 AA\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n\
            a=candidate:1 1 udp 2130706431 192.0.2.9 10000 typ host\r\na=candidate:1 1 tcp 1 192.0.2.9 10000 typ host tcptype passive\r\n\
            a=mid:x\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc-group:FID 5 6\r\n\
            a=ssrc:5 cname:c\r\na=ssrc:6 cname:c\r\nm=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:y\r\n";
        let read = Description::parse(text).unwrap();
        assert_eq!(read.candidates, ["192.0.2.9:10000".parse::<SocketAddr>().unwrap()]);
        assert_eq!((read.lines[0].mid.as_str(), &read.lines[0].ssrcs[..]), ("x", &[5, 6][..]));
        assert!(read.lines[0].flows && !read.lines[1].flows);
        assert!(Description::parse("v=0\r\n").is_none());
    }
}
