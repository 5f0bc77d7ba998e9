//! The edge for clients: Socket.IO signaling, tokens, management REST, web pages.
//!
//! The portal holds no room and no media. It proves who a client is, turns the client's JSON into calls to the conference-agent that
//! has the room, and turns what the room tells into JSON. Two ports face the outside: one for clients (signaling, web pages, health)
//! and one for the management API.

mod args;
mod backend;
mod clock;
mod echo;
mod health;
mod ice_servers;
mod ident;
mod owt_peers;
mod peers;
mod portal;
mod protocol;
mod proxied;
mod public_host;
mod rest;
mod seal;
mod signaling;
mod ticket;
mod tls;
mod token;
mod web;
mod whip;

pub use args::{Args, TlsMode};
pub use ice_servers::{IceServer, InvalidIceServer};
pub use peers::PeerRoomsMode;
pub use portal::Portal;

use kaigi_telemetry::Health;

/// Runs a portal until SIGTERM, at which it drains, or SIGINT.
///
/// # Errors
/// If a port can't be listened on or the certificate is not to be had.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let portal = Portal::bind(args, Health::install()?).await?;
    portal.run(kaigi_worker::Shutdown::on_signal()).await
}
