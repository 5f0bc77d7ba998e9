//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): a stream published into a room, or a room's stream played, by one HTTP request with
//! an offer. A session is a participant with one publication or subscription; this portal holds it.

mod admission;
mod begin;
mod error;
mod fragment;
mod offer;
mod session;
mod sessions;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{patch, post},
};
use kaigi_proto::ids::{RoomId, StreamId};
use tokio::sync::oneshot;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;

use crate::{
    clock::UnixMillis,
    ice_servers::IceServer,
    rest::IfMatch,
    signaling::Signaling,
    web::{RateLimit, subscriber_line},
};
use admission::Admission;
use begin::{Wish, begin};
use error::WhipError;
use fragment::{Fragment, MAX_FRAGMENT};
use offer::{MAX_OFFER, Way};
use session::{Command, Patched};
use sessions::{Door, Sessions};

pub(crate) use fragment::all_flow;
pub(crate) use offer::{Offer, OfferError};

const SDP: &str = "application/sdp";
const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Sessions that one address may begin at once, and a second in the long run.
const BEGINNINGS: (u32, f64) = (100, 10.0);
/// Longest wait for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    signaling: Signaling,
    sessions: Sessions,
    beginnings: Arc<Mutex<RateLimit<IpAddr>>>,
}

impl Doors {
    pub(crate) fn new(signaling: Signaling) -> Self {
        let (burst, rate) = BEGINNINGS;
        Self {
            signaling,
            sessions: Sessions::default(),
            beginnings: Arc::new(Mutex::new(RateLimit::new(burst, rate))),
        }
    }

    /// The routes, for pages of these origins.
    pub(crate) fn router(self, origins: AllowOrigin) -> Router {
        let cors = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH])
            .expose_headers([
                header::LOCATION,
                header::ETAG,
                header::LINK,
                header::RETRY_AFTER,
                header::WWW_AUTHENTICATE,
                ACCEPT_POST,
                ACCEPT_PATCH,
            ])
            .max_age(Duration::from_secs(600));
        Router::new()
            .route("/whip/{room}", post(publish))
            .route("/whip/{room}/{session}", patch(whip_patch).delete(whip_delete))
            .route("/whep/{room}/{stream}", post(play))
            .route("/whep/{room}/{stream}/{session}", patch(whep_patch).delete(whep_delete))
            .with_state(self)
            .layer(cors)
            .layer(from_fn(say_what_is_taken))
    }
}

const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Answers to OPTIONS say of what type bodies are to be (RFC 9725 §4.2, RFC 5789 §3.1).
async fn say_what_is_taken(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ends = if path.starts_with("/whip/") { 2 } else { 3 };
    let is_session = path.trim_matches('/').split('/').count() > ends;
    let asks = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if asks {
        let (name, kind) = if is_session { (ACCEPT_PATCH, SDP_FRAGMENT) } else { (ACCEPT_POST, SDP) };
        response.headers_mut().insert(name, HeaderValue::from_static(kind));
    }
    response
}

