//! CPU of a whole mix of 1280×720 at 30 frames a second in VP8, from RTP packets of simulcast publishers to RTP packets of the mix: this
//! node's decoders, studio and encoder, beside a plain GStreamer pipeline (`compositor`) that decodes everybody's largest layer.
//!
//! Each runs in a process of its own, whose user and system time of the measured seconds is divided by these.
//! `THREADS=1` prints the time by threads.

mod material;

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::{Command, ExitCode},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use kaigi_media::link::LinkKeys;
use kaigi_mixer_node::{
    init_gstreamer,
    link::{Layers, MediaClock, Outputs, TrackDescription, Wish},
    video::{
        ActiveInput, Badge, Colour, Content, Decoration, Fitting, FrameSlot, Fresh, PlannedPicture,
        Programme, Rect, Region, Scene, Size, Studio, StudioPlan, TargetBitrate, VideoCodec, VideoDecoder,
        VideoEncoder, VideoEncoding,
    },
};
use kaigi_proto::{
    ids::{StreamId, TrackId},
    v1,
};

use material::{FRAMES, RATE, cpu, material, renumbered, ticks};

const VIEW: Size = Size { width: 1280, height: 720 };
/// kbit/s of the mix.
const BITRATE: u32 = 1500;
/// What each participant sends, with kbit/s.
const LAYERS: [(Size, u32); 3] =
    [(Size { width: 320, height: 180 }, 150), (Size { width: 640, height: 360 }, 500), (VIEW, 1500)];
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;

