//! ICE over TCP (RFC 6544, passive): each connection is read and written by tasks of its own on the worker's thread, with bounded
//! queues between.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::mpsc,
};

use crate::transport::{ConnectionId, Deframer, frame};

/// Most connections at a time.
const MAX_CONNECTIONS: usize = 4096;
/// Datagrams that may wait to be written to one connection; more are dropped, as a congested network would.
const QUEUE: usize = 256;
/// A connection on which nothing is received for that long is closed. Clients check every few seconds.
const IDLE: Duration = Duration::from_secs(30);
/// A write that takes longer ends the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What comes from a connection.
#[derive(Debug)]
pub(super) enum FromConnection {
    /// A datagram.
    Frame { id: ConnectionId, peer: SocketAddr, local: IpAddr, bytes: Vec<u8> },
    /// It is closed.
    Closed(ConnectionId),
}

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    open: HashMap<ConnectionId, mpsc::Sender<Vec<u8>>>,
    next: u64,
    frames: mpsc::Sender<FromConnection>,
}

impl Connections {
    pub(super) fn new(frames: mpsc::Sender<FromConnection>) -> Self {
        Self { open: HashMap::new(), next: 0, frames }
    }

    /// Takes a new connection, or closes it if there are too many.
    pub(super) fn accept(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        if self.open.len() >= MAX_CONNECTIONS {
            return;
        }
        let _ = stream.set_nodelay(true);
        let id = ConnectionId(self.next);
        self.next += 1;
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.open.insert(id, sender);
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let local = local.ip().to_canonical();
        let (reader, writer) = stream.into_split();
        let frames = self.frames.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = read(reader, id, peer, local, &frames) => {}
                () = write(writer, receiver) => {}
            }
            // The worker has ended if it can't be told.
            let _ = frames.send(FromConnection::Closed(id)).await;
        });
    }

    /// Queues a datagram; drops it if the connection is behind or gone.
    pub(super) fn send(&mut self, id: ConnectionId, datagram: &[u8]) {
        if let (Some(connection), Some(frame)) = (self.open.get(&id), frame(datagram)) {
            let _ = connection.try_send(frame);
        }
    }

    /// Closes all connections once what is queued is written; returns how many are to tell that they are closed.
    pub(super) fn finish(&mut self) -> usize {
        self.open.drain().count()
    }

    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.open.remove(&id);
    }
}

/// Reads until the connection ends, is silent, or sends what are no frames.
async fn read(
    mut reader: OwnedReadHalf,
    id: ConnectionId,
    peer: SocketAddr,
    local: IpAddr,
    frames: &mpsc::Sender<FromConnection>,
) {
    let mut deframer = Deframer::default();
    let mut buffer = [0; 4096];
    loop {
        let Ok(Ok(count @ 1..)) = tokio::time::timeout(IDLE, reader.read(&mut buffer)).await else { return };
        deframer.push(&buffer[..count]);
        loop {
            match deframer.pop() {
                Ok(Some(bytes)) => {
                    if frames.send(FromConnection::Frame { id, peer, local, bytes }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, %peer, "TCP connection closed");
                    return;
                }
            }
        }
    }
}

/// Writes what is queued until the connection ends or is removed.
async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&frame)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}
