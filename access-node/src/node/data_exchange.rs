//! Data both ways with whoever serves a publication's client himself: what the client sends goes to him, what he sends to the client's own channels.

use std::time::Instant;

use kaigi_proto::ids::{SessionId, StreamId};

use super::{ConsumerId, DataCall, Node, NodeError};
use crate::{
    keys::TransportKey,
    sctp::{ChannelId, Message, Sent},
};

impl Node {
    /// The same as [`Self::open_data_consumer`]; the consumer is told how many channels are open, now and whenever that changes, and may use
    /// [`Self::send_to_publisher`].
    ///
    /// # Errors
    /// If no such stream is published here, or there are too many consumers.
    pub fn open_data_exchange(&mut self, consumer: ConsumerId, stream: &StreamId) -> Result<(), NodeError> {
        self.open_data_consumer(consumer, stream)?;
        self.net.data.links.exchanging.insert(consumer);
        let open = self.channels_of(stream).len();
        self.net.output.data.push(DataCall::Channels { consumer, open });
        Ok(())
    }

    /// Sends a message on that channel of the stream's publisher, or on all that are open. What there is no room for is dropped and counted. `false` if
    /// the consumer's stream has ended.
    pub fn send_to_publisher(
        &mut self,
        now: Instant,
        consumer: ConsumerId,
        channel: Option<ChannelId>,
        message: &Message,
    ) -> bool {
        let Some(stream) = self.net.data.links.streams.get(&consumer).cloned() else { return false };
        let Some(key) = self.net.data.publications.get(&stream).copied() else { return false };
        let channels = self.channels_of(&stream);
        let Some(sctp) = self.net.transports.get_mut(key).and_then(|t| t.data.sctp.as_mut()) else {
            return true;
        };
        for open in channels.into_iter().filter(|open| channel.is_none_or(|wanted| wanted == *open)) {
            match sctp.send(now, open, message) {
                Sent::Queued => {
                    self.net.counters.data_messages_out += 1;
                    self.net.counters.data_bytes_out += message.payload.len() as u64;
                }
                Sent::Lost | Sent::TooSlow => self.net.counters.data_lost += 1,
                Sent::Closed => {}
            }
        }
        self.net.data_ready(now, key);
        true
    }

    /// Tells those who send to a publication how many channels it has now.
    pub(super) fn tell_channels(&mut self, key: TransportKey, session: &SessionId) {
        let Ok(stream) = StreamId::new(session) else { return };
        if self.net.data.publications.get(&stream) != Some(&key) {
            return;
        }
        let open = self.channels_of(&stream).len();
        let links = &self.net.data.links;
        let exchanging = links.consumers_of(&stream).iter().filter(|id| links.exchanging.contains(id));
        let told: Vec<_> =
            exchanging.map(|consumer| DataCall::Channels { consumer: *consumer, open }).collect();
        self.net.output.data.extend(told);
    }

    fn channels_of(&self, stream: &StreamId) -> Vec<ChannelId> {
        let transport = self.net.data.publications.get(stream).and_then(|key| self.net.transports.get(*key));
        let session = transport.and_then(|transport| transport.sessions.get(stream.as_str()));
        session.and_then(|session| session.data.as_ref()).map(|d| d.channels.clone()).unwrap_or_default()
    }
}
