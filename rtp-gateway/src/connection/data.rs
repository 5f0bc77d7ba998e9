//! A connection of data: datagrams of a port as messages of a data channel, and the other way round.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit, RTCDataChannelState},
    peer_connection::RTCPeerConnectionState,
};

use super::{CONNECTING, Common, End, Far, FarNews, PeerWay, far::HangUp, media::Stage};
use crate::{
    ids::{DataConnectionId, DataId},
    leg::{Directions, Leg, LegEvent},
    media::{Outlet, Use},
};

/// Bytes that wait in the channel; while there are so many, datagrams are lost.
const MAX_WAITING: usize = 512 << 10;
/// Longest message that fits into a datagram.
const MAX_DATAGRAM: usize = 65_507;

/// As what datagrams are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Serialization {
    /// Binary messages.
    #[default]
    Binary,
    /// Text messages; what is no JSON is lost.
    Json,
    /// Binary messages too: there is nothing in them but what is in the datagrams.
    None,
}

/// What is asked of a new channel.
#[derive(Clone)]
pub(crate) struct DataPlan {
    pub(crate) init: RTCDataChannelInit,
}

/// What went through a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DataCounts {
    sent: u64,
    sent_bytes: u64,
    /// Of the device's datagrams: the channel was full, or they were no JSON.
    sending_lost: u64,
    received: u64,
    received_bytes: u64,
    /// Of the far side's messages: there is nowhere to send them, or they are too long for a datagram.
    receiving_lost: u64,
}

#[derive(Debug, Default)]
struct Counter {
    messages: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
}

impl Counter {
    fn passed(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn counted(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.messages), load(&self.bytes), load(&self.lost))
    }
}

/// A channel as the API describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Channel {
    pub(crate) label: String,
    pub(crate) reliable: bool,
}

/// A connection as the API sees it.
#[derive(Debug)]
pub(crate) struct DataConnection {
    pub(crate) id: DataConnectionId,
    /// The service that has it.
    pub(crate) service: String,
    pub(crate) common: Common,
    pub(crate) serialization: Serialization,
    pub(crate) ports: Mutex<Vec<DataId>>,
    feed: watch::Sender<Option<Arc<Use>>>,
    redirect: Mutex<Option<SocketAddr>>,
    channel: Mutex<Channel>,
    waiting: AtomicU64,
    sent: Counter,
    received: Counter,
}

impl AsRef<Common> for DataConnection {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

impl DataConnection {
    pub(crate) fn new(
        id: DataConnectionId,
        service: String,
        common: Common,
        serialization: Serialization,
    ) -> Self {
        Self {
            id,
            service,
            common,
            serialization,
            ports: Mutex::default(),
            feed: watch::channel(None).0,
            redirect: Mutex::default(),
            channel: Mutex::default(),
            waiting: AtomicU64::new(0),
            sent: Counter::default(),
            received: Counter::default(),
        }
    }

    /// What comes on this port is sent from now on.
    pub(crate) fn set_feed(&self, port: Use) {
        self.feed.send_replace(Some(Arc::new(port)));
    }

