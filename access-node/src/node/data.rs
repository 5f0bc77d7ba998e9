//! Data of publications: from the publisher's channels to the subscribers' on this node and to other nodes.
//!
//! A message is shared between all that it goes to. Each receiver has a bound of its own ([`crate::sctp::MAX_BUFFERED`]), so that
//! none holds up the publisher or another receiver. Packets leave in turns of a bounded size ([`Node::run_data`]), between which media
//! are forwarded.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{SessionId, StreamId},
    v1::{self, access_event::Event},
};

use super::{
    ConsumerId, DataCall, DataRole, Labels, Node,
    data_link::DataLinks,
    net::Net,
    transport::{Session, Transport},
};
use crate::{
    keys::TransportKey,
    sctp::{ChannelId, Message, Sctp, SctpEvent, Sent},
};

/// Channels of one session. Clients need one, or two of different reliability.
const MAX_CHANNELS_OF_SESSION: usize = 16;
/// How long a channel whose label is no session waits for one: the client may be faster than the call that opens it.
const WAIT: Duration = Duration::from_secs(10);
/// Channels of a transport that may wait so.
const MAX_WAITING: usize = 32;
/// Bytes and messages that may wait on such a channel; when there are more it is closed.
const MAX_HELD: (usize, usize) = (64 * 1024, 64);
/// Datagrams of a turn, and how many of them one transport has before it is another's turn. A turn takes about half a millisecond,
/// by which media may be late.
const DATAGRAMS_PER_TURN: usize = 256;
/// See [`DATAGRAMS_PER_TURN`].
const DATAGRAMS_PER_TRANSPORT: usize = 32;
/// Time between turns. A congestion window that is sent at once overruns the client's socket; by this a transport sends 300 Mbit/s at
/// most.
const PAUSE: Duration = Duration::from_millis(1);

/// The data of a session.
#[derive(Debug)]
pub(super) struct SessionData {
    pub(super) role: DataRole,
    pub(super) channels: Vec<ChannelId>,
    /// Whether there was a channel already.
    pub(super) has_opened: bool,
}

impl SessionData {
    pub(super) fn new(role: DataRole) -> Self {
        Self { role, channels: Vec::new(), has_opened: false }
    }

    /// Whether it is complete without a channel, or has had one.
    pub(super) fn is_ready(&self) -> bool {
        self.has_opened || self.takes_any_label()
    }

    fn takes_any_label(&self) -> bool {
        matches!(self.role, DataRole::Publishes(Labels::Any))
    }
}

/// Whom a channel belongs to.
#[derive(Debug)]
enum Holder {
    Session(SessionId),
    /// Nobody yet.
    Waiting {
        since: Instant,
        messages: Vec<Message>,
    },
}

/// The data channels of a transport.
#[derive(Debug, Default)]
pub(super) struct TransportData {
    /// From the client's first packet on.
    pub(super) sctp: Option<Sctp>,
    holders: HashMap<ChannelId, Holder>,
    is_ready: bool,
}

impl TransportData {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let waiting = self.holders.values().filter_map(|holder| match holder {
            Holder::Waiting { since, .. } => Some(*since + WAIT),
            Holder::Session(_) => None,
        });
        waiting.chain(self.sctp.as_ref().and_then(Sctp::next_timeout)).min()
    }
}

/// What of data concerns the whole node.
#[derive(Debug, Default)]
pub(super) struct Data {
    /// Streams that are published here.
    pub(super) publications: HashMap<StreamId, TransportKey>,
    /// The subscriptions here, of streams from anywhere.
    receivers: HashMap<StreamId, Vec<(TransportKey, SessionId)>>,
    pub(super) links: DataLinks,
    /// Transports with something to send, in the order of their turns.
    ready: VecDeque<TransportKey>,
    /// When the next turn is, if there are any.
    due: Option<Instant>,
}

impl Data {
    pub(super) fn next_timeout(&mut self) -> Option<Instant> {
        [self.due, self.links.timers.earliest()].into_iter().flatten().min()
    }
}

