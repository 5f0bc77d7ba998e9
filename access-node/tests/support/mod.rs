//! A WebRTC client for tests, as a browser is seen from the network: it offers, checks connectivity, shakes hands and sends and
//! receives protected media. Without I/O, like the node.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod data;
pub mod narrow;
pub mod room;
pub mod world;

use std::{collections::HashMap, fmt::Write as _, net::SocketAddr, time::Instant};

use data::DataPeer;
use kaigi_access_node::{
    sdp::{DtlsRole, Fingerprint, Offer},
    transport::{Certificate, Dtls, DtlsError, Srtp},
};
use kaigi_media::rtp::{RtpHeader, is_rtcp};
use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter, TransactionId},
    textattrs::TextAttribute,
};

pub struct Raw(pub AttrType, pub Vec<u8>);
impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> rtc_shared::error::Result<()> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Send,
    Receive,
    Inactive,
}

/// One m-line of the client's offers.
#[derive(Clone, Debug)]
pub struct Line {
    pub kind: &'static str,
    pub way: Way,
    pub ssrc: u32,
    pub rtx: u32,
    /// Simulcast: rids of the layers. The sources of the n-th are those of the line plus ten times n.
    pub layers: Vec<&'static str>,
}

/// The client's half of an answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub text: String,
    pub ufrag: String,
    pub password: String,
    pub candidates: Vec<String>,
    /// Of each m-line.
    pub directions: Vec<String>,
    /// Sources that the node sends with, of each m-line: the stream and its retransmissions.
    pub ssrcs: Vec<Vec<u32>>,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let mut answer = Self { text: text.to_owned(), ..Self::default() };
        for line in text.lines() {
            if line.starts_with("m=") {
                answer.directions.push(String::new());
                answer.ssrcs.push(Vec::new());
            } else if let Some(ufrag) = line.strip_prefix("a=ice-ufrag:") {
                answer.ufrag = ufrag.to_owned();
            } else if let Some(password) = line.strip_prefix("a=ice-pwd:") {
                answer.password = password.to_owned();
            } else if let Some(candidate) = line.strip_prefix("a=candidate:") {
                answer.candidates.push(candidate.to_owned());
            } else if let Some(direction) =
                ["a=sendonly", "a=recvonly", "a=inactive"].into_iter().find(|d| *d == line)
            {
                *answer.directions.last_mut().unwrap() = direction[2..].to_owned();
            } else if let Some(ssrc) = line.strip_prefix("a=ssrc:") {
                let ssrc = ssrc.split(' ').next().unwrap().parse().unwrap();
                let ssrcs = answer.ssrcs.last_mut().unwrap();
                if !ssrcs.contains(&ssrc) {
                    ssrcs.push(ssrc);
                }
            }
        }
        answer
    }

    /// The fingerprint in it, read by the node's own reader.
    fn fingerprint(&self) -> Fingerprint {
        Offer::parse(&self.text).unwrap().fingerprint().clone()
    }
}

pub enum Received {
    Rtp(RtpHeader, Vec<u8>),
    Rtcp(Vec<u8>),
}

pub struct Client {
    pub certificate: Certificate,
    pub lines: Vec<Line>,
    pub answer: Answer,
    pub dtls: Option<Dtls>,
    /// From when it begins them.
    pub data: Option<DataPeer>,
    pub srtp: Option<Srtp>,
    pub outgoing: Vec<Vec<u8>>,
    pub received: Vec<Received>,
    /// The node has said farewell.
    pub is_closed: bool,
    /// Offers repair packets (FlexFEC) of pictures.
    pub repairs: bool,
    /// Offers no transport-wide feedback.
    pub without_transport_cc: bool,
    /// What stands before the number in the mids of the offers.
    pub mid_prefix: &'static str,
    /// Payload type of sound.
    pub sound: u8,
    /// Packets of media are not the last of their frame.
    pub frame_goes_on: bool,
    /// Packets of layers don't tell their m-line, as browsers leave it out whose mid was refused once.
    pub omits_mid: bool,
    /// The audio level that its packets have, as the extension has it.
    pub level: u8,
    /// Counts ICE restarts; the credentials have it in them.
    pub ice: u32,
    version: u32,
    transaction: u8,
    next: HashMap<u32, (u16, u32)>,
}

pub const OPUS: u8 = 111;
pub const RED: u8 = 63;
pub const VP8: u8 = 96;
pub const VP8_RTX: u8 = 97;
pub const FLEXFEC: u8 = 49;

impl Client {
    pub fn new() -> Self {
        Self {
            certificate: Certificate::generate().unwrap(),
            lines: Vec::new(),
            answer: Answer::default(),
            dtls: None,
            data: None,
            srtp: None,
            outgoing: Vec::new(),
            received: Vec::new(),
            is_closed: false,
            repairs: false,
            without_transport_cc: false,
            mid_prefix: "",
            sound: OPUS,
            frame_goes_on: false,
            omits_mid: false,
            level: 0x91,
            ice: 0,
            version: 1,
            transaction: 0,
            next: HashMap::new(),
        }
    }

