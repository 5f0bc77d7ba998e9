//! A decoder without a pipeline: a thread that is woken once for each frame, and lends out what it decoded in the codec's own memory.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use kaigi_media::rtp::RtpHeader;
use parking_lot::{Condvar, Mutex};

use super::{
    super::{
        Picture, Size,
        libvpx::{Refused, Vp8},
        reorder::Reorder,
        vitals::{Ending, Lease, Vitals},
    },
    DecoderSignal, Fresh, MAX_FRAME, MAX_QUEUE_BYTES,
    depacketizer::{Depacketizer, Outcome, is_key_frame},
};

/// What decodes frames.
pub(super) trait Codec: Send + 'static {
    /// See [`Vp8::decode`].
    fn decode(&mut self, frame: &[u8]) -> Result<Option<Picture<'_>>, Refused>;
}

impl Codec for Vp8 {
    fn decode(&mut self, frame: &[u8]) -> Result<Option<Picture<'_>>, Refused> {
        Self::decode(self, frame)
    }
}

type Signal = Box<dyn Fn(DecoderSignal) + Send + Sync>;
type Packet = Box<dyn AsRef<[u8]> + Send>;

/// Decodes until dropped, which does not wait for the thread.
pub(super) struct Direct {
    entrance: Mutex<Entrance>,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Entrance {
    order: Reorder<Packet>,
    depacketizer: Depacketizer,
}

/// Frames on their way to the thread.
struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// Whether the codec lost its place: only a key frame helps.
    lost: AtomicBool,
    signal: Signal,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Set once nothing is to be decoded any more.
    ended: Option<Ending>,
}

