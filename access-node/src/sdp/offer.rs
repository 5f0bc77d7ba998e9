//! An offer, read into what the answer needs of it.

use std::io::Cursor;

use rtc_sdp::description::{media::MediaDescription, session::SessionDescription};

use super::{
    Kind,
    simulcast::{self, OfferedLayer},
};
use crate::ids::{Mid, Ssrc};

/// Largest offer accepted, in bytes. A participant with 60 m-lines sends about 200 kB.
pub const MAX_SDP: usize = 512 * 1024;
/// Most m-lines of an offer. M-lines only grow over a browser's session; each subscription takes two.
pub const MAX_M_LINES: usize = 256;
/// Longest ICE user name fragment or password (RFC 8839 §5.4).
const MAX_CREDENTIAL: usize = 256;
/// Most payloads, extensions or SSRC lines that are read of one m-line; browsers offer about 40.
const MAX_PER_M_LINE: usize = 128;

/// Why a text can't be taken for an offer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SdpError {
    /// Larger than [`MAX_SDP`].
    #[error("offer is larger than {MAX_SDP} bytes")]
    TooLarge,
    /// More than [`MAX_M_LINES`].
    #[error("offer has more than {MAX_M_LINES} m-lines")]
    TooManyMLines,
    /// Not SDP.
    #[error("offer is no SDP: {0}")]
    Syntax(String),
    /// No m-line at all.
    #[error("offer has no m-line")]
    Empty,
    /// An m-line without, or with an unusable, mid, or two with the same.
    #[error("m-line {0} has no usable mid")]
    BadMid(usize),
    /// No certificate fingerprint that can be checked (sha-256, sha-384, sha-512).
    #[error("offer has no usable certificate fingerprint")]
    NoFingerprint,
}

/// Who may send, from the point of view of whoever wrote the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// Whether the writer sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// The hash of a certificate (RFC 8122 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// SHA-256.
    Sha256(Vec<u8>),
    /// SHA-384.
    Sha384(Vec<u8>),
    /// SHA-512.
    Sha512(Vec<u8>),
}

impl Fingerprint {
    fn parse(value: &str) -> Option<Self> {
        let (algorithm, hex) = value.trim().split_once(' ')?;
        let bytes: Vec<u8> = hex
            .trim()
            .split(':')
            .take(65)
            .map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect::<Option<_>>()?;
        match (algorithm.to_ascii_lowercase().as_str(), bytes.len()) {
            ("sha-256", 32) => Some(Self::Sha256(bytes)),
            ("sha-384", 48) => Some(Self::Sha384(bytes)),
            ("sha-512", 64) => Some(Self::Sha512(bytes)),
            _ => None,
        }
    }

    /// Whether it is that of a DER certificate.
    #[must_use]
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        use sha2::{Digest, Sha256, Sha384, Sha512};
        match self {
            Self::Sha256(hash) => Sha256::digest(certificate).as_slice() == hash,
            Self::Sha384(hash) => Sha384::digest(certificate).as_slice() == hash,
            Self::Sha512(hash) => Sha512::digest(certificate).as_slice() == hash,
        }
    }
}

/// One payload type of an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// 0..127.
    pub number: u8,
    /// The encoding's name, as written.
    pub name: String,
    /// Hz.
    pub clock_rate: u32,
    /// 1 if not given.
    pub channels: u32,
    /// The fmtp line's parameters, as written; empty if there is none.
    pub fmtp: String,
    /// The rtcp-fb values.
    pub feedback: Vec<String>,
}

impl Payload {
    /// A parameter of the fmtp line.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A header extension that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) uri: String,
}

/// One m-line.
#[derive(Clone, Debug)]
pub(super) struct OfferedMedia {
    /// `None` for anything but audio and video.
    pub(super) kind: Option<Kind>,
    /// The first word of the line.
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) formats: Vec<String>,
    pub(super) rejected: bool,
    pub(super) mid: Mid,
    pub(super) direction: Direction,
    /// In the client's order.
    pub(super) payloads: Vec<Payload>,
    pub(super) extensions: Vec<OfferedExtension>,
    /// Simulcast, by rid.
    pub(super) layers: Vec<OfferedLayer>,
    pub(super) reduced_size_rtcp: bool,
    /// What the client sends with, if it says so: the first source and its retransmissions.
    pub(super) ssrc: Option<Ssrc>,
    pub(super) rtx_ssrc: Option<Ssrc>,
    /// The source of repair packets of the first.
    pub(super) repair_ssrc: Option<Ssrc>,
}

