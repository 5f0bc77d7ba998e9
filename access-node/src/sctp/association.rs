//! The association of one transport and its channels.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use rtc_datachannel::message::{Message as Dcep, message_channel_ack::DataChannelAck};
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, EndpointEvent, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, TimerConfig, TransportConfig,
};
use rtc_shared::{
    TransportProtocol,
    marshal::{Marshal, Unmarshal},
};

use super::{
    MAX_BUFFERED, MAX_BUFFERED_TOTAL, MAX_CHANNELS, MAX_MESSAGE, MAX_STREAMS, RECEIVE_WINDOW, STALL,
    channel::{Channel, ChannelId, Message, Reliability, Sent},
    guard::{Guard, Verdict},
    packet::{self, Init},
};

/// The endpoint wants addresses, but all packets come through one DTLS association (RFC 5737).
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5000);
/// Longest packet taken, in bytes: more than any path's MTU.
const MAX_PACKET: usize = 2048;
/// Packets per second that a client may send, and at once; more are dropped, as on a congested way. SCTP takes it for that.
/// At 1,200 bytes each it is 77 Mbit/s.
const RATE: f64 = 8_000.0;
/// See [`RATE`].
const BURST: f64 = 2_000.0;
/// What beginning an association costs, in packets.
const COST_OF_INIT: f64 = 50.0;
/// Packets that may be ready before more are made.
const MAX_READY: usize = 1024;

/// What happened on the channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SctpEvent {
    /// The client has opened a channel.
    Opened(ChannelId),
    /// A message has come.
    Message(ChannelId, Message),
    /// The channel is gone: closed by the client, or with the association.
    Closed(ChannelId),
}

struct Live {
    handle: AssociationHandle,
    association: Association,
    guard: Guard,
    /// The INIT that it began with, and the answer to it until it is established.
    init: Init,
    answer: Vec<Bytes>,
    /// The number of the last ordered message of each stream.
    last: HashMap<u16, u16>,
    /// Since when, and at which TSN, the client acknowledges nothing more.
    stalled: Option<(Instant, u32)>,
}

impl Live {
    /// An association that is to be established yet is closed as well, as the RFC has it.
    fn has_ended(&self) -> bool {
        self.association.is_closed() && !self.association.is_handshaking()
    }
}

/// SCTP of one transport. The client begins; after it has ended an association it may begin another.
pub struct Sctp {
    endpoint: Endpoint,
    live: Option<Live>,
    channels: BTreeMap<ChannelId, Channel>,
    ready: VecDeque<Bytes>,
    events: VecDeque<SctpEvent>,
    tokens: (f64, Instant),
    dropped: u64,
}

impl std::fmt::Debug for Sctp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sctp")
            .field("is_established", &self.is_established())
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

