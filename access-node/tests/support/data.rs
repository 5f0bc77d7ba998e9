//! The data channels of a client, over `rtc-sctp` as its initiator.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use rtc_datachannel::message::{
    Message,
    message_channel_open::{ChannelType, DataChannelOpen},
};
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppi, ReliabilityType, StreamEvent, TimerConfig, TransportConfig,
};
use rtc_shared::{
    TransportProtocol,
    marshal::{Marshal, Unmarshal},
};

/// A message: on which stream, its bytes, whether it is text.
pub type Arrived = (u16, Vec<u8>, bool);

pub struct DataPeer {
    endpoint: Endpoint,
    handle: AssociationHandle,
    pub association: Association,
    next_stream: u16,
    pub open: BTreeMap<u16, String>,
    pub acknowledged: BTreeSet<u16>,
    pub closed: Vec<u16>,
    pub received: Vec<Arrived>,
    /// Takes no packets any more.
    pub is_deaf: bool,
}

impl DataPeer {
    pub fn new(now: Instant) -> Self {
        let peer: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let mut endpoint = Endpoint::new(peer, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        // Browsers go on trying as long as ICE says that there is somebody.
        let timers = TimerConfig { max_t3_rtx_retrans: usize::MAX, ..TimerConfig::default() };
        let transport = TransportConfig::default().with_max_message_size(1 << 20).with_timer_config(timers);
        let (handle, association) = endpoint.connect(now, ClientConfig::new(transport), peer).unwrap();
        Self {
            endpoint,
            handle,
            association,
            next_stream: 0,
            open: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            closed: Vec::new(),
            received: Vec::new(),
            is_deaf: false,
        }
    }

    pub fn packets(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(more) = transmit.message {
                packets.extend(more);
            }
        }
        packets
    }

    pub fn handle(&mut self, now: Instant, packet: Bytes) {
        if self.is_deaf {
            return;
        }
        let peer: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        match self.endpoint.handle(now, peer, None, packet) {
            Some((handle, DatagramEvent::AssociationEvent(event))) if handle == self.handle => {
                self.association.handle_event(event);
            }
            _ => {}
        }
        self.process();
    }

    fn process(&mut self) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::AssociationLost { id, .. } => {
                    self.open.remove(&id);
                    self.closed.push(id);
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, id: u16) {
        while let Ok(mut stream) = self.association.stream(id)
            && let Ok(Some(chunks)) = stream.read_sctp()
        {
            let payload = chunks.to_payload(usize::MAX).unwrap();
            match chunks.ppi {
                Ppi::Dcep => {
                    assert!(matches!(Message::unmarshal(&mut &payload[..]), Ok(Message::DataChannelAck(_))));
                    self.acknowledged.insert(id);
                }
                Ppi::String => self.received.push((id, payload.to_vec(), true)),
                Ppi::Binary => self.received.push((id, payload.to_vec(), false)),
                Ppi::StringEmpty => self.received.push((id, Vec::new(), true)),
                Ppi::BinaryEmpty => self.received.push((id, Vec::new(), false)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Opens a channel as DTLS clients do: on even streams (RFC 8832 §6).
    pub fn open(&mut self, now: Instant, label: &str, kind: ChannelType, parameter: u32) -> u16 {
        let id = self.next_stream;
        self.next_stream += 2;
        self.open_on(now, id, label, kind, parameter);
        id
    }

    pub fn open_on(&mut self, now: Instant, id: u16, label: &str, kind: ChannelType, parameter: u32) {
        let open = Message::DataChannelOpen(DataChannelOpen {
            channel_type: kind,
            priority: 256,
            reliability_parameter: parameter,
            label: label.into(),
            protocol: Vec::new(),
        });
        let mut stream = self.association.open_stream(id, Ppi::Binary).unwrap();
        let (unordered, reliability) = match kind {
            ChannelType::Reliable => (false, ReliabilityType::Reliable),
            ChannelType::ReliableUnordered => (true, ReliabilityType::Reliable),
            ChannelType::PartialReliableRexmit => (false, ReliabilityType::Rexmit),
            ChannelType::PartialReliableRexmitUnordered => (true, ReliabilityType::Rexmit),
            ChannelType::PartialReliableTimed => (false, ReliabilityType::Timed),
            _ => (true, ReliabilityType::Timed),
        };
        stream.set_reliability_params(unordered, reliability, parameter).unwrap();
        stream.write_with_ppi(now, &open.marshal().unwrap(), Ppi::Dcep).unwrap();
        self.open.insert(id, label.to_owned());
    }

    pub fn send(&mut self, now: Instant, id: u16, payload: &[u8], text: bool) {
        let (ppi, payload) = match (payload.is_empty(), text) {
            (true, true) => (Ppi::StringEmpty, &[0][..]),
            (true, false) => (Ppi::BinaryEmpty, &[0][..]),
            (false, true) => (Ppi::String, payload),
            (false, false) => (Ppi::Binary, payload),
        };
        self.association.stream(id).unwrap().write_with_ppi(now, payload, ppi).unwrap();
    }

    pub fn close(&mut self, now: Instant, id: u16) {
        self.association.stream(id).unwrap().close(now).unwrap();
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_some_and(|at| at <= now) {
            self.association.handle_timeout(now);
            self.process();
        }
    }

    /// Takes the payloads that came.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.received).into_iter().map(|(_, payload, _)| payload).collect()
    }
}

/// A seeded stream of chances of one in so many.
pub fn chance(seed: u32, one_in: u32) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16).is_multiple_of(one_in)
    }
}