impl OfferedMedia {
    /// The id of a header extension, if it has one that this node can write and read: the one-byte form (RFC 8285 §4.2) has 1 to 14.
    pub(super) fn extension(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|e| e.uri == uri && (1..=14).contains(&e.id)).map(|e| e.id)
    }

    /// The retransmission payload type of a payload (RFC 4588 §8.6).
    pub(super) fn rtx_of(&self, payload: u8) -> Option<&Payload> {
        self.payloads.iter().find(|p| {
            p.name.eq_ignore_ascii_case("rtx")
                && p.parameter("apt").and_then(|apt| apt.trim().parse().ok()) == Some(payload)
        })
    }
}

impl OfferedMedia {
    /// The payload of repair packets (FlexFEC as browsers have it).
    pub(super) fn repair(&self) -> Option<&Payload> {
        let is_repair = |p: &&Payload| p.name.eq_ignore_ascii_case("flexfec-03") && p.clock_rate == 90_000;
        self.payloads.iter().find(is_repair)
    }

    /// The payload type of packets with redundancy of a payload, and of no other (RFC 2198 §5).
    pub(super) fn red_of(&self, payload: &Payload) -> Option<&Payload> {
        self.payloads.iter().find(|red| {
            let mut blocks = red.fmtp.split('/').map(|block| block.trim().parse());
            red.name.eq_ignore_ascii_case("red")
                && (red.clock_rate, red.channels) == (payload.clock_rate, payload.channels)
                && blocks.all(|block| block == Ok(payload.number))
        })
    }
}

/// What the offerer wants to be in the DTLS handshake (RFC 5763 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    ActPass,
    Active,
    Passive,
}

/// A client's ICE user name fragment and password. They are compared only: the password is needed by whoever sends checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCredentials {
    ufrag: String,
    password: String,
}