    /// Adds an m-line; returns its mid.
    pub fn add(&mut self, kind: &'static str, way: Way) -> String {
        let base = 1000 * (self.lines.len() as u32 + 1);
        self.lines.push(Line { kind, way, ssrc: base, rtx: base + 1, layers: Vec::new() });
        (self.lines.len() - 1).to_string()
    }

    /// An offer as Chromium writes it, shortened to what matters.
    pub fn offer(&mut self) -> String {
        self.version += 1;
        let prefix = self.mid_prefix;
        let mids: Vec<_> = (0..self.lines.len()).map(|mid| format!("{prefix}{mid}")).collect();
        let mut sdp = format!(
            "v=0\r\no=- 5498186869896684180 {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS stream\r\n",
            self.version,
            mids.join(" ")
        );
        for (mid, line) in self.lines.iter().enumerate() {
            if line.kind == "application" {
                let _ = write!(
                    sdp,
                    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:EsAw\r\n\
                     a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=ice-options:trickle\r\na=fingerprint:{}\r\na=setup:actpass\r\n\
                     a=mid:{mid}\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n",
                    self.certificate.fingerprint()
                );
                continue;
            }
            let formats =
                if line.kind == "audio" { "111 63 9 0 8 13 110 126" } else { "96 97 102 103 98 99" };
            let repairs = self.repairs && line.kind == "video";
            let formats = if repairs { format!("{formats} {FLEXFEC}") } else { formats.to_owned() };
            let _ = write!(
                sdp,
                "m={} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
                 a=ice-ufrag:EsAw{ice}\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1{ice}\r\na=ice-options:trickle\r\n\
                 a=fingerprint:{}\r\na=setup:actpass\r\na=mid:{prefix}{mid}\r\n",
                line.kind,
                self.certificate.fingerprint(),
                ice = self.ice
            );
            sdp.push_str(if line.kind == "audio" {
                "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
                 a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
                 a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
                 a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
            } else {
                "a=extmap:14 urn:ietf:params:rtp-hdrext:toffset\r\n\
                 a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
                 a=extmap:13 urn:3gpp:video-orientation\r\n\
                 a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
                 a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
                 a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n\
                 a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension\r\n\
                 a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                 a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n"
            });
            sdp.push_str(match line.way {
                Way::Send => "a=sendonly\r\na=msid:stream track\r\n",
                Way::Receive => "a=recvonly\r\n",
                Way::Inactive => "a=inactive\r\n",
            });
            sdp.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
            sdp.push_str(if line.kind == "audio" {
                "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
                 a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
                 a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
                 a=rtpmap:126 telephone-event/8000\r\n"
            } else {
                "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 ccm fir\r\n\
                 a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
                 a=rtpmap:102 H264/90000\r\na=rtcp-fb:102 transport-cc\r\na=rtcp-fb:102 ccm fir\r\na=rtcp-fb:102 nack\r\n\
                 a=rtcp-fb:102 nack pli\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
                 a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rtpmap:98 VP9/90000\r\na=rtcp-fb:98 nack\r\n\
                 a=fmtp:98 profile-id=0\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n"
            });
            if repairs {
                sdp.push_str(
                    "a=rtpmap:49 flexfec-03/90000\r\na=rtcp-fb:49 transport-cc\r\na=fmtp:49 repair-window=10000000\r\n",
                );
            }
            for rid in &line.layers {
                let _ = write!(sdp, "a=rid:{rid} send\r\n");
            }
            if !line.layers.is_empty() {
                let _ = write!(sdp, "a=simulcast:send {}\r\n", line.layers.join(";"));
            } else if line.way == Way::Send {
                if repairs {
                    let source = line.ssrc + 2;
                    let _ = write!(
                        sdp,
                        "a=ssrc-group:FEC-FR {} {source}\r\na=ssrc:{source} cname:c\r\n",
                        line.ssrc
                    );
                }
                if line.kind == "video" {
                    let _ = write!(sdp, "a=ssrc-group:FID {} {}\r\n", line.ssrc, line.rtx);
                    let _ = write!(
                        sdp,
                        "a=ssrc:{} cname:c\r\na=ssrc:{} msid:stream track\r\n",
                        line.rtx, line.rtx
                    );
                }
                let _ =
                    write!(sdp, "a=ssrc:{} cname:c\r\na=ssrc:{} msid:stream track\r\n", line.ssrc, line.ssrc);
            }
        }
        if self.without_transport_cc {
            let without: Vec<_> = sdp.lines().filter(|line| !line.contains("transport")).collect();
            sdp = without.join("\r\n") + "\r\n";
        }
        sdp
    }

