//! The command line.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{ArgAction, Parser, ValueEnum};
use kaigi_room_client::TurnSecret;
use kaigi_telemetry::LogArgs;
use kaigi_worker::WorkerArgs;

use crate::{ice_servers::IceServer, peers::PeerRoomsMode, web::parse_api};

/// The edge for clients: Socket.IO signaling, tokens, management REST, web pages
#[derive(Clone, Debug, Parser)]
#[command(name = "kaigi-portal", version)]
pub struct Args {
    /// Logs.
    #[command(flatten)]
    pub logs: LogArgs,
    /// The cluster.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// Address that clients connect to
    #[arg(long, env = "KAIGI_BIND", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind: IpAddr,
    /// Port for signaling, web pages and health; 0 takes a free one
    #[arg(long, env = "KAIGI_HTTP_PORT", default_value_t = 8080)]
    pub http_port: u16,
    /// Port for the management API; 0 takes a free one
    #[arg(long, env = "KAIGI_MANAGEMENT_PORT", default_value_t = 3000)]
    pub management_port: u16,
    /// Address at which the turn-server, or another proxy that ends TLS, passes clients on, each behind a header of the PROXY protocol, version 2
    /// [default: none]. Whoever reaches it may claim to be anybody
    #[arg(long, env = "KAIGI_PROXY_LISTEN", requires = "proxy_port")]
    pub proxy_listen: Option<SocketAddr>,
    /// Port at which clients reach that proxy: tokens name it, and that it has TLS
    #[arg(long, env = "KAIGI_PROXY_PORT", requires = "proxy_listen", value_parser = clap::value_parser!(u16).range(1..))]
    pub proxy_port: Option<u16>,
    /// Host name or address, with or without a port, that tokens name; default: what the one who asked for the token used
    #[arg(long, env = "KAIGI_PUBLIC_HOST")]
    pub public_host: Option<String>,
    /// Web origins whose pages may use the signaling port, separated by commas; * = all
    #[arg(long, env = "KAIGI_CORS", value_delimiter = ',', default_value = "*")]
    pub cors: Vec<String>,
    /// STUN and TURN servers that clients are told of, separated by commas: stun:HOST:PORT, turn:USER:CREDENTIAL@HOST:PORT?transport=udp,
    /// and with --turn-secret turn:HOST:PORT
    #[arg(long, env = "KAIGI_ICE_SERVERS", value_delimiter = ',', hide_env_values = true)]
    pub ice_servers: Vec<IceServer>,
    /// Likewise, those of the TURN server that the launcher runs: told after the others
    #[arg(long, env = "KAIGI_OWN_ICE_SERVERS", value_delimiter = ',', hide_env_values = true)]
    pub own_ice_servers: Vec<IceServer>,
    /// Secret shared with the TURN servers that have no user above (coturn's static-auth-secret): each client gets credentials of its own
    #[arg(long, env = "KAIGI_TURN_SECRET", hide_env_values = true)]
    pub turn_secret: Option<TurnSecret>,
    /// Seconds that these credentials are good for
    #[arg(long, env = "KAIGI_TURN_LIFETIME", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(60..=2_592_000))]
    pub turn_lifetime: u64,
    /// Who may enter peer-to-peer rooms
    #[arg(long, env = "KAIGI_PEER_ROOMS", value_enum, default_value_t = PeerRoomsMode::Open)]
    pub peer_rooms: PeerRoomsMode,
    /// Port for clients of OWT's peer-to-peer mode, who expect 8095, or 8096 with TLS; default: not served. 0 takes a free one
    #[arg(long, env = "KAIGI_OWT_PEER_PORT")]
    pub owt_peer_port: Option<u16>,
    /// Sessions at a time that get their own picture and sound back from POST /echo/offer, whoever asks; 0 = not served. Each may cost a decoder, a
    /// filter and an encoder
    #[arg(long, env = "KAIGI_ECHO_SESSIONS", default_value = "0", value_parser = within::<0, 256>)]
    pub echo_sessions: usize,
    /// Port on which the same is at /offer, for clients that know no path; default: none. 0 takes a free one
    #[arg(long, env = "KAIGI_ECHO_PORT")]
    pub echo_port: Option<u16>,
    /// Seconds between two pings of a signaling connection
    #[arg(long, env = "KAIGI_PING_INTERVAL", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub ping_interval: u64,
    /// Seconds for which the answer to a ping is waited for; then the connection counts as broken
    #[arg(long, env = "KAIGI_PING_TIMEOUT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub ping_timeout: u64,
    /// Seconds after which a connection that is not logged in is closed
    #[arg(long, env = "KAIGI_LOGIN_TIMEOUT", default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub login_timeout: u64,
    /// Largest message of a client, in bytes; a request with a large SDP is one message
    #[arg(long, env = "KAIGI_MAX_MESSAGE_BYTES", default_value = "1000000", value_parser = within::<65_536, 16_000_000>)]
    pub max_message_bytes: usize,
    /// Packets that wait for a client that reads slowly; with more it is disconnected
    #[arg(long, env = "KAIGI_MAX_WAITING_PACKETS", default_value = "4096", value_parser = within::<64, 65_536>)]
    pub max_waiting_packets: usize,
    /// Signaling connections at a time; each idle one costs some 20 kB
    #[arg(long, env = "KAIGI_MAX_CONNECTIONS", default_value = "20000", value_parser = within::<1, 1_000_000>)]
    pub max_connections: usize,
    /// Milliseconds between two messages to a room about what a client has got, at least
    #[arg(long, env = "KAIGI_ACKNOWLEDGE_INTERVAL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub acknowledge_interval_ms: u64,
    /// Seconds for which the place of a client whose connection broke is kept; 0 = it has left at once
    #[arg(long, env = "KAIGI_RECONNECTION_TIMEOUT", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub reconnection_timeout: u64,
    /// Seconds for which a reconnection ticket is good; clients ask for a new one a minute before
    #[arg(long, env = "KAIGI_RECONNECTION_TICKET_LIFETIME", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub reconnection_ticket_lifetime: u64,
    /// Seconds by which the clock of a management client may be wrong; its signed requests are good once within that time.
    /// 0 = clocks and repeated requests are not looked at, as in OWT
    #[arg(long, env = "KAIGI_MAUTH_WINDOW", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub mauth_window: u64,
    /// Encryption of both ports
    #[arg(long, env = "KAIGI_TLS", value_enum, default_value_t = TlsMode::Off)]
    pub tls: TlsMode,
    /// Certificate chain (PEM), for --tls files
    #[arg(long, env = "KAIGI_TLS_CERT", required_if_eq("tls", "files"))]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM), for --tls files
    #[arg(long, env = "KAIGI_TLS_KEY", required_if_eq("tls", "files"))]
    pub tls_key: Option<PathBuf>,
    /// Directory where the self-signed certificate is kept
    #[arg(long, env = "KAIGI_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Directory of the built web pages; default: web/dist here, or web pages beside the program
    #[arg(long, env = "KAIGI_WEB_ROOT")]
    pub web_root: Option<PathBuf>,
    /// Address of the management API as browsers reach it, for the console; default: the page's host, with the management port
    #[arg(long, env = "KAIGI_CONSOLE_API", value_name = "URL", value_parser = parse_api)]
    pub console_api: Option<String>,
    /// Whether POST /sample/tokens gives tokens to everybody, for the sample application
    #[arg(long, env = "KAIGI_SAMPLE", action = ArgAction::Set, default_value_t = true)]
    pub sample: bool,
}

