//! The page on which the document can be read: Swagger UI, whose files are part of this program, so that it works without the internet.

use std::sync::{Arc, LazyLock};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa_swagger_ui::{Config, serve};

/// Where it is.
const PLACE: [&str; 2] = ["docs", "api"];
/// Everything comes from this server; the page writes styles and pictures into itself.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
);

static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("../../openapi.json").try_it_out_enabled(true)));

/// The page or one of its files; `None` for all other paths.
pub(crate) fn page(path: &str) -> Option<Response> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    if !PLACE.iter().all(|place| parts.next().is_some_and(|part| part.eq_ignore_ascii_case(place))) {
        return None;
    }
    let name = parts.next();
    if name.is_none() && !path.ends_with('/') {
        // Its files are named from here.
        return Some((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, "/docs/api/")]).into_response());
    }
    let file = serve(name.unwrap_or_default(), CONFIG.clone()).ok().flatten()?;
    if parts.next().is_some() {
        return None;
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_str(&file.content_type).ok()?),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Some((headers, file.bytes.into_owned()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> Option<(StatusCode, String)> {
        let response = page(path)?;
        let status = response.status();
        let bytes =
            futures::executor::block_on(axum::body::to_bytes(response.into_body(), 10 << 20)).unwrap();
        Some((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    #[test]
    fn the_page_and_its_files_are_here() {
        assert_eq!(text("/docs/api").unwrap().0, StatusCode::PERMANENT_REDIRECT);
        let (status, page) = text("/docs/api/").unwrap();
        assert_eq!(status, StatusCode::OK);
        for file in page.split(['"', '\'']).filter_map(|text| text.strip_prefix("./")) {
            assert!(text(&format!("/docs/api/{file}")).is_some(), "{file}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing is fetched from elsewhere");
        assert!(text("/docs/api/swagger-initializer.js").unwrap().1.contains("../../openapi.json"));
    }

    #[test]
    fn other_paths_are_none_of_it() {
        for path in ["/", "/docs", "/docs/api/none.js", "/docs/api/index.html/x", "/docs/api/../x"] {
            assert!(text(path).is_none(), "{path}");
        }
    }
}
