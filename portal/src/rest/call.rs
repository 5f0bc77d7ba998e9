//! A request that was let in: who calls, and what came with it.

use axum::http::HeaderMap;
use kaigi_proto::{
    ids::{ParticipantId, RoomId, ServiceId, StreamId, SubscriptionId, WebhookId, WorkerId},
    shape::ApiVersion,
};
use kaigi_room_config::RoomConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Management, error::RestError, identity::Grants, table::Parameters};
use crate::{backend::Service, clock::UnixMillis, protocol::request};

/// A request of a service.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) api: Management,
    pub(super) service: Service,
    pub(super) grants: Grants,
    /// For whom a token is to be made, if the header says it.
    pub(super) username: Option<String>,
    pub(super) role: Option<String>,
    /// Until when the caller is to be believed.
    pub(super) expires: Option<UnixMillis>,
    pub(super) version: ApiVersion,
    pub(super) parameters: Parameters,
    pub(super) headers: HeaderMap,
    pub(super) query: String,
    /// `{}` if there was none.
    pub(super) body: Value,
}

/// A request that is about a room which the caller may see.
#[derive(Debug)]
pub(super) struct RoomCall {
    pub(super) call: Call,
    pub(super) id: RoomId,
    pub(super) room: RoomConfig,
}

impl Call {
    /// An identifier of the path. What can't be one names nothing.
    ///
    /// # Errors
    /// That there is no such thing.
    pub(super) fn id<I: PathId>(&self, name: &str) -> Result<I, RestError> {
        I::read(self.parameters.get(name)).ok_or(I::MISSING)
    }

    /// The body as a type; `refused` makes the error of the text that says what is wrong with it.
    ///
    /// # Errors
    /// What `refused` makes.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        refused: impl Fn(String) -> RestError,
    ) -> Result<T, RestError> {
        request::read(self.body.clone()).map_err(|error| refused(error.to_string()))
    }

    /// The first query parameter of that name.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

impl std::ops::Deref for RoomCall {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

/// An identifier that stands in paths.
pub(super) trait PathId: Sized {
    /// What is said if it names nothing.
    const MISSING: RestError;

    /// `None` if the text can't be one.
    fn read(text: &str) -> Option<Self>;
}

macro_rules! path_id {
    ($id:ident, $missing:ident) => {
        impl PathId for $id {
            const MISSING: RestError = RestError::$missing;

            fn read(text: &str) -> Option<Self> {
                Self::new(text).ok()
            }
        }
    };
}

path_id!(RoomId, RoomNotFound);
path_id!(ServiceId, ServiceNotFound);
path_id!(StreamId, StreamNotFound);
path_id!(ParticipantId, ParticipantNotFound);
path_id!(SubscriptionId, SubscriptionNotFound);
path_id!(WorkerId, NodeNotFound);
path_id!(WebhookId, WebhookNotFound);