impl Sctp {
    /// No association yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        // Whether the client is still there is for ICE to find out; what is never acknowledged, see `STALL`.
        let timers = TimerConfig {
            max_t3_rtx_retrans: usize::MAX,
            max_reconfig_retrans: usize::MAX,
            ..TimerConfig::default()
        };
        let transport = TransportConfig::default()
            .with_max_message_size(u32::try_from(MAX_MESSAGE).unwrap_or(u32::MAX))
            .with_max_receive_buffer_size(RECEIVE_WINDOW)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS)
            .with_timer_config(timers);
        let server = Some(Arc::new(ServerConfig::new(transport)));
        Self {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), server),
            live: None,
            channels: BTreeMap::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            tokens: (BURST, now),
            dropped: 0,
        }
    }

    /// Whether there is an association that messages can go over.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.live.as_ref().is_some_and(|live| !live.association.is_handshaking() && !live.has_ended())
    }

    /// Packets that were dropped: malformed ones, and too many.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The label of a channel.
    #[must_use]
    pub fn label(&self, channel: ChannelId) -> Option<&str> {
        self.channels.get(&channel).map(|channel| channel.label.as_str())
    }

    /// How many channels there are, those that are closing among them.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// What waits on all channels, by the measure of [`MAX_BUFFERED`].
    pub fn buffered(&mut self) -> usize {
        let Some(live) = &mut self.live else { return 0 };
        self.channels.iter_mut().map(|(id, channel)| channel.waiting(buffered(live, *id))).sum()
    }

    /// Takes a packet of the client. What comes of it are events and packets.
    pub fn handle_packet(&mut self, now: Instant, packet: Bytes) {
        if packet.len() > MAX_PACKET {
            return self.drop_packet();
        }
        let verdict = match &mut self.live {
            Some(live) if !live.has_ended() => {
                let channels = &self.channels;
                live.guard.inspect(&packet, |stream| is_closing(channels, stream))
            }
            _ => Guard::init(&packet).map_or(Verdict::Drop, Verdict::Init),
        };
        match verdict {
            Verdict::Drop => self.drop_packet(),
            Verdict::Init(_) if !self.pay(now, COST_OF_INIT) => self.drop_packet(),
            Verdict::Init(init) => self.begin(now, packet, init),
            Verdict::Pass { cost } if !self.pay(now, f64::from(cost)) => self.drop_packet(),
            Verdict::Pass { .. } => self.advance(now, packet),
        }
    }

    fn drop_packet(&mut self) {
        self.dropped += 1;
    }

    /// Takes tokens, if there are so many. A packet that is too dear is dropped; what it says is not lost, the client says it again.
    fn pay(&mut self, now: Instant, cost: f64) -> bool {
        let (tokens, at) = self.tokens;
        let tokens = (tokens + now.saturating_duration_since(at).as_secs_f64() * RATE).min(BURST);
        let enough = tokens >= cost;
        self.tokens = (if enough { tokens - cost } else { tokens }, now);
        enough
    }

    fn begin(&mut self, now: Instant, packet: Bytes, init: Init) {
        if let Some(live) = self.live.as_ref().filter(|live| !live.has_ended()) {
            if live.association.is_handshaking() && live.init == init {
                // Said again, because the answer was lost or is late.
                self.ready.extend(live.answer.iter().cloned());
                return;
            }
            if !live.association.is_handshaking() {
                return self.drop_packet();
            }
        }
        self.forget();
        let Some((handle, DatagramEvent::NewAssociation(association))) =
            self.endpoint.handle(now, PEER, None, packet)
        else {
            return self.drop_packet();
        };
        self.live = Some(Live {
            handle,
            association,
            guard: Guard::new(init),
            init,
            answer: Vec::new(),
            last: HashMap::new(),
            stalled: None,
        });
        self.process(now);
        if let Some(live) = &mut self.live {
            live.answer = self.ready.iter().cloned().collect();
        }
    }

    /// Forgets the association, if there is one.
    fn forget(&mut self) {
        if let Some(live) = self.live.take() {
            self.endpoint.handle_event(live.handle, EndpointEvent::drained());
        }
        self.events.extend(std::mem::take(&mut self.channels).into_keys().map(SctpEvent::Closed));
    }

    fn advance(&mut self, now: Instant, packet: Bytes) {
        let Some(live) = &mut self.live else { return };
        // The association would keep what still comes on a channel that was closed, for nobody.
        let (channels, last) = (&self.channels, &live.last);
        let packet = packet::with_stale(&packet, |stream| {
            is_closing(channels, stream).then(|| last.get(&stream).copied().unwrap_or_default())
        });
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::AssociationEvent(event))) if handle == live.handle => {
                live.association.handle_event(event);
            }
            Some((handle, DatagramEvent::NewAssociation(_))) => {
                self.endpoint.handle_event(handle, EndpointEvent::drained());
                self.drop_packet();
            }
            _ => self.drop_packet(),
        }
        self.process(now);
    }

    /// Takes what the association has, until it has nothing more.
    pub fn process(&mut self, now: Instant) {
        while let Some(event) = self.live.as_mut().and_then(|live| live.association.poll()) {
            match event {
                Event::Connected => {
                    if let Some(live) = &mut self.live {
                        live.answer = Vec::new();
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
                Event::AssociationLost { id, .. } => {
                    if let Some(live) = &mut self.live {
                        live.last.remove(&id);
                    }
                    if self.channels.remove(&ChannelId(id)).is_some() {
                        self.events.push_back(SctpEvent::Closed(ChannelId(id)));
                    }
                }
                Event::HandshakeFailed { .. } => return self.forget(),
                _ => {}
            }
        }
        if self.live.as_ref().is_some_and(|live| live.guard.is_exceeded()) {
            tracing::debug!("the client's data can't be put together, the association is given up");
            return self.abort(now);
        }
        self.collect(now);
        if self.live.as_ref().is_some_and(Live::has_ended) {
            self.forget();
        }
    }

    /// Makes packets of what is to be sent.
    fn collect(&mut self, now: Instant) {
        let Some(live) = &mut self.live else { return };
        while self.ready.len() < MAX_READY
            && let Some(transmit) = live.association.poll_transmit(now)
        {
            let Payload::RawEncode(packets) = transmit.message else { continue };
            for packet in packets {
                live.guard.note_sent(&packet);
                self.ready.push_back(packet);
            }
        }
        live.stalled = live.guard.awaits().map(|tsn| match live.stalled {
            Some((since, at)) if at == tsn => (since, at),
            _ => (now, tsn),
        });
    }

    fn abort(&mut self, now: Instant) {
        if let Some(live) = &mut self.live {
            // The association has nothing to lose any more, so it can't fail.
            let _ = live.association.abort();
        }
        self.collect(now);
        self.forget();
    }

    fn read(&mut self, now: Instant, id: u16) {
        loop {
            let Some(live) = &mut self.live else { return };
            let Ok(mut stream) = live.association.stream(id) else { return };
            let Ok(Some(chunks)) = stream.read_sctp() else { return };
            let (count, length) = (chunks.chunks.len(), chunks.len());
            live.guard.read(count, length);
            // Unordered messages have the number 0, which is none.
            let last = live.last.entry(id).or_insert(chunks.ssn);
            if chunks.ssn.wrapping_sub(*last) < 1 << 15 {
                *last = chunks.ssn;
            }
            let identifier = chunks.ppi;
            match chunks.to_payload(MAX_MESSAGE) {
                Ok(payload) => self.take(now, ChannelId(id), identifier, payload.freeze()),
                Err(_) => {
                    tracing::debug!(length, "message too long, its channel is closed");
                    self.close(ChannelId(id));
                }
            }
        }
    }

    fn take(&mut self, now: Instant, id: ChannelId, identifier: PayloadProtocolIdentifier, payload: Bytes) {
        if identifier == PayloadProtocolIdentifier::Dcep {
            return match Dcep::unmarshal(&mut &payload[..]) {
                Ok(Dcep::DataChannelOpen(open)) if !self.channels.contains_key(&id) => {
                    match Channel::opened(open) {
                        Some(channel) => self.open(now, id, channel),
                        None => self.drop_packet(),
                    }
                }
                _ => self.drop_packet(),
            };
        }
        let is_open = self.channels.get(&id).is_some_and(|channel| !channel.closing);
        match Message::received(identifier, payload).filter(|_| is_open) {
            Some(message) => self.events.push_back(SctpEvent::Message(id, message)),
            None => self.drop_packet(),
        }
    }

    fn open(&mut self, now: Instant, id: ChannelId, channel: Channel) {
        let Some(live) = &mut self.live else { return };
        let Ok(mut stream) = live.association.stream(id.0) else { return };
        let (kind, value) = channel.reliability.parameters();
        let ordered = channel.ordered;
        let Ok(ack) = Dcep::DataChannelAck(DataChannelAck {}).marshal() else { return };
        let opened = stream
            .set_reliability_params(!ordered, kind, value)
            .and_then(|()| stream.write_chunk_with_ppi(now, &ack.freeze(), PayloadProtocolIdentifier::Dcep));
        if opened.is_err() {
            return;
        }
        self.channels.insert(id, channel);
        if self.channels.len() > MAX_CHANNELS {
            self.close(id);
        } else {
            self.events.push_back(SctpEvent::Opened(id));
        }
    }

    /// Sends a message on a channel; the packets come from [`Self::poll_transmit`] after [`Self::process`].
    pub fn send(&mut self, now: Instant, id: ChannelId, message: &Message) -> Sent {
        let total = self.buffered();
        let (Some(live), Some(channel)) = (&mut self.live, self.channels.get_mut(&id)) else {
            return Sent::Closed;
        };
        if channel.closing {
            return Sent::Closed;
        }
        let full = channel.waiting(buffered(live, id)) >= MAX_BUFFERED
            || total >= MAX_BUFFERED_TOTAL
            || live.guard.is_choked();
        if full {
            return match channel.reliability {
                Reliability::Reliable => Sent::TooSlow,
                Reliability::Retransmits(_) | Reliability::Lifetime(_) => Sent::Lost,
            };
        }
        let (identifier, payload) = message.to_send();
        let Ok(mut stream) = live.association.stream(id.0) else { return Sent::Closed };
        match stream.write_chunk_with_ppi(now, &payload, identifier) {
            Ok(_) => {
                channel.note(payload.len());
                Sent::Queued
            }
            Err(error) => {
                tracing::debug!(%error, "message not sent");
                Sent::Closed
            }
        }
    }

    /// Closes a channel (RFC 8831 §6.7); what waits is sent before. It is gone at once for this side, without an event.
    pub fn close(&mut self, id: ChannelId) {
        let now = self.last_time();
        let Some(live) = &mut self.live else { return };
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| !channel.closing) else { return };
        channel.closing = true;
        let Ok(mut stream) = live.association.stream(id.0) else { return };
        // A stream with something to read would not be reset.
        while let Ok(Some(chunks)) = stream.read_sctp() {
            live.guard.read(chunks.chunks.len(), chunks.len());
        }
        if let Err(error) = stream.close(now) {
            tracing::debug!(%error, "stream not reset");
        }
    }

    /// When a packet was taken last.
    #[must_use]
    pub fn last_time(&self) -> Instant {
        self.tokens.1
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SctpEvent> {
        self.events.pop_front()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Whether there are packets to send.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let live = self.live.as_ref()?;
        let stall = live.stalled.map(|(since, _)| since + STALL);
        [live.association.poll_timeout(), stall].into_iter().flatten().min()
    }

    /// Repeats what was lost, and gives up what nobody acknowledges.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(live) = &mut self.live else { return };
        if live.stalled.is_some_and(|(since, _)| now >= since + STALL) {
            tracing::debug!("the client acknowledges nothing, the association is given up");
            return self.abort(now);
        }
        if live.association.poll_timeout().is_some_and(|at| at <= now) {
            live.association.handle_timeout(now);
            self.process(now);
        }
    }
}

fn is_closing(channels: &BTreeMap<ChannelId, Channel>, stream: u16) -> bool {
    channels.get(&ChannelId(stream)).is_some_and(|channel| channel.closing)
}

/// Bytes that the association holds of a channel.
fn buffered(live: &mut Live, id: ChannelId) -> usize {
    live.association.stream(id.0).and_then(|stream| stream.buffered_amount()).unwrap_or(0)
}
