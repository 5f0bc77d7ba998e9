//! One output's encoder: made when somebody watches, made anew when it breaks or has to change, ended when nobody watches any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer as gst;
use kaigi_room_config::{Resolution, default_bitrate};

use super::{
    Cadence, Content, Continuity, EncoderSettings, PacketSink, PipelineError, Size, VideoEncoder,
    VideoEncoding,
};
use crate::{
    link::{Backoff, OutputTrack, Throttle},
    plan::Stop,
};

/// Between key frames on request. Each costs several times a frame's bits; a burst of requests is one event.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// How long an encoder is kept for a watcher who comes back. It takes some megabytes and no time.
const REST: Duration = Duration::from_secs(10);
/// An encoder that has run this long was no failure.
const SETTLED: Duration = Duration::from_secs(5);
/// kbit/s.
const BITRATES: std::ops::RangeInclusive<f64> = 1.0..=100_000.0;
/// Taken for the rate of a source whose rate is not known, when its bitrate is reckoned.
const USUAL_RATE: u32 = 30;

/// Bits of an output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TargetBitrate {
    /// kbit/s.
    Fixed(u32),
    /// So many times what fits the codec, size and rate.
    Fitting(f64),
}

impl TargetBitrate {
    /// kbit/s.
    #[must_use]
    pub fn kbps(self, settings: &EncoderSettings) -> u32 {
        match self {
            Self::Fixed(kbps) => kbps,
            Self::Fitting(factor) => {
                let Size { width, height } = settings.size;
                let rate = settings.framerate.unwrap_or(USUAL_RATE);
                let codec = settings.encoding.codec().name();
                let fitting = default_bitrate(Resolution { width, height }, rate, codec, 1.0);
                let wanted = (f64::from(fitting) * factor).round();
                wanted.clamp(*BITRATES.start(), *BITRATES.end()) as u32
            }
        }
    }
}

/// What an output's pictures are to be.
#[derive(Clone, Debug)]
pub struct PlannedPicture {
    /// Codec and profile.
    pub encoding: VideoEncoding,
    /// None = the source's, whatever it becomes.
    pub size: Option<Size>,
    /// Pictures a second at most; none = as they come.
    pub framerate: Option<u32>,
    /// What they show.
    pub content: Content,
    /// How many bits.
    pub bitrate: TargetBitrate,
    /// Longest time from one key frame to the next; none = only on request.
    pub key_frame_interval: Option<Duration>,
    /// Where it goes.
    pub track: Arc<OutputTrack>,
}

/// See the module.
pub(super) struct Booth {
    plan: PlannedPicture,
    cadence: Cadence,
    running: Option<Running>,
    backoff: Backoff,
    /// After a failure, not before this.
    not_before: Option<Instant>,
    key_frames: Throttle,
    watched: Option<Instant>,
    /// Of the thread that this works for.
    stop: Stop,
}

struct Running {
    encoder: VideoEncoder,
    settings: EncoderSettings,
    kbps: u32,
    broken: Arc<AtomicBool>,
    failed: Arc<dyn Fn(String) + Send + Sync>,
    since: Instant,
    /// When the last key frame was asked for.
    key_frame: Instant,
}

impl Booth {
    pub(super) fn new(plan: PlannedPicture, stop: &Stop) -> Self {
        Self {
            plan,
            cadence: Cadence::default(),
            running: None,
            backoff: Backoff::default(),
            not_before: None,
            key_frames: Throttle::new(KEY_FRAME_INTERVAL),
            watched: None,
            stop: stop.clone(),
        }
    }

    pub(super) fn plan(&self) -> &PlannedPicture {
        &self.plan
    }

    /// Takes a newer plan for the same track.
    pub(super) fn follow(&mut self, plan: PlannedPicture) {
        if self.plan.framerate != plan.framerate {
            self.cadence = Cadence::default();
        }
        self.plan = plan;
    }

    /// Whether anybody watches. An encoder that nobody has needed for a while ends.
    pub(super) fn is_watched(&mut self, now: Instant) -> bool {
        let watched = self.plan.track.has_listeners();
        if watched {
            self.watched = Some(now);
        } else if self.watched.is_none_or(|last| now.saturating_duration_since(last) > REST) {
            self.running = None;
        }
        watched
    }

    /// The next picture is to be a key frame.
    pub(super) fn request_key_frame(&mut self) {
        self.key_frames.request();
    }

    /// Whether somebody waits for a key frame who may have it now.
    pub(super) fn wants_key_frame(&mut self, now: Instant) -> bool {
        if self.plan.track.take_key_frame_request() {
            self.key_frames.request();
        }
        self.key_frames.is_due(now)
    }

