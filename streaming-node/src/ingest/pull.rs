//! One attempt at a source: the pipeline that pulls it, takes it apart and hands its streams to [branches](super::branch).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
    mpsc,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video::UpstreamForceKeyUnitEvent;
use kaigi_proto::v1;
use parking_lot::Mutex;

use super::{
    branch::{Hands, News, Tell, build},
    codec::{Accepted, kind_of},
    desk::Desk,
    fetch::{FetchError, Fetcher},
    pace::Pace,
    source::{Source, Way},
};
use crate::{
    address::{self, AddressError},
    door::Pushed,
    guard,
    lanes::Kind,
    pipeline,
    target::Policy,
};

/// Milliseconds that packets of RTSP may be late, or come in another order.
const RTSP_LATENCY: u32 = 200;
/// Microseconds that a server may take to be connected to, or say nothing.
const RTSP_TIMEOUT: u64 = 10_000_000;
/// Seconds; see [`RTSP_TIMEOUT`].
const RTMP_TIMEOUT: u32 = 10;

/// Milliseconds in which what SRT has lost is sent again; encoders can ask for more.
const SRT_LATENCY: i32 = 200;

/// Descriptions that name sources elsewhere: these are not followed, whoever wrote them.
const REFERRING: [&str; 5] = [
    "application/x-hls",
    "application/dash+xml",
    "application/vnd.ms-sstr+xml",
    "application/sdp",
    "text/uri-list",
];

/// Why a pipeline could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error(transparent)]
    Glib(#[from] gst::glib::BoolError),
    #[error(transparent)]
    State(#[from] gst::StateChangeError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("nobody pushes")]
    Nobody,
}

/// By which what is pushed comes.
#[derive(Clone, Debug)]
pub(super) enum Inflow {
    /// Of RTMP.
    Tags(Pushed),
    /// Of SRT: where to listen.
    Port(u16),
}

/// What is wanted of a source.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// By kind.
    pub(super) wishes: [v1::InputWish; 2],
    /// By kind.
    pub(super) formats: [Vec<v1::MediaFormat>; 2],
    /// See [`Accepted::transcodes`].
    pub(super) transcodes: bool,
}

/// See the module. Ends when dropped.
#[derive(Debug)]
pub(super) struct Pull {
    pipeline: gst::Pipeline,
    hands: Hands,
    news: mpsc::Receiver<News>,
    encoder: Arc<Mutex<Option<gst::Element>>>,
    _fetcher: Option<Fetcher>,
}

/// What makes branches.
#[derive(Debug)]
struct Sorter {
    wanted: Wanted,
    hands: Hands,
    taken: Mutex<[bool; 2]>,
    encoder: Arc<Mutex<Option<gst::Element>>>,
    /// Elements that may yet find streams.
    open: AtomicUsize,
}

impl Pull {
    /// Begins, with what is `pushed` if that is the source; with each `turn` at the next address of its server. Must be called within a tokio runtime.
    pub(super) fn start(
        source: &Source,
        policy: &Policy,
        turn: usize,
        wanted: Wanted,
        desk: Arc<Desk>,
        pushed: Option<Inflow>,
    ) -> Result<Self, PullError> {
        let (tell, news) = Tell::new();
        let waits = source.way.pace() == Pace::Stored;
        let hands = Hands { desk, tell, alive: Arc::new(AtomicBool::new(true)), waits };
        let encoder = Arc::default();
        let sorter = Arc::new(Sorter {
            wanted,
            hands: hands.clone(),
            taken: Mutex::default(),
            encoder: Arc::clone(&encoder),
            open: AtomicUsize::new(1),
        });
        let pipeline = gst::Pipeline::new();
        watch(&pipeline, hands.tell.clone());
        let mut pull = Self { pipeline, hands, news, encoder, _fetcher: None };
        pull._fetcher = open(source, (policy, turn), pushed, &pull.pipeline, &sorter)?;
        pull.pipeline.set_state(gst::State::Playing)?;
        Ok(pull)
    }

    pub(super) fn news(&self) -> &mpsc::Receiver<News> {
        &self.news
    }

