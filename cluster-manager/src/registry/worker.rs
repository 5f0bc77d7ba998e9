//! A worker as it registers, checked at the door.

use kaigi_proto::{
    ids::{IdError, WorkerId},
    v1,
};

use super::resources::{self, Use};

/// Most providers or regions that a worker may name.
const MAX_NAMES: usize = 64;
/// Longest endpoint, address, provider or region in bytes.
const MAX_TEXT: usize = 256;
/// Load above which a worker gets no new tasks if it does not say itself (OWT's `max_load`).
pub const DEFAULT_MAX_LOAD: f64 = 0.85;

/// Why a registration, heartbeat or question is refused.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum InvalidInput {
    /// The message has no worker.
    #[error("no worker given")]
    NoWorker,
    /// The worker's id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The purpose is unspecified or unknown.
    #[error("{0} is no purpose")]
    Purpose(i32),
    /// A load that is no number in 0..=1.
    #[error("{0} is not in 0..=1")]
    Load(f64),
    /// A resource of which that much can't be, or can't be used.
    #[error("{0} of {1} is no use of a resource")]
    Use(f64, f64),
    /// A text that is too long.
    #[error("{0} is longer than {MAX_TEXT} bytes")]
    TooLong(&'static str),
    /// A list that is too long.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A task without a name, or with one that is too long.
    #[error("a task needs a name of 1 to {MAX_TEXT} bytes")]
    Task,
}

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Socket.IO signaling and REST.
    Portal,
    /// Rooms.
    Conference,
    /// WebRTC.
    Access,
    /// Mixing and transcoding.
    Mixer,
    /// Recordings and broadcasts.
    Streaming,
    /// Plain RTP and UDP.
    Gateway,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Portal, Self::Conference, Self::Access, Self::Mixer, Self::Streaming, Self::Gateway];

    /// The name in options, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::Conference => "conference",
            Self::Access => "access",
            Self::Mixer => "mixer",
            Self::Streaming => "streaming",
            Self::Gateway => "gateway",
        }
    }

    /// Whether preferences of provider and region count: where clients or media go. Conference agents meet neither.
    #[must_use]
    pub fn is_matched(self) -> bool {
        match self {
            Self::Portal | Self::Access | Self::Mixer | Self::Streaming | Self::Gateway => true,
            Self::Conference => false,
        }
    }
}

impl TryFrom<i32> for Purpose {
    type Error = InvalidInput;

    fn try_from(number: i32) -> Result<Self, InvalidInput> {
        match v1::Purpose::try_from(number) {
            Ok(v1::Purpose::Portal) => Ok(Self::Portal),
            Ok(v1::Purpose::Conference) => Ok(Self::Conference),
            Ok(v1::Purpose::Access) => Ok(Self::Access),
            Ok(v1::Purpose::Mixer) => Ok(Self::Mixer),
            Ok(v1::Purpose::Streaming) => Ok(Self::Streaming),
            Ok(v1::Purpose::Gateway) => Ok(Self::Gateway),
            Ok(v1::Purpose::Unspecified) | Err(_) => Err(InvalidInput::Purpose(number)),
        }
    }
}

impl From<Purpose> for v1::Purpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Portal => Self::Portal,
            Purpose::Conference => Self::Conference,
            Purpose::Access => Self::Access,
            Purpose::Mixer => Self::Mixer,
            Purpose::Streaming => Self::Streaming,
            Purpose::Gateway => Self::Gateway,
        }
    }
}

/// Use of the resource that limits a worker, 0..=1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Load(f64);

impl Load {
    /// Takes a number for a load.
    ///
    /// # Errors
    /// If it is not in 0..=1.
    pub fn new(load: f64) -> Result<Self, InvalidInput> {
        if (0.0..=1.0).contains(&load) { Ok(Self(load)) } else { Err(InvalidInput::Load(load)) }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// What a worker does: a room id, a participant id, a token id; 1 to 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(std::sync::Arc<str>);

impl TaskId {
    /// Takes a text for a task.
    ///
    /// # Errors
    /// If it is empty or too long.
    pub fn new(text: &str) -> Result<Self, InvalidInput> {
        if text.is_empty() || text.len() > MAX_TEXT { Err(InvalidInput::Task) } else { Ok(Self(text.into())) }
    }

    /// The task as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A registered worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// New at each start of the process.
    pub id: WorkerId,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is called; empty if it never is.
    pub endpoint: String,
    /// As last reported.
    pub load: Load,
    /// What that is the largest share of.
    pub resources: Vec<Use>,
    /// By how much a task raises the load as a rule.
    pub task_share: Load,
    /// Above it there are no new tasks.
    pub max_load: Load,
    /// Providers served; empty = all.
    pub isps: Vec<String>,
    /// Regions served; empty = all.
    pub regions: Vec<String>,
    /// A portal's "host:port" for clients.
    pub public_address: String,
    /// Whether that is by TLS.
    pub secure: bool,
    /// Keeps its tasks and gets no new ones.
    pub draining: bool,
    /// Since when it is known, in milliseconds since 1970 UTC. Not the worker's to say.
    pub registered_ms: u64,
    /// What a mixer analyses pictures by, beside the filters.
    pub algorithms: Vec<String>,
}

impl Worker {
    /// Whether all that it says of itself but the load, which changes all the time, is the same.
    #[must_use]
    pub fn is_same_but_for_load(&self, other: &Self) -> bool {
        *self
            == Self {
                load: self.load,
                resources: self.resources.clone(),
                registered_ms: self.registered_ms,
                ..other.clone()
            }
    }
}

impl TryFrom<v1::Worker> for Worker {
    type Error = InvalidInput;

    fn try_from(wire: v1::Worker) -> Result<Self, InvalidInput> {
        let short =
            |text: &str, what| if text.len() > MAX_TEXT { Err(InvalidInput::TooLong(what)) } else { Ok(()) };
        short(&wire.endpoint, "endpoint")?;
        short(&wire.public_address, "public_address")?;
        for (names, what) in
            [(&wire.isps, "isps"), (&wire.regions, "regions"), (&wire.algorithms, "algorithms")]
        {
            if names.len() > MAX_NAMES {
                return Err(InvalidInput::TooMany(what));
            }
            names.iter().try_for_each(|name| short(name, what))?;
        }
        Ok(Self {
            id: WorkerId::new(&wire.worker_id)?,
            purpose: wire.purpose.try_into()?,
            endpoint: wire.endpoint,
            load: Load::new(wire.load)?,
            resources: resources::parse(&wire.resources)?,
            task_share: Load::new(wire.task_share)?,
            max_load: Load::new(if wire.max_load == 0.0 { DEFAULT_MAX_LOAD } else { wire.max_load })?,
            isps: wire.isps,
            regions: wire.regions,
            public_address: wire.public_address,
            secure: wire.secure,
            draining: wire.draining,
            registered_ms: wire.registered_ms,
            algorithms: wire.algorithms,
        })
    }
}

impl From<Worker> for v1::Worker {
    fn from(worker: Worker) -> Self {
        Self {
            worker_id: worker.id.into(),
            purpose: v1::Purpose::from(worker.purpose).into(),
            endpoint: worker.endpoint,
            load: worker.load.get(),
            max_load: worker.max_load.get(),
            isps: worker.isps,
            regions: worker.regions,
            public_address: worker.public_address,
            secure: worker.secure,
            draining: worker.draining,
            tasks: 0,
            registered_ms: worker.registered_ms,
            algorithms: worker.algorithms,
            resources: worker.resources.into_iter().map(Into::into).collect(),
            task_share: worker.task_share.get(),
        }
    }
}
