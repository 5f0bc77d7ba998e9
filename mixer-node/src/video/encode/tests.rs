//! What comes out of decoders of what was encoded.

use std::sync::mpsc::channel;

use kaigi_media::rtp::RtpHeader;

use super::{
    super::{
        Canvas, Colour, Frame, Fresh, H264Profile, Picture, Rect, Sheets, VideoDecoder, lettering::Lettering,
    },
    *,
};

const SIZE: Size = Size { width: 64, height: 64 };
const PATIENCE: Duration = Duration::from_secs(60);
/// Pictures that a decoder may hold back.
const HELD: u64 = 3;

fn settings(encoding: VideoEncoding, size: Size, content: Content) -> EncoderSettings {
    EncoderSettings { encoding, size, framerate: Some(30), content }
}

/// What is seen of so many pictures when they have been encoded and decoded, and how many bytes they took.
fn through<T: Send + 'static>(
    settings: &EncoderSettings,
    kbps: u32,
    pictures: u64,
    picture: impl Fn(u64) -> Canvas,
    look: impl Fn(u64, &Picture<'_>) -> T + Send + Sync + 'static,
) -> (Vec<T>, usize) {
    crate::init_gstreamer().unwrap();
    let ((send, sent), (show, shown)) = (channel(), channel());
    let packets = PacketSink {
        packet: Box::new(move |packet: &[u8]| drop(send.send(packet.to_vec()))),
        key_frame: Box::new(|| {}),
    };
    let from = Continuity { sequence: 65_530, timestamp_offset: u32::MAX - 9000 };
    let encoder = VideoEncoder::start(settings, kbps, from, packets, |reason| panic!("{reason}")).unwrap();
    let number = std::sync::atomic::AtomicU64::new(0);
    let watch = move |fresh: Fresh<'_>| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let _sent = show.send(look(number, &fresh.picture().unwrap()));
    };
    let codec = settings.encoding.codec();
    let decoder = VideoDecoder::start(codec, codec.payload_type(), watch, |_| {}).unwrap();
    let (mut sheets, mut bytes) = (Sheets::new(Colour([16, 128, 128])), 0);
    for number in 0..pictures {
        let sheet = sheets.get(&picture(number).picture().unwrap(), number + 1, settings.size).unwrap();
        encoder.push(&sheet, Duration::from_millis(33) * number as u32);
        loop {
            let packet: Vec<u8> = sent.recv_timeout(PATIENCE).unwrap();
            let is_last = RtpHeader::parse(&packet).unwrap().marker;
            bytes += packet.len();
            decoder.push(packet, Instant::now());
            if is_last {
                break;
            }
        }
    }
    let first: Vec<T> = (HELD..pictures).map(|_| shown.recv_timeout(PATIENCE).unwrap()).collect();
    // Dropping ends what may yet show some.
    (first.into_iter().chain(shown.try_iter()).collect(), bytes)
}

/// The luma in the middle of each of so many pictures, in which a dot that is a little brighter appears.
fn seen(pictures: u64, dot_from: u64) -> Vec<u8> {
    let picture = |number| {
        let mut canvas = Canvas::new(SIZE, Colour([100, 128, 128]));
        if number >= dot_from {
            let dot = Rect { x: 32, y: 32, size: Size { width: 2, height: 2 } };
            canvas.fill(dot, Colour([112, 128, 128]));
        }
        canvas
    };
    let settings = settings(VideoEncoding::Vp8, SIZE, Content::Camera);
    through(&settings, 500, pictures, picture, |_, picture| picture.planes[0].row(33, 33, 1)[0]).0
}

#[test]
fn what_hardly_changes_is_left_as_it_is_but_not_for_long() {
    let (dot_from, thorough) = (70, u64::from(VideoEncoder::THOROUGH));
    let seen = seen(3 * thorough, dot_from);
    let (at_first, later) = (seen[dot_from as usize + 20], seen[(2 * thorough) as usize + 20]);
    assert!(at_first.abs_diff(seen[dot_from as usize - 1]) <= 1, "it is not left: {seen:?}");
    assert!(later >= at_first + 3, "{seen:?}");
}

const SCREEN: Size = Size { width: 640, height: 352 };

/// A page of small letters, of which another part is shown now and then.
fn page(number: u64) -> Canvas {
    const LINE: u32 = 14;
    let mut canvas = Canvas::new(SCREEN, Colour([235, 128, 128]));
    let first = number / 20 * 3;
    for row in 0..SCREEN.height / LINE {
        let line = first + u64::from(row);
        let words: Vec<String> = (0..12)
            .map(|word| format!("{:x}", (line + 1) * (word + 3) * 2_654_435_761 % 0xff_ffff))
            .collect();
        let letters = Lettering::line(&words.join(" "), LINE, SCREEN.width).unwrap();
        for (y, coverage) in (row * LINE..).zip(letters.coverage.chunks(letters.width as usize)) {
            let pixels = canvas.row_mut(0, 0, y, letters.width);
            pixels.iter_mut().zip(coverage).for_each(|(pixel, covered)| *pixel -= (covered * 219.0) as u8);
        }
    }
    canvas
}

/// Mean squared error of the luma of all pictures.
fn error(encoding: VideoEncoding, content: Content) -> (f64, usize) {
    let wrong = |number, picture: &Picture<'_>| {
        let (page, pixels) = (page(number), f64::from(SCREEN.width * SCREEN.height));
        let rows = (0..SCREEN.height).map(|y| {
            let row = |picture: &Picture<'_>| picture.planes[0].row(0, y, SCREEN.width).to_vec();
            let (one, other) = (row(picture), row(&page.picture().unwrap()));
            one.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(b)).powi(2)).sum::<f64>()
        });
        rows.sum::<f64>() / pixels
    };
    let (errors, bytes) = through(&settings(encoding, SCREEN, content), 800, 60, page, wrong);
    (errors.iter().sum::<f64>() / errors.len() as f64, bytes)
}

#[test]
fn text_is_clearer_where_the_encoder_knows_that_it_is_text() {
    let encodings = [VideoEncoding::Vp8, VideoEncoding::H264(H264Profile::ConstrainedBaseline)];
    let psnr = |error: f64| 10.0 * (255.0f64.powi(2) / error).log10();
    let results = encodings.map(|encoding| {
        let ((camera, most), (screen, bytes)) =
            (error(encoding, Content::Camera), error(encoding, Content::Screen));
        println!("| {encoding:?} | {:.1} | {most} | {:.1} | {bytes} |", psnr(camera), psnr(screen));
        (psnr(screen) - psnr(camera), bytes as f64 / most as f64)
    });
    for (encoding, (better, longer)) in encodings.into_iter().zip(results) {
        assert!(better > 0.1, "{encoding:?} is {better} dB better");
        assert!(longer < 1.1, "{encoding:?} takes {longer} times the bytes");
    }
}

#[test]
fn vp8_is_encoded_by_libvpx_itself() {
    let settings = settings(VideoEncoding::Vp8, SIZE, Content::Camera);
    assert!(direct::codec(&settings, 500).is_some(), "libvpx has the interface that is declared");
}