fn main() -> anyhow::Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [what, side] = args.as_slice() {
        let side = side.parse()?;
        init_gstreamer()?;
        let cores = match what.as_str() {
            "node" => node(side, false)?,
            "decorated" => node(side, true)?,
            "plain" => plain(side)?,
            other => bail!("{other}: node, decorated or plain"),
        };
        writeln!(std::io::stdout(), "{cores:.3}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "| participants | mixer-node, cores | with captions, border and clock | plain pipeline, cores | ratio |\n|---|---|---|---|---|"
    )?;
    for side in [3u32, 4] {
        let mut cores = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (what, cores) in ["node", "decorated", "plain"].into_iter().zip(&mut cores) {
                cores.push(measured(what, side)?);
            }
        }
        let [node, decorated, plain] = cores.map(median);
        let (people, ratio) = (side * side, plain / node);
        writeln!(out, "| {people} | {node:.3} | {decorated:.3} | {plain:.3} | 1 / {ratio:.1} |")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs one of both in a process of its own.
fn measured(what: &str, side: u32) -> anyhow::Result<f64> {
    let output = Command::new(std::env::current_exe()?).args([what, &side.to_string()]).output()?;
    std::io::stderr().write_all(&output.stderr)?;
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().with_context(|| format!("{what} said {text:?}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Time by threads of the same name.
fn threads() -> anyhow::Result<BTreeMap<String, f64>> {
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let name = name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == ':').to_owned();
        *all.entry(name).or_insert(0.0) += ticks(&path.join("stat").to_string_lossy()).unwrap_or(0.0);
    }
    Ok(all)
}

/// Feeds packets until the end of the measured time; gives the cores used in it.
fn run(material: &[Vec<Vec<u8>>], people: u32, mut push: impl FnMut(usize, Vec<u8>)) -> anyhow::Result<f64> {
    let start = Instant::now();
    let (mut begun, mut before) = (None, BTreeMap::new());
    let mut sequences = vec![0u16; people as usize];
    for number in 0u32.. {
        for person in 0..people {
            // Nobody's camera is in step with anybody else's.
            let due = start
                + Duration::from_secs(1) * number / RATE
                + Duration::from_secs(1) * person / (RATE * people);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            for packet in &material[(number % FRAMES) as usize] {
                let sequence = &mut sequences[person as usize];
                push(person as usize, renumbered(packet, *sequence, number));
                *sequence = sequence.wrapping_add(1);
            }
        }
        if begun.is_none() && start.elapsed() >= WARM_UP {
            (begun, before) = (Some((Instant::now(), cpu()?)), threads()?);
        }
        if let Some((at, used)) = begun
            && at.elapsed() >= MEASURED
        {
            let cores = (cpu()? - used) / at.elapsed().as_secs_f64();
            if std::env::var_os("THREADS").is_some() {
                for (name, time) in threads()? {
                    let spent = time - before.get(&name).copied().unwrap_or_default();
                    writeln!(std::io::stderr(), "{:6.3} {name}", spent / at.elapsed().as_secs_f64())?;
                }
            }
            return Ok(cores);
        }
    }
    unreachable!("it is measured before frames run out")
}

/// The regions of a square grid.
fn grid(side: u32) -> Vec<Rect> {
    let size = Size { width: (VIEW.width / side) & !1, height: (VIEW.height / side) & !1 };
    let place = |i: u32| Rect { x: i % side * size.width, y: i / side * size.height, size };
    (0..side * side).map(place).collect()
}

/// The layer that this node takes for a region.
fn layer(region: Rect) -> (Size, u32) {
    let mut layers = Layers::new(LAYERS.len());
    layers.tell(LAYERS.map(|(size, _)| Some(size)));
    layers.set_wishes(vec![Wish::Fill { size: region.size, crop: false }]);
    layers.tick(Instant::now());
    layers.attached().next().map_or(LAYERS[2], |layer| LAYERS[layer])
}

fn node(side: u32, decorated: bool) -> anyhow::Result<f64> {
    let regions = grid(side);
    let (size, kbps) = layer(regions[0]);
    let material = material(size, kbps)?;
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (outputs, listener) = (Outputs::bind(local)?, UdpSocket::bind((local, 0))?);
    let track = outputs.add(TrackDescription {
        id: TrackId::new("mix")?,
        kind: v1::MediaKind::Video,
        format: v1::MediaFormat { codec: "vp8".into(), ..Default::default() },
        payload_type: 96,
        clock: MediaClock::new(Instant::now(), 90_000),
        audience: Arc::default(),
    });
    outputs
        .attach(&LinkKeys::random().attach_request("a", "mix", listener.local_addr()?, 1), Instant::now())?;
    let slots: Vec<Arc<FrameSlot>> = regions.iter().map(|_| Arc::default()).collect();
    let decoders = slots.iter().zip(&regions).map(|(slot, region)| {
        let (slot, fitting, place) =
            (Arc::clone(slot), parking_lot::Mutex::<Fitting>::default(), region.size);
        // As an input's pictures go to a view that is the only one to show it.
        let show = move |frame: Fresh<'_>| {
            let (mut fitting, Some(picture)) = (fitting.lock(), frame.picture()) else { return };
            let fitted = fitting.fit(&picture, place, false);
            slot.put(fitted.unwrap_or_else(|| fitting.keep(&frame)), Instant::now());
        };
        VideoDecoder::start(VideoCodec::Vp8, 96, show, |_| {})
    });
    let decoders = decoders.collect::<Result<Vec<_>, _>>()?;
    let shown = regions.iter().zip(&slots);
    let active = ActiveInput::default();
    active.set(StreamId::new("s0")?);
    let region = |(index, (rect, slot)): (usize, (&Rect, &Arc<FrameSlot>))| {
        let stream = StreamId::new(format!("s{index}")).ok();
        let badge =
            stream.map(|stream| Badge { stream, name: "Participant".into(), avatar: false, still: None });
        Region { rect: *rect, source: Some(Arc::clone(slot)), badge }
    };
    let scene = Scene {
        size: VIEW,
        background: Colour::from_rgb(0),
        crop: false,
        regions: shown.enumerate().map(region).collect(),
        decoration: Decoration {
            captions: decorated,
            border: decorated.then_some(Colour::from_rgb(0x30_c060)),
            active,
            clock: decorated,
            logo: None,
            animation: Duration::ZERO,
        },
    };
    let _studio = Studio::start(
        "mix",
        StudioPlan {
            programme: Programme::Composed { scene, framerate: RATE, filter: None },
            audience: Arc::clone(&track.description().audience),
            outputs: vec![PlannedPicture {
                encoding: VideoEncoding::Vp8,
                size: Some(VIEW),
                framerate: Some(RATE),
                content: Content::Camera,
                bitrate: TargetBitrate::Fixed(BITRATE),
                key_frame_interval: None,
                track: Arc::clone(&track),
            }],
        },
    )?;
    let cores = run(&material, side * side, |person, packet| decoders[person].push(packet, Instant::now()))?;
    let made = track.stats(Instant::now());
    let least = (f64::from(RATE) * (WARM_UP + MEASURED).as_secs_f64() * 0.9) as u64;
    anyhow::ensure!(made.frames > least, "only {} pictures were made", made.frames);
    for slot in &slots {
        let decoded = slot.newest().map_or(0, |newest| newest.number);
        anyhow::ensure!(decoded > least, "only {decoded} pictures of an input were decoded");
    }
    Ok(cores)
}

fn plain(side: u32) -> anyhow::Result<f64> {
    let (size, kbps) = LAYERS[2];
    let material = material(size, kbps)?;
    let regions = grid(side);
    let pads: String = regions
        .iter()
        .enumerate()
        .map(|(i, Rect { x, y, size })| {
            format!(
                " sink_{i}::xpos={x} sink_{i}::ypos={y} sink_{i}::width={} sink_{i}::height={}",
                size.width, size.height
            )
        })
        .collect();
    let inputs: String = (0..regions.len()).map(|i| {
        format!(
            " appsrc name=in{i} is-live=true do-timestamp=true format=time caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=VP8,payload=96 \
             ! rtpjitterbuffer latency=100 ! rtpvp8depay ! vp8dec threads=1 ! queue ! mix.sink_{i}"
        )
    }).collect();
    let launch = format!(
        "compositor name=mix background=black{pads} \
         ! video/x-raw,format=I420,width={},height={},framerate={RATE}/1 \
         ! vp8enc deadline=1 cpu-used={} threads=1 target-bitrate={} end-usage=cbr keyframe-max-dist=100000 lag-in-frames=0 static-threshold={} \
         ! rtpvp8pay ! fakesink name=out sync=false{inputs}",
        VIEW.width,
        VIEW.height,
        VideoEncoder::VP8_SPEED,
        BITRATE * 1000,
        VideoEncoder::STATIC,
    );
    let pipeline = gst::parse::launch(&launch)?.downcast::<gst::Pipeline>().ok().context("a pipeline")?;
    let source =
        |i: usize| pipeline.by_name(&format!("in{i}")).and_then(|source| source.downcast::<AppSrc>().ok());
    let sources = (0..regions.len()).map(source).collect::<Option<Vec<_>>>().context("sources")?;
    let (made, encoder) =
        (Arc::new(std::sync::atomic::AtomicU64::new(0)), pipeline.by_name("out").context("a sink")?);
    let counted = Arc::clone(&made);
    let pad = encoder.static_pad("sink").context("a pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing)?;
    let cores = run(&material, side * side, |person, packet| {
        let _flow = sources[person].push_buffer(gst::Buffer::from_slice(packet));
    })?;
    pipeline.set_state(gst::State::Null)?;
    let made = made.load(std::sync::atomic::Ordering::Relaxed);
    anyhow::ensure!(made > u64::from(RATE) * MEASURED.as_secs() * 3 / 4, "only {made} pictures were made");
    Ok(cores)
}
