//! The layer around the Socket.IO library that sees its requests and takes its place in the upgrade to WebSocket.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, StatusCode, header},
    response::IntoResponse,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socketioxide::{layer::SocketIoLayer, service::SocketIoService};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, ServiceExt};

use super::{Polled, Receipts, Sessions, payload, tap::Tap};

/// Where Socket.IO is.
const PATH: &str = "/socket.io";

/// The Socket.IO library's layer with receipts.
#[derive(Clone)]
pub(crate) struct ReceiptLayer {
    library: SocketIoLayer,
    sessions: Sessions,
    /// No more sessions when it is cancelled: who tries is to try elsewhere.
    closed: CancellationToken,
}

impl ReceiptLayer {
    pub(in crate::signaling) fn new(
        library: SocketIoLayer,
        sessions: Sessions,
        closed: CancellationToken,
    ) -> Self {
        Self { library, sessions, closed }
    }
}

impl<S: Clone> Layer<S> for ReceiptLayer {
    type Service = ReceiptService<S>;

    fn layer(&self, inner: S) -> ReceiptService<S> {
        let (library, sessions) = (self.library.layer(inner), self.sessions.clone());
        ReceiptService { library, sessions, closed: self.closed.clone() }
    }
}

/// The Socket.IO library's service with receipts.
#[derive(Clone)]
pub(crate) struct ReceiptService<S: Clone> {
    library: SocketIoService<S>,
    sessions: Sessions,
    closed: CancellationToken,
}

/// What a request asks of Engine.IO, as far as it matters here.
struct Asked {
    version: u8,
    websocket: bool,
    sid: Option<String>,
    /// The parameter that makes addresses different.
    stamp: Option<String>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let rest = request.uri().path().strip_prefix(PATH)?;
        if request.method() != Method::GET || !(rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        let query = request.uri().query()?;
        let value = |name: &str| {
            query.split('&').find_map(|pair| pair.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
        };
        Some(Self {
            version: match value("EIO")? {
                "3" => 3,
                "4" => 4,
                _ => return None,
            },
            websocket: match value("transport")? {
                "websocket" => true,
                "polling" => false,
                _ => return None,
            },
            sid: value("sid").map(str::to_owned),
            stamp: value("t").map(str::to_owned),
        })
    }
}

impl<S> Service<Request<Body>> for ReceiptService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.library, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The service that is ready is the one to be called; its clone is for later.
        let clone = self.clone();
        let this = std::mem::replace(self, clone);
        let Some(asked) = Asked::of(&request) else { return Box::pin(this.pass(request)) };
        if asked.sid.is_none() && this.closed.is_cancelled() {
            // Not a refusal by Socket.IO, after which clients do not try again.
            return Box::pin(std::future::ready(Ok(StatusCode::SERVICE_UNAVAILABLE.into_response())));
        }
        match (asked.websocket, asked.sid.clone()) {
            (false, None) => {
                request.extensions_mut().insert(Arc::new(Receipts::default()));
                Box::pin(this.pass(request))
            }
            (false, Some(sid)) => Box::pin(this.poll(request, asked, sid)),
            (true, sid) => {
                // Who waits for no upgrade, or has no such session, is answered by the library.
                let known = sid.as_ref().map(|sid| self.sessions.get(sid));
                let receipts = match known {
                    None => Arc::new(Receipts::default()),
                    Some(Some(receipts)) => receipts,
                    Some(None) => return Box::pin(this.pass(request)),
                };
                let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
                let (Some(key), Some(_)) = (key, request.extensions().get::<OnUpgrade>()) else {
                    return Box::pin(this.pass(request));
                };
                let answer = this.upgrade(request, &key, receipts, asked.version, sid);
                Box::pin(std::future::ready(Ok(answer)))
            }
        }
    }
}

