//! Ports for RTP and RTCP.

use std::{net::SocketAddr, sync::Arc};

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Command, Problem,
    body::{Body, Id},
    no_content, reply, run,
};
use crate::{
    gateway::Gateway,
    ids::{MediaId, RtcpId},
    media::PortError,
};

#[derive(Debug, Deserialize)]
struct MediaOptions {
    is_video: bool,
}

impl From<PortError> for Problem {
    fn from(error: PortError) -> Self {
        match error {
            PortError::TooMany | PortError::Socket(_) => Self::input("port", error),
            PortError::InUse => Self::forbidden(error),
            PortError::Unknown => Self::NotFound("there is no such port"),
        }
    }
}

/// An open port as it is told: under which name its id is, and where it is.
pub(super) fn described(name: &str, id: &str, address: SocketAddr) -> Value {
    let family = if address.is_ipv4() { "ip_v4" } else { "ip_v6" };
    json!({name: id, "port": address.port(), family: address.ip().to_string()})
}

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let made = async {
        let MediaOptions { is_video } = body.read()?;
        let id = MediaId::random(is_video);
        let address = gateway.media.open(id.clone()).await?;
        Ok(reply(StatusCode::CREATED, described("media_id", id.as_ref(), address)))
    };
    run(Command::MediaCreate, made).await
}

pub(super) async fn remove(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let removed = async {
        gateway.media.close(&id.into())?;
        Ok(no_content())
    };
    run(Command::MediaDelete, removed).await
}

pub(super) async fn create_rtcp(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let made = async {
        let _: Value = body.read()?;
        let id = RtcpId::random();
        let address = gateway.rtcp.open(id.clone()).await?;
        Ok(reply(StatusCode::CREATED, described("rtcp_id", id.as_ref(), address)))
    };
    run(Command::RtcpCreate, made).await
}

pub(super) async fn remove_rtcp(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let removed = async {
        gateway.rtcp.close(&id.into())?;
        Ok(no_content())
    };
    run(Command::RtcpDelete, removed).await
}
