//! A connection of media: a call that is made, or one that comes and is answered.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use tokio::{sync::oneshot, task::JoinSet, time::Instant};
use webrtc::{media_stream::track_remote::TrackRemote, peer_connection::RTCPeerConnectionState};

use super::{CONNECTING, Common, End, Far, FarNews, PeerWay, RINGING, Signal, far::HangUp};
use crate::{
    cluster::{Cluster, RoomWish},
    ids::{MediaConnectionId, MediaId, RtcpId},
    leg::{Directions, Lane, Lanes, Leg, LegEvent, LegSettings, MediaPlan, bandwidth_limited},
    media::Outlet,
};

/// What connections need of the process.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) leg: LegSettings,
    pub(crate) outlet: Arc<Outlet>,
}

/// Who is called.
#[derive(Debug)]
pub(crate) enum Target {
    Room(RoomWish),
    Peer(PeerWay),
}

/// A call that comes, until it is answered.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) way: PeerWay,
    pub(crate) offer: String,
    pub(crate) answer: oneshot::Receiver<MediaPlan>,
}

/// How a call is answered.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) oneshot::Sender<MediaPlan>);

/// The ports of a connection, which close with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnPorts {
    pub(crate) media: Vec<MediaId>,
    pub(crate) rtcp: Vec<RtcpId>,
}

/// A connection as the API sees it.
#[derive(Debug)]
pub(crate) struct MediaConnection {
    pub(crate) id: MediaConnectionId,
    /// The service that has it.
    pub(crate) service: String,
    pub(crate) common: Common,
    pub(crate) ports: Mutex<OwnPorts>,
    /// Of a call that is to be answered.
    pub(crate) answer: Mutex<Option<Answer>>,
    lanes: Mutex<Lanes>,
}

impl AsRef<Common> for MediaConnection {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

impl MediaConnection {
    pub(crate) fn new(
        id: MediaConnectionId,
        service: String,
        common: Common,
        answer: Option<Answer>,
    ) -> Self {
        Self {
            id,
            service,
            common,
            ports: Mutex::default(),
            answer: Mutex::new(answer),
            lanes: Mutex::default(),
        }
    }

