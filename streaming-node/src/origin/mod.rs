//! A server of files by HTTP, for broadcasts by HLS and DASH: who has its key stores them, and everybody may fetch them. Requests for playlists
//! can wait until what they ask for is there (blocking playlist reload, draft-pantos-hls-rfc8216bis §6.2.5.2), which a server of plain files can't do.

mod edge;
mod shelf;

use std::{
    future::IntoFuture,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing,
};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{Instant as Deadline, timeout_at},
};
use tokio_util::sync::CancellationToken;

use edge::{Edge, NoPlace, Wanted, announced};
use shelf::{File, Full, Shelf};

/// Bytes of a file.
const MAX_FILE: usize = 64 << 20;
/// Requests that wait.
const MAX_WAITING: usize = 4096;
/// Between looks at what nobody needs any more.
const TIDY: Duration = Duration::from_secs(60);
const M3U8: &str = "application/vnd.apple.mpegurl";

/// See the module.
#[derive(Debug)]
pub struct Origin {
    /// Of those who may store.
    key: String,
    shelf: Mutex<Shelf>,
    /// Tells of playlists that are stored.
    stored: watch::Sender<()>,
    places: Semaphore,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum OriginError {
    #[error("only who has the key may")]
    Key,
    #[error("there is no such file")]
    None,
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Place(#[from] NoPlace),
    #[error("that is too far ahead")]
    Far,
    #[error("too many wait")]
    Crowded,
    #[error("it did not come in time")]
    Late,
}

impl IntoResponse for OriginError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Key => StatusCode::FORBIDDEN,
            Self::None => StatusCode::NOT_FOUND,
            Self::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Place(_) | Self::Far => StatusCode::BAD_REQUEST,
            Self::Crowded | Self::Late => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, format!("{self}\n")).into_response()
    }
}

impl Origin {
    /// Without any files.
    #[must_use]
    pub fn new(key: String) -> Arc<Self> {
        let places = Semaphore::new(MAX_WAITING);
        Arc::new(Self { key, shelf: Mutex::default(), stored: watch::Sender::default(), places })
    }

    /// Serves until `stop`.
    pub async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let tidied = Arc::clone(&self);
        let tidy = async move {
            let mut tick = tokio::time::interval(TIDY);
            loop {
                tick.tick().await;
                tidied.shelf.lock().tidy(Instant::now());
            }
        };
        let file = routing::get(get).put(put).post(put).delete(delete);
        let router = Router::new()
            .fallback_service(file.with_state(self))
            .layer(DefaultBodyLimit::max(MAX_FILE))
            .layer(middleware::map_response(for_pages_of_others));
        tokio::select! {
            served = axum::serve(listener, router).into_future() => {
                if let Err(error) = served {
                    tracing::error!(%error, "broadcasts can't be fetched any more");
                }
            }
            () = tidy => {}
            () = stop.cancelled() => {}
        }
    }

    /// Every byte is looked at, however many are right.
    fn check(&self, query: Option<&str>) -> Result<(), OriginError> {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let given =
            pairs.into_iter().find(|(name, _)| name == "key").map(|(_, value)| value).unwrap_or_default();
        let differs = self.key.bytes().zip(given.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
        if self.key.len() == given.len() && differs == 0 { Ok(()) } else { Err(OriginError::Key) }
    }

    fn find(&self, path: &str) -> Result<File, OriginError> {
        self.shelf.lock().get(path).cloned().ok_or(OriginError::None)
    }

    /// A playlist once it goes as far as is wanted.
    async fn wait(&self, path: &str, wanted: Wanted) -> Result<File, OriginError> {
        let mut stored = self.stored.subscribe();
        let file = self.find(path)?;
        let Some(edge) = file.edge.filter(|edge| !edge.has(wanted)) else { return Ok(file) };
        if edge.is_far_from(wanted) {
            return Err(OriginError::Far);
        }
        let _place = self.places.try_acquire().map_err(|_| OriginError::Crowded)?;
        let deadline = Deadline::now() + edge.patience();
        loop {
            // It is told of other playlists, too.
            if !matches!(timeout_at(deadline, stored.changed()).await, Ok(Ok(()))) {
                return Err(OriginError::Late);
            }
            let file = self.find(path)?;
            if file.edge.is_none_or(|edge| edge.has(wanted)) {
                return Ok(file);
            }
        }
    }
}

async fn put(
    State(origin): State<Arc<Origin>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    mut data: Bytes,
) -> Result<StatusCode, OriginError> {
    origin.check(query.as_deref())?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut edge = None;
    if kind == M3U8
        && let Ok(text) = std::str::from_utf8(&data)
    {
        edge = Edge::parse(text);
        if edge.is_some() {
            data = announced(text).into();
        }
    }
    origin.shelf.lock().put(uri.path(), File { data, kind: kind.to_owned(), edge }, Instant::now())?;
    if kind == M3U8 {
        origin.stored.send_replace(());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(
    State(origin): State<Arc<Origin>>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, OriginError> {
    origin.check(query.as_deref())?;
    let was_there = origin.shelf.lock().remove(uri.path());
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(OriginError::None) }
}

async fn get(
    State(origin): State<Arc<Origin>>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Response, OriginError> {
    let file = match Wanted::parse(query.as_deref().unwrap_or_default())? {
        Some(wanted) => origin.wait(uri.path(), wanted).await?,
        None => origin.find(uri.path())?,
    };
    // Segments never change; what tells of them does.
    let lasts = file.kind.starts_with("video/") || file.kind.starts_with("audio/");
    let cache = if lasts { "max-age=3600" } else { "no-cache" };
    let kind =
        HeaderValue::from_str(&file.kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))];
    Ok((headers, file.data).into_response())
}

/// Whoever watches may do so in any page.
async fn for_pages_of_others(mut response: Response) -> Response {
    let anywhere = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anywhere);
    response
}

#[cfg(test)]
mod tests;
