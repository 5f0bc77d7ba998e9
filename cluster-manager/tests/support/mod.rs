//! Real processes: cluster-managers, and the Redis below them.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use kaigi_proto::{
    auth::ClusterSecret,
    v1::{Collection, GetRequest, store_client::StoreClient},
};
use kaigi_worker::{Channel, Channels};
use serde_json::Value;
use tonic::Code;

/// Reached only if a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "secret of the tests";

/// Killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster-manager on a free port, when it serves. `store` waits for it to lead.
pub(crate) struct Manager {
    pub(crate) process: Process,
    /// "http://host:port".
    pub(crate) endpoint: String,
    pub(crate) store: StoreClient<Channel>,
}

impl Manager {
    pub(crate) async fn start(dir: &Path, more: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kaigi-cluster-manager"))
            .args(["--listen", "127.0.0.1:0", "--log", "info", "--log-format", "json", "--data-dir"])
            .arg(dir)
            .args(more)
            .env("KAIGI_CLUSTER_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, address) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut told = Some(told);
            // Read to the end, so that it can go on writing.
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "cluster-manager serves"
                    && let Some(told) = told.take()
                {
                    told.send(line["address"].as_str().unwrap().to_owned()).unwrap();
                }
            }
        });
        let process = Process(child);
        let address = tokio::time::timeout(DEADLINE, address).await.unwrap().expect("it starts");
        let endpoint = format!("http://{address}");
        let channel = Channels::new(ClusterSecret::new(SECRET)).to_cluster(&endpoint).unwrap();
        Self { process, endpoint, store: StoreClient::new(channel) }
    }

    /// A document; asked again while the manager, on a machine that stood still for longer than its lease, does not lead.
    pub(crate) async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let ask = GetRequest { collection: Collection::Rooms.into(), key: key.to_owned() };
            match self.store.clone().get(ask).await {
                Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answer => return answer.unwrap().into_inner().value,
            }
        }
    }
}

pub(crate) fn redis(dir: &Path, port: u16) -> Process {
    let redis = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(dir)
        .stdout(Stdio::null())
        .spawn();
    let mut redis = Process(redis.expect("redis-server is needed (scripts/setup.sh --test brings it)"));
    let deadline = Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(redis.0.try_wait().unwrap().is_none(), "redis-server has ended");
        assert!(Instant::now() < deadline, "redis-server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    redis
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