    pub(crate) fn lanes(&self) -> Lanes {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_lanes(&self, lanes: Lanes) {
        *self.lanes.lock().unwrap_or_else(PoisonError::into_inner) = lanes;
    }

    fn tell_stream(&self, is_video: bool, stream: &str) {
        self.common.events.put(json!({
            "event": "STREAM",
            "stream_options": {
                "is_video": is_video,
                "media_connection_id": self.id,
                "stream_id": stream,
            },
        }));
    }
}

/// What has to be closed whenever a connection ends.
#[derive(Debug, Default)]
struct Hold {
    leg: Option<Leg>,
    far: Option<Far>,
    /// Of a call that is not answered yet.
    ringing: Option<HangUp>,
}

impl Hold {
    async fn close(self) {
        if let Some(leg) = &self.leg {
            leg.close().await;
        }
        if let Some(far) = self.far {
            far.leave().await;
        } else if let Some(ringing) = self.ringing {
            ringing.send().await;
        }
    }
}

/// Makes a call, and serves it to its end.
pub(crate) async fn call(connection: Arc<MediaConnection>, stage: Stage, plan: MediaPlan, target: Target) {
    let mut hold = Hold::default();
    let end = tokio::select! {
        biased;
        () = connection.common.stop.cancelled() => End::Closed,
        end = make(&connection, &stage, plan, target, &mut hold) => end.unwrap_or_else(|end| end),
    };
    finish(&connection, hold, end).await;
}

/// Waits for a call to be answered, and serves it to its end.
pub(crate) async fn ring(connection: Arc<MediaConnection>, stage: Stage, pending: Pending) {
    let mut hold = Hold { ringing: Some(pending.way.hang_up()), ..Hold::default() };
    let end = tokio::select! {
        biased;
        () = connection.common.stop.cancelled() => End::Closed,
        end = take(&connection, &stage, pending, &mut hold) => end.unwrap_or_else(|end| end),
    };
    finish(&connection, hold, end).await;
}

async fn finish(connection: &MediaConnection, hold: Hold, end: End) {
    connection.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    hold.close().await;
    // With their hold on the ports.
    connection.set_lanes(Lanes::default());
    connection.common.finish(end);
}

fn failed(why: impl std::fmt::Display) -> End {
    End::Failed(why.to_string())
}

async fn make(
    connection: &MediaConnection,
    stage: &Stage,
    plan: MediaPlan,
    target: Target,
    hold: &mut Hold,
) -> Result<End, End> {
    let is_room = matches!(target, Target::Room(_));
    // Access-nodes are reached without help.
    let settings = if is_room {
        LegSettings { ice_servers: Vec::new(), ..stage.leg.clone() }
    } else {
        stage.leg.clone()
    };
    let leg = hold.leg.insert(Leg::new(&settings, &plan.formats()).await.map_err(failed)?);
    let limits = limits(&plan);
    let directions = directions(&plan);
    let lanes = prepare(leg, plan, is_room, &stage.outlet).await?;
    connection.set_lanes(lanes.clone());
    // A room needs no candidates of a client's: it hears where he is.
    let offer = leg.offer(is_room).await.map_err(failed)?;
    let offer = bandwidth_limited(&offer, limits.0, limits.1);
    let (far, answer) = match target {
        Target::Room(wish) => Far::room(stage.cluster.clone(), &wish, offer).await.map_err(failed)?,
        Target::Peer(way) => {
            hold.ringing = Some(way.hang_up());
            way.call(offer, metadata(connection)).await.map_err(failed)?
        }
    };
    let far = hold.far.insert(far);
    leg.take_answer(answer).await.map_err(failed)?;
    Ok(talk(connection, leg, far, &lanes, directions).await)
}

async fn take(
    connection: &MediaConnection,
    stage: &Stage,
    pending: Pending,
    hold: &mut Hold,
) -> Result<End, End> {
    let Pending { mut way, mut offer, mut answer } = pending;
    let give_up = Instant::now() + RINGING;
    let plan = loop {
        tokio::select! {
            plan = &mut answer => break plan.map_err(|_| End::Closed)?,
            told = way.inbox.recv() => match told {
                // Candidates, and what the other side has changed meanwhile.
                Some(Signal::Candidate(Some(candidate))) => way.early.push(candidate),
                Some(Signal::Offer { sdp, .. }) => offer = sdp,
                Some(Signal::Candidate(None) | Signal::Answer { .. }) => {}
                Some(Signal::Leave) | None => return Err(End::Left),
            },
            () = tokio::time::sleep_until(give_up) => return Err(failed("nobody has answered")),
        }
    };
    let leg = hold.leg.insert(Leg::new(&stage.leg, &plan.formats()).await.map_err(failed)?);
    let (limits, directions) = (limits(&plan), directions(&plan));
    let mut lanes = Lanes::default();
    for (plan, lane) in [(plan.audio, &mut lanes.audio), (plan.video, &mut lanes.video)] {
        let Some(plan) = plan else { continue };
        let local = match &plan.source {
            Some(_) => Some(leg.send(plan.format, true).await.map_err(failed)?),
            None => None,
        };
        *lane = Some(Lane::new(plan, local, stage.outlet.clone()));
    }
    connection.set_lanes(lanes.clone());
    let answer = leg.answer(offer, directions).await.map_err(failed)?;
    let far = hold.far.insert(Far::Peer(Box::new(way)));
    far.answer(bandwidth_limited(&answer, limits.0, limits.1)).await.map_err(failed)?;
    Ok(talk(connection, leg, far, &lanes, directions).await)
}

/// Adds the lines of a call. Rooms have a line for each way, as what is published and what is subscribed are different things there.
async fn prepare(leg: &Leg, plan: MediaPlan, is_room: bool, outlet: &Arc<Outlet>) -> Result<Lanes, End> {
    let mut lanes = Lanes::default();
    for (plan, lane) in [(plan.audio, &mut lanes.audio), (plan.video, &mut lanes.video)] {
        let Some(plan) = plan else { continue };
        let local = match &plan.source {
            Some(_) => Some(leg.send(plan.format, plan.receives && !is_room).await.map_err(failed)?),
            None => None,
        };
        if plan.receives && (is_room || local.is_none()) {
            leg.receive(plan.format.kind()).await.map_err(failed)?;
        }
        *lane = Some(Lane::new(plan, local, outlet.clone()));
    }
    Ok(lanes)
}

/// What the far side is asked not to exceed, of sound and picture, kbit/s.
fn limits(plan: &MediaPlan) -> (u32, u32) {
    let limit = |lane: &Option<crate::leg::LanePlan>| lane.as_ref().map_or(0, |lane| lane.format.band_width);
    (limit(&plan.audio), limit(&plan.video))
}

fn directions(plan: &MediaPlan) -> Directions {
    let of = |lane: &Option<crate::leg::LanePlan>| {
        lane.as_ref().map_or((false, false), |lane| (lane.source.is_some(), lane.receives))
    };
    Directions { audio: of(&plan.audio), video: of(&plan.video) }
}

fn metadata(connection: &MediaConnection) -> Map<String, Value> {
    connection.common.metadata.as_object().cloned().unwrap_or_default()
}

/// A connection that is agreed on, until it ends.
async fn talk(
    connection: &MediaConnection,
    leg: &mut Leg,
    far: &mut Far,
    lanes: &Lanes,
    directions: Directions,
) -> End {
    let mut tasks = JoinSet::new();
    let give_up = Instant::now() + CONNECTING;
    loop {
        let is_open = connection.common.is_open();
        tokio::select! {
            event = leg.next() => match event {
                Some(LegEvent::State(RTCPeerConnectionState::Connected)) if !is_open => {
                    for lane in lanes.all() {
                        if let Some(track) = lane.local()
                            && let Some(payload_type) = leg.payload_type(track).await
                        {
                            lane.agreed(payload_type);
                        }
                        lane.begin(&mut tasks);
                    }
                    connection.common.set_open(true);
                    connection.common.events.put(json!({"event": "READY"}));
                }
                Some(LegEvent::State(RTCPeerConnectionState::Failed)) => {
                    return failed("the connection to the other side is lost");
                }
                Some(LegEvent::State(RTCPeerConnectionState::Closed)) | None => return End::Left,
                Some(LegEvent::Track(track)) => receive(connection, lanes, track, &mut tasks).await,
                Some(LegEvent::State(_) | LegEvent::Gathered | LegEvent::Channel(_)) => {}
            },
            news = far.next() => match news {
                FarNews::Offer(offer) => {
                    let answered = match leg.answer(offer, directions).await {
                        Ok(answer) => far.answer(answer).await.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    };
                    if let Err(error) = answered {
                        tracing::debug!(error, "an offer of the other side's is not answered");
                    }
                }
                FarNews::Candidate(candidate) => {
                    if let Err(error) = leg.take_candidate(candidate).await {
                        tracing::debug!(%error, "a candidate is of no use");
                    }
                }
                FarNews::Left => return End::Left,
                FarNews::Lost(why) => return End::Failed(why),
            },
            () = tokio::time::sleep_until(give_up), if !is_open => {
                return failed("the other side was not reached in time");
            }
        }
    }
}

async fn receive(
    connection: &MediaConnection,
    lanes: &Lanes,
    track: Arc<dyn TrackRemote>,
    tasks: &mut JoinSet<()>,
) {
    let is_video = track.kind().await == rtc::rtp_transceiver::rtp_sender::RtpCodecKind::Video;
    let lane = if is_video { &lanes.video } else { &lanes.audio };
    if let Some(lane) = lane {
        connection.tell_stream(is_video, &track.stream_id().await);
        tasks.spawn(lane.clone().pass_on(track));
    }
}
