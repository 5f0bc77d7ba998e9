//! The access node without I/O: rooms' transports and sessions, their datagrams, and the links to other nodes. Calls, datagrams and times
//! go in; datagrams, events and calls to other nodes come out ([`Output`]).

mod adoption;
mod counters;
mod crossings;
mod data;
mod data_exchange;
mod data_link;
mod datagrams;
mod error;
mod interest;
mod ladder;
mod layers;
mod links;
mod media;
mod net;
mod output;
mod protect;
mod remote;
mod repairs;
pub mod request;
mod sessions;
mod signaling;
mod singles;
mod speakers;
mod stats;
mod transport;

pub use adoption::{Adopted, AdoptedSession};
pub use counters::Counters;
pub use crossings::{Crossing, Crossings, record_length};
pub use data_link::{ConsumerId, DataCall};
pub use datagrams::{Datagram, Datagrams, LinkDatagrams};
pub use error::NodeError;
pub use ladder::Known;
pub use links::{Attachment, Flow, Notice, Supplied};
pub use output::{LinkCall, Output};
pub use request::{
    AudioSelection, DataRole, DataSource, Feed, Labels, LayerWish, Opened, PublicationTrack, SelectedAudio,
    Slot, SubscriptionTrack, TrackSource,
};
pub use transport::Transport;

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use kaigi_proto::ids::{AttachmentId, TransportId, WorkerId};
use rand::{RngCore, SeedableRng, rngs::StdRng};

use self::{links::Links, net::Net};
use crate::{
    forward::{Forwarder, NtpClock},
    ids::Ssrc,
    keys::{AttachmentKey, TransportKey},
    transport::Certificate,
};

/// Bounds of what agents and clients can make the node keep.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Transports of this worker. One costs about 20 kB without media, 50 kB with.
    pub transports: usize,
    /// Sessions of one transport.
    pub sessions: usize,
    /// Flows to and from other nodes, each.
    pub links: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { transports: 5_000, sessions: 128, links: 10_000 }
    }
}

/// What a node is and where it can be reached.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Own id, by which sources on this node are recognised.
    pub worker: WorkerId,
    /// For DTLS.
    pub certificate: Certificate,
    /// Values of the candidate attributes of all answers.
    pub candidates: Vec<String>,
    /// Where other nodes' media comes in.
    pub link_address: SocketAddr,
    /// See [`Limits`].
    pub limits: Limits,
}

/// One worker's state.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    rng: StdRng,
    clock: NtpClock,
    by_id: HashMap<TransportId, TransportKey>,
    forward: Forwarder,
    net: Net,
    by_attachment: HashMap<AttachmentId, AttachmentKey>,
    /// Where packets are decrypted.
    plain: Vec<u8>,
    /// What a client says that it has not got.
    lost: Vec<(Ssrc, u16)>,
}

impl Node {
    /// A node without transports. `wall` is the time of day at `now`; `seed` makes ids, credentials and numbers.
    #[must_use]
    pub fn new(now: Instant, wall: SystemTime, seed: [u8; 32], config: NodeConfig) -> Self {
        Self {
            net: Net::new(Links::default()),
            config,
            rng: StdRng::from_seed(seed),
            clock: NtpClock::new(now, wall),
            by_id: HashMap::new(),
            forward: Forwarder::default(),
            by_attachment: HashMap::new(),
            plain: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// What came out since the last time. Packets that were to be forwarded are in it after [`Self::deliver`].
    pub fn output(&mut self) -> &mut Output {
        &mut self.net.output
    }

    /// Forwards what has come in, but what still waits for the rest of its frame. `leave` is called again and again and may send what was written
    /// so far; it gives the time then.
    pub fn deliver(&mut self, now: Instant, mut leave: impl FnMut(&mut Output) -> Option<Instant>) {
        self.forward.deliver(now, &mut self.net, |net| leave(&mut net.output));
        self.release_left();
    }

    /// Forwards all that has come in, as if nothing more of any frame were to come.
    pub fn deliver_all(&mut self, now: Instant) {
        self.forward.deliver_all(now, &mut self.net);
        self.release_left();
    }

    /// Whether something has come in that is to be forwarded, and all of it waits for the rest of its frame.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        self.forward.only_waits()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.net.counters
    }

    /// How many transports there are.
    #[must_use]
    pub fn transports(&self) -> usize {
        self.net.transports.len()
    }

    /// Whether there is such a transport.
    #[must_use]
    pub fn has_transport(&self, transport: &TransportId) -> bool {
        self.by_id.contains_key(transport)
    }

    /// How many tracks and streams there are.
    #[must_use]
    pub fn streams(&self) -> (usize, usize) {
        self.forward.counts()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        [
            self.net.timers.earliest(),
            self.net.paced.earliest(),
            self.net.links.timers.earliest(),
            self.forward.next_timeout(),
            self.forward.voices_due(),
            self.net.data.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.net.release_paced(now);
        self.forward.handle_timeout(now, &mut self.net);
        self.speakers_timeout(now);
        while let Some(key) = self.net.timers.pop_due(now) {
            self.transport_timeout(now, key);
        }
        self.handle_link_timeouts(now);
        self.handle_data_timeouts(now);
        self.run_data(now);
    }

    fn random_text(&mut self, bytes: usize) -> String {
        (0..bytes).map(|_| format!("{:02x}", self.rng.next_u32() as u8)).collect()
    }
}
