//! Rooms and peers, as the processes call them through which people and devices come.
//!
//! [`Rooms`] finds the agent that has a room. [`Rooms::join`] takes a [`Seat`] there, on which streams are published and subscribed by one offer
//! and answer; what the room tells comes by [`Events`]. Seat and events stay when another agent takes the room over ([`RoomAgent`]).
//! [`PeerHub::enter`] takes a seat among peers, which is kept while the hub is away.
//! [`TurnSecret`] makes credentials by which they reach TURN servers.

mod agent;
mod call;
mod events;
mod join;
mod peers;
mod rooms;
mod seat;
mod turn;

use std::time::Duration;

use kaigi_proto::v1::conference_client::ConferenceClient;
use kaigi_worker::Channel;

pub use agent::{Located, RoomAgent, TAKE_OVER};
pub use call::{CallError, request, within};
pub use events::Events;
pub use join::{Newcomer, Seated};
pub use peers::{PeerEntered, PeerHub, PeerNews, PeerSeat};
pub use rooms::Rooms;
pub use seat::{Line, Seat, new_request_id};
pub use turn::{TurnAccess, TurnSecret};

/// Longest wait for the cluster-manager.
pub const CLUSTER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a room to do what it is asked (OWT's default for calls between its parts).
pub const ROOM_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest wait for an answer to an offer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// A client of one conference-agent.
pub type Conference = ConferenceClient<Channel>;
