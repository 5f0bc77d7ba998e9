//! What is counted, as plain numbers; the shell turns them into metrics.

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// RTP packets from clients.
    pub packets_in: u64,
    /// Their bytes, as received.
    pub bytes_in: u64,
    /// RTP packets to clients, retransmissions among them.
    pub packets_out: u64,
    /// Their bytes, as sent.
    pub bytes_out: u64,
    /// RTP packets from other nodes.
    pub link_packets_in: u64,
    /// RTP packets to other nodes.
    pub link_packets_out: u64,
    /// RTP packets from other workers of the process.
    pub worker_packets_in: u64,
    /// RTP packets to other workers of the process.
    pub worker_packets_out: u64,
    /// Packets that publishers were asked for again.
    pub nacks_out: u64,
    /// NACK packets from subscribers.
    pub nacks_in: u64,
    /// Packets that subscribers were sent again.
    pub retransmissions: u64,
    /// Key frames that publishers were asked for.
    pub key_frame_requests_out: u64,
    /// Key frames that subscribers asked for.
    pub key_frame_requests_in: u64,
    /// Transport-wide feedback from subscribers.
    pub transport_cc_in: u64,
    /// Datagrams that belong to nobody.
    pub strangers: u64,
    /// Datagrams of clients that were malformed, not authentic or of no known stream.
    pub malformed: u64,
    /// ICE restarts of clients.
    pub ice_restarts: u64,
    /// Messages of publishers' data channels.
    pub data_messages_in: u64,
    /// Their bytes.
    pub data_bytes_in: u64,
    /// Messages on subscribers' data channels.
    pub data_messages_out: u64,
    /// Their bytes.
    pub data_bytes_out: u64,
    /// Messages that unreliable channels had no room for.
    pub data_lost: u64,
    /// Subscriptions that were ended because their reliable channels had no room.
    pub data_slow_receivers: u64,
    /// Messages of data from other nodes.
    pub data_link_messages_in: u64,
    /// Messages of data to other nodes.
    pub data_link_messages_out: u64,
    /// Transports that failed.
    pub transports_failed: u64,
}
