//! A peer on a thread, seen from where its signaling is done.

use std::time::{Duration, Instant, SystemTime};

use kaigi_access_node::transport::Certificate;
use tokio::{sync::mpsc, time::timeout};

use super::{ServerError, Way};
use crate::{
    driver::{Driver, MAX_EVENTS, PeerKey, Slot},
    peer::{Event, Peer, Shared},
};

/// Longest wait for media.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's description.
#[derive(Debug)]
pub struct PeerHandle {
    driver: Driver,
    thread: usize,
    key: PeerKey,
    events: mpsc::Receiver<Event>,
    connected: bool,
    ended: bool,
    first_frames: Vec<String>,
}

impl PeerHandle {
    /// A new peer.
    ///
    /// # Errors
    /// If there is no socket for it.
    pub async fn new(
        driver: &Driver,
        certificate: Certificate,
        way: Way,
        seed: u64,
    ) -> Result<Self, ServerError> {
        let thread = driver.thread_for_next();
        let (events, heard) = mpsc::channel(MAX_EVENTS);
        let peer = Peer::new(Instant::now(), SystemTime::now(), certificate);
        let slot = Slot::new(peer, way.impairment(seed), events)?;
        let key = driver.call(thread, move |world| world.add(slot)).await?;
        Ok(Self {
            driver: driver.clone(),
            thread,
            key,
            events: heard,
            connected: false,
            ended: false,
            first_frames: Vec::new(),
        })
    }

    /// Does something with the peer.
    ///
    /// # Errors
    /// If it is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Peer, Instant) -> T + Send + 'static,
    ) -> Result<T, ServerError> {
        let key = self.key;
        let job = move |slot: &mut Slot, _: &mut Shared| job(&mut slot.peer, Instant::now());
        let done = self.driver.call(self.thread, move |world| world.with(key, job)).await?;
        done.ok_or_else(|| ServerError::Media("the peer is gone".to_owned()))
    }

    /// Waits until media can flow.
    ///
    /// # Errors
    /// If it can't.
    pub async fn connected(&mut self) -> Result<(), ServerError> {
        self.until("no connection", |handle| handle.connected).await
    }

    /// Waits until there is a whole frame on each of the m-lines.
    ///
    /// # Errors
    /// If there is none.
    pub async fn first_frames(&mut self, mids: &[String]) -> Result<(), ServerError> {
        self.until("no whole frame", |handle| mids.iter().all(|mid| handle.first_frames.contains(mid))).await
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), ServerError> {
        let wait = async {
            while !done(self) {
                match self.events.recv().await {
                    Some(Event::Connected) => self.connected = true,
                    Some(Event::FirstFrame(mid)) => self.first_frames.push(mid),
                    Some(Event::Closed) => return Err(ServerError::Media("closed by the server".to_owned())),
                    Some(Event::Failed(why)) => return Err(ServerError::Media(why)),
                    None => return Err(ServerError::Media("the peer is gone".to_owned())),
                }
            }
            Ok(())
        };
        let waited = timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| Err(ServerError::Media(format!("{what} within {} s", PATIENCE.as_secs()))))
    }

    /// Whether the server has ended it, or it has failed.
    pub fn has_ended(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Connected => self.connected = true,
                Event::FirstFrame(mid) => self.first_frames.push(mid),
                Event::Closed | Event::Failed(_) => self.ended = true,
            }
        }
        self.ended
    }

    /// The peer leaves, with a farewell or without a word.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn remove(&self, says_farewell: bool) -> Result<(), ServerError> {
        let key = self.key;
        self.driver.call(self.thread, move |world| drop(world.remove(key, says_farewell))).await?;
        Ok(())
    }
}
