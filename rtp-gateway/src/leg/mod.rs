//! One WebRTC connection: a leg. Its far side is a conference or another peer; who that is, and how descriptions get there, it does not know.

mod deliver;
mod lane;
mod sdp;
mod transport;

pub(crate) use lane::{Lane, LanePlan, Lanes, MediaPlan, Redirect};
pub(crate) use sdp::{Offered, bandwidth_limited, lines};
pub(crate) use transport::{Directions, Leg, LegEvent, LegSettings};
