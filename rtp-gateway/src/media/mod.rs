//! Plain RTP, RTCP and UDP: the side of the devices.

mod codec;
mod feedback;
mod outlet;
mod port;
mod relabel;

pub(crate) use codec::{Codec, Format};
pub(crate) use feedback::{concerns_device, for_device, from_device};
pub(crate) use outlet::Outlet;
pub(crate) use port::{Port, PortError, Ports, Use};
pub(crate) use relabel::{Arrival, Relabel};
