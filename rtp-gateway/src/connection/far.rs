//! The far side of a leg: how an offer gets there, and what is heard of it. This is all that a connection knows of who it is with.

use kaigi_proto::v1::MediaKind;
use kaigi_room_client::{CallError, Line, PeerSeat};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use webrtc::peer_connection::RTCIceCandidateInit;

use super::{RINGING, Signal, Wire};
use crate::{
    cluster::{Cluster, Lines, RoomError, RoomNews, RoomPlace, RoomWish},
    leg::lines,
};

/// Why an offer is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FarError {
    #[error(transparent)]
    Room(#[from] RoomError),
    #[error("{0}: {1}")]
    Peer(String, CallError),
    #[error("{0} does not answer")]
    NoAnswer(String),
    #[error("{0} has called at the same time")]
    Crossed(String),
    #[error("{0} has left")]
    Left(String),
}

/// What is heard of the far side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FarNews {
    /// It wants other media.
    Offer(String),
    Candidate(RTCIceCandidateInit),
    /// It has left; or the stream has that came from there.
    Left,
    Lost(String),
}

/// Who a leg is with.
#[derive(Debug)]
pub(crate) enum Far {
    Room(Box<RoomPlace>),
    Peer(Box<PeerWay>),
}

/// The way to another peer.
#[derive(Debug)]
pub(crate) struct PeerWay {
    pub(crate) seat: PeerSeat,
    /// This peer.
    pub(crate) from: String,
    pub(crate) to: String,
    /// How the connection is called between two gateways; `None` with pages.
    pub(crate) connection: Option<String>,
    pub(crate) inbox: mpsc::Receiver<Signal>,
    /// Heard while an answer was waited for.
    pub(crate) early: Vec<RTCIceCandidateInit>,
}

impl Far {
    /// Joins a room with an offer.
    pub(crate) async fn room(
        cluster: Cluster,
        wish: &RoomWish,
        offer: String,
    ) -> Result<(Self, String), FarError> {
        let mut told = Lines::default();
        for line in lines(&offer) {
            let kind = if line.is_video { MediaKind::Video } else { MediaKind::Audio };
            let place = if line.sends { &mut told.publish } else { &mut told.subscribe };
            place.push(Line { kind, mid: line.mid });
        }
        let (place, answer) = RoomPlace::take(cluster, wish, &told, offer).await?;
        Ok((Self::Room(Box::new(place)), answer))
    }

    /// What is heard next. Cancellation safe.
    pub(crate) async fn next(&mut self) -> FarNews {
        match self {
            Self::Room(place) => match place.next().await {
                RoomNews::StreamEnded => FarNews::Left,
                RoomNews::Lost(why) => FarNews::Lost(why),
            },
            Self::Peer(way) => loop {
                if let Some(candidate) = way.early.pop() {
                    return FarNews::Candidate(candidate);
                }
                match way.inbox.recv().await {
                    Some(Signal::Offer { sdp, .. }) => return FarNews::Offer(sdp),
                    Some(Signal::Candidate(Some(candidate))) => return FarNews::Candidate(candidate),
                    Some(Signal::Leave) | None => return FarNews::Left,
                    Some(Signal::Answer { .. } | Signal::Candidate(None)) => {}
                }
            },
        }
    }

    /// Answers an offer of the far side's.
    pub(crate) async fn answer(&mut self, sdp: String) -> Result<(), FarError> {
        match self {
            // Rooms answer; they never offer.
            Self::Room(_) => Ok(()),
            Self::Peer(way) => way.send(Signal::Answer { sdp }).await,
        }
    }

    /// Says that the connection is over.
    pub(crate) async fn leave(self) {
        match self {
            Self::Room(place) => place.leave().await,
            // A page, which does not know this message, learns it from its connection.
            Self::Peer(way) => {
                let _: Result<_, _> = way.send(Signal::Leave).await;
            }
        }
    }
}

impl PeerWay {
    /// Offers, and waits for the answer. May be dropped; whoever does has to hang up.
    pub(crate) async fn call(
        mut self,
        sdp: String,
        metadata: Map<String, Value>,
    ) -> Result<(Far, String), FarError> {
        self.send(Signal::Offer { sdp, metadata }).await?;
        let answered = async {
            loop {
                match self.inbox.recv().await {
                    Some(Signal::Answer { sdp }) => return Ok(sdp),
                    Some(Signal::Candidate(Some(candidate))) => self.early.push(candidate),
                    Some(Signal::Candidate(None)) => {}
                    Some(Signal::Offer { .. }) => return Err(FarError::Crossed(self.to.clone())),
                    Some(Signal::Leave) | None => return Err(FarError::Left(self.to.clone())),
                }
            }
        };
        match tokio::time::timeout(RINGING, answered).await {
            Ok(answer) => {
                let answer = answer?;
                Ok((Far::Peer(Box::new(self)), answer))
            }
            Err(_) => Err(FarError::NoAnswer(self.to)),
        }
    }

    async fn send(&self, signal: Signal) -> Result<(), FarError> {
        let text = Wire { connection: self.connection.clone(), signal }.text(&self.from);
        self.seat.send(&self.to, text).await.map_err(|error| FarError::Peer(self.to.clone(), error))
    }

    /// What tells the other side that nobody is there any more, also when this way is gone.
    pub(crate) fn hang_up(&self) -> HangUp {
        let text = Wire { connection: self.connection.clone(), signal: Signal::Leave }.text(&self.from);
        HangUp { seat: self.seat.clone(), to: self.to.clone(), text }
    }
}

/// See [`PeerWay::hang_up`].
#[derive(Debug)]
pub(crate) struct HangUp {
    seat: PeerSeat,
    to: String,
    text: String,
}

impl HangUp {
    pub(crate) async fn send(self) {
        let _: Result<_, _> = self.seat.send(&self.to, self.text).await;
    }
}
