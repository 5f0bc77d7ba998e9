//! How media leave for a server, by protocol: what muxes them, and what sends that.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use kaigi_outbound::{Reach, http::ClientError};
use parking_lot::Mutex;

use super::{
    cmaf::Cmaf,
    connection::{Connection, News, PipelineError, Tell},
    hls::Hls,
};
use crate::{
    address::{self, AddressError},
    guard::{self, Pass},
    lanes::Kind,
    target::{Protocol, Server},
};

/// Those who come to watch wait no longer than this for a picture.
const KEY_FRAME_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for a server that has not refused either.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a muxer waits for the other kind.
const MUX_LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(300);

/// Pads of the RTSP client.
const RTSP_VIDEO: &str = "sink_0";
/// See [`RTSP_VIDEO`].
const RTSP_AUDIO: &str = "sink_1";

/// Where media of both kinds go in: elements and names of their pads.
pub(super) struct Ends {
    audio: (gst::Element, &'static str),
    video: (gst::Element, &'static str),
}

impl Ends {
    /// Of a muxer.
    fn of(mux: gst::Element, video: &'static str, audio: &'static str) -> Self {
        Self { audio: (mux.clone(), audio), video: (mux, video) }
    }

    /// Takes what comes from the last element of a branch.
    pub(super) fn link(&self, kind: Kind, from: &gst::Element) -> Result<(), PipelineError> {
        let (element, pad) = match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        };
        Ok(from.link_pads(None, element, Some(pad))?)
    }
}

/// A server's URL, whose host may have several addresses.
pub(super) struct Address {
    url: String,
    reach: Reach,
    /// Connections so far.
    turn: AtomicUsize,
    _pass: Option<Pass>,
}

impl Address {
    fn new(server: &Server) -> Self {
        let (url, reach) = (server.url.clone(), server.reach);
        Self { reach, turn: AtomicUsize::new(0), _pass: guard::pass(&url), url }
    }

    /// For the next connection of what looks names up itself.
    fn next(&self) -> Result<Cow<'_, str>, AddressError> {
        address::pinned(&self.url, self.reach, self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// For the next connection of what connects through the guard.
    fn guarded(&self) -> Result<&str, AddressError> {
        address::check(&self.url, self.reach)?;
        Ok(&self.url)
    }
}

/// The way to one server, over all connections.
pub(super) enum Outlet {
    Rtmp(Address),
    Srt(Address),
    Rtsp(Address),
    Hls(Hls),
    Cmaf(Cmaf),
}

impl Outlet {
    /// Must be called within a tokio runtime.
    pub(super) fn new(server: &Server, kinds: &[Kind]) -> Result<Self, ClientError> {
        let url = &server.url;
        Ok(match &server.protocol {
            Protocol::Rtmp => Self::Rtmp(Address::new(server)),
            Protocol::Srt => Self::Srt(Address::new(server)),
            Protocol::Rtsp => Self::Rtsp(Address::new(server)),
            Protocol::Hls(segments) => Self::Hls(Hls::new(url, *segments, server.reach)?),
            Protocol::Cmaf(fragments) => Self::Cmaf(Cmaf::new(url, *fragments, kinds, server.reach)?),
        })
    }

    pub(super) fn key_frame_interval(&self) -> Duration {
        match self {
            Self::Hls(hls) => hls.segment_duration(),
            Self::Cmaf(cmaf) => cmaf.segment_duration(),
            Self::Rtmp(_) | Self::Srt(_) | Self::Rtsp(_) => KEY_FRAME_INTERVAL,
        }
    }

    /// How long the server may take to accept the first media.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Hls(_) | Self::Cmaf(_) => ANSWER + 2 * self.key_frame_interval(),
            Self::Rtmp(_) | Self::Srt(_) | Self::Rtsp(_) => ANSWER,
        }
    }

