//! Where streams are pushed to. By RTMP encoders connect to one port for all, show a key, and what they send goes to the input that waits for
//! it. By SRT each input has a port of its own, whose passphrase is the key. Doors of a node that is to end are closed: who is inside stays.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc as threads,
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex as AsyncMutex, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::rtmp::{Event, Session, SessionError, Tag};

/// Connections at a time, with those that have shown no key yet.
const MAX_CONNECTIONS: usize = 256;
/// Longest time from the connection to the key.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// A publisher that sends nothing for that long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest time for a peer to take an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Pieces that wait for the pipeline. When there are more the peer waits, which it shows as a congested network.
const WAITING: usize = 256;
/// Bytes that are read at once.
const READ: usize = 64 << 10;
/// After a failure to accept, which is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What an encoder sends, from its beginning on; ends when it does. Nobody else can push as long as this is held.
#[derive(Clone, Debug)]
pub struct Pushed(Arc<Flow>);

#[derive(Debug)]
struct Flow {
    tags: AsyncMutex<mpsc::Receiver<Tag>>,
    /// Of sound and picture: what their decoders begin with.
    headers: Mutex<[Option<Tag>; 2]>,
    _busy: Arc<()>,
}

/// See the module.
#[derive(Debug)]
pub struct Door {
    /// What encoders are told to push to, without a key.
    url: String,
    waiting: Mutex<HashMap<String, Waiting>>,
    serials: AtomicU64,
    /// Nobody comes in any more.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    hand: threads::SyncSender<Pushed>,
    /// Held twice while somebody publishes.
    busy: Arc<()>,
}

/// Ports for what is pushed by SRT.
#[derive(Debug)]
pub struct Ports {
    /// Under which encoders reach them.
    host: String,
    range: RangeInclusive<u16>,
    taken: Mutex<HashSet<u16>>,
    closed: AtomicBool,
}

/// One of them, until dropped.
#[derive(Debug)]
pub struct Port {
    ports: Arc<Ports>,
    number: u16,
}

/// Where the streams of a node may be pushed to.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// By RTMP.
    pub rtmp: Option<Arc<Door>>,
    /// By SRT.
    pub srt: Option<Arc<Ports>>,
}

/// By which a pushed stream comes to its input.
#[derive(Debug)]
pub enum Inlet {
    /// Through the door.
    Rtmp(Expectation),
    /// Through a port of its own.
    Srt(Port),
}

/// Waits for whoever shows a key, until dropped.
#[derive(Debug)]
pub struct Expectation {
    door: Arc<Door>,
    key: String,
    serial: u64,
    handed: threads::Receiver<Pushed>,
}

/// Why a connection ends that did not end by itself.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("nothing came for too long")]
    Silent,
    #[error("{0}")]
    Refused(&'static str),
}

impl Door {
    /// Nobody is waited for yet.
    #[must_use]
    pub fn new(url: String) -> Arc<Self> {
        let (waiting, closed) = (Mutex::default(), CancellationToken::new());
        Arc::new(Self { url, waiting, serials: AtomicU64::new(0), closed })
    }

    /// Waits for a key from now on; who waited for it before does no more.
    #[must_use]
    pub fn expect(self: &Arc<Self>, key: &str) -> Expectation {
        let (hand, handed) = threads::sync_channel(1);
        let serial = self.serials.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { serial, hand, busy: Arc::new(()) };
        self.waiting.lock().insert(key.to_owned(), waiting);
        Expectation { door: Arc::clone(self), key: key.to_owned(), serial, handed }
    }