    /// Whether the picture of that time is one of this output's.
    pub(super) fn takes(&mut self, at: Instant) -> bool {
        self.plan.framerate.is_none_or(|rate| self.cadence.takes(at, rate))
    }

    /// The size of this output's pictures, when the source's have that size.
    pub(super) fn size(&self, source: Size) -> Size {
        // Chroma has half the resolution, and no encoder likes less than a macroblock.
        let even = |side: u32| (side & !1).max(16);
        self.plan.size.unwrap_or(Size { width: even(source.width), height: even(source.height) })
    }

    /// Encodes a picture of that size. `at` is what its timestamp tells.
    pub(super) fn encode(&mut self, picture: &gst::BufferRef, size: Size, at: Instant, now: Instant) {
        self.prepare(size, now);
        let asked = self.wants_key_frame(now);
        let Some(running) = &mut self.running else { return };
        let overdue = self
            .plan
            .key_frame_interval
            .is_some_and(|interval| at.saturating_duration_since(running.key_frame) >= interval);
        if asked || overdue {
            self.key_frames.request();
            let _granted = self.key_frames.poll(now);
            running.encoder.force_key_frame();
            running.key_frame = at;
        }
        let media = at.saturating_duration_since(self.plan.track.description().clock.origin);
        running.encoder.push(picture, media);
        metrics::counter!("kaigi_mixer_encoded_frames_total").increment(1);
    }

    /// Sees to it that an encoder with the plan's settings runs, if possible.
    fn prepare(&mut self, size: Size, now: Instant) {
        let Self { plan, running, backoff, not_before, stop, .. } = self;
        let settings = EncoderSettings {
            encoding: plan.encoding,
            size,
            framerate: plan.framerate,
            content: plan.content,
        };
        let kbps = plan.bitrate.kbps(&settings);
        if let Some(present) = running {
            let broken = present.is_broken(now);
            if !broken && present.settings == settings {
                if present.kbps != kbps {
                    present.encoder.set_bitrate(kbps);
                    present.kbps = kbps;
                }
                if now.saturating_duration_since(present.since) > SETTLED {
                    backoff.reset();
                }
                return;
            }
            if broken {
                metrics::counter!("kaigi_mixer_rebuilt_total", "what" => "encoder").increment(1);
                *not_before = Some(now + backoff.pause());
            }
            *running = None;
        }
        if not_before.is_some_and(|time| now < time) {
            return;
        }
        match Running::start(&plan.track, settings, kbps, stop, now) {
            Ok(started) => *running = Some(started),
            Err(error) => {
                tracing::warn!(track = %plan.track.description().id, %error, "no encoder");
                *not_before = Some(now + backoff.pause());
            }
        }
    }
}

impl Running {
    /// Whether the encoder has failed or does not encode.
    fn is_broken(&mut self, now: Instant) -> bool {
        if let Some(ailment) = self.encoder.ails(now) {
            (self.failed)(ailment.to_string());
        }
        self.broken.load(Ordering::Relaxed)
    }