/// A number from `MIN` to `MAX`.
fn within<const MIN: usize, const MAX: usize>(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    if (MIN..=MAX).contains(&number) { Ok(number) } else { Err(format!("{number} is not in {MIN}..={MAX}")) }
}

/// Encryption of the ports for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// Plain HTTP.
    Off,
    /// A certificate made at the first start.
    SelfSigned,
    /// A certificate from files.
    Files,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let args = Args::try_parse_from(["kaigi-portal"]).unwrap();
        assert_eq!(
            (args.http_port, args.management_port, args.tls, args.sample),
            (8080, 3000, TlsMode::Off, true)
        );
        assert_eq!(args.cors, ["*"]);
    }

    #[test]
    fn limits_have_bounds() {
        for (flag, good, bad) in [
            ("--ping-interval", ["1", "300"], ["0", "301"]),
            ("--echo-sessions", ["0", "256"], ["-1", "257"]),
            ("--ping-timeout", ["1", "300"], ["0", "301"]),
            ("--login-timeout", ["1", "3600"], ["0", "3601"]),
            ("--max-message-bytes", ["65536", "16000000"], ["65535", "16000001"]),
            ("--max-waiting-packets", ["64", "65536"], ["63", "x"]),
            ("--max-connections", ["1", "1000000"], ["0", "-1"]),
            ("--acknowledge-interval-ms", ["10", "60000"], ["9", "60001"]),
            ("--reconnection-timeout", ["0", "86400"], ["86401", "-1"]),
        ] {
            let parses =
                |value: &str| Args::try_parse_from(["p".to_owned(), format!("{flag}={value}")]).is_ok();
            assert_eq!((good.map(parses), bad.map(parses)), ([true; 2], [false; 2]), "{flag}");
        }
    }

    #[test]
    fn a_proxy_has_a_port_for_clients() {
        let parses = |args: &[&str]| Args::try_parse_from([&["p"], args].concat()).is_ok();
        assert!(parses(&["--proxy-listen", "127.0.0.1:8090", "--proxy-port", "443"]));
        assert!(!parses(&["--proxy-listen", "127.0.0.1:8090"]));
        assert!(!parses(&["--proxy-port", "443"]));
    }

    #[test]
    fn tls_from_files_needs_the_files() {
        assert!(Args::try_parse_from(["kaigi-portal", "--tls", "files"]).is_err());
        assert!(Args::try_parse_from(["p", "--tls", "files", "--tls-cert", "c", "--tls-key", "k"]).is_ok());
        assert!(!Args::try_parse_from(["p", "--sample", "false"]).unwrap().sample);
    }
}
