//! The command line.

use std::net::{IpAddr, SocketAddr};

use clap::Parser;
use kaigi_room_client::TurnSecret;
use kaigi_telemetry::LogArgs;
use kaigi_worker::WorkerArgs;

use crate::ice::IceServer;

/// Brings devices that speak plain RTP and UDP into conferences, and to other peers
#[derive(Clone, Debug, Parser)]
#[command(name = "kaigi-rtp-gateway", version)]
pub struct Args {
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the cluster is.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// Address of the REST API. Whoever reaches it may open ports and have packets sent to any address
    #[arg(long, env = "KAIGI_GATEWAY_LISTEN", default_value = "127.0.0.1:8000")]
    pub api_listen: SocketAddr,
    /// IP address on which devices' RTP, RTCP and data are received
    #[arg(long, env = "KAIGI_GATEWAY_RTP_ADDRESS", default_value = "127.0.0.1")]
    pub rtp_address: IpAddr,
    /// IP addresses for WebRTC, separated by commas; 0.0.0.0 or :: stands for those of all interfaces
    #[arg(long, env = "KAIGI_GATEWAY_WEBRTC_ADDRESS", default_value = "0.0.0.0", value_delimiter = ',')]
    pub webrtc_address: Vec<IpAddr>,
    /// STUN and TURN servers for calls between peers, by UDP, separated by commas: stun:HOST[:PORT], turn:USER:CREDENTIAL@HOST[:PORT],
    /// and with --turn-secret turn:HOST[:PORT]
    #[arg(long, env = "KAIGI_GATEWAY_ICE_SERVERS", value_delimiter = ',', hide_env_values = true)]
    pub ice_servers: Vec<IceServer>,
    /// Likewise, the TURN server that the launcher runs: used besides the others
    #[arg(long, env = "KAIGI_GATEWAY_OWN_ICE_SERVERS", value_delimiter = ',', hide_env_values = true)]
    pub own_ice_servers: Vec<IceServer>,
    /// Secret shared with the TURN servers that have no user above: each leg gets a credential of its own
    #[arg(long, env = "KAIGI_TURN_SECRET", hide_env_values = true)]
    pub turn_secret: Option<TurnSecret>,
    /// Make peers only with a credential that is signed with their service's key
    #[arg(long, env = "KAIGI_GATEWAY_REQUIRE_CREDENTIALS")]
    pub require_credentials: bool,
    /// Seconds after which a request for events is answered without one (408)
    #[arg(long, env = "KAIGI_GATEWAY_EVENT_TIMEOUT", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub event_timeout: u64,
    /// Most peers at a time, of each service
    #[arg(long, env = "KAIGI_GATEWAY_MAX_PEERS", default_value_t = 200)]
    pub max_peers: usize,
    /// Most ports for RTP, RTCP and data at a time, of all services
    #[arg(long, env = "KAIGI_GATEWAY_MAX_PORTS", default_value_t = 800)]
    pub max_ports: usize,
    /// Most connections of media and data at a time, of each service
    #[arg(long, env = "KAIGI_GATEWAY_MAX_CONNECTIONS", default_value_t = 200)]
    pub max_connections: usize,
}
