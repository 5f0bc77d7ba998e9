//! The command line.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

use clap::Parser;
use kaigi_telemetry::LogArgs;
use kaigi_worker::WorkerArgs;

/// As many broadcasts as a core bears.
const PIPELINES_PER_CORE: f64 = 32.0;

/// Records streams, pushes them to live servers, and pulls others in
#[derive(Clone, Debug, Parser)]
#[command(name = "kaigi-streaming-node", version)]
pub struct Args {
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the cluster is.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// IP address for media between nodes, reachable from all of them
    #[arg(long, env = "KAIGI_LINK_ADDRESS", default_value = "127.0.0.1")]
    pub link_address: IpAddr,
    /// Folder of recordings
    #[arg(long, env = "KAIGI_RECORDINGS", default_value = "recordings", value_name = "DIR")]
    pub recordings: PathBuf,
    /// Where recordings are stored when they are complete: s3://BUCKET/PREFIX (with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, of
    /// another service than Amazon's, AWS_ENDPOINT in the environment), or file:///DIR
    #[arg(long, env = "KAIGI_RECORDINGS_STORE", value_name = "URL")]
    pub recordings_store: Option<url::Url>,
    /// Remove files of recordings from their folder once they are stored; manifests stay
    #[arg(long, env = "KAIGI_MOVE_RECORDINGS", requires = "recordings_store")]
    pub move_recordings: bool,
    /// Let broadcasts go to, and streams come from, servers with private, loopback or link-local addresses
    #[arg(long, env = "KAIGI_PRIVATE_TARGETS")]
    pub private_targets: bool,
    /// Host names that broadcasts may go to, separated by commas; empty = all
    #[arg(long, env = "KAIGI_BROADCAST_HOSTS", value_delimiter = ',')]
    pub broadcast_hosts: Vec<String>,
    /// Host names that streams may be pulled from, separated by commas; empty = all
    #[arg(long, env = "KAIGI_INGEST_HOSTS", value_delimiter = ',')]
    pub ingest_hosts: Vec<String>,
    /// Folder of files that may be pulled into rooms by file: URLs; without one none may be
    #[arg(long, env = "KAIGI_INGEST_FILES", value_name = "DIR")]
    pub ingest_files: Option<PathBuf>,
    /// Address where encoders push streams into rooms by RTMP (0.0.0.0:1935, for example); without one nobody can
    #[arg(long, env = "KAIGI_RTMP_LISTEN", value_name = "ADDR")]
    pub rtmp_listen: Option<SocketAddr>,
    /// URL that encoders are told to push to, without a stream key; default: rtmp://HOST:PORT/live by --rtmp-listen or --internal-host
    #[arg(long, env = "KAIGI_RTMP_URL", requires = "rtmp_listen", value_name = "URL")]
    pub rtmp_url: Option<url::Url>,
    /// UDP ports where encoders push streams into rooms by SRT, one for each (9000-9099, for example); without them nobody can
    #[arg(long, env = "KAIGI_SRT_PORTS", value_name = "FIRST-LAST", value_parser = port_range)]
    pub srt_ports: Option<RangeInclusive<u16>>,
    /// Host name or address that encoders are told to push to by SRT; default: --internal-host, or localhost
    #[arg(long, env = "KAIGI_SRT_HOST", requires = "srt_ports", value_name = "HOST")]
    pub srt_host: Option<String>,
    /// Address where broadcasts by HLS and DASH can be stored and fetched by HTTP (0.0.0.0:8090, for example); without one they need another server
    #[arg(long, env = "KAIGI_HLS_LISTEN", requires = "hls_key", value_name = "ADDR")]
    pub hls_listen: Option<SocketAddr>,
    /// What a broadcast's URL has to have as ?key=… to be stored there; letters and digits
    #[arg(long, env = "KAIGI_HLS_KEY", value_name = "KEY", value_parser = key, hide_env_values = true)]
    pub hls_key: Option<String>,
    /// Picture (PNG or JPEG) that broadcasts show while their source is away; without one a plain one is shown
    #[arg(long, env = "KAIGI_SLATE", value_name = "FILE")]
    pub slate: Option<PathBuf>,
    /// Recordings, broadcasts and streams in that this node is to have at most; near that number (--max-load of it) it gets no more rooms; default: 32 a core
    #[arg(long, env = "KAIGI_MAX_PIPELINES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_pipelines: Option<u32>,
    /// Check that all needed GStreamer elements are installed, then end: with status 0, or with 1 and a line for each missing one
    #[arg(long)]
    pub check_plugins: bool,
}

impl Args {
    /// How many recordings, broadcasts and streams in it is to have at most.
    #[must_use]
    pub fn pipelines(&self) -> f64 {
        self.max_pipelines.map_or(PIPELINES_PER_CORE * kaigi_worker::cores(), f64::from)
    }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err("ports are FIRST-LAST, or one port".to_owned()),
    }
}

/// One that can't be guessed, and means nothing but itself in URLs.
fn key(text: &str) -> Result<String, String> {
    match (16..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        true => Ok(text.to_owned()),
        false => Err("a key has 16 to 128 letters and digits".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_plain() {
        assert_eq!(key("0123456789abcdEF").as_deref(), Ok("0123456789abcdEF"));
        for bad in ["", "short", "0123456789abcde&", &"a".repeat(129)] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_may_store_has_to_be_said() {
        let parse = |args: &[&str]| Args::try_parse_from([&["kaigi-streaming-node"], args].concat());
        assert!(parse(&["--hls-listen", "127.0.0.1:0", "--hls-key", "0123456789abcdef"]).is_ok());
        assert!(parse(&["--hls-listen", "127.0.0.1:0"]).is_err());
    }

    #[test]
    fn ports_are_a_range() {
        assert_eq!(port_range("9000-9099"), Ok(9000..=9099));
        assert_eq!(port_range("9000"), Ok(9000..=9000));
        for bad in ["", "0", "9-8", "a-b", "1-70000", "1-2-3"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }
}
