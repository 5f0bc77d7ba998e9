//! The processes that make a Kaigi.

use std::borrow::Cow;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Process {
    /// Registry and store; the others need it
    ClusterManager,
    /// Rooms
    ConferenceAgent,
    /// WebRTC and forwarding
    AccessNode,
    /// Mixed streams
    MixerNode,
    /// Recordings and broadcasts
    StreamingNode,
    /// Relays for clients in closed networks; runs only if it is wanted
    TurnServer,
    /// The edge for clients
    Portal,
    /// Plain RTP and UDP; runs with --gateway-port only
    RtpGateway,
}

impl Process {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 8] = [
        Self::ClusterManager,
        Self::ConferenceAgent,
        Self::AccessNode,
        Self::MixerNode,
        Self::StreamingNode,
        Self::TurnServer,
        Self::Portal,
        Self::RtpGateway,
    ];

    /// Whether it runs only where its port is given, and then once.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Self::TurnServer | Self::RtpGateway)
    }

    /// Its name in logs and in the configuration file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterManager => "cluster-manager",
            Self::ConferenceAgent => "conference-agent",
            Self::AccessNode => "access-node",
            Self::MixerNode => "mixer-node",
            Self::StreamingNode => "streaming-node",
            Self::TurnServer => "turn-server",
            Self::Portal => "portal",
            Self::RtpGateway => "rtp-gateway",
        }
    }

    /// By which option it is said how many run.
    #[must_use]
    pub fn count_flag(self) -> &'static str {
        match self {
            Self::ClusterManager => "--cluster-managers",
            Self::ConferenceAgent => "--conference-agents",
            Self::AccessNode => "--access-nodes",
            Self::MixerNode => "--mixer-nodes",
            Self::StreamingNode => "--streaming-nodes",
            Self::TurnServer => "--turn-port",
            Self::Portal => "--portals",
            Self::RtpGateway => "--gateway-port",
        }
    }

    /// Name of its program's file.
    #[must_use]
    pub fn program(self) -> String {
        format!("kaigi-{}", self.name())
    }
}

/// One of several processes of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Which kind.
    pub process: Process,
    /// Which one, from 1.
    pub number: u16,
}

impl Replica {
    /// Its name in logs: that of its kind, with a number from the second on.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        match self.number {
            0 | 1 => self.process.name().into(),
            number => format!("{}-{number}", self.process.name()).into(),
        }
    }

    /// How many there are before it.
    #[must_use]
    pub fn index(self) -> u16 {
        self.number.saturating_sub(1)
    }
}

impl From<Process> for Replica {
    /// The first one.
    fn from(process: Process) -> Self {
        Self { process, number: 1 }
    }
}
