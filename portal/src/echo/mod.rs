//! Offer and answer over HTTP: who sends an offer gets his own picture and sound back, the picture through a filter if he wants, and answers on
//! his data channels. A session is a participant with one publication and one subscription of it on the same transport; this portal holds it.

mod calls;
mod chat;
mod error;
mod fold;
mod place;
mod session;
mod sessions;

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, header},
    middleware::from_fn,
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::{
    signaling::Signaling,
    web::{RateLimit, cors_layer, guard_page, pages, subscriber_line},
};
use chat::MAX_TEXT;
use error::EchoError;
use fold::Unfolded;
use session::Session;
use sessions::Sessions;

/// Sessions that one address may begin at once, and a second in the long run: each costs a decoder, a filter and an encoder.
const OFFERS: (u32, f64) = (10, 1.0);
/// Messages that one address may have sent at once, and a second in the long run.
const MESSAGES: (u32, f64) = (100, 20.0);
/// Largest body, in bytes. Browsers' offers have about 8 kB, and JSON at most doubles them.
const MAX_BODY: usize = 128 * 1024;
/// Longest wait for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

type Limit = Arc<Mutex<RateLimit<IpAddr>>>;

/// The door.
#[derive(Clone, Debug)]
pub(crate) struct EchoDoor {
    signaling: Signaling,
    sessions: Sessions,
    offers: Limit,
    messages: Limit,
}

/// What is done with the picture on its way back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Transform {
    #[default]
    None,
    Edges,
    Cartoon,
    Rotate,
}

impl Transform {
    /// The analytics' algorithm and its parameters.
    fn algorithm(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Edges => Some(("edgedetect", "")),
            Self::Cartoon => Some(("cartoon", "")),
            Self::Rotate => Some(("rotate", "{\"angle\":90}")),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Offered {
    sdp: String,
    r#type: String,
    video_transform: Option<Transform>,
}

#[derive(Debug, Serialize)]
struct Answered {
    sdp: String,
    r#type: &'static str,
    session: String,
}

#[derive(Debug, Deserialize)]
struct Said {
    session: String,
    text: String,
}

impl EchoDoor {
    /// A door for at most `sessions` at a time.
    pub(crate) fn new(signaling: Signaling, sessions: usize) -> Self {
        let limit = |(burst, rate)| Arc::new(Mutex::new(RateLimit::new(burst, rate)));
        Self {
            signaling,
            sessions: Sessions::new(sessions),
            offers: limit(OFFERS),
            messages: limit(MESSAGES),
        }
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/offer", post(offer))
            .route("/message", post(message))
            .with_state(self)
    }

    /// The routes beside all others; the page is among the others.
    pub(crate) fn router(self) -> Router {
        Router::new().nest("/echo", self.routes())
    }

    /// The routes and the page on a port of their own.
    pub(crate) fn own_port(self, web_root: Option<&Path>, cors: &[String]) -> Router {
        let page = web_root.map(|root| root.join("echo"));
        let page = pages(page.as_deref()).layer(from_fn(guard_page));
        self.routes().fallback_service(page).layer(cors_layer(cors))
    }
}

fn within_limit(limit: &Limit, source: SocketAddr) -> Result<(), EchoError> {
    let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
    if limit.allows(subscriber_line(source.ip()), Instant::now()) { Ok(()) } else { Err(EchoError::TooFast) }
}

/// `GET /health`
async fn health(State(door): State<EchoDoor>) -> ([(HeaderName, &'static str); 1], Json<Value>) {
    let (sessions, most) = door.sessions.count();
    let health = json!({ "status": "ok", "sessions": sessions, "max_sessions": most });
    ([(header::CACHE_CONTROL, "no-store")], Json(health))
}

/// `POST /offer`
async fn offer(
    State(door): State<EchoDoor>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<Answered>, EchoError> {
    let span = tracing::info_span!("session", door = "echo", peer = %source.ip());
    let outcome = begin(&door, source, request).instrument(span).await;
    let result = if outcome.is_ok() { "ok" } else { "refused" };
    metrics::counter!("kaigi_portal_media_sessions_total", "door" => "echo", "result" => result).increment(1);
    if let Err(error) = &outcome {
        tracing::info!(door = "echo", %error, "refused");
    }
    outcome.map(Json)
}

async fn begin(door: &EchoDoor, source: SocketAddr, request: Request) -> Result<Answered, EchoError> {
    within_limit(&door.offers, source)?;
    let offered: Offered = read(request).await?;
    if offered.r#type != "offer" {
        return Err(EchoError::NoOffer);
    }
    let offer = Unfolded::of(&offered.sdp)?;
    let signaling = &door.signaling;
    if signaling.stopping.is_cancelled() || signaling.ending.draining.is_cancelled() {
        return Err(EchoError::Stopping);
    }
    let seat = signaling.place().ok_or(EchoError::Full)?;
    let (entry, sayings) = door.sessions.enter().ok_or(EchoError::Full)?;
    let transform = offered.video_transform.unwrap_or_default();
    let (session, sdp) = Session::begin(signaling, entry.slot(), &offer, transform).await?;
    tracing::info!(?transform, "session begins");
    let (id, stopping) = (entry.id().to_owned(), signaling.stopping.clone());
    let serve = async move {
        let _kept = (entry, seat);
        session.run(sayings, stopping).await;
    };
    signaling.connections.spawn(serve.instrument(tracing::Span::current()));
    Ok(Answered { sdp, r#type: "answer", session: id })
}

/// `POST /message`
async fn message(
    State(door): State<EchoDoor>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<Value>, EchoError> {
    within_limit(&door.messages, source)?;
    let said: Said = read(request).await?;
    if said.text.len() > MAX_TEXT {
        return Err(EchoError::TooLarge);
    }
    door.sessions.say(&said.session, said.text).await?;
    Ok(Json(json!({})))
}

/// A body of JSON.
async fn read<T: DeserializeOwned>(request: Request) -> Result<T, EchoError> {
    let (parts, body) = request.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(EchoError::MediaType);
    }
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await;
    let bytes = bytes.map_err(|_| EchoError::Late)?.map_err(|_| EchoError::TooLarge)?;
    serde_json::from_slice(&bytes).map_err(|error| EchoError::Malformed(error.to_string()))
}
