//! Ports for data.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::Value;

use super::{
    Command,
    body::{Body, Id},
    media::described,
    no_content, reply, run,
};
use crate::{gateway::Gateway, ids::DataId};

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let made = async {
        let _: Value = body.read()?;
        let id = DataId::random();
        let address = gateway.data.open(id.clone()).await?;
        Ok(reply(StatusCode::CREATED, described("data_id", id.as_ref(), address)))
    };
    run(Command::DataCreate, made).await
}

pub(super) async fn remove(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let removed = async {
        gateway.data.close(&id.into())?;
        Ok(no_content())
    };
    run(Command::DataDelete, removed).await
}
