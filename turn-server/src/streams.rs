//! Clients by TCP and TLS: each connection is read and written by a task of its own, with a bounded queue.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use crate::{
    core::{ConnectionId, Deframer, Flow},
    shell::Event,
    tls::Certificate,
    web::{Speech, Web},
};

/// Messages that may wait to be written to one connection; more are dropped, as a congested network would.
const QUEUE: usize = 512;
/// For the beginning of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A write that takes longer ends the connection.
const WRITE: Duration = Duration::from_secs(10);
/// A connection without an allocation that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// After an error of accepting, which is one of the whole process (no more files).
const PAUSE: Duration = Duration::from_millis(100);
/// Read at a time.
const CHUNK: usize = 8192;

struct Connection {
    client: SocketAddr,
    messages: mpsc::Sender<Vec<u8>>,
    heard: Instant,
}

impl Connection {
    fn flow(&self, connection: ConnectionId) -> Flow {
        Flow::Stream { connection, client: self.client }
    }
}

/// All of them, as the server knows them.
#[derive(Default)]
pub(crate) struct Connections {
    open: HashMap<ConnectionId, Connection>,
    next: u64,
}

impl Connections {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// A connection is made: its name.
    pub(crate) fn add(&mut self, client: SocketAddr, messages: mpsc::Sender<Vec<u8>>) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        self.open.insert(id, Connection { client, messages, heard: Instant::now() });
        id
    }

    /// Something came by it; `None` if it is closed.
    pub(crate) fn heard(&mut self, id: ConnectionId) -> Option<Flow> {
        let connection = self.open.get_mut(&id)?;
        connection.heard = Instant::now();
        Some(connection.flow(id))
    }

    /// It is closed.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Flow> {
        self.open.remove(&id).map(|connection| connection.flow(id))
    }

    pub(crate) fn send(&self, id: ConnectionId, message: Vec<u8>) {
        if let Some(connection) = self.open.get(&id) {
            let _ = connection.messages.try_send(message);
        }
    }

    /// Closes those that hold a place for nothing.
    pub(crate) fn close_idle(&mut self, is_used: impl Fn(Flow) -> bool) {
        self.open.retain(|id, connection| connection.heard.elapsed() < IDLE || is_used(connection.flow(*id)));
    }
}

/// What is needed where clients come by TLS.
#[derive(Clone)]
pub(crate) struct Encryption {
    pub(crate) certificate: Arc<Certificate>,
    /// Where HTTPS is passed on; without it there is TURN alone.
    pub(crate) web: Option<Arc<Web>>,
}

/// Takes connections until the server ends.
pub(crate) async fn accept(
    listener: TcpListener,
    encryption: Option<Encryption>,
    places: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        // Full: it is closed.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            metrics::counter!("kaigi_turn_connections_refused_total").increment(1);
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(begin(stream, client, encryption.clone(), place, events.clone()));
    }
}

async fn begin(
    stream: TcpStream,
    client: SocketAddr,
    encryption: Option<Encryption>,
    place: OwnedSemaphorePermit,
    events: mpsc::Sender<Event>,
) {
    let Some(Encryption { certificate, web }) = encryption else {
        return serve(stream, client, Vec::new(), place, events).await;
    };
    let acceptor = match certificate.acceptor() {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::warn!(%error, "a client is sent away: there is no certificate"),
    };
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%client, %error, "TLS could not begin"),
        Err(_) => return tracing::debug!(%client, "TLS took too long to begin"),
    };
    match web {
        None => serve(stream, client, Vec::new(), place, events).await,
        Some(web) => sort(stream, client, &web, place, events).await,
    }
}

/// Serves TURN here, and passes HTTP on.
async fn sort(
    mut stream: TlsStream<TcpStream>,
    client: SocketAddr,
    web: &Web,
    place: OwnedSemaphorePermit,
    events: mpsc::Sender<Event>,
) {
    let here = stream.get_ref().0.local_addr();
    let named = stream.get_ref().1.alpn_protocol().map(Speech::named);
    let (speech, first) = match named {
        Some(speech) => (speech, Vec::new()),
        None => {
            let mut first = vec![0; CHUNK];
            let Ok(Ok(length @ 1..)) = timeout(IDLE, stream.read(&mut first)).await else {
                return tracing::debug!(%client, "a client says nothing");
            };
            first.truncate(length);
            (first.first().map_or(Speech::Neither, |byte| Speech::begun(*byte)), first)
        }
    };
    match (speech, here) {
        (Speech::Turn, _) => serve(stream, client, first, place, events).await,
        (Speech::Http, Ok(here)) => {
            // It has a place of its own from here on.
            drop(place);
            web.pass_on(stream, first, (client, here)).await;
        }
        (Speech::Http, Err(_)) | (Speech::Neither, _) => {
            tracing::debug!(%client, "a client speaks neither TURN nor HTTP");
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send,
    client: SocketAddr,
    first: Vec<u8>,
    _place: OwnedSemaphorePermit,
    events: mpsc::Sender<Event>,
) {
    let (messages, waiting) = mpsc::channel(QUEUE);
    let (name, named) = tokio::sync::oneshot::channel();
    // The server has ended if it can't be told.
    if events.send(Event::Opened { client, messages, name }).await.is_err() {
        return;
    }
    let Ok(id) = named.await else { return };
    let (reader, writer) = tokio::io::split(stream);
    let ended = tokio::select! {
        ended = read(reader, first, id, &events) => ended,
        ended = write(writer, waiting) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%client, %error, "a connection is closed");
    }
    let _ = events.send(Event::Closed(id)).await;
}

/// `first` was read before.
async fn read<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    first: Vec<u8>,
    id: ConnectionId,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let (mut deframer, mut buffer) = (Deframer::default(), vec![0; CHUNK]);
    deframer.push(&first);
    loop {
        while let Some(message) = deframer.next_message().map_err(io::Error::other)? {
            // Waits: the client is read no faster than the server can.
            if events.send(Event::Message(id, message)).await.is_err() {
                return Ok(());
            }
        }
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        deframer.push(&buffer[..length]);
    }
}

/// Ends when the server has forgotten the connection.
async fn write<S: AsyncWrite>(
    mut writer: WriteHalf<S>,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(mut bytes) = waiting.recv().await {
        while bytes.len() < CHUNK
            && let Ok(more) = waiting.try_recv()
        {
            bytes.extend(more);
        }
        timeout(WRITE, async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        })
        .await??;
    }
    Ok(())
}
