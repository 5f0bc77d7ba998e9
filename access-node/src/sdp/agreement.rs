//! What m-lines are for, and what comes of an offer.

use kaigi_proto::ids::SessionId;

use super::{Format, Kind, offer::Payload};
use crate::ids::{Mid, Rid, Ssrc};

pub(super) const URI_MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub(super) const URI_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
pub(super) const URI_REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
pub(super) const URI_AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
pub(super) const URI_DEPENDENCY: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
/// <https://webrtc.googlesource.com/src/+/refs/heads/main/docs/native-code/rtp-hdrext/playout-delay>
pub(super) const URI_PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
pub(super) const URI_TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// What the node does with an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Receives what the client publishes, in the first of the client's payloads that is among these.
    Receive(Vec<Format>),
    /// Sends a stream of one of these formats.
    Send {
        /// What may be agreed on.
        formats: Vec<Format>,
        /// Whether the client's order decides among them all, or the first goes before the others.
        client_order: bool,
    },
}

/// One track of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Publication or subscription.
    pub session: SessionId,
    /// Kind of the m-line.
    pub kind: Kind,
    /// What it is for.
    pub wish: Wish,
}

/// Header extensions by negotiated id; only those that this node writes or reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// urn:ietf:params:rtp-hdrext:sdes:mid, received only.
    pub mid: Option<u8>,
    /// urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id (RFC 8852), received only.
    pub rid: Option<u8>,
    /// urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id, likewise.
    pub repaired_rid: Option<u8>,
    /// urn:ietf:params:rtp-hdrext:ssrc-audio-level (RFC 6464).
    pub audio_level: Option<u8>,
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    pub transport_cc: Option<u8>,
    /// The dependency descriptor (AV1 RTP payload specification, appendix A), of video.
    pub dependency: Option<u8>,
    /// How long a receiver is to keep pictures before it shows them (playout delay), sent only.
    pub playout_delay: Option<u8>,
}

/// How a stream to the client is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendStream {
    /// Its source.
    pub ssrc: Ssrc,
    /// The source of its retransmissions, if they have one of their own.
    pub rtx_ssrc: Option<Ssrc>,
    /// The source of its repair packets, if the client takes such.
    pub repair_ssrc: Option<Ssrc>,
}

/// What was agreed on for an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The format in use.
    pub format: Format,
    /// Its payload; the feedback is what was agreed on.
    pub payload: Payload,
    /// Payload type of retransmissions (RFC 4588) and its fmtp line's parameters.
    pub rtx: Option<(u8, String)>,
    /// Payload type of redundant sound (RFC 2198) and its fmtp line's parameters: such packets may take the place of plain ones.
    pub red: Option<(u8, String)>,
    /// Payload of repair packets (FlexFEC) of the stream.
    pub repair: Option<Payload>,
    /// Ids of header extensions.
    pub extensions: Extensions,
    /// The layers that the client sends, in its order; none if it sends a single stream.
    pub layers: Vec<Rid>,
    /// Present for what the node sends.
    pub send: Option<SendStream>,
}

impl Negotiated {
    /// Whether that rtcp-fb value was agreed on.
    #[must_use]
    pub fn has_feedback(&self, value: &str) -> bool {
        self.payload.feedback.iter().any(|f| f == value)
    }
}

/// The node's own half of the transport, the same in every answer but for the credentials, which an ICE restart changes.
#[derive(Clone, Debug)]
pub struct LocalDescription {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub password: String,
    /// "sha-256 AB:CD:…"
    pub fingerprint: String,
    /// Values of the candidate attributes, all of them.
    pub candidates: Vec<String>,
    /// For the o-line and as RTCP's canonical name.
    pub session_id: u64,
}

/// Who opens the DTLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// The node does.
    Client,
    /// The browser does.
    Server,
}

/// What an offer led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The binding with this mid is negotiated now.
    Negotiated(Mid),
    /// The session can't be; its bindings are gone.
    Refused(SessionId, String),
    /// The client says with which sources it sends on the m-line of a binding.
    Sources(Mid, Ssrc, Option<Ssrc>),
    /// The same of repair packets.
    Repairs(Mid, Ssrc),
}

/// Answer and consequences.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The SDP answer.
    pub answer: String,
    /// What changed, in the order of the m-lines.
    pub changes: Vec<Change>,
    /// As agreed at the first offer.
    pub role: DtlsRole,
}