impl Net {
    /// A transport has something to send.
    pub(super) fn data_ready(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key).filter(|t| !t.data.is_ready) else { return };
        transport.data.is_ready = true;
        self.data.ready.push_back(key);
        self.data.due.get_or_insert(now);
    }

    /// Sends some of what a transport has; whether there is more.
    fn send_packets(&mut self, now: Instant, key: TransportKey, budget: &mut usize) -> bool {
        let Some(transport) = self.transports.get_mut(key) else { return false };
        let Transport { data: TransportData { sctp: Some(sctp), .. }, dtls: Some(dtls), ice, .. } = transport
        else {
            return false;
        };
        // Without a way to the client the packets wait.
        if ice.selected().is_none() {
            return false;
        }
        let share = DATAGRAMS_PER_TRANSPORT.min(*budget);
        for packet in std::iter::from_fn(|| sctp.poll_transmit()).take(share) {
            *budget -= 1;
            if let Err(error) = dtls.write(now, &packet) {
                tracing::debug!(%error, "SCTP packet not sent");
            }
        }
        let more = sctp.has_packets();
        self.flush_dtls(key);
        more
    }
}

impl Node {
    /// When the next share of the data that wait is sent, if any do.
    #[must_use]
    pub fn data_due(&self) -> Option<Instant> {
        self.net.data.due
    }

    /// Sends a share of the data that wait, if it is time. Due as [`Self::next_timeout`] says; media may be handled between.
    pub fn run_data(&mut self, now: Instant) {
        if self.net.data.due.is_none_or(|at| at > now) {
            return;
        }
        let mut budget = DATAGRAMS_PER_TURN;
        // Each transport has one turn at most.
        for _ in 0..self.net.data.ready.len() {
            if budget == 0 {
                break;
            }
            let Some(key) = self.net.data.ready.pop_front() else { break };
            let Some(transport) = self.net.transports.get_mut(key) else { continue };
            transport.data.is_ready = false;
            if let Some(sctp) = &mut transport.data.sctp {
                sctp.process(now);
            }
            let more = self.net.send_packets(now, key, &mut budget);
            self.handle_channels(now, key);
            if more {
                self.net.data_ready(now, key);
            }
            self.net.schedule(key);
        }
        self.net.data.due = (!self.net.data.ready.is_empty()).then_some(now + PAUSE);
    }

