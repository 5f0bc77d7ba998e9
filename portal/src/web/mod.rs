//! The signaling port's other pages: web pages, the sample application's door to tokens, health.

mod console;
mod pages;
mod rate_limit;
mod sample;
mod upgrade;

use std::path::Path;

use axum::{
    Router,
    http::Method,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::{
    echo::EchoDoor, health::Readiness, health::health_routes, peers::Peers, signaling::Signaling, whip::Doors,
};

pub(crate) use console::{Console, guard_page, parse_api};
pub(crate) use pages::{find_web_root, pages};
pub(crate) use rate_limit::RateLimit;
pub(crate) use sample::{SampleDoor, subscriber_line};
pub(crate) use upgrade::{Upgrade, is_allowed_origin};

/// What is on the signaling port beside Socket.IO, for clients other than OWT's.
#[derive(Debug)]
pub(crate) struct OtherClients {
    /// WHIP and WHEP, with rules of their own for pages of other origins.
    pub(crate) whip: Doors,
    pub(crate) peers: Peers,
    /// Media that come back, if that is served.
    pub(crate) echo: Option<EchoDoor>,
}

/// The routes of the signaling port.
pub(crate) fn router(
    signaling: &Signaling,
    others: OtherClients,
    readiness: Readiness,
    sample: Option<SampleDoor>,
    web_root: Option<&Path>,
    console: &Console,
    cors: &[String],
) -> Router {
    let pages = pages(web_root).layer(from_fn_with_state(console.clone(), console::guard));
    let mut router = health_routes(readiness)
        .route("/console/config.json", get(console::config).with_state(console.clone()))
        .merge(others.peers.router())
        .merge(others.echo.map(EchoDoor::router).unwrap_or_default())
        .fallback_service(pages);
    if let Some(door) = sample {
        router = router.route("/sample/tokens", post(sample::create).with_state(door));
    }
    router.layer(signaling.layer()).layer(cors_layer(cors)).merge(others.whip.router(allowed_origins(cors)))
}

/// The origins whose pages may call.
fn allowed_origins(origins: &[String]) -> AllowOrigin {
    if origins.iter().any(|o| o.trim() == "*") {
        AllowOrigin::mirror_request()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|o| o.trim().parse().ok()))
    }
}

/// Pages of the allowed origins may call, with credentials; the origin is echoed.
pub(crate) fn cors_layer(origins: &[String]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(allowed_origins(origins))
        .allow_credentials(true)
        .allow_headers(AllowHeaders::mirror_request())
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
}
