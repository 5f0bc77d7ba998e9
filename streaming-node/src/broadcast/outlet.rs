//! How media leave for a server, by protocol: what muxes them, and what sends that.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use kaigi_outbound::http::ClientError;
use parking_lot::Mutex;

use super::{
    connection::{Connection, News, PipelineError, Tell},
    hls::Hls,
};
use crate::target::{Protocol, Server};

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

/// Where media go in.
pub(super) struct Ends {
    pub(super) mux: gst::Element,
    /// Names of its pads.
    pub(super) video: &'static str,
    pub(super) audio: &'static str,
}

/// The way to one server, over all connections.
pub(super) enum Outlet {
    Rtmp(String),
    Srt(String),
    Rtsp(String),
    Hls(Hls),
}

impl Outlet {
    /// Must be called within a tokio runtime.
    pub(super) fn new(server: &Server) -> Result<Self, ClientError> {
        let url = server.url.clone();
        Ok(match &server.protocol {
            Protocol::Rtmp => Self::Rtmp(url),
            Protocol::Srt => Self::Srt(url),
            Protocol::Rtsp => Self::Rtsp(url),
            Protocol::Hls(segments) => Self::Hls(Hls::new(&url, *segments, server.reach)?),
        })
    }

    pub(super) fn key_frame_interval(&self) -> Duration {
        match self {
            Self::Hls(hls) => hls.segment_duration(),
            Self::Rtmp(_) | Self::Srt(_) | Self::Rtsp(_) => KEY_FRAME_INTERVAL,
        }
    }

    /// How long the server may take to accept the first media.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Hls(hls) => ANSWER + 2 * hls.segment_duration(),
            Self::Rtmp(_) | Self::Srt(_) | Self::Rtsp(_) => ANSWER,
        }
    }

    /// Puts the end of a pipeline into it, and tells once the server has taken the first media.
    pub(super) fn build(&self, pipeline: &gst::Pipeline, tell: Tell) -> Result<Ends, PipelineError> {
        match self {
            Self::Rtmp(url) => {
                let mux = gst::ElementFactory::make("flvmux")
                    .property("streamable", true)
                    .property("latency", MUX_LATENCY.nseconds())
                    .build()?;
                let sink = gst::ElementFactory::make("rtmp2sink")
                    .property("location", url)
                    .property("async-connect", true)
                    .property("sync", false)
                    .build()?;
                // The first few are headers, which the sink keeps until it is connected.
                tell_after(&sink, 20, tell);
                pipeline.add_many([&mux, &sink])?;
                mux.link(&sink)?;
                Ok(Ends { mux, video: "video", audio: "audio" })
            }
            Self::Srt(url) => {
                let mux = transport_stream()?;
                // As many as fit into a datagram (seven packets of 188 bytes).
                mux.set_property("alignment", 7);
                let sink = gst::ElementFactory::make("srtsink")
                    .property("uri", url)
                    .property("auto-reconnect", false)
                    .property("sync", false)
                    .build()?;
                // It writes nothing, and takes no more, before it is connected.
                tell_after(&sink, 3, tell);
                pipeline.add_many([&mux, &sink])?;
                mux.link(&sink)?;
                Ok(Ends { mux, video: "sink_%d", audio: "sink_%d" })
            }
            Self::Rtsp(url) => {
                let sink = gst::ElementFactory::make("rtspclientsink")
                    .property("location", url)
                    .property("tcp-timeout", 5_000_000_u64)
                    .build()?;
                // By TCP: live servers are far away, and their firewalls closed.
                sink.set_property_from_str("protocols", "tcp");
                pipeline.add(&sink)?;
                prepare_rtsp_pads(&sink, tell);
                Ok(Ends { mux: sink, video: RTSP_VIDEO, audio: RTSP_AUDIO })
            }
            Self::Hls(hls) => {
                let mux = transport_stream()?;
                let sink = hls.sink(tell);
                pipeline.add_many([&mux, sink.upcast_ref()])?;
                mux.link(&sink)?;
                Ok(Ends { mux, video: "sink_%d", audio: "sink_%d" })
            }
        }
    }

    /// Ends it for good; may block for a moment.
    pub(super) fn finish(&self, connection: Option<Connection>) {
        if let Self::Hls(hls) = self {
            if let Some(connection) = &connection {
                connection.end_of_stream();
            }
            hls.finish(connection.is_none());
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