    /// Takes the packets that came over DTLS.
    pub(super) fn handle_packets(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key).filter(|t| t.is_connected()) else { return };
        let Some(dtls) = &mut transport.dtls else { return };
        let Some(first) = dtls.poll_packet() else { return };
        let sctp = transport.data.sctp.get_or_insert_with(|| Sctp::new(now));
        let dropped = sctp.dropped();
        sctp.handle_packet(now, first.freeze());
        while let Some(packet) = dtls.poll_packet() {
            sctp.handle_packet(now, packet.freeze());
        }
        self.net.counters.malformed += sctp.dropped() - dropped;
        self.handle_channels(now, key);
        self.net.data_ready(now, key);
    }

    /// Repeats what was lost, and closes channels that waited too long.
    pub(super) fn data_timeout(&mut self, now: Instant, key: TransportKey) {
        let Some(TransportData { sctp: Some(sctp), holders, .. }) =
            self.net.transports.get_mut(key).map(|transport| &mut transport.data)
        else {
            return;
        };
        sctp.handle_timeout(now);
        let before = holders.len();
        holders.retain(|id, holder| match holder {
            Holder::Waiting { since, .. } if now >= *since + WAIT => {
                sctp.close(*id);
                false
            }
            Holder::Waiting { .. } | Holder::Session(_) => true,
        });
        let has_something = sctp.has_packets() || holders.len() < before;
        self.handle_channels(now, key);
        if has_something {
            self.net.data_ready(now, key);
        }
    }

    /// What happened on a transport's channels.
    fn handle_channels(&mut self, now: Instant, key: TransportKey) {
        while let Some(transport) = self.net.transports.get_mut(key)
            && let Some(event) = transport.data.sctp.as_mut().and_then(Sctp::poll_event)
        {
            match event {
                SctpEvent::Opened(channel) => self.channel_opened(now, key, channel),
                SctpEvent::Message(channel, message) => self.message_arrived(now, key, channel, message),
                SctpEvent::Closed(channel) => {
                    if let Some(Holder::Session(session)) = transport.data.holders.remove(&channel)
                        && let Some(data) = transport.sessions.get_mut(&session).and_then(|s| s.data.as_mut())
                    {
                        data.channels.retain(|id| *id != channel);
                        self.tell_channels(key, &session);
                    }
                }
            }
        }
    }

    fn channel_opened(&mut self, now: Instant, key: TransportKey, channel: ChannelId) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(sctp) = &mut transport.data.sctp else { return };
        let named = sctp.label(channel).and_then(|label| SessionId::new(label).ok());
        let has_data = |id: &&SessionId| transport.sessions.get(*id).is_some_and(|s| s.data.is_some());
        let any = || {
            let takes = |session: &Session| session.data.as_ref().is_some_and(SessionData::takes_any_label);
            transport.sessions.iter().find(|(_, session)| takes(session)).map(|(id, _)| id)
        };
        if let Some(session) = named.as_ref().filter(has_data).or_else(any).cloned() {
            return self.bind_channel(now, key, &session, channel);
        }
        if named.is_none() {
            return sctp.close(channel);
        }
        let waiting = transport.data.holders.values().filter(|h| matches!(h, Holder::Waiting { .. })).count();
        if waiting >= MAX_WAITING {
            return sctp.close(channel);
        }
        transport.data.holders.insert(channel, Holder::Waiting { since: now, messages: Vec::new() });
        self.net.schedule(key);
    }

    /// Gives a channel to a session; what has come on it already comes now.
    fn bind_channel(&mut self, now: Instant, key: TransportKey, id: &SessionId, channel: ChannelId) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(data) = transport.sessions.get_mut(id).and_then(|session| session.data.as_mut()) else {
            return;
        };
        if data.channels.len() >= MAX_CHANNELS_OF_SESSION {
            transport.data.holders.remove(&channel);
            if let Some(sctp) = &mut transport.data.sctp {
                sctp.close(channel);
            }
            return;
        }
        data.channels.push(channel);
        data.has_opened = true;
        self.tell_channels(key, id);
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let before = transport.data.holders.insert(channel, Holder::Session(id.clone()));
        if let Some(Holder::Waiting { messages, .. }) = before {
            for message in messages {
                self.message_arrived(now, key, channel, message);
            }
        }
        self.establish(key);
    }

    fn message_arrived(&mut self, now: Instant, key: TransportKey, channel: ChannelId, message: Message) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let TransportData { holders, sctp, .. } = &mut transport.data;
        match holders.get_mut(&channel) {
            Some(Holder::Session(session)) => {
                let data = transport.sessions.get(session).and_then(|session| session.data.as_ref());
                let publishes = data.is_some_and(|data| matches!(data.role, DataRole::Publishes(_)));
                // What a subscriber says on its channel is for nobody.
                let Some(stream) = publishes.then(|| StreamId::new(session).ok()).flatten() else { return };
                self.net.counters.data_messages_in += 1;
                self.net.counters.data_bytes_in += message.payload.len() as u64;
                self.fan_out(now, &stream, &message, Some(channel));
            }
            Some(Holder::Waiting { messages, .. }) => {
                let held: usize = messages.iter().map(|message| message.payload.len()).sum();
                if held + message.payload.len() <= MAX_HELD.0 && messages.len() < MAX_HELD.1 {
                    messages.push(message);
                } else {
                    holders.remove(&channel);
                    if let Some(sctp) = sctp {
                        sctp.close(channel);
                    }
                }
            }
            None => {}
        }
    }

    /// A message of a stream goes to all that receive it. `channel`: where it came in, if that was here.
    pub(super) fn fan_out(
        &mut self,
        now: Instant,
        stream: &StreamId,
        message: &Message,
        channel: Option<ChannelId>,
    ) {
        let mut slow = Vec::new();
        let receivers = self.net.data.receivers.get_mut(stream).map(std::mem::take).unwrap_or_default();
        for (key, session) in &receivers {
            if !self.net.send_message(now, *key, session, message) {
                slow.push((*key, session.clone()));
            }
        }
        if let Some(place) = self.net.data.receivers.get_mut(stream) {
            *place = receivers;
        }
        for consumer in self.net.data.links.consumers_of(stream) {
            self.net.counters.data_link_messages_out += 1;
            let (consumer, message) = (*consumer, message.clone());
            self.net.output.data.push(DataCall::Message { consumer, message, channel });
        }
        for (key, session) in slow {
            self.net.counters.data_slow_receivers += 1;
            self.end_session(key, &session);
            let reason = "Receiver is too slow".to_owned();
            let event = v1::SessionError { session_id: session.to_string(), reason };
            self.net.event(key, Event::SessionFailed(event));
        }
    }

    /// A session with data was opened: it takes the channels that waited for it.
    pub(super) fn data_session_opened(&mut self, now: Instant, key: TransportKey, id: &SessionId) {
        let Some(transport) = self.net.transports.get(key) else { return };
        let data = transport.sessions.get(id).and_then(|session| session.data.as_ref());
        let Some(role) = data.map(|data| data.role.clone()) else { return };
        match role {
            DataRole::Publishes(_) => {
                if let Ok(stream) = StreamId::new(id) {
                    self.end_data_flow(&stream);
                    self.net.data.publications.insert(stream, key);
                }
            }
            DataRole::Subscribes(source) => {
                let receivers = self.net.data.receivers.entry(source.stream.clone()).or_default();
                receivers.push((key, id.clone()));
                let is_here = source.worker == self.config.worker
                    && (self.net.others.is_empty()
                        || self.net.data.publications.contains_key(&source.stream));
                if !is_here {
                    self.ensure_data_flow(&source);
                }
            }
        }
        let Some(transport) = self.net.transports.get(key) else { return };
        let Some(sctp) = &transport.data.sctp else { return };
        let is_waiting = |holder: &Holder| matches!(holder, Holder::Waiting { .. });
        let data = transport.sessions.get(id).and_then(|session| session.data.as_ref());
        let any = data.is_some_and(SessionData::takes_any_label);
        let mut waiting: Vec<ChannelId> = transport
            .data
            .holders
            .iter()
            .filter(|(channel, holder)| {
                is_waiting(holder) && (any || sctp.label(**channel) == Some(id.as_str()))
            })
            .map(|(channel, _)| *channel)
            .collect();
        waiting.sort();
        for channel in waiting {
            self.bind_channel(now, key, id, channel);
        }
        self.net.data_ready(now, key);
    }

    /// A session has ended: so have its channels.
    pub(super) fn data_session_closed(&mut self, key: TransportKey, id: &SessionId, data: SessionData) {
        self.net.close_channels(key, &data.channels);
        match data.role {
            DataRole::Publishes(_) => {
                let Ok(stream) = StreamId::new(id) else { return };
                self.net.data.publications.remove(&stream);
                for consumer in self.net.data.links.end_stream(&stream) {
                    self.net.output.data.push(DataCall::End { consumer });
                }
                self.stream_ended(&stream);
            }
            DataRole::Subscribes(source) => {
                let stream = source.stream;
                let Some(receivers) = self.net.data.receivers.get_mut(&stream) else { return };
                receivers.retain(|(other, session)| *other != key || session != id);
                if receivers.is_empty() {
                    self.net.data.receivers.remove(&stream);
                    self.end_data_flow(&stream);
                }
            }
        }
    }

    /// There are no more data of a stream: its receivers' channels are closed.
    pub(super) fn stream_ended(&mut self, stream: &StreamId) {
        let receivers = self.net.data.receivers.get(stream).cloned().unwrap_or_default();
        for (key, session) in receivers {
            let data =
                self.net.transports.get_mut(key).and_then(|t| t.sessions.get_mut(&session)?.data.as_mut());
            let channels = data.map(|data| std::mem::take(&mut data.channels)).unwrap_or_default();
            self.net.close_channels(key, &channels);
        }
    }

    /// Another node wants the data of a stream; they are [`DataCall::Message`]s from now on.
    ///
    /// # Errors
    /// If no such stream is published here, or there are too many consumers.
    pub fn open_data_consumer(
        &mut self,
        consumer: ConsumerId,
        stream: &StreamId,
    ) -> Result<(), super::NodeError> {
        if !self.net.data.publications.contains_key(stream) {
            return Err(super::NodeError::UnknownStream);
        }
        self.net.data.links.add_consumer(consumer, stream, self.config.limits.links)
    }

    /// A node wants the data no more.
    pub fn close_data_consumer(&mut self, consumer: ConsumerId) {
        self.net.data.links.remove_consumer(consumer);
    }
}

impl Net {
    /// Sends a message on all channels of a subscription; `false` if it is too slow for it.
    fn send_message(&mut self, now: Instant, key: TransportKey, id: &SessionId, message: &Message) -> bool {
        let Some(transport) = self.transports.get_mut(key) else { return true };
        let Some(sctp) = &mut transport.data.sctp else { return true };
        let data = transport.sessions.get(id).and_then(|session| session.data.as_ref());
        let mut fast = true;
        for channel in data.map(|data| &data.channels[..]).unwrap_or_default() {
            match sctp.send(now, *channel, message) {
                Sent::Queued => {
                    self.counters.data_messages_out += 1;
                    self.counters.data_bytes_out += message.payload.len() as u64;
                }
                Sent::Lost => self.counters.data_lost += 1,
                Sent::TooSlow => fast = false,
                Sent::Closed => {}
            }
        }
        self.data_ready(now, key);
        fast
    }

    fn close_channels(&mut self, key: TransportKey, channels: &[ChannelId]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(sctp) = &mut transport.data.sctp else { return };
        for channel in channels {
            transport.data.holders.remove(channel);
            sctp.close(*channel);
        }
        let now = sctp.last_time();
        self.data_ready(now, key);
    }
}
