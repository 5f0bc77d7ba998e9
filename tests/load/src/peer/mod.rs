//! A WebRTC client as a browser is seen from the network, without I/O: it offers, checks connectivity, shakes hands, publishes
//! recordings, and checks what it is sent. The clock is an argument; what is to be sent is left in an [`Outbox`].

mod connection;
mod frames;
mod ice;
mod receiver;
mod rtcp;
mod sdp;
mod sender;
#[cfg(test)]
mod tests;
mod unknown;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kaigi_access_node::{
    forward::{NtpClock, Rtcp, TransportCcReceiver, nacked, walk},
    transport::Certificate,
};
use kaigi_media::rtp::{RtpHeader, is_rtcp};

use self::{
    connection::Connection,
    receiver::Packet,
    sdp::{Description, Direction, Own, Transport},
};
pub use self::{
    connection::ConnectionError,
    receiver::Receiver,
    sender::{Outgoing, Sender},
};
use crate::{meter::Meters, recording::Codec, track::Track};

/// Time between reports, as of browsers for pictures.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Most bytes of RTCP in one datagram.
const MAX_RTCP: usize = 1100;
/// What browsers that send nothing say of themselves in RTCP.
const OWN_SSRC: u32 = 1;

/// Datagrams to send, one after the other.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Outbox {
    /// Appends a datagram that is written by `write`; none if that fails.
    pub(crate) fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) {
        let start = self.bytes.len();
        if write(&mut self.bytes).is_ok() {
            self.ends.push(self.bytes.len());
        } else {
            self.bytes.truncate(start);
        }
    }

    pub(crate) fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    /// The datagrams, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// What all peers of a thread share.
#[derive(Debug, Default)]
pub struct Shared {
    /// What is to be sent by the peer that was called last.
    pub outbox: Outbox,
    /// What is measured.
    pub meters: Meters,
    plain: Vec<u8>,
    missing: Vec<u16>,
}

/// What a peer has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Media can flow.
    Connected,
    /// The first whole picture, or sound, of an m-line came.
    FirstFrame(String),
    /// The server has ended it.
    Closed,
    /// It is of no use any more.
    Failed(String),
}

/// What is received.
#[derive(Clone, Debug)]
pub enum Content {
    /// What a publisher sends that is known here: everything that comes is compared with it.
    Track(Arc<Track>),
    /// Something else, such as a mix.
    Unknown(Codec),
}

impl Content {
    fn codec(&self) -> Codec {
        match self {
            Self::Track(track) => track.recording().codec,
            Self::Unknown(codec) => *codec,
        }
    }
}

/// What an m-line is for.
#[derive(Clone, Debug)]
pub enum Use {
    /// To publish a track; with several rids as simulcast.
    Publish {
        /// What.
        track: Arc<Track>,
        /// Names of its layers, if there are several.
        rids: Vec<String>,
        /// How far below full scale sound is said to be (RFC 6464).
        level: u8,
    },
    /// To receive something.
    Receive(Content),
    /// Nothing any more.
    Nothing(Codec),
}

impl Use {
    fn codec(&self) -> Codec {
        match self {
            Self::Publish { track, .. } => track.recording().codec,
            Self::Receive(content) => content.codec(),
            Self::Nothing(codec) => *codec,
        }
    }
}

#[derive(Debug)]
struct Line {
    mid: String,
    for_what: Use,
    ssrcs: Vec<(u32, u32)>,
    agreed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Media(usize),
    Retransmissions(usize),
}

/// One client.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    clock: NtpClock,
    lines: Vec<Line>,
    version: u32,
    senders: Vec<Sender>,
    receivers: Vec<(String, Receiver)>,
    sources: HashMap<u32, Source>,
    /// The id of transport-wide numbers.
    transport_cc: Option<u8>,
    arrivals: TransportCcReceiver,
    /// The next transport-wide number.
    number: u16,
    reports: Option<Instant>,
    /// When packets or key frames may have to be asked for.
    feedback: Option<Instant>,
    events: VecDeque<Event>,
}

impl Peer {
    /// Nothing negotiated yet.
    #[must_use]
    pub fn new(now: Instant, wall: SystemTime, certificate: Certificate) -> Self {
        Self {
            connection: Connection::new(certificate),
            clock: NtpClock::new(now, wall),
            lines: Vec::new(),
            version: 1,
            senders: Vec::new(),
            receivers: Vec::new(),
            sources: HashMap::new(),
            transport_cc: None,
            arrivals: TransportCcReceiver::new(now),
            number: 0,
            reports: None,
            feedback: None,
            events: VecDeque::new(),
        }
    }

