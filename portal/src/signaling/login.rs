//! `login`: from a token to a place in a room, in the order of OWT's checks.

use std::time::Duration;

use kaigi_proto::{ids::RoomId, v1::Joined};
use kaigi_room_client::Seated;
use serde_json::{Value, json};

use super::{Signaling, delivery::Delivery, room::Membership};
use crate::{
    backend::CallError,
    clock::UnixMillis,
    protocol::{OWN_SDK, Version, notification},
    ticket::{Holder, Ticket},
    token::{LoginToken, TokenError, TokenRecord},
};

/// SDKs that can come back with a ticket.
const RECONNECTING_SDKS: [&str; 5] = ["JavaScript", "Android", "C++", "Objective-C", OWN_SDK];

/// Why a login is refused. The text is what the client is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error("Deprecated client version")]
    Deprecated,
    #[error("Unknown client protocol")]
    Protocol,
    #[error("User agent info is incorrect")]
    UserAgent,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("Joining room failed")]
    Room,
}

/// A login request, checked as far as it can be without anybody's help.
#[derive(Debug)]
struct Credentials {
    version: Version,
    reconnectable: bool,
    token: LoginToken,
}

/// Logs a client in. Gives its place in the room and the data of the answer.
/// `delivery` is that of its socket.
pub(super) async fn login(
    shared: &Signaling,
    data: &Value,
    delivery: Delivery,
) -> Result<(Membership, Value), LoginError> {
    let Credentials { version, reconnectable, token } = credentials(data)?;
    token.verify(&shared.backend.secret("token-key").await?)?;
    let record = shared.backend.take_token(&token.token_id).await?.ok_or(TokenError::Unknown)?;
    record.check_age(UnixMillis::now())?;
    let room = RoomId::new(&record.room).map_err(|_| LoginError::Room)?;

    let window = if reconnectable { shared.reconnection.window } else { Duration::ZERO };
    let Seated { seat: place, events, joined } = shared.join(&room, &record, window).await?;
    let membership = Membership {
        version,
        seat: shared.seats.take(place.participant.clone()),
        place,
        events,
        reconnectable,
        delivery,
        used_ticket: None,
    };
    let ticket = if reconnectable { Some(new_ticket(shared, &membership.holder()).await?) } else { None };
    let mut answer = answer(&membership, &record, &joined, ticket);
    let ice_servers = shared.ice_servers.for_client(UnixMillis::now());
    if !ice_servers.is_empty() {
        // Not of OWT, whose SDKs pass over what they don't know.
        answer["iceServers"] = json!(ice_servers);
    }
    Ok((membership, answer))
}

/// A reconnection ticket as text.
pub(super) async fn new_ticket(shared: &Signaling, holder: &Holder) -> Result<String, CallError> {
    let key = shared.backend.secret("ticket-key").await?;
    let life_ms = u64::try_from(shared.reconnection.ticket_life.as_millis()).unwrap_or(u64::MAX);
    Ok(Ticket::issue(&key, holder, UnixMillis::now(), life_ms).encode())
}

fn credentials(data: &Value) -> Result<Credentials, LoginError> {
    let sdk = &data["userAgent"]["sdk"];
    let protocol = data["protocol"].as_str().unwrap_or_default();
    if matches!(protocol, "1.0" | "1.1" | "1.2") && sdk["version"] == "3.5" {
        return Err(LoginError::Deprecated);
    }
    let kind = sdk["type"].as_str().unwrap_or_default();
    let version = Version::asked(protocol, kind).ok_or(LoginError::Protocol)?;
    if !is_truthy(&sdk["type"]) || !is_truthy(&sdk["version"]) {
        return Err(LoginError::UserAgent);
    }
    // OWT has this member in its document and ignores it; only the own SDK is taken by its word.
    let declined = kind == OWN_SDK && data["reconnection"] == false;
    let reconnectable = RECONNECTING_SDKS.contains(&kind) && !declined;
    let text = data["token"].as_str().ok_or_else(|| TokenError::Malformed("not a text".to_owned()))?;
    Ok(Credentials { version, reconnectable, token: LoginToken::parse(text)? })
}

/// As JavaScript sees it; some SDKs give their version as a number.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn answer(membership: &Membership, record: &TokenRecord, joined: &Joined, ticket: Option<String>) -> Value {
    let version = membership.version;
    let participants: Vec<_> = joined.participants.iter().map(notification::participant_info).collect();
    let shown = joined.streams.iter().filter(|stream| version.shows(stream));
    let streams: Vec<_> = shown.map(|stream| version.stream_info(stream)).collect();
    let mut answer = json!({
        "id": membership.place.participant,
        "user": record.user,
        "role": record.role,
        "permission": notification::permission(joined.permission.as_ref()),
        "room": { "id": membership.place.room, "views": joined.views, "participants": participants, "streams": streams },
    });
    if let Some(ticket) = ticket {
        answer["reconnectionTicket"] = ticket.into();
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(data: Value) -> String {
        credentials(&data).unwrap_err().to_string()
    }

    fn request(protocol: Value, sdk: Value) -> Value {
        let token = LoginToken::issue("k", "0123", "h:1", false).encode();
        json!({"token": token, "userAgent": {"sdk": sdk}, "protocol": protocol})
    }

    #[test]
    fn checks_come_in_owts_order() {
        let sdk = json!({"type": "JavaScript", "version": "5.1"});
        assert_eq!(refusal(Value::Null), "Unknown client protocol");
        assert_eq!(refusal(json!([1])), "Unknown client protocol");
        assert_eq!(refusal(request(json!("1.0"), json!({"version": "3.5"}))), "Deprecated client version");
        assert_eq!(refusal(request(json!("1.3"), sdk.clone())), "Unknown client protocol");
        assert_eq!(refusal(request(json!(1.2), sdk.clone())), "Unknown client protocol");
        assert_eq!(refusal(request(json!("1.2-Kaigi"), sdk.clone())), "Unknown client protocol");
        for bad in [
            Value::Null,
            json!({}),
            json!({"type": "", "version": "1"}),
            json!({"type": "x", "version": 0}),
            json!("sdk"),
        ] {
            assert_eq!(refusal(request(json!("1.2"), bad)), "User agent info is incorrect");
        }
        let mut no_token = request(json!("1.2"), sdk);
        no_token["token"] = json!(7);
        assert!(refusal(no_token.clone()).starts_with("Invalid token"));
        no_token["token"] = json!("????");
        assert!(refusal(no_token).starts_with("Invalid token"));
    }

    #[test]
    fn a_version_may_be_a_number() {
        let credentials =
            credentials(&request(json!("1.2"), json!({"type": "Android", "version": 5.0}))).unwrap();
        assert!(credentials.reconnectable);
    }

    #[test]
    fn the_own_sdk_may_decline_to_come_back() {
        let asks = |sdk: &str, reconnection: bool| {
            let mut data = request(json!("1.2"), json!({"type": sdk, "version": "1"}));
            data["reconnection"] = reconnection.into();
            credentials(&data).unwrap().reconnectable
        };
        assert!(asks(OWN_SDK, true));
        assert!(!asks(OWN_SDK, false));
        assert!(asks("JavaScript", false));
    }

    #[test]
    fn other_sdks_get_no_ticket() {
        assert!(
            !credentials(&request(json!("1.2"), json!({"type": "Mine", "version": "1"})))
                .unwrap()
                .reconnectable
        );
    }
}
