//! The signaling port's other pages: web pages, the sample application's door to tokens, health.

mod pages;
mod rate_limit;
mod sample;

use std::path::Path;

use axum::{Router, http::Method, routing::post};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::{health::Readiness, health::health_routes, signaling::Signaling};

pub(crate) use pages::find_web_root;
pub(crate) use sample::SampleDoor;

/// The routes of the signaling port.
pub(crate) fn router(
    signaling: &Signaling,
    readiness: Readiness,
    sample: Option<SampleDoor>,
    web_root: Option<&Path>,
    cors: &[String],
) -> Router {
    let mut router = health_routes(readiness).fallback_service(pages::pages(web_root));
    if let Some(door) = sample {
        router = router.route("/sample/tokens", post(sample::create).with_state(door));
    }
    router.layer(signaling.layer()).layer(cors_layer(cors))
}

/// Pages of the allowed origins may call, with credentials; the origin is echoed.
fn cors_layer(origins: &[String]) -> CorsLayer {
    let origins = if origins.iter().any(|o| o.trim() == "*") {
        AllowOrigin::mirror_request()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|o| o.trim().parse().ok()))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_credentials(true)
        .allow_headers(AllowHeaders::mirror_request())
        .allow_methods([Method::GET, Method::POST, Method::OPTIONS])
}
