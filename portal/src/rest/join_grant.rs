//! Coming into a room with a JSON Web Token of its service (grant `join`), for devices that keep one token for long.

use kaigi_proto::ids::RoomId;

use super::{
    bearer,
    error::RestError,
    identity::{Identity, JoinGrant},
    owned_room, tokens,
};
use crate::{backend::Backend, clock::UnixMillis, token::TokenRecord};

/// As whom the bearer of a JSON Web Token comes into a room.
///
/// # Errors
/// If the token is not good, has not the grant, or not for that room; if the room is not there, or has no such role.
pub(crate) async fn join_grant(
    backend: &Backend,
    token: &str,
    room: &RoomId,
) -> Result<TokenRecord, RestError> {
    let Identity { service, grants, .. } = bearer::authenticate(backend, token).await?;
    let JoinGrant { user, role } = grants.join.clone().ok_or(RestError::Forbidden)?;
    if !grants.covers(room.as_str()) {
        return Err(RestError::RoomNotFound);
    }
    let config = owned_room(backend, &service, room).await?;
    if !tokens::is_name(&user) || config.role(&role).is_none() {
        return Err(RestError::BadRequest("Name or role not valid".to_owned()));
    }
    Ok(TokenRecord {
        user,
        role,
        room: config.id,
        service: service.id,
        isp: String::new(),
        region: String::new(),
        created_ms: UnixMillis::now().0,
    })
}
