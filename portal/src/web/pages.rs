//! Web pages: the files of one directory, compressed, with the headers that let browsers keep what never changes.

use std::path::{Path, PathBuf};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use tower::ServiceExt;
use tower_http::{compression::CompressionLayer, services::ServeDir};

/// For files whose name changes with their content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// For all others: ask each time whether it changed.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// What is shown where pages should be.
const MISSING: &str = "Kaigi is running, but its web pages are not here.\n\n\
    Build them (directory web/ of the sources: npm install, npm run build) and start again from the directory above it,\n\
    or name their directory with --web-root.\n";

/// Where the web pages are, if nobody says it: here, in the sources from which the program was built, or where it is installed.
pub(crate) fn find_web_root() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let mut places = vec![PathBuf::from("web/dist")];
    places.extend(
        ["../../web/dist", "../share/kaigi/web"].into_iter().filter_map(|place| Some(beside?.join(place))),
    );
    places.into_iter().find(|place| place.join("index.html").is_file())
}

/// Serves the pages of `root`, or says that there are none.
pub(crate) fn pages(root: Option<&Path>) -> Router {
    let root = root.map(Path::to_path_buf);
    Router::new().fallback(any(serve)).with_state(root).layer(CompressionLayer::new())
}

async fn serve(State(root): State<Option<PathBuf>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let is_front = path == "/" || path == "/index.html";
    let Some(root) = root else { return not_found(is_front) };
    let Ok(response) = ServeDir::new(&root).oneshot(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return not_found(is_front);
    }
    let mut response = response.map(Body::new);
    let is_immutable = ["/assets/", "/console/assets/", "/webrtc/client/assets/", "/echo/assets/"]
        .iter()
        .any(|place| path.starts_with(place));
    let caching = if is_immutable { IMMUTABLE } else { REVALIDATE };
    response.headers_mut().insert(header::CACHE_CONTROL, caching);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn not_found(is_front: bool) -> Response {
    let text = if is_front { MISSING } else { "Not found\n" };
    (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, REVALIDATE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(root: Option<&Path>, path: &str, gzip: bool) -> (StatusCode, Response) {
        let mut request = Request::get(path);
        if gzip {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        let response = pages(root).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        (response.status(), response)
    }

    fn header_of(response: &Response, name: header::HeaderName) -> &str {
        response.headers().get(name).map_or("", |v| v.to_str().unwrap())
    }

    #[tokio::test]
    async fn files_have_their_type_and_are_kept_if_they_never_change() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("assets")).unwrap();
        std::fs::write(root.path().join("index.html"), "<p>".repeat(1000)).unwrap();
        std::fs::write(root.path().join("assets/a.js"), "let a;").unwrap();
        let (status, page) = get(Some(root.path()), "/", true).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(header_of(&page, header::CONTENT_TYPE), "text/html");
        assert_eq!(header_of(&page, header::CONTENT_ENCODING), "gzip");
        assert_eq!(header_of(&page, header::CACHE_CONTROL), "no-cache");
        let (_, script) = get(Some(root.path()), "/assets/a.js", false).await;
        assert_eq!(header_of(&script, header::CONTENT_TYPE), "text/javascript");
        assert!(header_of(&script, header::CACHE_CONTROL).contains("immutable"));
    }

    #[tokio::test]
    async fn nothing_outside_of_the_directory_is_served() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("web")).unwrap();
        std::fs::write(root.path().join("secret"), "s").unwrap();
        let web = root.path().join("web");
        for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "//secret"] {
            assert_eq!(get(Some(&web), path, false).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn missing_pages_are_explained() {
        let (status, response) = get(None, "/", false).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let text = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        assert!(std::str::from_utf8(&text).unwrap().contains("--web-root"));
    }
}
