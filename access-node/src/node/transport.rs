//! One client's connection and the sessions on it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kaigi_proto::ids::{ParticipantId, RoomId, SessionId, TrackId, TransportId};

use super::{
    Opened,
    adoption::Answers,
    data::{SessionData, TransportData},
    interest::Interest,
    layers::{Fed, Layering},
    repairs::Repairs,
};
use crate::{
    bandwidth::BandwidthEstimator,
    forward::{SentReports, TransportCcReceiver},
    ids::{Mid, Rid},
    keys::{SinkKey, SourceKey},
    pacing::Pacer,
    protect::Protection,
    sdp::{Kind, Negotiation, RemoteCredentials},
    transport::{Dtls, IceLite, Srtp},
};

/// How often sender and receiver reports are sent. Browsers take the first report for the time at which sound and picture can
/// be aligned, and measure losses by them.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time from the first check to the end of the DTLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most sources of a client that are told apart.
pub(super) const MAX_INCOMING: usize = 256;

/// What packets of a client's source are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A published track.
    Primary(SourceKey),
    /// Retransmissions of one.
    Rtx(SourceKey),
    /// Repair packets of one.
    Repair(SourceKey),
}

/// One track of a session.
#[derive(Debug)]
pub(super) struct SessionTrack {
    pub(super) kind: Kind,
    pub(super) mid: Mid,
    pub(super) role: Role,
}

#[derive(Debug)]
pub(super) enum Role {
    /// One that stands for the track until it is negotiated, and after if it has no layers.
    Published(Vec<Layer>),
    Subscribed {
        /// Absent as long as the agent has not named one of the negotiated format.
        from: Option<Fed>,
        active: bool,
        sink: Option<SinkKey>,
    },
}

/// A stream of a published track: the only one, or one of several of different sizes (simulcast).
#[derive(Debug)]
pub(super) struct Layer {
    /// What its packets say; `None` for the only one.
    pub(super) rid: Option<Rid>,
    pub(super) track: TrackId,
    pub(super) source: SourceKey,
}

/// A publication or subscription.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) tracks: Vec<SessionTrack>,
    pub(super) data: Option<SessionData>,
    pub(super) established: bool,
    /// Under which it was opened, or opened again.
    pub(super) epoch: u64,
}

impl Session {
    /// Without tracks yet.
    pub(super) fn new(opened: &Opened) -> Self {
        let data = opened.data.clone().map(SessionData::new);
        Self { tracks: Vec::new(), data, established: false, epoch: opened.epoch }
    }
}

/// How long it takes to a client and back.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// As measured last.
    pub(super) last: Option<Duration>,
    /// Receiver reference time reports to a client that publishes (RFC 3611 §4.4).
    pub(super) references: SentReports,
}

/// A client's connection.
#[derive(Debug)]
pub struct Transport {
    pub(super) id: TransportId,
    pub(super) room: RoomId,
    pub(super) participant: ParticipantId,
    pub(super) negotiation: Negotiation,
    pub(super) ice: IceLite,
    /// What was answered, for agents that have missed it.
    pub(super) answers: Answers,
    /// The client's credentials in its last offer; others in the next are a restart.
    pub(super) remote_ice: Option<RemoteCredentials>,
    /// From the first offer on.
    pub(super) dtls: Option<Dtls>,
    /// From the end of the handshake on: the transport is connected.
    pub(super) srtp: Option<Srtp>,
    pub(super) handshake_since: Option<Instant>,
    pub(super) data: TransportData,
    pub(super) sessions: HashMap<SessionId, Session>,
    pub(super) incoming: HashMap<u32, Incoming>,
    pub(super) outgoing: HashMap<u32, SinkKey>,
    pub(super) transport_cc: TransportCcReceiver,
    pub(super) next_transport_cc: u16,
    /// What the way to the client carries.
    pub(super) bandwidth: BandwidthEstimator,
    pub(super) round_trip: RoundTrip,
    /// How much of what it is sent is sent twice.
    pub(super) protection: Protection,
    pub(super) repairs: Repairs,
    /// How fast it leaves.
    pub(super) pacer: Pacer,
    /// What of that each picture gets.
    pub(super) layering: Layering,
    /// Which layers of what it publishes it was told that somebody wants.
    pub(super) interest: Interest,
    /// Own source in feedback to the client.
    pub(super) ssrc: u32,
    /// RTCP's canonical name.
    pub(super) name: String,
    pub(super) next_report: Option<Instant>,
}

impl Transport {
    pub(super) fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// When something is to be done for it.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let handshake =
            self.handshake_since.filter(|_| !self.is_connected()).map(|at| at + HANDSHAKE_TIMEOUT);
        [
            Some(self.ice.next_timeout()),
            handshake,
            self.dtls.as_ref().and_then(Dtls::next_timeout),
            self.transport_cc.next_timeout().filter(|_| self.is_connected()),
            self.next_report,
            self.layering.next_timeout(),
            self.interest.next_timeout(),
            self.data.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