    /// What is received goes there from now on.
    pub(crate) fn set_redirect(&self, to: SocketAddr) {
        *self.redirect.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that wait in the channel, as they were last.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> DataCounts {
        let (sent, sent_bytes, sending_lost) = self.sent.counted();
        let (received, received_bytes, receiving_lost) = self.received.counted();
        DataCounts { sent, sent_bytes, sending_lost, received, received_bytes, receiving_lost }
    }

    fn pass_on(&self, outlet: &Outlet, message: &[u8]) {
        let to = *self.redirect.lock().unwrap_or_else(PoisonError::into_inner);
        match to {
            Some(to) if message.len() <= MAX_DATAGRAM && outlet.send(message, to) => {
                self.received.passed(message.len());
            }
            Some(_) | None => self.received.lost(),
        }
    }

    async fn send(&self, channel: &dyn DataChannel, datagram: Bytes) {
        let waiting = channel.outstanding_bytes().await.unwrap_or(usize::MAX);
        self.waiting.store(waiting as u64, Ordering::Relaxed);
        let length = datagram.len();
        let sent = if waiting > MAX_WAITING {
            false
        } else {
            match self.serialization {
                Serialization::Binary | Serialization::None => {
                    channel.try_send(BytesMut::from(&datagram[..])).await.is_ok()
                }
                Serialization::Json => match std::str::from_utf8(&datagram) {
                    Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
                        channel.try_send_text(text).await.is_ok()
                    }
                    Ok(_) | Err(_) => false,
                },
            }
        };
        if sent {
            self.sent.passed(length);
        } else {
            self.sent.lost();
        }
    }
}

#[derive(Debug, Default)]
struct Hold {
    leg: Option<Leg>,
    far: Option<Far>,
    ringing: Option<HangUp>,
}

/// Offers a channel, and serves it to its end.
pub(crate) async fn connect_data(
    connection: Arc<DataConnection>,
    stage: Stage,
    plan: DataPlan,
    way: PeerWay,
) {
    let mut hold = Hold { ringing: Some(way.hang_up()), ..Hold::default() };
    let end = tokio::select! {
        biased;
        () = connection.common.stop.cancelled() => End::Closed,
        end = make(&connection, &stage, plan, way, &mut hold) => end.unwrap_or_else(|end| end),
    };
    finish(&connection, hold, end).await;
}

/// Takes a channel that is offered, and serves it to its end.
pub(crate) async fn accept_data(connection: Arc<DataConnection>, stage: Stage, way: PeerWay, offer: String) {
    let mut hold = Hold::default();
    let end = tokio::select! {
        biased;
        () = connection.common.stop.cancelled() => End::Closed,
        end = take(&connection, &stage, way, offer, &mut hold) => end.unwrap_or_else(|end| end),
    };
    finish(&connection, hold, end).await;
}

async fn finish(connection: &DataConnection, hold: Hold, end: End) {
    if let Some(leg) = &hold.leg {
        leg.close().await;
    }
    match (hold.far, hold.ringing) {
        (Some(far), _) => far.leave().await,
        (None, Some(ringing)) => ringing.send().await,
        (None, None) => {}
    }
    connection.feed.send_replace(None);
    connection.common.finish(end);
}

fn failed(why: impl std::fmt::Display) -> End {
    End::Failed(why.to_string())
}

async fn make(
    connection: &DataConnection,
    stage: &Stage,
    plan: DataPlan,
    way: PeerWay,
    hold: &mut Hold,
) -> Result<End, End> {
    let leg = hold.leg.insert(Leg::new(&stage.leg, &[]).await.map_err(failed)?);
    let channel = leg.channel(connection.id.as_ref(), plan.init).await.map_err(failed)?;
    let offer = leg.offer(false).await.map_err(failed)?;
    let metadata: Map<String, Value> = connection.common.metadata.as_object().cloned().unwrap_or_default();
    let (far, answer) = way.call(offer, metadata).await.map_err(failed)?;
    let far = hold.far.insert(far);
    leg.take_answer(answer).await.map_err(failed)?;
    Ok(talk(connection, stage, leg, far, Some(channel)).await)
}

async fn take(
    connection: &DataConnection,
    stage: &Stage,
    way: PeerWay,
    offer: String,
    hold: &mut Hold,
) -> Result<End, End> {
    let leg = hold.leg.insert(Leg::new(&stage.leg, &[]).await.map_err(failed)?);
    let answer = leg.answer(offer, Directions::default()).await.map_err(failed)?;
    let far = hold.far.insert(Far::Peer(Box::new(way)));
    far.answer(answer).await.map_err(failed)?;
    Ok(talk(connection, stage, leg, far, None).await)
}

/// A connection that is agreed on, until it ends. Without a channel the first one of the far side's is waited for.
async fn talk(
    connection: &DataConnection,
    stage: &Stage,
    leg: &mut Leg,
    far: &mut Far,
    mut channel: Option<Arc<dyn DataChannel>>,
) -> End {
    let give_up = Instant::now() + CONNECTING;
    let mut feed = connection.feed.subscribe();
    let mut datagrams = source(&mut feed);
    loop {
        let is_open = connection.common.is_open();
        tokio::select! {
            event = leg.next() => match event {
                Some(LegEvent::Channel(offered)) if channel.is_none() => {
                    let is_open = matches!(offered.ready_state().await, Ok(RTCDataChannelState::Open));
                    channel = Some(offered);
                    if is_open {
                        open(connection, channel.as_ref()).await;
                    }
                }
                Some(LegEvent::State(RTCPeerConnectionState::Failed)) => {
                    return failed("the connection to the other side is lost");
                }
                Some(LegEvent::State(RTCPeerConnectionState::Closed)) | None => return End::Left,
                Some(LegEvent::Channel(_) | LegEvent::State(_) | LegEvent::Gathered | LegEvent::Track(_)) => {}
            },
            news = far.next() => match news {
                FarNews::Offer(offer) => {
                    if let Ok(answer) = leg.answer(offer, Directions::default()).await {
                        let _: Result<_, _> = far.answer(answer).await;
                    }
                }
                FarNews::Candidate(candidate) => {
                    let _: Result<_, _> = leg.take_candidate(candidate).await;
                }
                FarNews::Left => return End::Left,
                FarNews::Lost(why) => return End::Failed(why),
            },
            event = heard(channel.as_ref()) => match event {
                Some(DataChannelEvent::OnOpen) => open(connection, channel.as_ref()).await,
                Some(DataChannelEvent::OnMessage(message)) => {
                    // It is open, whether that was told or not.
                    open(connection, channel.as_ref()).await;
                    connection.pass_on(&stage.outlet, &message.data);
                }
                Some(DataChannelEvent::OnClose) | None => return End::Left,
                Some(_) => {}
            },
            changed = feed.changed() => {
                if changed.is_err() {
                    return End::Closed;
                }
                datagrams = source(&mut feed);
            }
            datagram = next(datagrams.as_mut(), &connection.sent), if is_open => match (datagram, &channel) {
                (Some(datagram), Some(channel)) => connection.send(&**channel, datagram).await,
                (Some(_), None) => {}
                (None, _) => datagrams = None,
            },
            () = tokio::time::sleep_until(give_up), if !is_open => {
                return failed("the other side was not reached in time");
            }
        }
    }
}

/// Says that data flow, once.
async fn open(connection: &DataConnection, channel: Option<&Arc<dyn DataChannel>>) {
    let Some(channel) = channel.filter(|_| !connection.common.is_open()) else { return };
    let is_limited = !matches!(channel.ordered().await, Ok(true))
        || !matches!(channel.max_packet_life_time().await, Ok(None))
        || !matches!(channel.max_retransmits().await, Ok(None));
    *connection.channel.lock().unwrap_or_else(PoisonError::into_inner) =
        Channel { label: channel.label().await.unwrap_or_default(), reliable: !is_limited };
    connection.common.set_open(true);
    connection.common.events.put(json!({"event": "OPEN"}));
}

fn source(feed: &mut watch::Receiver<Option<Arc<Use>>>) -> Option<broadcast::Receiver<Bytes>> {
    feed.borrow_and_update().as_ref().map(|port| port.datagrams())
}

/// What a channel tells next; waits for ever where there is none.
async fn heard(channel: Option<&Arc<dyn DataChannel>>) -> Option<DataChannelEvent> {
    match channel {
        Some(channel) => channel.poll().await,
        None => std::future::pending().await,
    }
}

/// The next datagram; `None` when the port is closed; waits for ever where there is none.
async fn next(datagrams: Option<&mut broadcast::Receiver<Bytes>>, counter: &Counter) -> Option<Bytes> {
    let Some(datagrams) = datagrams else { return std::future::pending().await };
    loop {
        match datagrams.recv().await {
            Ok(datagram) => return Some(datagram),
            Err(broadcast::error::RecvError::Lagged(count)) => {
                counter.lost.fetch_add(count, Ordering::Relaxed);
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}
