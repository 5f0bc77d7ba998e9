//! A way to the portal that can break.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// A TCP relay; its connections end with it.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    cut: CancellationToken,
    swallow: watch::Sender<bool>,
    swallowed: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            cut: CancellationToken::new(),
            swallow: watch::Sender::new(false),
            swallowed: Arc::default(),
        };
        let (cut, swallow, swallowed) = (relay.cut.clone(), relay.swallow.clone(), relay.swallowed.clone());
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = cut.run_until_cancelled(listener.accept()).await {
                let server = TcpStream::connect(server).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let down = down(from_server, to_client, swallow.subscribe(), swallowed.clone());
                tokio::spawn(cut.clone().run_until_cancelled_owned(down));
                tokio::spawn(cut.clone().run_until_cancelled_owned(up(from_client, to_server)));
            }
        });
        relay
    }

    /// Closes all connections, on both sides, and takes no more.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// From now on clients get nothing any more, of which the portal notices nothing.
    pub(crate) fn swallow(&self) {
        self.swallow.send_replace(true);
    }

    /// Bytes that clients did not get.
    pub(crate) fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    swallow: watch::Receiver<bool>,
    swallowed: Arc<AtomicUsize>,
) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if *swallow.borrow() {
            swallowed.fetch_add(n, Ordering::Relaxed);
        } else if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    if *swallow.borrow() {
        std::future::pending().await
    }
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    // The client's end is not passed on: as when the network is gone.
    std::future::pending().await
}
