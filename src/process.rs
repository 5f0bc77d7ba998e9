//! The six processes that make a Kaigi.

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
    /// The edge for clients
    Portal,
}

impl Process {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 6] = [
        Self::ClusterManager,
        Self::ConferenceAgent,
        Self::AccessNode,
        Self::MixerNode,
        Self::StreamingNode,
        Self::Portal,
    ];

    /// Its name in logs and in the configuration file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterManager => "cluster-manager",
            Self::ConferenceAgent => "conference-agent",
            Self::AccessNode => "access-node",
            Self::MixerNode => "mixer-node",
            Self::StreamingNode => "streaming-node",
            Self::Portal => "portal",
        }
    }

    /// Name of its program's file.
    #[must_use]
    pub fn program(self) -> String {
        format!("kaigi-{}", self.name())
    }
}
