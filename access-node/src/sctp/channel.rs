//! One data channel.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use rtc_datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc_sctp::{PayloadProtocolIdentifier, ReliabilityType};

use super::MESSAGE_OVERHEAD;

/// A channel of a transport: its SCTP stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u16);

/// What one `RTCDataChannel.send` sent. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The bytes; may be empty.
    pub payload: Bytes,
    /// A string, as opposed to binary.
    pub text: bool,
}

impl Message {
    /// The message with that protocol identifier (RFC 8831 §8), if it is one. SCTP can't carry an empty message, so an empty one has
    /// an identifier of its own and a byte that means nothing (RFC 8831 §6.6).
    pub(super) fn received(identifier: PayloadProtocolIdentifier, payload: Bytes) -> Option<Self> {
        match identifier {
            PayloadProtocolIdentifier::String => Some(Self { payload, text: true }),
            PayloadProtocolIdentifier::Binary => Some(Self { payload, text: false }),
            PayloadProtocolIdentifier::StringEmpty => Some(Self { payload: Bytes::new(), text: true }),
            PayloadProtocolIdentifier::BinaryEmpty => Some(Self { payload: Bytes::new(), text: false }),
            _ => None,
        }
    }

    pub(super) fn to_send(&self) -> (PayloadProtocolIdentifier, Bytes) {
        match (self.payload.is_empty(), self.text) {
            (false, true) => (PayloadProtocolIdentifier::String, self.payload.clone()),
            (false, false) => (PayloadProtocolIdentifier::Binary, self.payload.clone()),
            (true, true) => (PayloadProtocolIdentifier::StringEmpty, Bytes::from_static(&[0])),
            (true, false) => (PayloadProtocolIdentifier::BinaryEmpty, Bytes::from_static(&[0])),
        }
    }
}

/// How hard a message is tried to be delivered (RFC 8832 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// Until it is.
    Reliable,
    /// With so many retransmissions at most.
    Retransmits(u32),
    /// For so long at most.
    Lifetime(Duration),
}

impl Reliability {
    pub(super) fn parameters(self) -> (ReliabilityType, u32) {
        match self {
            Self::Reliable => (ReliabilityType::Reliable, 0),
            Self::Retransmits(count) => (ReliabilityType::Rexmit, count),
            Self::Lifetime(time) => {
                (ReliabilityType::Timed, u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
            }
        }
    }
}

/// What became of a message that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Queued,
    /// It is lost: the channel is unreliable and too much waits already.
    Lost,
    /// It can't be sent: the channel is reliable and too much waits already.
    TooSlow,
    /// There is no such channel, or it is closing.
    Closed,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) label: String,
    pub(super) ordered: bool,
    pub(super) reliability: Reliability,
    /// Closed by this side; the client has not confirmed it.
    pub(super) closing: bool,
    /// Lengths of the messages that are on their way, the oldest first.
    lengths: VecDeque<usize>,
    /// Sum of the lengths.
    length: usize,
}

impl Channel {
    /// A channel as it was asked for. `None` if its label is no UTF-8.
    pub(super) fn opened(open: DataChannelOpen) -> Option<Self> {
        let parameter = open.reliability_parameter;
        let lifetime = Duration::from_millis(parameter.into());
        let (ordered, reliability) = match open.channel_type {
            ChannelType::Reliable => (true, Reliability::Reliable),
            ChannelType::ReliableUnordered => (false, Reliability::Reliable),
            ChannelType::PartialReliableRexmit => (true, Reliability::Retransmits(parameter)),
            ChannelType::PartialReliableRexmitUnordered => (false, Reliability::Retransmits(parameter)),
            ChannelType::PartialReliableTimed => (true, Reliability::Lifetime(lifetime)),
            ChannelType::PartialReliableTimedUnordered => (false, Reliability::Lifetime(lifetime)),
            _ => return None,
        };
        let label = String::from_utf8(open.label).ok()?;
        Some(Self { label, ordered, reliability, closing: false, lengths: VecDeque::new(), length: 0 })
    }

    /// What waits, by the measure of [`super::MAX_BUFFERED`]. `buffered` are the bytes that the association holds.
    pub(super) fn waiting(&mut self, buffered: usize) -> usize {
        // The association tells bytes and no messages: the oldest are the ones that have left.
        while let Some(oldest) = self.lengths.front()
            && self.length - oldest >= buffered
        {
            self.length -= oldest;
            self.lengths.pop_front();
        }
        buffered + self.lengths.len() * MESSAGE_OVERHEAD
    }

    pub(super) fn note(&mut self, length: usize) {
        self.lengths.push_back(length);
        self.length += length;
    }
}