    /// Makes the next picture a key frame, if it is made here.
    pub(super) fn force_key_frame(&self) {
        if let Some(encoder) = &*self.encoder.lock() {
            encoder.send_event(UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.hands.alive.store(false, Ordering::Relaxed);
        pipeline::stop(&self.pipeline);
    }
}

/// Puts the source into the pipeline; a server's name is looked up, which may block.
fn open(
    source: &Source,
    (policy, turn): (&Policy, usize),
    pushed: Option<Inflow>,
    pipeline: &gst::Pipeline,
    sorter: &Arc<Sorter>,
) -> Result<Option<Fetcher>, PullError> {
    let make = gst::ElementFactory::make;
    let reach = policy.reach;
    let guarded = || address::check(&source.url, reach).map(|()| source.url.as_str());
    let element = match source.way {
        Way::Rtsp { udp, buffer } => {
            let element = make("rtspsrc")
                .property("location", guarded()?)
                .property("latency", RTSP_LATENCY)
                .property("timeout", RTSP_TIMEOUT)
                .property("tcp-timeout", RTSP_TIMEOUT)
                .property("udp-buffer-size", i32::try_from(buffer).unwrap_or(i32::MAX))
                .property_from_str("protocols", if udp { "udp" } else { "tcp" })
                .build()?;
            if guard::is_on() {
                say_nothing_by_udp(&element);
            }
            pipeline.add(&element)?;
            take_rtsp(&element, pipeline, sorter);
            return Ok(None);
        }
        Way::Rtmp => make("rtmp2src")
            .property("location", guarded()?)
            .property("timeout", RTMP_TIMEOUT)
            .property("idle-timeout", RTMP_TIMEOUT)
            .build()?,
        Way::Srt => {
            let address = address::pinned(&source.url, reach, turn)?;
            make("srtsrc").property("uri", address.as_ref()).property("auto-reconnect", false).build()?
        }
        Way::File => make("filesrc").property("location", &source.url).build()?,
        Way::PushedSrt => {
            let Some(Inflow::Port(port)) = pushed else { return Err(PullError::Nobody) };
            make("srtsrc")
                .property("uri", format!("srt://0.0.0.0:{port}?mode=listener"))
                .property("passphrase", &source.url)
                .property_from_str("pbkeylen", "16")
                .property("latency", SRT_LATENCY)
                .property("auto-reconnect", false)
                .build()?
        }
        Way::PushedRtmp => {
            let Some(Inflow::Tags(pushed)) = pushed else { return Err(PullError::Nobody) };
            let (fetcher, source) = Fetcher::pushed(pushed, sorter.hands.tell.clone());
            pipeline.add(&source)?;
            parse(source.upcast_ref(), "src", pipeline, sorter)?;
            return Ok(Some(fetcher));
        }
        Way::Hls | Way::Http => {
            let (fetcher, sources) = Fetcher::start(source, policy, sorter.hands.tell.clone())?;
            sorter.open.store(sources.len(), Ordering::Relaxed);
            for source in sources {
                pipeline.add(&source)?;
                parse(source.upcast_ref(), "src", pipeline, sorter)?;
            }
            return Ok(Some(fetcher));
        }
    };
    pipeline.add(&element)?;
    parse(&element, "src", pipeline, sorter)?;
    Ok(None)
}

/// An RTSP server says where it wants datagrams to (RFC 2326 §12.39, `source`), and may do so where none were asked for. That can be anywhere, so
/// there are none; what they would be are reports, and packets that open firewalls.
fn say_nothing_by_udp(element: &gst::Element) {
    let Some(bin) = element.dynamic_cast_ref::<gst::Bin>() else { return };
    bin.connect_element_added(|_, added| {
        if added.factory().is_some_and(|factory| factory.name() == "udpsink") {
            added.emit_by_name::<()>("clear", &[]);
        }
    });
}

/// Each stream of RTSP comes on a pad of its own.
fn take_rtsp(element: &gst::Element, pipeline: &gst::Pipeline, sorter: &Arc<Sorter>) {
    let wishes = sorter.wanted.wishes;
    element.connect("select-stream", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let media = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("media").ok());
        let wanted = match media.as_deref() {
            Some("audio") => wishes[Kind::Audio as usize] != v1::InputWish::None,
            Some("video") => wishes[Kind::Video as usize] != v1::InputWish::None,
            _ => false,
        };
        Some(wanted.to_value())
    });
    let (weak, found) = (pipeline.downgrade(), Arc::clone(sorter));
    element.connect_pad_added(move |element, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        found.open.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = parse(element, &pad.name(), &pipeline, &found) {
            found.hands.tell.tell(News::Failed(error.to_string()));
        }
    });
    let sorter = Arc::clone(sorter);
    element.connect_no_more_pads(move |_| sorter.one_done());
}