/// An offer.
#[derive(Clone, Debug)]
pub struct Offer {
    pub(super) media: Vec<OfferedMedia>,
    /// The mids of the first BUNDLE group.
    pub(super) bundle: Vec<String>,
    pub(super) setup: Setup,
    pub(super) extmap_allow_mixed: bool,
    fingerprint: Fingerprint,
    ice: Option<RemoteCredentials>,
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// If it is too large, no SDP, or misses what every WebRTC offer has.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        if text.len() > MAX_SDP {
            return Err(SdpError::TooLarge);
        }
        let description = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|error| SdpError::Syntax(error.to_string()))?;
        if description.media_descriptions.is_empty() {
            return Err(SdpError::Empty);
        }
        if description.media_descriptions.len() > MAX_M_LINES {
            return Err(SdpError::TooManyMLines);
        }
        let session = |key: &str| {
            description.attributes.iter().find(|a| a.key == key).map(|a| a.value.as_deref().unwrap_or(""))
        };
        let default = session_direction(&description);
        let mut media: Vec<OfferedMedia> = Vec::with_capacity(description.media_descriptions.len());
        for (index, line) in description.media_descriptions.iter().enumerate() {
            let line = parse_media(line, default).ok_or(SdpError::BadMid(index))?;
            if media.iter().any(|other| other.mid == line.mid) {
                return Err(SdpError::BadMid(index));
            }
            media.push(line);
        }
        let lines = || description.media_descriptions.iter();
        let fingerprint = lines()
            .flat_map(|line| line.attributes.iter())
            .chain(description.attributes.iter())
            .filter(|a| a.key == "fingerprint")
            .find_map(|a| Fingerprint::parse(a.value.as_deref()?))
            .ok_or(SdpError::NoFingerprint)?;
        let setup = lines().find_map(|line| line.attribute("setup").flatten()).or_else(|| session("setup"));
        let bundle: Vec<String> = description
            .attributes
            .iter()
            .filter(|a| a.key == "group")
            .find_map(|a| a.value.as_deref()?.strip_prefix("BUNDLE"))
            .map(|mids| mids.split_whitespace().take(MAX_M_LINES).map(str::to_owned).collect())
            .unwrap_or_default();
        let ice = credentials(&description, &bundle);
        Ok(Self {
            media,
            bundle,
            setup: match setup.map(str::trim) {
                Some("active") => Setup::Active,
                Some("passive") => Setup::Passive,
                _ => Setup::ActPass,
            },
            extmap_allow_mixed: session("extmap-allow-mixed").is_some(),
            fingerprint,
            ice,
        })
    }

    /// The client's ICE credentials: those of the m-line whose transport all share.
    #[must_use]
    pub fn ice_credentials(&self) -> Option<&RemoteCredentials> {
        self.ice.as_ref()
    }

    /// The client's certificate.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// All m-lines share one transport, so each must be in the BUNDLE group; the first of an offer without a group is alone with it.
    pub(super) fn is_bundled(&self, index: usize) -> bool {
        let Some(media) = self.media.get(index) else { return false };
        if self.bundle.is_empty() {
            index == 0
        } else {
            self.bundle.iter().any(|mid| mid == media.mid.as_str())
        }
    }

    /// The m-line of data channels (RFC 8841 §4), if there is one that can be used. There is one at most (RFC 8831 §6.1).
    pub(super) fn data_line(&self) -> Option<usize> {
        let is_data = |media: &OfferedMedia| {
            media.media == "application"
                && matches!(media.protocol.as_str(), "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP")
                && media.formats == ["webrtc-datachannel"]
        };
        let mut lines = self.media.iter().enumerate();
        lines
            .find(|(index, media)| is_data(media) && !media.rejected && self.is_bundled(*index))
            .map(|(index, _)| index)
    }

    /// How many m-lines there are.
    #[must_use]
    pub fn m_lines(&self) -> usize {
        self.media.len()
    }
}

/// The credentials of the first m-line that is bundled and not rejected; what an m-line does not say the session says (RFC 8839 §5.4).
fn credentials(description: &SessionDescription, bundle: &[String]) -> Option<RemoteCredentials> {
    let bundled = |line: &&MediaDescription| {
        let mid = line.attribute("mid").flatten().unwrap_or_default().trim();
        let rejected = line.media_name.port.value == 0 && !line.has_attribute("bundle-only");
        !rejected && (bundle.is_empty() || bundle.iter().any(|other| other == mid))
    };
    let line = description.media_descriptions.iter().find(bundled)?;
    let said = |key: &str| {
        let session = || description.attributes.iter().find(|a| a.key == key)?.value.as_deref();
        let value = line.attribute(key).flatten().or_else(session)?.trim();
        (value.len() <= MAX_CREDENTIAL).then(|| value.to_owned())
    };
    Some(RemoteCredentials { ufrag: said("ice-ufrag")?, password: said("ice-pwd")? })
}

fn session_direction(description: &SessionDescription) -> Direction {
    description.attributes.iter().find_map(|a| direction(&a.key)).unwrap_or(Direction::SendRecv)
}

