//! What a view costs: composing a picture beside copying one, renditions beside the view alone, finding edges, and mixing sound beside
//! encoding it.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kaigi_filters::{Aperture, Canny, Norm, Thresholds};
use kaigi_media::rtp::write_header;
use kaigi_mixer_node::{
    audio::{
        AudioCodec, AudioEncoding, AudioMixer, AudioStart, FRAME, FRAME_VALUES, Mix, PlannedMix, SAMPLE_RATE,
        TICK,
    },
    video::{
        Canvas, Colour, Composer, Content, Continuity, Decoration, EncoderSettings, Frame, FrameSlot,
        Letterbox, PacketSink, Picture, Plane, Rect, Region, Scene, Sheets, Size, TargetBitrate,
        VideoEncoder, VideoEncoding,
    },
};
use kaigi_proto::ids::{ParticipantId, StreamId, TrackId};

const VIEW: Size = Size { width: 1280, height: 720 };

/// A decoded picture in memory.
struct Still {
    size: Size,
    planes: [Vec<u8>; 3],
}

impl Still {
    fn new(size: Size) -> Arc<Self> {
        let plane = |width: u32, height: u32| {
            (0..width * height).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
        };
        let half = (size.width / 2, size.height / 2);
        Arc::new(Self {
            size,
            planes: [plane(size.width, size.height), plane(half.0, half.1), plane(half.0, half.1)],
        })
    }
}

impl Frame for Still {
    fn picture(&self) -> Option<Picture<'_>> {
        let half = Size { width: self.size.width / 2, height: self.size.height / 2 };
        let plane = |i: usize, size: Size| Plane::new(&self.planes[i], size.width as usize, size);
        Some(Picture { planes: [plane(0, self.size)?, plane(1, half)?, plane(2, half)?] })
    }
}

/// What a region of a square grid measures.
fn tile(side: u32) -> Size {
    Size { width: (VIEW.width / side) & !1, height: (VIEW.height / side) & !1 }
}

/// A square grid of inputs, all of `input` size.
fn grid(side: u32, input: Size) -> (Scene, Vec<Arc<FrameSlot>>, Arc<Still>) {
    let slots: Vec<_> = (0..side * side).map(|_| Arc::new(FrameSlot::default())).collect();
    let tile = tile(side);
    let regions = slots.iter().enumerate().map(|(i, slot)| {
        let (x, y) = (i as u32 % side * tile.width, i as u32 / side * tile.height);
        Region { rect: Rect { x, y, size: tile }, source: Some(slot.clone()), badge: None }
    });
    let scene = Scene {
        size: VIEW,
        background: Colour::from_rgb(0),
        crop: false,
        regions: regions.collect(),
        decoration: Decoration::default(),
    };
    (scene, slots, Still::new(input))
}

fn compose(c: &mut Criterion) {
    let mut group = c.benchmark_group("compose 1280x720, every input new");
    group.bench_function("baseline: copy one picture", |b| {
        let canvas = Canvas::new(VIEW, Colour::from_rgb(0));
        let mut copy = canvas.bytes().to_vec();
        b.iter(|| copy.copy_from_slice(black_box(canvas.bytes())));
    });
    let big = Size { width: 640, height: 360 };
    for side in [2, 3, 4] {
        for (name, input) in [
            ("inputs of their regions' size", tile(side)),
            ("inputs of 1280x720", VIEW),
            ("inputs of 640x360", big),
        ] {
            let (scene, slots, frame) = grid(side, input);
            let mut composer = Composer::new(scene);
            group.bench_function(BenchmarkId::new(name, side * side), |b| {
                b.iter(|| {
                    for slot in &slots {
                        slot.put(frame.clone(), Instant::now());
                    }
                    black_box(composer.compose().bytes().len())
                });
            });
        }
    }
    group.finish();
}

/// An encoder that is waited for.
struct Waited {
    encoder: VideoEncoder,
    done: Receiver<()>,
    number: u32,
}

impl Waited {
    fn new(size: Size) -> Self {
        let settings = EncoderSettings {
            encoding: VideoEncoding::Vp8,
            size,
            framerate: Some(30),
            content: Content::Camera,
        };
        let (tell, done) = channel();
        let packet = Box::new(move |packet: &[u8]| {
            // The last packet of a picture has the marker bit.
            if packet[1] & 0x80 != 0 {
                let _waiting = tell.send(());
            }
        });
        let packets = PacketSink { packet, key_frame: Box::new(|| {}) };
        let kbps = TargetBitrate::Fitting(1.0).kbps(&settings);
        let from = Continuity { sequence: 0, timestamp_offset: 0 };
        let encoder = VideoEncoder::start(&settings, kbps, from, packets, |reason| panic!("{reason}"))
            .expect("GStreamer's VP8 elements are installed");
        Self { encoder, done, number: 0 }
    }

    fn encode(&mut self, picture: &gstreamer::BufferRef) {
        self.encoder.push(picture, Duration::from_secs(1) * self.number / 30);
        self.number += 1;
        self.done.recv().expect("a packet");
    }
}