    /// Takes the answer; the first begins the handshake once a check was answered.
    pub fn take_answer(&mut self, text: &str) {
        self.answer = Answer::parse(text);
        assert_eq!(self.answer.directions.len(), self.lines.len(), "m-lines of the answer");
        if self.dtls.is_none() {
            let fingerprint = self.answer.fingerprint();
            self.dtls = Some(Dtls::new(self.certificate.clone(), DtlsRole::Client, fingerprint).unwrap());
        }
    }

    /// A connectivity check that nominates.
    pub fn check(&mut self) -> Vec<u8> {
        let answer = self.answer.clone();
        self.check_by(&answer, true)
    }

    /// A connectivity check by the credentials of an answer.
    pub fn check_by(&mut self, answer: &Answer, nominates: bool) -> Vec<u8> {
        self.transaction = self.transaction.wrapping_add(1);
        let provider = self.certificate.provider().clone();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId([self.transaction; 12])),
            Box::new(TextAttribute::new(ATTR_USERNAME, format!("{}:EsAw{}", answer.ufrag, self.ice))),
            Box::new(Raw(ATTR_ICE_CONTROLLING, vec![1; 8])),
            Box::new(Raw(ATTR_PRIORITY, vec![0, 0, 0, 1])),
        ];
        if nominates {
            setters.push(Box::new(Raw(ATTR_USE_CANDIDATE, vec![])));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            answer.password.clone(),
            provider.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// A datagram from the node.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let dtls = self.dtls.as_mut().expect("an answer was taken");
        match bytes[0] {
            0..=3 => dtls.start(now).unwrap(),
            20..=63 => match dtls.read(now, bytes) {
                Ok(None) => {}
                Ok(Some(keys)) => {
                    let srtp = Srtp::new(&keys, self.certificate.provider().crypto());
                    self.srtp = Some(srtp.unwrap());
                }
                Err(DtlsError::Closed) => self.is_closed = true,
                Err(error) => panic!("{error}"),
            },
            _ => {
                let srtp = self.srtp.as_mut().expect("media only after the handshake");
                if is_rtcp(bytes) {
                    self.received.push(Received::Rtcp(srtp.unprotect_rtcp(bytes).unwrap().to_vec()));
                } else {
                    let plain = srtp.unprotect_rtp(bytes).unwrap();
                    self.received.push(Received::Rtp(RtpHeader::parse(&plain).unwrap(), plain));
                }
            }
        }
        let packets: Vec<_> = std::iter::from_fn(|| self.dtls.as_mut().unwrap().poll_packet()).collect();
        if let Some(data) = &mut self.data {
            for packet in packets {
                data.handle(now, packet.freeze());
            }
        }
        self.flush_data(now);
        while let Some(datagram) = self.dtls.as_mut().unwrap().poll_transmit() {
            self.outgoing.push(datagram.to_vec());
        }
    }

    /// Begins SCTP.
    pub fn begin_data(&mut self, now: Instant) -> &mut DataPeer {
        self.data.get_or_insert_with(|| DataPeer::new(now))
    }

    /// Writes what the data channels have to say.
    pub fn flush_data(&mut self, now: Instant) {
        let (Some(data), Some(dtls)) = (&mut self.data, &mut self.dtls) else { return };
        if self.srtp.is_none() || self.is_closed {
            return;
        }
        for packet in data.packets(now) {
            dtls.write(now, &packet).unwrap();
        }
        while let Some(datagram) = dtls.poll_transmit() {
            self.outgoing.push(datagram.to_vec());
        }
    }

    pub fn data_timeout(&mut self, now: Instant) {
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
    }

    /// A protected packet of an m-line, the next in sequence; what is put into `skip` is counted as lost.
    pub fn media(&mut self, mid: usize, payload: &[u8], timestamp_step: u32, transport_cc: u16) -> Vec<u8> {
        let line = self.lines[mid].clone();
        let next = self.next.entry(line.ssrc).or_insert((100, 50_000));
        next.0 = next.0.wrapping_add(1);
        next.1 = next.1.wrapping_add(timestamp_step);
        let (sequence, timestamp) = *next;
        let payload_type = if line.kind == "audio" { self.sound } else { VP8 };
        let mut plain = packet(line.ssrc, payload_type, sequence, timestamp, transport_cc, payload);
        if self.frame_goes_on {
            plain[1] &= 0x7f;
        }
        plain[LEVEL_AT] = self.level;
        self.srtp.as_mut().unwrap().protect_rtp(&plain).unwrap()
    }

    /// Protects a packet that is written already.
    pub fn protect_rtp(&mut self, plain: &[u8]) -> Vec<u8> {
        self.srtp.as_mut().unwrap().protect_rtp(plain).unwrap()
    }

    /// A protected packet of a layer, the next in sequence, as browsers send the first ones: with mid and rid.
    pub fn layer_media(&mut self, mid: usize, layer: usize, payload: &[u8], says: bool) -> Vec<u8> {
        self.layer_packet(mid, layer, payload, 3000, says)
    }

    /// The same with the timestamp that much after the one before.
    pub fn layer_packet(
        &mut self,
        mid: usize,
        layer: usize,
        payload: &[u8],
        step: u32,
        says: bool,
    ) -> Vec<u8> {
        let line = &self.lines[mid];
        let (ssrc, rid) = (line.ssrc + 10 * layer as u32, line.layers[layer]);
        let next = self.next.entry(ssrc).or_insert((100, 50_000));
        *next = (next.0.wrapping_add(1), next.1.wrapping_add(step));
        let said = [(4, mid.to_string()), (10, rid.to_owned())];
        let said = if says { &said[usize::from(self.omits_mid)..] } else { &[] };
        let plain = said_packet(ssrc, VP8, *next, said, payload);
        self.srtp.as_mut().unwrap().protect_rtp(&plain).unwrap()
    }

    /// A protected retransmission of a layer's packet.
    pub fn layer_rtx(&mut self, mid: usize, layer: usize, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let line = &self.lines[mid];
        let (ssrc, rid) = (line.rtx + 10 * layer as u32, line.layers[layer]);
        let payload = [&sequence.to_be_bytes()[..], payload].concat();
        let numbers = (1, 50_000 + 3000 * (u32::from(sequence) - 100));
        let said = [(4, mid.to_string()), (11, rid.to_owned())];
        let plain = said_packet(ssrc, VP8_RTX, numbers, &said, &payload);
        self.srtp.as_mut().unwrap().protect_rtp(&plain).unwrap()
    }

    /// Takes the RTP packets of a source that came in.
    pub fn take_rtp(&mut self, ssrc: u32) -> Vec<(RtpHeader, Vec<u8>)> {
        let mut taken = Vec::new();
        self.received.retain(|received| match received {
            Received::Rtp(header, plain) if header.ssrc == ssrc => {
                taken.push((*header, plain.clone()));
                false
            }
            _ => true,
        });
        taken
    }

    pub fn take_rtcp(&mut self) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        self.received.retain(|received| match received {
            Received::Rtcp(plain) => {
                taken.push(plain.clone());
                false
            }
            Received::Rtp(..) => true,
        });
        taken
    }

    pub fn protect_rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        self.srtp.as_mut().unwrap().protect_rtcp(plain).unwrap().to_vec()
    }
}

