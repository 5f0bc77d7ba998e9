//! Notices at once that a worker's process is dead, where its machine lives: the connection that is held to each worker breaks, and its address
//! refuses another one. A process that stands still or is slow keeps its connection, as the kernel answers for it, and a machine that can't be
//! reached refuses nothing; about these its lease decides.

use std::{
    collections::HashMap,
    io::ErrorKind,
    time::{Duration, Instant},
};

use kaigi_proto::ids::WorkerId;
use tokio::{io::AsyncReadExt, net::TcpStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Hub, Watch},
    registry::{Event, Worker},
};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause after an attempt that says nothing.
const AGAIN: Duration = Duration::from_millis(500);
/// Pause before the second refusal: only one who refuses twice is dead.
const CONFIRM: Duration = Duration::from_millis(20);
/// Connections that break sooner are not made again at once.
const SHORT: Duration = Duration::from_millis(200);

/// Looks after all workers until `stop`.
pub(crate) async fn look_after_all(hub: Hub, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Ok(watch) = hub.watch() {
            tokio::select! {
                () = look_after(&hub, watch) => {}
                () = stop.cancelled() => return,
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Ends with the watch.
async fn look_after(hub: &Hub, mut watch: Watch) {
    let mut probes: HashMap<WorkerId, Probe> = HashMap::new();
    let begin = |worker: Worker, probes: &mut HashMap<WorkerId, Probe>| {
        if let Some(address) = address(&worker.endpoint)
            && !probes.contains_key(&worker.id)
        {
            let (hub, id) = (hub.clone(), worker.id.clone());
            let probe = tokio::spawn(async move {
                until_dead(&address).await;
                hub.dead(&id);
            });
            probes.insert(worker.id, Probe(probe));
        }
    };
    for worker in std::mem::take(&mut watch.alive) {
        begin(worker, &mut probes);
    }
    while let Some(event) = watch.changes.recv().await {
        match event {
            Event::Joined(worker) => begin(worker, &mut probes),
            Event::Left(worker) => drop(probes.remove(&worker.id)),
        }
    }
}

/// Ends when it is dropped.
struct Probe(JoinHandle<()>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// "host:port"; `None` if it is never called.
pub(crate) fn address(endpoint: &str) -> Option<String> {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let address = rest.split('/').next().unwrap_or_default();
    address.rsplit_once(':').map(|_| address.to_owned())
}

/// Returns when nobody listens any more where somebody did.
pub(crate) async fn until_dead(address: &str) {
    let mut was_there = false;
    let mut refusals = 0;
    loop {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(connection)) => {
                (was_there, refusals) = (true, 0);
                let began = Instant::now();
                until_broken(connection).await;
                if began.elapsed() < SHORT {
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused && was_there => {
                refusals += 1;
                if refusals > 1 {
                    return;
                }
                tokio::time::sleep(CONFIRM).await;
            }
            Ok(Err(_)) | Err(_) => {
                refusals = 0;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn until_broken(mut connection: TcpStream) {
    let mut ignored = [0; 256];
    while connection.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {}
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_endpoint_has_an_address() {
        assert_eq!(address("http://127.0.0.1:80").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(address("http://[::1]:80/").as_deref(), Some("[::1]:80"));
        assert_eq!(address("http://node-1.cluster:80").as_deref(), Some("node-1.cluster:80"));
        assert_eq!(address(""), None);
    }

    #[tokio::test]
    async fn who_refuses_after_a_break_is_dead() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let probe = tokio::spawn(async move { until_dead(&address).await });
        let (connection, _) = listener.accept().await.unwrap();
        drop(listener);
        drop(connection);
        tokio::time::timeout(Duration::from_secs(20), probe).await.expect("not noticed").unwrap();
    }

    #[tokio::test]
    async fn who_takes_connections_lives_however_often_they_break() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut probe = tokio::spawn(async move { until_dead(&address).await });
        for _ in 0..3 {
            drop(listener.accept().await.unwrap());
        }
        assert!((&mut probe).now_or_never().is_none());
        probe.abort();
    }

    #[tokio::test]
    async fn who_never_was_there_is_left_to_its_lease() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let looked = tokio::time::timeout(CONFIRM * 10, until_dead(&address)).await;
        assert!(looked.is_err());
    }
}