/// Takes a source's pad apart.
fn parse(
    source: &gst::Element,
    pad: &str,
    pipeline: &gst::Pipeline,
    sorter: &Arc<Sorter>,
) -> Result<(), gst::glib::BoolError> {
    let parser = gst::ElementFactory::make("parsebin").build()?;
    parser.connect("autoplug-continue", false, |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let refers = caps.is_some_and(|caps| {
            caps.structure(0).is_some_and(|structure| REFERRING.contains(&structure.name().as_str()))
        });
        Some((!refers).to_value())
    });
    let (weak, found, done) = (pipeline.downgrade(), Arc::clone(sorter), AtomicBool::new(false));
    parser.connect_pad_added(move |_, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = found.take(pad, &pipeline)
        {
            found.hands.tell.tell(News::Failed(error.to_string()));
        }
        // It shows all that there is at once, before anything flows.
        if !done.swap(true, Ordering::Relaxed) {
            found.one_done();
        }
    });
    pipeline.add(&parser)?;
    source.link_pads(Some(pad), &parser, Some("sink"))?;
    parser.sync_state_with_parent()
}

impl Sorter {
    fn one_done(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.hands.tell.tell(News::Looked);
        }
    }

    /// Makes a branch for a stream, or lets it go nowhere.
    fn take(&self, pad: &gst::Pad, pipeline: &gst::Pipeline) -> Result<(), gst::glib::BoolError> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let kind = kind_of(&caps).filter(|kind| self.wanted.wishes[*kind as usize] != v1::InputWish::None);
        let kind = kind.filter(|kind| !std::mem::replace(&mut self.taken.lock()[*kind as usize], true));
        let choice = kind.and_then(|kind| {
            let accepted = Accepted {
                formats: &self.wanted.formats[kind as usize],
                established: self.hands.desk.codec(kind),
                transcodes: self.wanted.transcodes,
            };
            accepted.choose(kind, &caps)
        });
        let Some(choice) = choice else {
            let sink = gst::ElementFactory::make("fakesink").property("async", false).build()?;
            pipeline.add(&sink)?;
            sink.sync_state_with_parent()?;
            return link(pad, &sink);
        };
        if self.hands.desk.open(&choice).is_err() {
            return Err(gst::glib::bool_error!("the input's name makes no track"));
        }
        tracing::debug!(%caps, codec = choice.codec.name(), passes = choice.passes, "stream of an input");
        let (first, encoder) = build(pipeline, &choice, &self.hands)?;
        if encoder.is_some() {
            *self.encoder.lock() = encoder;
        }
        self.hands.tell.tell(News::Found(choice.codec.kind()));
        link(pad, &first)
    }
}

fn link(pad: &gst::Pad, element: &gst::Element) -> Result<(), gst::glib::BoolError> {
    let end = element.static_pad("sink").ok_or_else(|| gst::glib::bool_error!("no sink"))?;
    match pad.link(&end) {
        Ok(_) => Ok(()),
        Err(error) => Err(gst::glib::bool_error!("stream not linked: {error}")),
    }
}

/// Tells of errors and of the end. What is said of errors names no URL: elements put that into their details.
fn watch(pipeline: &gst::Pipeline, tell: Tell) {
    if let Some(bus) = pipeline.bus() {
        bus.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Error(error) => {
                    tracing::debug!(debug = error.debug().map(|_| "…"), "input's pipeline fails");
                    tell.tell(News::Failed(error.error().to_string()));
                }
                gst::MessageView::Eos(_) => tell.tell(News::Ended),
                _ => {}
            }
            gst::BusSyncReply::Drop
        });
    }
}