/// `POST /whip/{room}`
async fn publish(
    State(doors): State<Doors>,
    Path(room): Path<String>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, WhipError> {
    let room = RoomId::new(room).map_err(|_| WhipError::NoRoom)?;
    let place = format!("/whip/{room}");
    open(&doors, Door::Whip, &room, Wish::Publish, &place, source.ip(), request).await
}

/// `POST /whep/{room}/{stream}`
async fn play(
    State(doors): State<Doors>,
    Path((room, stream)): Path<(String, String)>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, WhipError> {
    let room = RoomId::new(room).map_err(|_| WhipError::NoRoom)?;
    let stream = StreamId::new(stream).map_err(|_| WhipError::NoStream)?;
    let place = format!("/whep/{room}/{stream}");
    open(&doors, Door::Whep, &room, Wish::Play(&stream), &place, source.ip(), request).await
}

async fn open(
    doors: &Doors,
    door: Door,
    room: &RoomId,
    wish: Wish<'_>,
    place: &str,
    source: IpAddr,
    request: Request,
) -> Result<Response, WhipError> {
    let span = tracing::info_span!("session", door = door.name(), %room, peer = %source);
    let outcome = open_session(doors, door, room, wish, place, source, request).instrument(span).await;
    let result = if outcome.is_ok() { "ok" } else { "refused" };
    metrics::counter!("kaigi_portal_media_sessions_total", "door" => door.name(), "result" => result)
        .increment(1);
    if let Err(error) = &outcome {
        tracing::info!(door = door.name(), %room, %error, "refused");
    }
    outcome
}

async fn open_session(
    doors: &Doors,
    door: Door,
    room: &RoomId,
    wish: Wish<'_>,
    place: &str,
    source: IpAddr,
    request: Request,
) -> Result<Response, WhipError> {
    let allowed = doors
        .beginnings
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .allows(subscriber_line(source), Instant::now());
    if !allowed {
        return Err(WhipError::TooManyRequests);
    }
    let (parts, body) = request.into_parts();
    if doors.signaling.stopping.is_cancelled() || doors.signaling.ending.draining.is_cancelled() {
        return Err(WhipError::Stopping);
    }
    // What is malformed, or can't be served, does not cost a token.
    let offer = Offer::parse(&read(&parts.headers, body, SDP, MAX_OFFER).await?)?;
    let lines = offer.media(match wish {
        Wish::Publish => Way::Sends,
        Wish::Play(_) => Way::Receives,
    })?;
    let backend = &doors.signaling.backend;
    let admission = Admission::check(backend, &parts.headers, room).await?;
    let seat = doors.signaling.place().ok_or(WhipError::TooManySessions)?;
    admission.use_up(backend).await?;
    let begun = begin(doors, room, wish, offer, lines, &admission).await;
    let (session, answer) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if error.is_passing() {
                admission.give_back(backend).await;
            }
            return Err(error);
        }
    };
    let tag = session.tag();
    let (entry, commands) = doors.sessions.enter(door, admission.proof);
    let location = format!("{place}/{}", entry.id());
    tracing::info!("session begins");
    let stopping = doors.signaling.stopping.clone();
    let stays = doors.signaling.ending.staying.token();
    let serve = async move {
        let _kept = (entry, seat, stays);
        session.run(commands, stopping).await;
    };
    doors.signaling.connections.spawn(serve.instrument(tracing::Span::current()));
    let mut response = (StatusCode::CREATED, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    for (name, value) in [(header::LOCATION, location), (header::ETAG, tag)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    for link in doors.signaling.ice_servers.for_client(UnixMillis::now()).iter().filter_map(IceServer::link) {
        headers.append(header::LINK, link);
    }
    Ok(response)
}

async fn whip_patch(
    State(doors): State<Doors>,
    Path((_, session)): Path<(String, String)>,
    request: Request,
) -> Result<Response, WhipError> {
    change(&doors, Door::Whip, &session, request).await
}

async fn whep_patch(
    State(doors): State<Doors>,
    Path((_, _, session)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, WhipError> {
    change(&doors, Door::Whep, &session, request).await
}

async fn whip_delete(
    State(doors): State<Doors>,
    Path((_, session)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, WhipError> {
    close(&doors, Door::Whip, &session, &headers).await
}

async fn whep_delete(
    State(doors): State<Doors>,
    Path((_, _, session)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, WhipError> {
    close(&doors, Door::Whep, &session, &headers).await
}

/// Candidates of the client, or an ICE restart (RFC 9725 §4.3).
async fn change(doors: &Doors, door: Door, id: &str, request: Request) -> Result<Response, WhipError> {
    let (parts, body) = request.into_parts();
    let session = doors.sessions.find(door, id).ok_or(WhipError::NoSession)?;
    session.proof.check(&parts.headers)?;
    let fragment = read(&parts.headers, body, SDP_FRAGMENT, MAX_FRAGMENT).await?;
    if !parts.headers.contains_key(header::IF_MATCH) {
        return Err(WhipError::NoPrecondition);
    }
    // A list that can't be read has no tag that matches.
    let if_match = IfMatch::of(&parts.headers).map_err(|_| WhipError::OtherIceSession)?;
    let fragment = Fragment::parse(&fragment)?;
    let (reply, answer) = oneshot::channel();
    session.commands.try_send(Command::Patch { if_match, fragment, reply }).map_err(|error| match error {
        tokio::sync::mpsc::error::TrySendError::Full(_) => WhipError::TooManyRequests,
        tokio::sync::mpsc::error::TrySendError::Closed(_) => WhipError::NoSession,
    })?;
    match answer.await.map_err(|_| WhipError::NoSession)?? {
        Patched::Taken => Ok(StatusCode::NO_CONTENT.into_response()),
        Patched::Restarted { fragment, tag } => {
            let kind = [(header::CONTENT_TYPE, SDP_FRAGMENT.to_owned()), (header::ETAG, tag)];
            Ok((StatusCode::OK, kind, fragment).into_response())
        }
    }
}

async fn close(doors: &Doors, door: Door, id: &str, headers: &HeaderMap) -> Result<StatusCode, WhipError> {
    let session = doors.sessions.find(door, id).ok_or(WhipError::NoSession)?;
    session.proof.check(headers)?;
    let (reply, done) = oneshot::channel();
    session.commands.send(Command::End { reply }).await.map_err(|_| WhipError::NoSession)?;
    // Whoever ended it, it has ended.
    let _: Result<_, _> = done.await;
    Ok(StatusCode::OK)
}

/// A body as text, of that type and no longer than that.
async fn read(headers: &HeaderMap, body: Body, kind: &'static str, most: usize) -> Result<String, WhipError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(kind) {
        return Err(WhipError::MediaType(kind));
    }
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, most)).await;
    let bytes = bytes.map_err(|_| WhipError::Late)?.map_err(|_| WhipError::TooLarge)?;
    String::from_utf8(bytes.into()).map_err(|_| WhipError::NotText)
}