impl<S> ReceiptService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn pass(mut self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let answer = Service::<Request<Body>>::call(&mut self.library, request).await?;
        Ok(answer.map(Body::new))
    }

    /// A poll: it proves the answer to the one before, and its own answer is counted.
    async fn poll(
        self,
        request: Request<Body>,
        asked: Asked,
        sid: String,
    ) -> Result<Response<Body>, Infallible> {
        let sessions = self.sessions.clone();
        let before = sessions.get(&sid);
        let mut broken =
            OnBreak { service: Some(self.clone()), receipts: before.clone(), version: asked.version, sid };
        if let Some(receipts) = &before
            && receipts.polled(asked.stamp.as_deref()) == Polled::Again
        {
            // Dropping what is to be done on a break does it: the client comes back on a new session.
            return Ok(StatusCode::BAD_REQUEST.into_response());
        }
        let cut = before.as_ref().map(|receipts| receipts.cut.clone());
        let cut = async {
            match &cut {
                Some(cut) => cut.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            answer = self.pass(request) => answer?,
            // As above.
            () = cut => return Ok(StatusCode::BAD_REQUEST.into_response()),
        };
        let (parts, body) = answer.into_parts();
        // The library has it in memory already, whatever its size.
        let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
            return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        broken.service = None;
        // The first poll may have begun before its session was entered.
        if parts.status == StatusCode::OK
            && let Some(receipts) = before.or_else(|| sessions.get(&broken.sid))
        {
            receipts.answered(asked.stamp, payload::count(asked.version, &bytes));
        }
        Ok(Response::from_parts(parts, Body::from(bytes)))
    }

    /// Upgrades to WebSocket in the library's place, to give it the tapped connection.
    fn upgrade(
        mut self,
        mut request: Request<Body>,
        key: &HeaderValue,
        receipts: Arc<Receipts>,
        version: u8,
        sid: Option<String>,
    ) -> Response<Body> {
        let upgraded = hyper::upgrade::on(&mut request);
        let (mut parts, _) = request.into_parts();
        parts.extensions.insert(receipts.clone());
        tokio::spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            let (closed, ended) = oneshot::channel::<Infallible>();
            let connection = Tap::new(TokioIo::new(upgraded), receipts, closed);
            let request = Request::from_parts(parts, ());
            let begun = Service::<(_, Request<()>)>::call(&mut self.library, (connection, request)).await;
            if begun.is_err() {
                return;
            }
            // A session whose upgrade has failed does not poll any more either. One that has ended takes no notice.
            if let Some(sid) = sid {
                let _: Result<Infallible, _> = ended.await;
                self.close(version, &sid).await;
            }
        });
        let accept = derive_accept_key(key.as_bytes());
        let headers = [
            (header::UPGRADE, "websocket"),
            (header::CONNECTION, "Upgrade"),
            (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }

    /// Closes a session in the name of its client.
    async fn close(self, version: u8, sid: &str) {
        let address = format!("{PATH}/?EIO={version}&transport=polling&sid={sid}");
        let close = if version == 3 { "1:1" } else { "1" };
        let request = Request::post(address).header(header::CONTENT_TYPE, "text/plain;charset=UTF-8");
        let Ok(request) = request.body(Body::from(close)) else { return };
        let Ok(library) = ServiceExt::<Request<Body>>::ready_oneshot(self.library).await;
        let this = Self { library, sessions: self.sessions, closed: self.closed };
        let Ok(_) = this.pass(request).await;
    }
}

/// Ends a session whose poll broke off: packets that the library had taken for it may be lost, of which nobody would know.
struct OnBreak<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    service: Option<ReceiptService<S>>,
    receipts: Option<Arc<Receipts>>,
    version: u8,
    sid: String,
}

impl<S> Drop for OnBreak<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    fn drop(&mut self) {
        let Some(service) = self.service.take() else { return };
        if let Some(receipts) = &self.receipts {
            receipts.lost();
        }
        // Without a runtime the process is at its end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (version, sid) = (self.version, std::mem::take(&mut self.sid));
            runtime.spawn(async move { service.close(version, &sid).await });
        }
    }
}