    /// Puts the end of a pipeline into it, which looks the server's name up and so may block for a moment, and tells once the server has taken the first media.
    pub(super) fn build(
        &self,
        pipeline: &gst::Pipeline,
        kinds: &[Kind],
        tell: Tell,
    ) -> Result<Ends, PipelineError> {
        match self {
            Self::Rtmp(address) => {
                let mux = gst::ElementFactory::make("flvmux")
                    .property("streamable", true)
                    .property("latency", MUX_LATENCY.nseconds())
                    .build()?;
                let sink = gst::ElementFactory::make("rtmp2sink")
                    .property("location", address.guarded()?)
                    .property("async-connect", true)
                    .property("sync", false)
                    .build()?;
                // The first few are headers, which the sink keeps until it is connected.
                tell_after(&sink, 20, tell);
                pipeline.add_many([&mux, &sink])?;
                mux.link(&sink)?;
                Ok(Ends::of(mux, "video", "audio"))
            }
            Self::Srt(address) => {
                let mux = transport_stream()?;
                // As many as fit into a datagram (seven packets of 188 bytes).
                mux.set_property("alignment", 7);
                let sink = gst::ElementFactory::make("srtsink")
                    .property("uri", address.next()?.as_ref())
                    .property("auto-reconnect", false)
                    .property("sync", false)
                    .build()?;
                // It writes nothing, and takes no more, before it is connected.
                tell_after(&sink, 3, tell);
                pipeline.add_many([&mux, &sink])?;
                mux.link(&sink)?;
                Ok(Ends::of(mux, "sink_%d", "sink_%d"))
            }
            Self::Rtsp(address) => {
                let sink = gst::ElementFactory::make("rtspclientsink")
                    .property("location", address.guarded()?)
                    .property("tcp-timeout", 5_000_000_u64)
                    .build()?;
                // By TCP: live servers are far away, and their firewalls closed.
                sink.set_property_from_str("protocols", "tcp");
                pipeline.add(&sink)?;
                prepare_rtsp_pads(&sink, tell);
                Ok(Ends::of(sink, RTSP_VIDEO, RTSP_AUDIO))
            }
            Self::Hls(hls) => {
                let mux = transport_stream()?;
                let sink = hls.sink(tell);
                pipeline.add_many([&mux, sink.upcast_ref()])?;
                mux.link(&sink)?;
                Ok(Ends::of(mux, "sink_%d", "sink_%d"))
            }
            Self::Cmaf(cmaf) => {
                let [audio, video] = cmaf.sinks(tell);
                for kind in kinds {
                    let sink = if *kind == Kind::Audio { &audio } else { &video };
                    pipeline.add(sink)?;
                }
                Ok(Ends { audio: (audio.upcast(), "sink"), video: (video.upcast(), "sink") })
            }
        }
    }

    /// Ends it for good; may block for a moment.
    pub(super) fn finish(&self, connection: Option<Connection>) {
        let at_once = connection.is_none();
        let end = || connection.iter().for_each(Connection::end_of_stream);
        match self {
            Self::Hls(hls) => {
                end();
                hls.finish(at_once);
            }
            Self::Cmaf(cmaf) => {
                end();
                cmaf.finish(at_once);
            }
            Self::Rtmp(_) | Self::Srt(_) | Self::Rtsp(_) => {}
        }
    }
}

/// MPEG-TS (ISO/IEC 13818-1).
fn transport_stream() -> Result<gst::Element, PipelineError> {
    Ok(gst::ElementFactory::make("mpegtsmux").property("latency", MUX_LATENCY.nseconds()).build()?)
}

/// Tells of the media that flow once a sink has taken more buffers (or lists of them) than it would without a server.
fn tell_after(sink: &gst::Element, buffers: usize, tell: Tell) {
    if let Some(pad) = sink.static_pad("sink") {
        tell_after_on(&pad, buffers, tell);
    }
}

fn tell_after_on(pad: &gst::Pad, buffers: usize, tell: Tell) {
    let (passed, tell) = (AtomicUsize::new(0), Mutex::new(tell));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
        if passed.fetch_add(1, Ordering::Relaxed) == buffers {
            drop(tell.lock().send(News::Flows));
            return gst::PadProbeReturn::Remove;
        }
        gst::PadProbeReturn::Ok
    });
}

/// AAC goes as RFC 3640 has it, which all servers know; nothing flows before the server has answered RECORD (RFC 2326 §10.11).
fn prepare_rtsp_pads(sink: &gst::Element, tell: Tell) {
    let tell = Mutex::new(tell);
    sink.connect_pad_added(move |_, pad| {
        let payloader = if pad.name() == RTSP_AUDIO { "rtpmp4gpay" } else { "rtph264pay" };
        match gst::ElementFactory::make(payloader).build() {
            Ok(payloader) => pad.set_property("payloader", payloader),
            Err(error) => tracing::warn!(%error, "no payloader"),
        }
        tell_after_on(pad, 20, tell.lock().clone());
    });
}