impl Direct {
    pub(super) fn start(
        codec: impl Codec,
        vitals: Vitals,
        lease: Lease,
        frames: impl Fn(Fresh<'_>) + Send + 'static,
        signal: Signal,
    ) -> io::Result<Self> {
        let inbox = Arc::new(Inbox {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            lost: AtomicBool::new(false),
            signal,
        });
        let work = Worker { inbox: Arc::clone(&inbox), vitals, lease, codec };
        std::thread::Builder::new().name("decoder".into()).spawn(move || {
            let inbox = Arc::clone(&work.inbox);
            if catch_unwind(AssertUnwindSafe(|| work.run(frames))).is_err() {
                (inbox.signal)(DecoderSignal::Failed("it panicked".into()));
            }
        })?;
        Ok(Self { entrance: Mutex::default(), inbox })
    }

    pub(super) fn push(&self, packet: impl AsRef<[u8]> + Send + 'static, now: Instant) {
        let Ok(header) = RtpHeader::parse(packet.as_ref()) else { return };
        let Entrance { order, depacketizer } = &mut *self.entrance.lock();
        order.insert(header.sequence, Box::new(packet), now, |packet| self.take(depacketizer, &packet));
    }

    pub(super) fn tick(&self, now: Instant) {
        let Entrance { order, depacketizer } = &mut *self.entrance.lock();
        order.poll(now, |packet| self.take(depacketizer, &packet));
    }

    /// Whether anything waits to be decoded.
    pub(super) fn is_waiting(&self) -> bool {
        !self.inbox.waiting.lock().frames.is_empty()
    }

    fn take(&self, depacketizer: &mut Depacketizer, packet: &Packet) {
        let mut out = |outcome| match outcome {
            Outcome::Frame(frame) => self.inbox.put(frame),
            Outcome::KeyFrameWanted => (self.inbox.signal)(DecoderSignal::KeyFrameWanted),
        };
        if self.inbox.lost.swap(false, Ordering::Relaxed) {
            depacketizer.lose(&mut out);
        }
        depacketizer.take((**packet).as_ref(), out);
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let mut waiting = self.inbox.waiting.lock();
        *waiting = Waiting { ended: Some(Ending::begin()), ..Waiting::default() };
        self.inbox.changed.notify_all();
    }
}

impl Inbox {
    /// When the codec can't keep up, all that waits is dropped.
    fn put(&self, frame: Vec<u8>) {
        let mut waiting = self.waiting.lock();
        if waiting.bytes + frame.len() > MAX_QUEUE_BYTES as usize && !waiting.frames.is_empty() {
            (waiting.frames, waiting.bytes) = (VecDeque::new(), 0);
            self.lost.store(true, Ordering::Relaxed);
            return;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        self.changed.notify_one();
    }

    /// Waits for the next frame; none: it has ended.
    fn next(&self) -> Option<Vec<u8>> {
        let mut waiting = self.waiting.lock();
        self.changed.wait_while(&mut waiting, |waiting| waiting.frames.is_empty() && waiting.ended.is_none());
        if waiting.ended.is_some() {
            return None;
        }
        let frame = waiting.frames.pop_front()?;
        waiting.bytes -= frame.len();
        Some(frame)
    }
}

struct Worker<C> {
    inbox: Arc<Inbox>,
    vitals: Vitals,
    lease: Lease,
    codec: C,
}

impl<C: Codec> Worker<C> {
    fn run(mut self, frames: impl Fn(Fresh<'_>)) {
        while let Some(frame) = self.inbox.next() {
            if let Some(size) = size(&frame).filter(|size| !fits(*size)) {
                let Size { width, height } = size;
                (self.inbox.signal)(DecoderSignal::Failed(format!(
                    "frames of {width}×{height} are too large"
                )));
                return;
            }
            self.vitals.given();
            match self.codec.decode(&frame) {
                Ok(Some(picture)) => {
                    self.vitals.made();
                    self.lease.use_it(|| frames(Fresh::Lent(picture)));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a frame is not decoded");
                    self.inbox.lost.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

fn fits(size: Size) -> bool {
    size.width <= MAX_FRAME.width && size.height <= MAX_FRAME.height
}

/// As a key frame tells it (RFC 6386 §9.1).
fn size(frame: &[u8]) -> Option<Size> {
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    match frame.get(3..10)? {
        [0x9d, 0x01, 0x2a, w0, w1, h0, h1] if is_key_frame(frame) => {
            Some(Size { width: side(*w0, *w1), height: side(*h0, *h1) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::Duration,
    };

    use kaigi_media::rtp::write_header;

    use super::{
        super::super::{Canvas, Colour, Frame},
        *,
    };

    /// Does with each frame as its second byte tells.
    struct Tampered {
        picture: Canvas,
        let_go: Receiver<()>,
    }
    const WORKS: u8 = 0;
    const HANGS: u8 = 1;
    const PANICS: u8 = 2;
    const REFUSES: u8 = 3;
    const HIDES: u8 = 4;

    impl Codec for Tampered {
        fn decode(&mut self, frame: &[u8]) -> Result<Option<Picture<'_>>, Refused> {
            match frame[1] {
                HANGS => drop(self.let_go.recv()),
                PANICS => panic!("as asked for"),
                REFUSES => return Err(Refused(1)),
                HIDES => return Ok(None),
                _ => {}
            }
            Ok(self.picture.picture())
        }
    }

    struct Bench {
        direct: Option<Direct>,
        vitals: Vitals,
        lease: Lease,
        sequence: u16,
        shown: Receiver<()>,
        signals: Receiver<DecoderSignal>,
        let_go: Sender<()>,
    }

    impl Bench {
        fn new() -> Self {
            let ((tell, shown), (signal, signals), (let_go, waits)) = (channel(), channel(), channel());
            let picture = Canvas::new(Size { width: 16, height: 16 }, Colour([1, 2, 3]));
            let codec = Tampered { picture, let_go: waits };
            let (vitals, lease) = (Vitals::default(), Lease::default());
            let show = move |fresh: Fresh<'_>| {
                assert!(fresh.picture().is_some());
                let _sent = tell.send(());
            };
            let signal = Box::new(move |told| drop(signal.send(told)));
            let direct = Direct::start(codec, vitals.clone(), lease.clone(), show, signal).unwrap();
            Self { direct: Some(direct), vitals, lease, sequence: 0, shown, signals, let_go }
        }
        /// A frame of one packet.
        fn push(&mut self, is_key_frame: bool, what: u8) {
            let mut packet = Vec::new();
            write_header(&mut packet, true, 96, self.sequence, 0, 7);
            packet.extend([0x10, u8::from(!is_key_frame), what]);
            packet.extend([0; 1000]);
            self.sequence = self.sequence.wrapping_add(1);
            self.direct.as_ref().unwrap().push(packet, Instant::now());
        }
        fn is_shown(&self) {
            self.shown.recv_timeout(Duration::from_secs(20)).expect("a picture");
        }
        fn signalled(&self) -> DecoderSignal {
            self.signals.recv_timeout(Duration::from_secs(20)).expect("a signal")
        }
        fn until(&self, mut is_so: impl FnMut(&Direct) -> bool) {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !is_so(self.direct.as_ref().unwrap()) {
                assert!(Instant::now() < deadline, "it takes too long");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn what_is_refused_is_not_followed_by_what_depends_on_it() {
        let mut bench = Bench::new();
        bench.push(true, WORKS);
        assert_eq!(bench.signalled(), DecoderSignal::KeyFrameWanted);
        bench.is_shown();
        bench.push(false, REFUSES);
        let lost = |direct: &Direct| direct.inbox.lost.load(Ordering::Relaxed);
        bench.until(lost);
        bench.push(false, WORKS);
        assert_eq!(bench.signalled(), DecoderSignal::KeyFrameWanted);
        bench.push(true, WORKS);
        bench.is_shown();
        let count = bench.vitals.count(false);
        assert_eq!((count.given, count.made), (3, 2));
    }

    #[test]
    fn hidden_frames_are_given_and_not_shown() {
        let mut bench = Bench::new();
        bench.push(true, HIDES);
        bench.push(false, WORKS);
        bench.is_shown();
        let count = bench.vitals.count(false);
        assert_eq!((count.given, count.made), (2, 1));
        assert!(bench.shown.try_recv().is_err());
    }

    #[test]
    fn a_codec_that_hangs_is_seen_and_left_behind() {
        let mut bench = Bench::new();
        bench.push(true, HANGS);
        bench.push(false, WORKS);
        let vitals = bench.vitals.clone();
        bench.until(|direct| direct.is_waiting() && vitals.count(true).given == 1);
        // What it does not take does not gather without end.
        for _ in 0..2000 {
            bench.push(true, WORKS);
            let waiting = bench.direct.as_ref().unwrap().inbox.waiting.lock().bytes;
            assert!(waiting <= MAX_QUEUE_BYTES as usize);
        }
        bench.lease.end();
        drop(bench.direct.take());
        bench.let_go.send(()).unwrap();
        // The channel's other end goes with the thread; nothing that came back late is shown.
        assert!(bench.shown.recv_timeout(Duration::from_secs(20)).is_err());
    }

    #[test]
    fn a_panic_ends_the_decoder_alone() {
        let mut bench = Bench::new();
        bench.push(true, PANICS);
        assert_eq!(bench.signalled(), DecoderSignal::KeyFrameWanted);
        assert_eq!(bench.signalled(), DecoderSignal::Failed("it panicked".into()));
    }

    #[test]
    fn libvpx_is_there() {
        let mut vp8 = Vp8::new().expect("libvpx can be loaded, with the interface that is declared");
        assert!(vp8.decode(&[0x10, 0, 0, 0x9d, 0x01, 0x2a]).is_err());
    }
}