fn direction(key: &str) -> Option<Direction> {
    [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        .into_iter()
        .find(|d| d.as_str() == key)
}

fn parse_media(line: &MediaDescription, default: Direction) -> Option<OfferedMedia> {
    let mid = Mid::new(line.attribute("mid").flatten()?.trim())?;
    let values = |key: &'static str| {
        line.attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref())
    };
    let kind = match line.media_name.media.as_str() {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    };
    let mut payloads: Vec<Payload> = if kind.is_some() {
        line.media_name
            .formats
            .iter()
            .take(MAX_PER_M_LINE)
            .filter_map(|number| static_payload(number.parse().ok().filter(|n| *n < 128)?))
            .collect()
    } else {
        Vec::new()
    };
    for value in values("rtpmap").take(MAX_PER_M_LINE) {
        let Some((number, encoding)) = split_payload(value) else { continue };
        let Some(payload) = payloads.iter_mut().find(|p| p.number == number) else { continue };
        let mut parts = encoding.split('/');
        payload.name = parts.next().unwrap_or_default().trim().to_owned();
        payload.clock_rate = parts.next().and_then(|rate| rate.trim().parse().ok()).unwrap_or(0);
        payload.channels = parts.next().and_then(|channels| channels.trim().parse().ok()).unwrap_or(1);
    }
    for value in values("fmtp").take(MAX_PER_M_LINE) {
        let Some((number, parameters)) = split_payload(value) else { continue };
        if let Some(payload) = payloads.iter_mut().find(|p| p.number == number) {
            payload.fmtp = parameters.to_owned();
        }
    }
    for value in values("rtcp-fb").take(4 * MAX_PER_M_LINE) {
        let (payload, feedback) = value.split_once(' ').unwrap_or((value, ""));
        for p in payloads.iter_mut().filter(|p| payload == "*" || payload.parse() == Ok(p.number)) {
            if p.feedback.len() < 16 {
                p.feedback.push(feedback.trim().to_owned());
            }
        }
    }
    payloads.retain(|p| !p.name.is_empty());
    let extensions = values("extmap").take(MAX_PER_M_LINE).filter_map(|value| {
        let (id, rest) = value.split_once(' ')?;
        let id = id.split('/').next()?.parse().ok()?;
        Some(OfferedExtension { id, uri: rest.split_whitespace().next()?.to_owned() })
    });
    let (ssrc, rtx_ssrc, repair_ssrc) = sources(values("ssrc").take(MAX_PER_M_LINE), values("ssrc-group"));
    Some(OfferedMedia {
        kind,
        media: line.media_name.media.clone(),
        protocol: line.media_name.protos.join("/"),
        formats: line.media_name.formats.iter().take(MAX_PER_M_LINE).cloned().collect(),
        rejected: line.media_name.port.value == 0 && !line.has_attribute("bundle-only"),
        mid,
        direction: line.attributes.iter().find_map(|a| direction(&a.key)).unwrap_or(default),
        extensions: extensions.collect(),
        layers: simulcast::offered(values("simulcast").next(), values("rid")),
        reduced_size_rtcp: line.has_attribute("rtcp-rsize"),
        payloads,
        ssrc,
        rtx_ssrc,
        repair_ssrc,
    })
}

/// "<payload type> <rest>"
fn split_payload(value: &str) -> Option<(u8, &str)> {
    let (number, rest) = value.trim().split_once(' ')?;
    Some((number.parse().ok()?, rest.trim()))
}

/// A payload type with the meaning that it has without an rtpmap (RFC 3551 §6).
fn static_payload(number: u8) -> Option<Payload> {
    let name = match number {
        0 => "PCMU",
        8 => "PCMA",
        9 => "G722",
        _ => "",
    };
    Some(Payload {
        number,
        name: name.to_owned(),
        clock_rate: 8_000,
        channels: 1,
        fmtp: String::new(),
        feedback: Vec::new(),
    })
}

/// The first source of an m-line and the sources of its retransmissions and repair packets. In a simulcast group of sources ("SIM", not answered) the
/// first source is the smallest layer.
fn sources<'v>(
    lines: impl Iterator<Item = &'v str>,
    groups: impl Iterator<Item = &'v str>,
) -> (Option<Ssrc>, Option<Ssrc>, Option<Ssrc>) {
    let number = |word: Option<&str>| word?.parse().ok().map(Ssrc);
    let pairs: Vec<_> = groups
        .take(MAX_PER_M_LINE)
        .filter_map(|group| {
            let mut words = group.split_whitespace();
            let repairs = match words.next()? {
                "FID" => false,
                "FEC-FR" => true,
                _ => return None,
            };
            Some((repairs, number(words.next())?, number(words.next())?))
        })
        .collect();
    let first = lines
        .filter_map(|line| number(line.split_whitespace().next()))
        .find(|ssrc| !pairs.iter().any(|(_, _, second)| second == ssrc));
    let of_first = |repairs: bool| {
        let pair = pairs.iter().find(|pair| (pair.0, Some(pair.1)) == (repairs, first));
        pair.map(|(_, _, second)| *second)
    };
    (first, of_first(false), of_first(true))
}