/// A picture of a view of nine inputs, encoded, and what renditions of it cost on top.
fn renditions(c: &mut Criterion) {
    kaigi_mixer_node::init_gstreamer().expect("GStreamer");
    let mut group = c.benchmark_group("a picture of a view of 1280x720, 9 inputs of 640x360, VP8");
    let small = Size { width: 640, height: 360 };
    for (name, sizes) in [
        ("the view alone", vec![VIEW]),
        ("and 640x360", vec![VIEW, small]),
        ("and 640x360 twice", vec![VIEW, small, small]),
    ] {
        let (scene, slots, _) = grid(3, small);
        // Blocks that wander: neither still nor noise.
        let frames: Vec<_> = (0..60).map(|number| blocks(small, number)).collect();
        let mut composer = Composer::new(scene);
        let mut sheets = Sheets::new(Colour::from_rgb(0));
        let mut encoders: Vec<_> = sizes.iter().map(|size| (*size, Waited::new(*size))).collect();
        let mut number = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                number += 1;
                for slot in &slots {
                    slot.put(frames[number % frames.len()].clone(), Instant::now());
                }
                let picture = composer.compose().picture().expect("a canvas is a picture");
                for (size, encoder) in &mut encoders {
                    let sheet = sheets.get(&picture, number as u64, *size).expect("memory");
                    encoder.encode(&sheet);
                }
            });
        });
    }
    group.bench_function("scaling to 640x360 alone", |b| {
        let frame = blocks(VIEW, 0);
        let mut letterbox = Letterbox::new(small, Colour::from_rgb(0));
        let picture = frame.picture().expect("a canvas is a picture");
        b.iter(|| black_box(letterbox.fit(&picture).map(|canvas| canvas.bytes().len())));
    });
    group.finish();
}

fn blocks(size: Size, number: u32) -> Arc<Canvas> {
    let mut canvas = Canvas::new(size, Colour::from_rgb(0x30_4050));
    for block in 0..8 {
        let side = Size { width: size.width / 8, height: size.height / 8 };
        let x = ((block * side.width + number * 2) % (size.width - side.width)) & !1;
        let y = ((block * side.height + number * (block + 1)) % (size.height - side.height)) & !1;
        canvas.fill(Rect { x, y, size: side }, Colour::from_rgb(0x22_4466 * (block + 1)));
    }
    Arc::new(canvas)
}

fn edges(c: &mut Criterion) {
    let mut group = c.benchmark_group("edge detection");
    for size in [Size { width: 640, height: 480 }, VIEW] {
        let still = Still::new(size);
        let mut canny = Canny::default();
        let (width, height) = (size.width as usize, size.height as usize);
        group.bench_function(BenchmarkId::from_parameter(format!("{width}x{height} of noise")), |b| {
            b.iter(|| {
                let plane = kaigi_filters::Plane::new(black_box(&still.planes[0]), width, width, height)
                    .expect("it is whole");
                canny.detect(plane, Aperture::Three, Norm::L1, Thresholds { low: 100, high: 200 });
            });
        });
    }
    group.finish();
}

fn encoder() -> opus::Encoder {
    opus::Encoder::new(SAMPLE_RATE, opus::Channels::Stereo, opus::Application::Voip)
        .expect("the parameters are Opus's own")
}

fn hum(hz: f32, number: usize) -> Vec<f32> {
    (0..FRAME_VALUES)
        .map(|i| {
            ((number * FRAME + i / 2) as f32 * hz * std::f32::consts::TAU / SAMPLE_RATE as f32).sin() * 0.2
        })
        .collect()
}

fn sound(c: &mut Criterion) {
    let mut group = c.benchmark_group("20 ms of sound, all speak, all hear all but themselves");
    for people in [3usize, 10, 50] {
        group.bench_function(BenchmarkId::new("baseline: as many Opus encodings alone", people), |b| {
            let mut encoders: Vec<_> = (0..people).map(|_| encoder()).collect();
            for encoder in &mut encoders {
                encoder.set_complexity(5).expect("within 0..10");
            }
            let frames: Vec<_> = (0..50).map(|n| hum(300.0, n)).collect();
            let (mut out, mut n) = ([0; 1500], 0);
            b.iter(|| {
                n = (n + 1) % frames.len();
                for encoder in &mut encoders {
                    black_box(encoder.encode_float(&frames[n], &mut out).expect("a frame"));
                }
            });
        });
        group.bench_function(BenchmarkId::new("mixer", people), |b| {
            let mut mixer = AudioMixer::new(0);
            let mut outputs = BTreeMap::new();
            let ids: Vec<_> = (0..people).map(|i| StreamId::new(format!("s{i}")).expect("an id")).collect();
            for (i, id) in ids.iter().enumerate() {
                let owner = ParticipantId::new(format!("p{i}")).expect("an id");
                mixer.set_input(id, &owner, AudioCodec::Opus, None).expect("a decoder");
                let track = TrackId::new(format!("t{i}")).expect("an id");
                let encoding = AudioEncoding::Opus { stereo: true };
                outputs.insert(track, PlannedMix { mix: Mix::Minus(owner), encoding });
            }
            mixer.set_outputs(&outputs, |_| AudioStart::default());
            // One second of each voice, sent again and again under rising numbers.
            let voices: Vec<Vec<Vec<u8>>> = (0..people)
                .map(|i| {
                    let mut encoder = encoder();
                    let voice = |n| {
                        encoder.encode_vec_float(&hum(200.0 + 20.0 * i as f32, n), 1000).expect("a frame")
                    };
                    (0..50).map(voice).collect()
                })
                .collect();
            let (mut now, mut n) = (Instant::now(), 0usize);
            let mut packet = Vec::new();
            b.iter(|| {
                for (id, voice) in ids.iter().zip(&voices) {
                    packet.clear();
                    write_header(&mut packet, false, 111, n as u16, (n * FRAME) as u32, 1);
                    packet.extend_from_slice(&voice[n % voice.len()]);
                    mixer.packet(id, &packet, now);
                }
                n += 1;
                now += TICK;
                mixer.tick(
                    now,
                    |_| true,
                    |_, packet| {
                        black_box(packet);
                    },
                )
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = compose, renditions, edges, sound
}
criterion_main!(benches);