    fn start(
        track: &Arc<OutputTrack>,
        settings: EncoderSettings,
        kbps: u32,
        stop: &Stop,
        now: Instant,
    ) -> Result<Self, PipelineError> {
        let track = Arc::clone(track);
        let from = Continuity {
            sequence: track.next_sequence(),
            timestamp_offset: track.description().clock.offset,
        };
        let broken = Arc::new(AtomicBool::new(false));
        let (flag, id) = (Arc::clone(&broken), track.description().id.clone());
        let failed: Arc<dyn Fn(String) + Send + Sync> = Arc::new(move |reason| {
            tracing::warn!(track = %id, reason, "encoder failed");
            flag.store(true, Ordering::Relaxed);
        });
        track.set_size(settings.size.width, settings.size.height);
        let (counting, stop) = (Arc::clone(&track), stop.clone());
        // Another thread may have taken the place of the one that this works for.
        let send = move |packet: &[u8]| {
            if !stop.has_come() {
                track.send(packet, Instant::now());
            }
        };
        let packets =
            PacketSink { packet: Box::new(send), key_frame: Box::new(move || counting.count_key_frame()) };
        let fails = Arc::clone(&failed);
        let encoder = VideoEncoder::start(&settings, kbps, from, packets, move |reason| fails(reason))?;
        Ok(Self { encoder, settings, kbps, broken, failed, since: now, key_frame: now })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use kaigi_media::link::LinkKeys;
    use kaigi_proto::{
        ids::{AttachmentId, TrackId},
        v1,
    };

    use super::*;
    use crate::{
        link::{MediaClock, Outputs, TrackDescription},
        video::{Canvas, Colour, Frame, H264Profile, Sheets},
    };

    const SIZE: Size = Size { width: 64, height: 48 };

    /// A booth, its track, and a picture for it.
    fn booth(outputs: &Outputs) -> (Booth, Arc<OutputTrack>, gst::Buffer) {
        crate::init_gstreamer().unwrap();
        let track = outputs.add(TrackDescription {
            id: TrackId::new("t").unwrap(),
            kind: v1::MediaKind::Video,
            format: v1::MediaFormat::default(),
            payload_type: 96,
            clock: MediaClock::new(Instant::now(), 90_000),
            audience: Arc::default(),
        });
        let booth = Booth::new(
            PlannedPicture {
                encoding: VideoEncoding::Vp8,
                size: None,
                framerate: None,
                content: Content::Camera,
                bitrate: TargetBitrate::Fitting(1.0),
                key_frame_interval: None,
                track: Arc::clone(&track),
            },
            &Stop::default(),
        );
        let canvas = Canvas::new(SIZE, Colour([16, 128, 128]));
        let picture = Sheets::new(Colour([16, 128, 128])).get(&canvas.picture().unwrap(), 1, SIZE).unwrap();
        (booth, track, picture)
    }
    fn attach(outputs: &Outputs) {
        let consumer = "127.0.0.1:9".parse().unwrap();
        let request = LinkKeys::random().attach_request("a", "t", consumer, 7);
        outputs.attach(&request, Instant::now()).unwrap();
    }

    #[test]
    fn encoders_run_while_somebody_watches_and_a_little_longer() {
        let outputs = Outputs::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (mut booth, _, picture) = booth(&outputs);
        let now = Instant::now();
        assert!(!booth.is_watched(now));
        attach(&outputs);
        assert!(booth.is_watched(now));
        booth.encode(&picture, SIZE, now, now);
        assert!(booth.running.is_some());
        outputs.detach(&AttachmentId::new("a").unwrap());
        assert!(!booth.is_watched(now + REST));
        assert!(booth.running.is_some());
        assert!(!booth.is_watched(now + REST + Duration::from_millis(1)));
        assert!(booth.running.is_none());
    }

    #[test]
    fn another_bitrate_keeps_the_encoder_and_another_size_does_not() {
        let outputs = Outputs::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (mut booth, _, picture) = booth(&outputs);
        let now = Instant::now();
        let since = |booth: &Booth| booth.running.as_ref().unwrap().since;
        booth.encode(&picture, SIZE, now, now);
        let later = now + Duration::from_secs(1);
        booth.follow(PlannedPicture { bitrate: TargetBitrate::Fixed(77), ..booth.plan().clone() });
        booth.encode(&picture, SIZE, later, later);
        assert_eq!((since(&booth), booth.running.as_ref().unwrap().kbps), (now, 77));
        booth.encode(&picture, Size { width: 32, height: 32 }, later, later);
        assert_eq!(since(&booth), later);
        let last = later + Duration::from_secs(1);
        booth.follow(PlannedPicture { content: Content::Screen, ..booth.plan().clone() });
        booth.encode(&picture, Size { width: 32, height: 32 }, last, last);
        assert_eq!(since(&booth), last, "another content has an encoder that is set for it");
    }

    #[test]
    fn key_frames_are_throttled() {
        let outputs = Outputs::bind(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (mut booth, _, picture) = booth(&outputs);
        let (now, ms) = (Instant::now(), Duration::from_millis);
        booth.request_key_frame();
        assert!(booth.wants_key_frame(now));
        booth.encode(&picture, SIZE, now, now);
        booth.request_key_frame();
        assert!(!booth.wants_key_frame(now + ms(499)));
        assert!(booth.wants_key_frame(now + ms(500)));
    }

    #[test]
    fn bitrates_fit_what_is_encoded() {
        let size = Size { width: 640, height: 480 };
        let settings =
            |encoding, framerate| EncoderSettings { encoding, size, framerate, content: Content::Camera };
        let fitting = TargetBitrate::Fitting(1.0);
        let h264 = VideoEncoding::H264(H264Profile::High);
        assert_eq!(fitting.kbps(&settings(h264, Some(30))), 800);
        assert_eq!(fitting.kbps(&settings(h264, None)), 800);
        assert_eq!(fitting.kbps(&settings(VideoEncoding::Vp8, Some(30))), 960);
        assert_eq!(TargetBitrate::Fitting(0.4).kbps(&settings(h264, Some(30))), 320);
        assert_eq!(TargetBitrate::Fitting(1e300).kbps(&settings(h264, Some(30))), 100_000);
        assert_eq!(TargetBitrate::Fitting(f64::MIN_POSITIVE).kbps(&settings(h264, Some(30))), 1);
        assert_eq!(TargetBitrate::Fixed(77).kbps(&settings(h264, Some(30))), 77);
    }
}
