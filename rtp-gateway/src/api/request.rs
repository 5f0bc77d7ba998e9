//! The parts of requests that several have, and what they mean.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::{
    connection::OwnPorts,
    gateway::Gateway,
    ids::{MediaId, RtcpId},
    leg::{LanePlan, MediaPlan, Redirect},
    media::{Codec, Format, Use},
    peer::Peer,
};

/// Longest metadata, in bytes of JSON.
const MAX_METADATA: usize = 4096;

/// Where packets go.
#[derive(Debug, Deserialize)]
pub(super) struct Address {
    ip_v4: Option<String>,
    ip_v6: Option<String>,
    port: Option<i64>,
}

impl Address {
    /// The address, of which `field` is the name in the request. IPv4 counts before IPv6.
    pub(super) fn socket(&self, field: &str) -> Result<SocketAddr, Problem> {
        let at = |name: &str| format!("{field}{}{name}", if field.is_empty() { "" } else { "." });
        let port = self.port.ok_or_else(|| Problem::input(at("port"), "port field is not specified"))?;
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| Problem::input(at("port"), "a port is 1 to 65535"))?;
        let v4 = self.ip_v4.as_ref().map(|ip| ip.parse::<Ipv4Addr>()).transpose();
        let v6 = self.ip_v6.as_ref().map(|ip| ip.parse::<Ipv6Addr>()).transpose();
        let v4 = v4.map_err(|error| Problem::input(at("ip_v4"), error))?;
        let v6 = v6.map_err(|error| Problem::input(at("ip_v6"), error))?;
        match (v4, v6) {
            (Some(ip), _) => Ok((ip, port).into()),
            (None, Some(ip)) => Ok((ip, port).into()),
            (None, None) => Err(Problem::input(at("ip_v4"), "ip_v4 or ip_v6 field is not specified")),
        }
    }
}

/// What is said of one kind of media.
#[derive(Debug, Deserialize)]
struct MediaParams {
    band_width: i64,
    codec: String,
    media_id: String,
    rtcp_id: Option<String>,
    payload_type: Option<i64>,
    sampling_rate: Option<i64>,
}

/// `PeerCallConstraints`.
#[derive(Debug, Deserialize)]
pub(super) struct Constraints {
    video: bool,
    audio: bool,
    #[serde(rename = "videoReceiveEnabled")]
    video_receive: Option<bool>,
    #[serde(rename = "audioReceiveEnabled")]
    audio_receive: Option<bool>,
    video_params: Option<MediaParams>,
    audio_params: Option<MediaParams>,
    #[serde(default)]
    pub(super) metadata: Map<String, Value>,
}

/// `PeerCallRedirectOptions`, `MediaAnswerRedirectOptions`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Redirects {
    video: Option<Address>,
    video_rtcp: Option<Address>,
    audio: Option<Address>,
    audio_rtcp: Option<Address>,
}

/// What becomes of them.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: MediaPlan,
    pub(super) ports: OwnPorts,
}

impl Constraints {
    /// What is to be sent and received, with the ports that are used for it.
    pub(super) fn plan(
        self,
        redirects: &Redirects,
        gateway: &Gateway,
    ) -> Result<(Planned, Map<String, Value>), Problem> {
        if serde_json::to_string(&self.metadata).map_or(true, |text| text.len() > MAX_METADATA) {
            return Err(Problem::input("constraints.metadata", "metadata has more than 4096 bytes"));
        }
        let mut ports = OwnPorts::default();
        let redirect = |rtp: &Option<Address>, rtcp: &Option<Address>, name: &str| {
            let socket = |address: &Option<Address>, name: &str| {
                address.as_ref().map(|address| address.socket(&format!("redirect_params.{name}"))).transpose()
            };
            Ok::<_, Problem>(Redirect {
                rtp: socket(rtp, name)?,
                rtcp: socket(rtcp, &format!("{name}_rtcp"))?,
            })
        };
        let audio = Wish {
            is_video: false,
            sends: self.audio,
            receives: self.audio_receive.unwrap_or(self.audio),
            params: self.audio_params,
            redirect: redirect(&redirects.audio, &redirects.audio_rtcp, "audio")?,
        };
        let video = Wish {
            is_video: true,
            sends: self.video,
            receives: self.video_receive.unwrap_or(self.video),
            params: self.video_params,
            redirect: redirect(&redirects.video, &redirects.video_rtcp, "video")?,
        };
        let plan =
            MediaPlan { audio: audio.plan(gateway, &mut ports)?, video: video.plan(gateway, &mut ports)? };
        if plan.audio.is_none() && plan.video.is_none() {
            return Err(Problem::input("constraints", "neither video nor audio is sent or received"));
        }
        Ok((Planned { plan, ports }, self.metadata))
    }
}

struct Wish {
    is_video: bool,
    sends: bool,
    receives: bool,
    params: Option<MediaParams>,
    redirect: Redirect,
}

impl Wish {
    fn plan(self, gateway: &Gateway, ports: &mut OwnPorts) -> Result<Option<LanePlan>, Problem> {
        let name = if self.is_video { "constraints.video_params" } else { "constraints.audio_params" };
        if !self.sends && !self.receives {
            return Ok(None);
        }
        let Some(params) = self.params else {
            return if self.sends {
                Err(Problem::input(name, format!("{name} field is not specified")))
            } else {
                let format = Format::usual(self.is_video);
                let redirect = self.redirect;
                Ok(Some(LanePlan { format, source: None, rtcp: None, receives: true, redirect }))
            };
        };
        let format = Codec::named(&params.codec, self.is_video).and_then(|codec| {
            Format::new(codec, params.payload_type, params.sampling_rate, params.band_width)
        });
        let format = format.map_err(|error| Problem::input(format!("{name}.{}", error.field()), error))?;
        let source = if self.sends {
            let id = MediaId::from(params.media_id);
            let port = gateway.media.get(&id).filter(|_| id.is_video() == self.is_video);
            let port =
                port.ok_or_else(|| Problem::input(format!("{name}.media_id"), "there is no such port"))?;
            ports.media.push(id);
            Some(Use::of(port))
        } else {
            None
        };
        let rtcp = match params.rtcp_id {
            Some(id) => {
                let id = RtcpId::from(id);
                let port = gateway.rtcp.get(&id);
                let port =
                    port.ok_or_else(|| Problem::input(format!("{name}.rtcp_id"), "there is no such port"))?;
                ports.rtcp.push(id);
                Some(Use::of(port))
            }
            None => None,
        };
        Ok(Some(LanePlan { format, source, rtcp, receives: self.receives, redirect: self.redirect }))
    }
}

/// The peer of that id, if the token is its.
pub(super) fn peer(gateway: &Gateway, id: &str, token: &str) -> Result<Arc<Peer>, Problem> {
    let peer = gateway.peer(id).ok_or(Problem::NotFound("there is no such peer"))?;
    let own: &str = peer.token.as_ref();
    // In the same time wherever they differ.
    let differs = own.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    if differs == 0 && own.len() == token.len() {
        Ok(peer)
    } else {
        Err(Problem::forbidden("the token is of another peer"))
    }
}
