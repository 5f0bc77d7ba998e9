//! The sample application's door: tokens for everybody who can reach this portal. Meant for trying things out; operators close it
//! with `--sample false` and give tokens through the management API.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::{
    Json,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequest, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use kaigi_proto::ids::RoomId;
use kaigi_room_config::RoomConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rate_limit::RateLimit;
use crate::{
    backend::{Backend, CallError},
    clock::UnixMillis,
    public_host::PublicHost,
    rest::{is_name, issue},
    token::TokenRecord,
};

/// Name of the room for those who name none; the cluster is born with one.
const DEFAULT_ROOM: &str = "default";
/// Tokens that one address may get at once: a class of people behind one router.
const BURST: u32 = 100;
/// Tokens a second for one address in the long run.
const RATE: f64 = 10.0;
/// Largest request, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The door.
#[derive(Clone, Debug)]
pub(crate) struct SampleDoor {
    backend: Backend,
    host: PublicHost,
    limit: Arc<Mutex<RateLimit<IpAddr>>>,
    /// The default room, so that the rooms need not be searched each time.
    default_room: Arc<Mutex<Option<RoomId>>>,
}

impl SampleDoor {
    pub(crate) fn new(backend: Backend, host: PublicHost) -> Self {
        Self {
            backend,
            host,
            limit: Arc::new(Mutex::new(RateLimit::new(BURST, RATE))),
            default_room: Arc::default(),
        }
    }

    async fn room(&self, wanted: Option<&RoomId>) -> Result<RoomConfig, DoorError> {
        if let Some(id) = wanted {
            return self.backend.room(id).await?.ok_or(DoorError::NoRoom);
        }
        let known = self.default_room.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(id) = known
            && let Some(room) = self.backend.room(&id).await?.filter(|room| room.name == DEFAULT_ROOM)
        {
            return Ok(room);
        }
        let mut found = None;
        let look = |room: RoomConfig| {
            if room.name != DEFAULT_ROOM {
                return ControlFlow::Continue(());
            }
            found = Some(room);
            ControlFlow::Break(())
        };
        self.backend.visit_rooms(look).await?;
        let found = found.ok_or(DoorError::NoRoom)?;
        *self.default_room.lock().unwrap_or_else(PoisonError::into_inner) = RoomId::new(&found.id).ok();
        Ok(found)
    }
}

/// Why no token is given.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    #[error("Too many requests")]
    TooMany,
    #[error("{0}")]
    Malformed(String),
    #[error("Name or role not valid")]
    NameOrRole,
    #[error("Room not found")]
    NoRoom,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl IntoResponse for DoorError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Malformed(_) | Self::NameOrRole => StatusCode::BAD_REQUEST,
            Self::NoRoom => StatusCode::NOT_FOUND,
            Self::Call(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// Who wants to go where.
#[derive(Deserialize)]
struct Wish {
    user: Value,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    room: Option<RoomId>,
}

/// The roles that everybody may have.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    #[default]
    Presenter,
    Viewer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Presenter => "presenter",
            Self::Viewer => "viewer",
        }
    }
}

/// The token, and the room that it is for.
#[derive(Serialize)]
pub(super) struct Given {
    token: String,
    room: String,
}

/// What one customer of an internet provider has: an IPv4 address, or the 64 leading bits of an IPv6 address.
pub(crate) fn subscriber_line(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// `POST /sample/tokens`
pub(super) async fn create(
    State(door): State<SampleDoor>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Result<Json<Given>, DoorError> {
    if !door
        .limit
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .allows(subscriber_line(source.ip()), Instant::now())
    {
        return Err(DoorError::TooMany);
    }
    let headers = request.headers().clone();
    DefaultBodyLimit::max(MAX_BODY).apply(&mut request);
    let Json(wish) = Json::<Wish>::from_request(request, &())
        .await
        .map_err(|rejection| DoorError::Malformed(rejection.body_text()))?;
    let room = door.room(wish.room.as_ref()).await?;
    if !is_name(&wish.user) || room.role(wish.role.name()).is_none() {
        return Err(DoorError::NameOrRole);
    }
    let record = TokenRecord {
        user: wish.user,
        role: wish.role.name().to_owned(),
        room: room.id.clone(),
        service: room.service,
        isp: String::new(),
        region: String::new(),
        created_ms: UnixMillis::now().0,
    };
    let token = issue(&door.backend, &door.host, &headers, &record).await?;
    Ok(Json(Given { token, room: room.id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_source() {
        let line = |text: &str| subscriber_line(text.parse().unwrap()).to_string();
        assert_eq!(line("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(line("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
