//! What is counted of streams, and how subscriptions are served and why: Kaigi's own.

mod shown;

use axum::http::Method;
use kaigi_proto::{
    ids::{StreamId, SubscriptionId},
    v1::{RoomStatsReply, RoomStatsRequest, SubscriptionStats},
};
use serde_json::json;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, Place, json_response, room},
};
use crate::clock::UnixMillis;
use shown::{RoomStats, StreamStatsShown, Subscription};

/// What can be asked of statistics.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/stats", "getRoomStats", all)
            .doc("rooms", "Everything that is counted in the room, at once")
            .gives::<RoomStats>(),
        room(Method::GET, "/streams/{stream}/stats", "getStreamStats", of_stream)
            .doc("streams", "What is counted of a stream")
            .gives::<StreamStatsShown>(),
        room(Method::GET, "/subscriptions", "listSubscriptions", subscriptions)
            .doc("subscriptions", "List who gets what, in which form, and why in that form")
            .parameter(Place::Query, "participant", "Only of this participant", json!({ "type": "string" }))
            .parameter(
                Place::Query,
                "stream",
                "Only of this stream or one of its tracks",
                json!({ "type": "string" }),
            )
            .gives::<Vec<Subscription>>(),
        room(Method::GET, "/subscriptions/{subscription}", "getSubscription", subscription)
            .doc("subscriptions", "Get a subscription")
            .gives::<Subscription>(),
    ]
}

async fn all(call: RoomCall) -> Answered {
    let stats = counted(&call, RoomStatsRequest::default())
        .await?
        .unwrap_or_else(|| RoomStatsReply { time_ms: UnixMillis::now().0, ..RoomStatsReply::default() });
    Ok(json_response(RoomStats::of(stats)))
}

async fn of_stream(call: RoomCall) -> Answered {
    let id: StreamId = call.id("stream")?;
    let wanted = RoomStatsRequest { stream_id: id.to_string(), ..RoomStatsRequest::default() };
    let stats = counted(&call, wanted).await?.ok_or(RestError::StreamNotFound)?;
    let found = stats.streams.into_iter().find(|stream| stream.stream_id == id.as_str());
    Ok(json_response(StreamStatsShown::of(stats.time_ms, found.ok_or(RestError::StreamNotFound)?)))
}

async fn subscriptions(call: RoomCall) -> Answered {
    let stats = counted(&call, RoomStatsRequest::default()).await?.unwrap_or_default();
    let participant = call.query("participant").filter(|id| !id.is_empty());
    let sources = match call.query("stream").filter(|id| !id.is_empty()) {
        Some(stream) => Some(sources(&call, stream).await?),
        None => None,
    };
    let is_wanted = |subscription: &SubscriptionStats| {
        participant.as_ref().is_none_or(|id| *id == subscription.participant_id)
            && sources.as_ref().is_none_or(|ids| subscription.tracks.iter().any(|t| ids.contains(&t.from)))
    };
    let wanted = stats.subscriptions.into_iter().filter(is_wanted);
    Ok(json_response(wanted.map(Subscription::of).collect::<Vec<_>>()))
}

/// A stream's id and those of its tracks: what subscriptions of it may name.
async fn sources(call: &RoomCall, stream: String) -> Result<Vec<String>, RestError> {
    let streams = call.api.backend.streams(&call.id).await?.unwrap_or_default();
    let found = streams.into_iter().find(|known| known.id == stream);
    let tracks = found.into_iter().flat_map(|found| found.tracks).map(|track| track.id);
    Ok(tracks.filter(|id| !id.is_empty()).chain([stream]).collect())
}

async fn subscription(call: RoomCall) -> Answered {
    let id: SubscriptionId = call.id("subscription")?;
    let wanted = RoomStatsRequest { subscription_id: id.to_string(), ..RoomStatsRequest::default() };
    let stats = counted(&call, wanted).await?.ok_or(RestError::SubscriptionNotFound)?;
    let found = stats.subscriptions.into_iter().find(|known| known.subscription_id == id.as_str());
    Ok(json_response(Subscription::of(found.ok_or(RestError::SubscriptionNotFound)?)))
}

async fn counted(call: &RoomCall, wanted: RoomStatsRequest) -> Result<Option<RoomStatsReply>, RestError> {
    Ok(call.api.backend.room_stats(wanted, &call.id).await?)
}