    /// Adds an m-line to the next offer; its mid.
    pub fn add_line(&mut self, for_what: Use) -> String {
        let mid = self.lines.len().to_string();
        let layers = match &for_what {
            Use::Publish { rids, .. } => rids.len().max(1),
            Use::Receive(_) | Use::Nothing(_) => 0,
        };
        let ssrcs = (0..layers).map(|_| (rand::random(), rand::random())).collect();
        self.lines.push(Line { mid: mid.clone(), for_what, ssrcs, agreed: false });
        mid
    }

    /// An m-line is for nothing any more; it is offered inactive from now on.
    pub fn end_line(&mut self, mid: &str) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.mid == mid) {
            line.for_what = Use::Nothing(line.for_what.codec());
            self.senders.retain(|sender| sender.outgoing.mid != mid);
        }
    }

    fn own(&self) -> Vec<Own<'_>> {
        let direction = |line: &Line| match line.for_what {
            Use::Publish { .. } => Direction::Send,
            Use::Receive(_) => Direction::Receive,
            Use::Nothing(_) => Direction::Inactive,
        };
        self.lines
            .iter()
            .map(|line| Own {
                mid: &line.mid,
                codec: line.for_what.codec(),
                direction: direction(line),
                ssrcs: &line.ssrcs,
                rids: match &line.for_what {
                    Use::Publish { rids, .. } => rids,
                    Use::Receive(_) | Use::Nothing(_) => &[],
                },
            })
            .collect()
    }

    /// An offer of all lines.
    pub fn offer(&mut self) -> String {
        self.version += 1;
        let fingerprint = self.connection.fingerprint();
        let transport = Transport {
            credentials: self.connection.credentials(),
            fingerprint: &fingerprint,
            version: self.version,
        };
        sdp::offer(&transport, &self.own())
    }

    /// Takes the answer; the first one begins the connection.
    ///
    /// # Errors
    /// If it is none, or not one to the offer.
    pub fn take_answer(&mut self, now: Instant, answer: &str) -> Result<(), ConnectionError> {
        let description = Description::parse(answer).ok_or(ConnectionError::Description)?;
        if description.lines.len() != self.lines.len() {
            return Err(ConnectionError::Description);
        }
        self.agree(&description);
        self.connection.start(now, &description)
    }

    /// Answers an offer whose m-lines are all to be received.
    ///
    /// # Errors
    /// If it is none, or has another number of lines.
    pub fn answer(
        &mut self,
        now: Instant,
        offer: &str,
        tracks: &[Content],
    ) -> Result<String, ConnectionError> {
        let description = Description::parse(offer).ok_or(ConnectionError::Description)?;
        if description.lines.len() != tracks.len() {
            return Err(ConnectionError::Description);
        }
        for (line, track) in description.lines.iter().zip(tracks).skip(self.lines.len()) {
            let for_what = Use::Receive(track.clone());
            self.lines.push(Line { mid: line.mid.clone(), for_what, ssrcs: Vec::new(), agreed: false });
        }
        self.agree(&description);
        self.version += 1;
        let fingerprint = self.connection.fingerprint();
        let transport = Transport {
            credentials: self.connection.credentials(),
            fingerprint: &fingerprint,
            version: self.version,
        };
        let text = sdp::answer(&transport, &description, &self.own());
        self.connection.start(now, &description)?;
        Ok(text)
    }

    fn agree(&mut self, description: &Description) {
        for (line, theirs) in self.lines.iter_mut().zip(&description.lines) {
            let codec = line.for_what.codec();
            let Some((payload_type, rtx_type)) = theirs.formats(codec).filter(|_| theirs.flows) else {
                continue;
            };
            if std::mem::replace(&mut line.agreed, true) {
                continue;
            }
            match &line.for_what {
                Use::Publish { track, rids, level } => {
                    let outgoing = Outgoing {
                        mid: line.mid.clone(),
                        payload_type,
                        rtx_type,
                        ssrcs: line.ssrcs.clone(),
                        rids: rids.clone(),
                        level: *level,
                    };
                    self.senders.push(Sender::new(track.clone(), outgoing, theirs.extensions));
                }
                Use::Receive(content) => {
                    let Some(ssrc) = theirs.ssrcs.first() else { continue };
                    self.transport_cc = self.transport_cc.or(theirs.extensions.transport_cc);
                    let at = self.receivers.len();
                    self.sources.insert(*ssrc, Source::Media(at));
                    if let Some(rtx) = theirs.ssrcs.get(1).filter(|_| rtx_type.is_some()) {
                        self.sources.insert(*rtx, Source::Retransmissions(at));
                    }
                    self.receivers.push((line.mid.clone(), Receiver::new(*ssrc, content.clone())));
                }
                Use::Nothing(_) => {}
            }
        }
    }

    /// Where the server is.
    #[must_use]
    pub fn remote(&self) -> Option<SocketAddr> {
        self.connection.remote()
    }

    /// Whether media can flow.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.srtp.is_some()
    }

    /// What is sent.
    #[must_use]
    pub fn senders(&self) -> &[Sender] {
        &self.senders
    }

    /// What is received, by mid.
    #[must_use]
    pub fn receivers(&self) -> &[(String, Receiver)] {
        &self.receivers
    }

    /// What is received, by mid.
    pub fn receivers_mut(&mut self) -> impl Iterator<Item = (&str, &mut Receiver)> {
        self.receivers.iter_mut().map(|(mid, receiver)| (mid.as_str(), receiver))
    }

    /// Counts begin anew.
    pub fn reset_counts(&mut self) {
        self.senders.iter_mut().for_each(|sender| sender.counts = Default::default());
        self.receivers.iter_mut().for_each(|(_, receiver)| receiver.counts = Default::default());
    }

    /// What there is to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let senders = self.senders.iter().filter_map(Sender::next_timeout).min();
        let media = [self.arrivals.next_timeout(), self.reports, self.feedback, senders];
        let media = media.into_iter().flatten().min().filter(|_| self.is_connected());
        [self.connection.next_timeout(), media].into_iter().flatten().min()
    }

    /// A datagram came at `arrival`, which may be a little before `now`.
    pub fn receive(&mut self, now: Instant, arrival: Instant, datagram: &[u8], shared: &mut Shared) {
        match datagram.first() {
            Some(0..=63) => {
                let event = self.connection.receive(now, datagram, &mut shared.outbox);
                if event == Some(Event::Connected) {
                    self.reports = Some(now + REPORT_INTERVAL);
                    self.senders.iter_mut().for_each(|sender| sender.start(now));
                }
                self.events.extend(event);
            }
            Some(128..=191) if is_rtcp(datagram) => self.receive_rtcp(now, datagram, shared),
            Some(128..=191) => self.receive_rtp(now, arrival, datagram, shared),
            _ => {}
        }
    }

    fn receive_rtp(&mut self, now: Instant, arrival: Instant, datagram: &[u8], shared: &mut Shared) {
        let Some(srtp) = &mut self.connection.srtp else { return };
        let Shared { plain, meters, .. } = shared;
        if srtp.unprotect_rtp_into(datagram, plain).is_err() {
            return;
        }
        let Ok(header) = RtpHeader::parse(plain) else { return };
        if let Some(id) = self.transport_cc
            && let Some([high, low]) = header.extension(plain, id)
        {
            self.arrivals.receive(arrival, u16::from_be_bytes([*high, *low]));
        }
        let payload = header.payload(plain);
        let (at, sequence, payload, retransmitted) = match (self.sources.get(&header.ssrc), payload) {
            (Some(Source::Media(at)), payload) => (*at, header.sequence, payload, false),
            (Some(Source::Retransmissions(at)), [high, low, payload @ ..]) => {
                (*at, u16::from_be_bytes([*high, *low]), payload, true)
            }
            _ => return,
        };
        let (mid, receiver) = &mut self.receivers[at];
        let packet = Packet {
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            bytes: plain.len(),
            payload,
            retransmitted,
        };
        let had_frame = receiver.first_frame().is_some();
        let missed = receiver.counts.missed;
        receiver.receive(arrival, packet, meters);
        if !had_frame && receiver.first_frame().is_some() {
            self.events.push_back(Event::FirstFrame(mid.clone()));
        }
        let due = if receiver.counts.missed > missed { Some(now) } else { receiver.next_timeout(now) };
        self.feedback = [self.feedback, due].into_iter().flatten().min();
    }

    fn receive_rtcp(&mut self, now: Instant, datagram: &[u8], shared: &mut Shared) {
        let Some(srtp) = &mut self.connection.srtp else { return };
        let Ok(plain) = srtp.unprotect_rtcp(datagram) else { return };
        let Shared { outbox, plain: buffer, .. } = shared;
        for packet in walk(&plain) {
            match packet {
                Rtcp::SenderReport { ssrc, ntp, .. } => {
                    if let Some(Source::Media(at)) = self.sources.get(&ssrc) {
                        self.receivers[*at].1.sender_report(now, ntp);
                    }
                }
                Rtcp::Nack { ssrc, pairs } => {
                    for sender in &mut self.senders {
                        sender.again(ssrc, nacked(pairs), buffer, &mut self.number, |plain| {
                            outbox.push_with(|out| srtp.protect_rtp_onto(plain, out));
                        });
                    }
                }
                Rtcp::KeyFrameRequest { ssrc, .. } => {
                    self.senders.iter_mut().for_each(|sender| sender.key_frame(ssrc));
                }
                // A recording is not played otherwise for what else a server says.
                _ => {}
            }
        }
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant, shared: &mut Shared) {
        let failed = self.connection.handle_timeout(now, &mut shared.outbox);
        self.events.extend(failed);
        let mut rtcp = Vec::new();
        if self.reports.is_some_and(|due| due <= now) {
            self.reports = Some(now + REPORT_INTERVAL);
            self.report(now, &mut rtcp);
        }
        if self.feedback.is_some_and(|due| due <= now) {
            self.ask(now, &mut rtcp, shared);
        }
        if self.arrivals.next_timeout().is_some_and(|due| due <= now) {
            let media = self.receivers.first().map_or(0, |(_, receiver)| receiver.ssrc);
            rtcp.extend(std::iter::from_fn(|| self.arrivals.feedback(OWN_SSRC, media)));
        }
        let Some(srtp) = &mut self.connection.srtp else { return };
        let Shared { outbox, plain, .. } = shared;
        let mut compound: Vec<u8> = Vec::new();
        for packet in rtcp {
            if compound.len() + packet.len() > MAX_RTCP && !compound.is_empty() {
                protect_rtcp(srtp, &compound, outbox);
                compound.clear();
            }
            compound.extend_from_slice(&packet);
        }
        if !compound.is_empty() {
            protect_rtcp(srtp, &compound, outbox);
        }
        for sender in &mut self.senders {
            sender.start(now);
            sender.play(now, plain, &mut self.number, |plain| {
                outbox.push_with(|out| srtp.protect_rtp_onto(plain, out));
            });
        }
    }

    fn report(&mut self, now: Instant, rtcp: &mut Vec<Vec<u8>>) {
        let ntp = self.clock.ntp(now);
        for sender in &self.senders {
            let reports = sender.reports(now);
            rtcp.extend(
                reports
                    .map(|(ssrc, rtp, packets, octets)| rtcp::sender_report(ssrc, ntp, rtp, packets, octets)),
            );
        }
        let blocks: Vec<_> =
            self.receivers.iter_mut().filter_map(|(_, receiver)| receiver.report(now)).collect();
        rtcp.extend(rtcp::receiver_reports(OWN_SSRC, &blocks));
    }

    /// Asks for packets and key frames.
    fn ask(&mut self, now: Instant, rtcp: &mut Vec<Vec<u8>>, shared: &mut Shared) {
        self.feedback = None;
        for (_, receiver) in &mut self.receivers {
            shared.missing.clear();
            receiver.take_missing(now, &mut shared.meters, &mut shared.missing);
            if !shared.missing.is_empty() {
                rtcp.extend(rtcp::nacks(OWN_SSRC, receiver.ssrc, &shared.missing));
            }
            if receiver.wants_key_frame(now) {
                rtcp.push(rtcp::picture_loss(OWN_SSRC, receiver.ssrc));
            }
            self.feedback = [self.feedback, receiver.next_timeout(now)].into_iter().flatten().min();
        }
    }

    /// Says farewell.
    pub fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        self.connection.close(now, outbox);
    }
}

fn protect_rtcp(srtp: &mut kaigi_access_node::transport::Srtp, plain: &[u8], outbox: &mut Outbox) {
    if let Ok(protected) = srtp.protect_rtcp(plain) {
        outbox.push(&protected);
    }
}