/// Where the audio level is in a plain packet.
const LEVEL_AT: usize = 17;

/// A plain packet with an audio level (id 1, −17 dBov) and a transport-wide number (id 3).
pub fn packet(
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    transport_cc: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut plain = Vec::new();
    kaigi_media::rtp::write_header(&mut plain, true, payload_type, sequence, timestamp, ssrc);
    plain[0] |= 0x10;
    let [high, low] = transport_cc.to_be_bytes();
    plain.extend_from_slice(&[0xbe, 0xde, 0, 2, 0x10, 0x91, 0x31, high, low, 0, 0, 0]);
    plain.extend_from_slice(payload);
    plain
}

/// A plain packet with header extensions of text.
fn said_packet(
    ssrc: u32,
    payload_type: u8,
    (sequence, timestamp): (u16, u32),
    said: &[(u8, String)],
    payload: &[u8],
) -> Vec<u8> {
    let mut plain = Vec::new();
    kaigi_media::rtp::write_header(&mut plain, true, payload_type, sequence, timestamp, ssrc);
    let mut extensions = Vec::new();
    for (id, text) in said {
        extensions.push(id << 4 | (text.len() as u8 - 1));
        extensions.extend_from_slice(text.as_bytes());
    }
    extensions.resize(extensions.len().next_multiple_of(4), 0);
    if !extensions.is_empty() {
        plain[0] |= 0x10;
        plain.extend_from_slice(&[0xbe, 0xde, 0, (extensions.len() / 4) as u8]);
        plain.extend_from_slice(&extensions);
    }
    plain.extend_from_slice(payload);
    plain
}

/// A VP8 payload of one packet: a key frame of 640×480, or a picture that depends on others.
pub fn vp8(key_frame: bool, number: u8) -> Vec<u8> {
    vp8_of((640, 480), key_frame, number)
}

/// The same of another size.
pub fn vp8_of((width, height): (u16, u16), key_frame: bool, number: u8) -> Vec<u8> {
    let mut payload = vec![0x10, u8::from(!key_frame), 0, 0, 0x9d, 0x01, 0x2a];
    payload.extend_from_slice(&width.to_le_bytes());
    payload.extend_from_slice(&height.to_le_bytes());
    payload.extend_from_slice(&[number; 50]);
    payload
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