    /// Lets encoders in until it is closed, after which the port is free for another process; who is in then stays until `stop`.
    pub async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.closed.cancelled() => return tracing::info!("encoders are let in no more"),
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                metrics::counter!("kaigi_streaming_pushes_refused_total").increment(1);
                continue;
            };
            let (door, stop) = (Arc::clone(&self), stop.clone());
            tokio::spawn(async move {
                let served = tokio::select! {
                    served = door.serve(stream, from) => served,
                    () = stop.cancelled() => Ok(()),
                };
                if let Err(error) = served {
                    metrics::counter!("kaigi_streaming_pushes_refused_total").increment(1);
                    tracing::info!(%from, %error, "what is pushed is taken no more");
                }
                drop(place);
            });
        }
    }

    /// Whoever waits for the key is handed what comes.
    fn claim(&self, key: &str) -> Result<mpsc::Sender<Tag>, PushError> {
        if self.closed.is_cancelled() {
            return Err(PushError::Refused("this server is about to end"));
        }
        let waiting = self.waiting.lock();
        let waiting = waiting.get(key).ok_or(PushError::Refused("nobody waits for this stream key"))?;
        if Arc::strong_count(&waiting.busy) > 1 {
            return Err(PushError::Refused("somebody pushes with this stream key already"));
        }
        let (sender, tags) = mpsc::channel(WAITING);
        let (tags, headers) = (AsyncMutex::new(tags), Mutex::default());
        let flow = Flow { tags, headers, _busy: Arc::clone(&waiting.busy) };
        // The input is ending.
        waiting
            .hand
            .try_send(Pushed(Arc::new(flow)))
            .map_err(|_| PushError::Refused("the stream is not taken now"))?;
        Ok(sender)
    }

    async fn serve(&self, mut stream: TcpStream, from: SocketAddr) -> Result<(), PushError> {
        let (mut session, mut buffer) = (Session::default(), vec![0; READ]);
        stream.set_nodelay(true)?;
        let introduced = self.introduce(&mut stream, &mut session, &mut buffer);
        let introduced = tokio::time::timeout(INTRODUCTION, introduced).await;
        let Some(sender) = introduced.map_err(|_| PushError::Silent)?? else { return Ok(()) };
        tracing::info!(%from, "an encoder pushes");
        loop {
            let read = tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await;
            let count = read.map_err(|_| PushError::Silent)??;
            if count == 0 {
                return Ok(());
            }
            for event in session.receive(&buffer[..count])? {
                match event {
                    Event::Media(tag) => {
                        // Nobody takes it any more: the input has ended.
                        if sender.send(tag).await.is_err() {
                            return Ok(());
                        }
                    }
                    Event::Ended => return Ok(()),
                    Event::Publish(_) => {}
                }
            }
            answer(&mut stream, &mut session).await?;
        }
    }

    /// Up to the key; `None` if the peer goes before.
    async fn introduce(
        &self,
        stream: &mut TcpStream,
        session: &mut Session,
        buffer: &mut [u8],
    ) -> Result<Option<mpsc::Sender<Tag>>, PushError> {
        loop {
            let count = stream.read(buffer).await?;
            if count == 0 {
                return Ok(None);
            }
            // Nothing follows the key before it is accepted.
            let asked = session.receive(&buffer[..count])?.into_iter().find_map(|event| match event {
                Event::Publish(key) => Some(key),
                Event::Media(_) | Event::Ended => None,
            });
            let claimed = asked.map(|key| self.claim(&key));
            match &claimed {
                Some(Ok(_)) => session.accept(),
                Some(Err(error)) => session.refuse(&error.to_string()),
                None => {}
            }
            answer(stream, session).await?;
            if let Some(claimed) = claimed {
                return claimed.map(Some);
            }
        }
    }
}

impl Doors {
    /// Nobody comes in from now on; who pushes already goes on.
    pub fn close(&self) {
        if let Some(door) = &self.rtmp {
            door.closed.cancel();
        }
        if let Some(ports) = &self.srt {
            ports.closed.store(true, Ordering::Relaxed);
        }
    }
}

impl Ports {
    /// All are free.
    #[must_use]
    pub fn new(host: String, range: RangeInclusive<u16>) -> Arc<Self> {
        Arc::new(Self { host, range, taken: Mutex::default(), closed: AtomicBool::new(false) })
    }

    /// One that nobody has, if there is.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Port> {
        let mut taken = self.taken.lock();
        let number = self.range.clone().find(|number| !taken.contains(number))?;
        taken.insert(number);
        Some(Port { ports: Arc::clone(self), number })
    }
}

impl Port {
    /// Of UDP.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.taken.lock().remove(&self.number);
    }
}

impl Inlet {
    /// Where encoders push to, without the key.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Rtmp(expected) => expected.door.url.clone(),
            Self::Srt(port) => format!("srt://{}:{}", port.ports.host, port.number),
        }
    }

    /// Whether nobody comes in any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Rtmp(expected) => expected.door.closed.is_cancelled(),
            Self::Srt(port) => port.ports.closed.load(Ordering::Relaxed),
        }
    }
}

async fn answer(stream: &mut TcpStream, session: &mut Session) -> Result<(), PushError> {
    let output = session.take_output();
    if output.is_empty() {
        return Ok(());
    }
    let written = tokio::time::timeout(ANSWER, stream.write_all(&output)).await;
    Ok(written.map_err(|_| PushError::Silent)??)
}

impl Expectation {
    /// Who shows the key, if somebody does within that time.
    #[must_use]
    pub fn wait(&self, time: Duration) -> Option<Pushed> {
        self.handed.recv_timeout(time).ok()
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        let mut waiting = self.door.waiting.lock();
        if waiting.get(&self.key).is_some_and(|waiting| waiting.serial == self.serial) {
            waiting.remove(&self.key);
        }
    }
}

impl Pushed {
    /// What decoders begin with, as far as it has come.
    #[must_use]
    pub fn headers(&self) -> Vec<Tag> {
        self.0.headers.lock().iter().flatten().cloned().collect()
    }

    /// What comes next; `None` if the encoder has left. Nothing is lost if this is not waited for to its end.
    pub async fn next(&self) -> Option<Tag> {
        let tag = self.0.tags.lock().await.recv().await?;
        if tag.is_header() {
            let place = usize::from(tag.is_picture());
            self.0.headers.lock()[place] = Some(tag.clone());
        }
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_by_one_and_given_back() {
        let ports = Ports::new("live.example".into(), 9000..=9001);
        let (first, second) = (ports.take().unwrap(), ports.take().unwrap());
        assert_eq!(Inlet::Srt(second).url(), "srt://live.example:9001");
        assert_eq!(first.number(), 9000);
        let again = ports.take().unwrap();
        assert_eq!(again.number(), 9001, "it was given back");
        assert!(ports.take().is_none());
    }
}
