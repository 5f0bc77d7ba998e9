//! A view in other formats, sizes, rates and bitrates, attached and decoded.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1;
use support::{
    Consumer, MixerNode, Publisher, eventually,
    tap::{Packet, Tap, hears, kbps, picture_times, vp8_key_frames},
    view,
};

const RED: u32 = 0xff0000;
const GREEN: u32 = 0x00ff00;
const GREY: u32 = 0x202020;
const TONES: [f32; 3] = [400.0, 700.0, 1100.0];
/// RTP units of a second of pictures.
const SECOND: u32 = 90_000;

fn format(codec: &str) -> Option<v1::MediaFormat> {
    Some(v1::MediaFormat { codec: codec.into(), ..Default::default() })
}
fn video(id: &str, codec: &str, (width, height): (u32, u32), framerate: u32) -> v1::VideoOutput {
    let resolution = Some(v1::Resolution { width, height });
    v1::VideoOutput { id: id.into(), format: format(codec), resolution, framerate, ..Default::default() }
}
fn audio(id: &str, codec: &str, channels: u32, minus: &str) -> v1::AudioOutput {
    let format = v1::MediaFormat { codec: codec.into(), channels, ..Default::default() };
    v1::AudioOutput { id: id.into(), format: Some(format), minus_participant: minus.into() }
}
/// The view of `support` at 30 pictures a second.
fn fast(
    revision: u64,
    inputs: Vec<v1::ViewInput>,
    video_outputs: Vec<v1::VideoOutput>,
) -> v1::ViewDescription {
    let mut view = v1::ViewDescription { video_outputs, ..view(revision, inputs, 2) };
    view.video.as_mut().unwrap().framerate = 30;
    view
}
fn output<'a>(outputs: &'a [v1::OutputSource], id: &str) -> &'a v1::TrackSource {
    outputs.iter().find(|output| output.id == id).unwrap().source.as_ref().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_codec_and_size_shows_the_same_picture() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let [a, b] =
        [("a", RED, 400.0), ("b", GREEN, 700.0)].map(|(name, rgb, hz)| publisher.publish(name, rgb, hz));
    let mut outputs = vec![video("small", "vp9", (160, 90), 10), video("square", "vp8", (180, 180), 30)];
    for profile in ["CB", "B", "M", "H"] {
        let mut output = video(&format!("h264-{profile}"), "h264", (240, 134), 15);
        output.format.as_mut().unwrap().profile = profile.into();
        outputs.push(output);
    }
    let wanted = fast(1, vec![a.input(), b.input()], outputs);
    let reply = node.control.set_view(wanted).await.unwrap().into_inner();
    assert_eq!(reply.failures, []);
    assert_eq!(reply.outputs.len(), 6);

    let consumer = Consumer::start();
    let whole = consumer.watch(reply.video.as_ref().unwrap());
    for (id, codec, size) in [
        ("small", "vp9", (160, 90)),
        ("h264-CB", "h264", (240, 134)),
        ("h264-B", "h264", (240, 134)),
        ("h264-M", "h264", (240, 134)),
        ("h264-H", "h264", (240, 134)),
    ] {
        let source = output(&reply.outputs, id);
        assert_eq!(source.format.as_ref().unwrap().codec, codec);
        let screen = consumer.watch(source);
        let (w, h) = ((size.0 / 4) & !1, (size.1 / 4) & !1);
        let grid = [(w, h), (3 * w, h), (w, 3 * h), (3 * w, 3 * h)];
        eventually(id, || screen.size() == Some(size) && screen.shows(grid, [RED, GREEN, GREY, GREY])).await;
    }
    // Of another shape: bars in the background's colour.
    let square = consumer.watch(output(&reply.outputs, "square"));
    let places = [(90, 10), (45, 65), (135, 65), (90, 170)];
    eventually("bars", || square.shows(places, [GREY, RED, GREEN, GREY])).await;
    assert_eq!(square.size(), Some((180, 180)));
    eventually("the view itself", || whole.shows([(80, 44), (240, 44)], [RED, GREEN])).await;
    assert_eq!(whole.size(), Some((320, 180)));
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_of_h264_are_those_asked_for() {
    let mut node = MixerNode::start().await;
    let outputs = ["CB", "M", "H"].map(|profile| {
        let mut output = video(profile, "h264", (160, 90), 15);
        output.format.as_mut().unwrap().profile = profile.into();
        output
    });
    let reply = node.control.set_view(fast(1, vec![], outputs.to_vec())).await.unwrap().into_inner();
    for (profile, indicator) in [("CB", 66), ("M", 77), ("H", 100)] {
        let tap = Tap::attach(output(&reply.outputs, profile)).await;
        // RFC 6184 §5.7.1: the parameter sets are sent in one packet (STAP-A, 24), or each in its own (7).
        let told = || {
            tap.packets().iter().find_map(|packet| match packet.payload[0] & 31 {
                7 => Some(packet.payload[1]),
                24 if packet.payload[3] & 31 == 7 => Some(packet.payload[4]),
                24 if packet.payload[3] & 31 == 9 => {
                    let next = 3 + usize::from(packet.payload[2]);
                    Some(packet.payload[next + 3])
                }
                _ => None,
            })
        };
        eventually(profile, || told() == Some(indicator)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_those_asked_for_and_even() {
    let mut node = MixerNode::start().await;
    let rates = [30, 24, 15, 12, 5];
    let outputs = rates.map(|rate| video(&format!("r{rate}"), "vp8", (160, 90), rate));
    let reply = node.control.set_view(fast(1, vec![], outputs.to_vec())).await.unwrap().into_inner();
    for rate in rates {
        let tap = Tap::attach(output(&reply.outputs, &format!("r{rate}"))).await;
        // A machine that is busy with other things costs pictures; what counts are two seconds in which it was not.
        let undisturbed = || {
            let times = picture_times(&tap.packets());
            let window = |start: &u32| {
                let times: Vec<u32> = times
                    .iter()
                    .copied()
                    .filter(|time| (*start..*start + 2 * SECOND).contains(time))
                    .collect();
                assert!(times.len() <= 2 * rate as usize + 1, "{rate}: {}", times.len());
                let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
                times.len() + 1 >= 2 * rate as usize && longest <= SECOND / rate + SECOND / 30
            };
            times.iter().any(window)
        };
        eventually(&format!("{rate} a second"), undisturbed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_factor_takes_bits_away() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let noise = publisher.publish_pattern("noise", "pattern=snow", (320, 180, 15), 400.0);
    let at =
        |id: &str, bitrate_factor| v1::VideoOutput { bitrate_factor, ..video(id, "vp8", (320, 180), 15) };
    let outputs = vec![at("x1", 0.0), at("x0.4", 0.4), v1::VideoOutput { bitrate: 1000, ..at("fixed", 0.0) }];
    let mut wanted = v1::ViewDescription { video_outputs: outputs, ..view(1, vec![noise.input()], 1) };
    wanted.video.as_mut().unwrap().motion_factor = 12.0;
    let reply = node.control.set_view(wanted.clone()).await.unwrap().into_inner();
    let mut rates = Vec::new();
    for id in ["x1", "x0.4", "fixed"] {
        let tap = Tap::attach(output(&reply.outputs, id)).await;
        // Without the key frame and what the rate control does about it.
        let packets = tap.first(5.0).await;
        let late = |p: &&support::tap::Packet| {
            p.header.timestamp.wrapping_sub(packets[0].header.timestamp) >= 2 * SECOND
        };
        let settled: Vec<_> = packets.iter().filter(late).cloned().collect();
        rates.push(kbps(&settled, 3.0));
    }
    // 180 kbit/s fit VP8 of this size and rate, and there is twelve times the motion.
    assert!((1400.0..2900.0).contains(&rates[0]), "{rates:?}");
    assert!(rates[1] < 0.6 * rates[0], "{rates:?}");
    assert!(rates[2] < 0.6 * rates[0], "{rates:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_frames_come_by_the_interval_and_on_request() {
    let mut node = MixerNode::start().await;
    let every = |id: &str, key_frame_interval| v1::VideoOutput {
        key_frame_interval,
        ..video(id, "vp8", (160, 90), 15)
    };
    let outputs = vec![every("often", 1), every("never", 0)];
    let reply = node.control.set_view(fast(1, vec![], outputs)).await.unwrap().into_inner();
    let often = Tap::attach(output(&reply.outputs, "often")).await;
    let never = Tap::attach(output(&reply.outputs, "never")).await;
    let keys = vp8_key_frames(&often.first(4.5).await);
    assert!(keys.len() >= 5, "{keys:?}");
    assert!(keys.windows(2).all(|pair| pair[1] - pair[0] <= SECOND + SECOND / 15), "{keys:?}");
    // One at the start, and one more if the request of the attachment came after the first picture.
    let before = vp8_key_frames(&never.packets()).len();
    assert!(before <= 2, "{before}");
    // A burst of requests is one key frame, or two when it falls on both sides of the throttle.
    for _ in 0..5 {
        never.request_key_frame();
        tokio::task::yield_now().await;
    }
    eventually("a key frame", || vp8_key_frames(&never.packets()).len() > before).await;
    let first = never.packets().len();
    eventually("more pictures", || never.packets().len() > first + 20).await;
    assert!(vp8_key_frames(&never.packets()).len() <= before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_described_goes_on_while_others_come_and_go() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let (stays, goes) = (video("stays", "vp8", (160, 90), 30), video("goes", "vp9", (160, 90), 30));
    let described = |revision, outputs: &[&v1::VideoOutput], sound: &[(&str, &str)]| {
        let outputs = outputs.iter().map(|output| (*output).clone()).collect();
        let audio_outputs = sound.iter().map(|(id, codec)| audio(id, codec, 0, "")).collect();
        v1::ViewDescription { audio_outputs, ..fast(revision, vec![a.input()], outputs) }
    };
    let first = described(1, &[&stays, &goes], &[("tone", "pcmu"), ("other", "opus")]);
    let reply = node.control.set_view(first).await.unwrap().into_inner();
    let removed = output(&reply.outputs, "goes").clone();
    let taps = [
        Tap::attach(output(&reply.outputs, "stays")).await,
        Tap::attach(output(&reply.outputs, "tone")).await,
    ];
    let gone = Tap::attach(&removed).await;
    eventually("all flow", || taps.iter().chain([&gone]).all(|tap| !tap.packets().is_empty())).await;
    for change in 0..6 {
        let outputs: &[_] = if change % 2 == 0 { &[&stays] } else { &[&goes, &stays] };
        let sound: &[_] =
            if change % 2 == 0 { &[("tone", "pcmu")] } else { &[("g", "g722"), ("tone", "pcmu")] };
        let count = taps[0].packets().len();
        let reply = node.control.set_view(described(2 + change, outputs, sound)).await.unwrap().into_inner();
        assert_eq!(reply.outputs.len(), outputs.len() + sound.len());
        eventually("more of what stays", || taps[0].packets().len() > count + 15).await;
    }
    for tap in &taps {
        let packets = tap.packets();
        let broken = |pair: &[support::tap::Packet]| {
            pair[1].header.sequence != pair[0].header.sequence.wrapping_add(1)
        };
        assert!(!packets.windows(2).any(broken), "packets are missing");
        let step =
            |pair: &[support::tap::Packet]| pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp);
        let longest = packets.windows(2).map(step).max().unwrap();
        assert!(longest < tap.reply.clock_rate / 2, "a gap of {longest}");
    }
    assert!(vp8_key_frames(&taps[0].packets()).len() <= 2, "begun anew");

    // The one that is no more: its flow has ended and it can't be attached again.
    let last = node.control.set_view(described(9, &[&stays], &[])).await.unwrap().into_inner();
    assert_eq!(last.outputs.len(), 1);
    let count = (gone.packets().len(), taps[0].packets().len());
    eventually("more of what stays", || taps[0].packets().len() > count.1 + 15).await;
    assert_eq!(gone.packets().len(), count.0);
    assert_eq!(Tap::refusal(&removed).await, tonic::Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_comes_in_every_format_and_without_oneself() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let [a, b] =
        [("a", RED, 400.0), ("b", GREEN, 700.0)].map(|(name, rgb, hz)| publisher.publish(name, rgb, hz));
    let audio_outputs = vec![
        audio("mono", "opus", 1, ""),
        audio("ulaw", "pcmu", 1, ""),
        audio("alaw", "pcma", 0, "pb"),
        audio("wide", "g722", 1, "pa"),
        audio("isac", "isac", 1, ""),
    ];
    let wanted = v1::ViewDescription { audio_outputs, ..view(1, vec![a.input(), b.input()], 2) };
    let reply = node.control.set_view(wanted).await.unwrap().into_inner();
    let failed: Vec<&str> = reply.failures.iter().map(|failure| failure.id.as_str()).collect();
    assert_eq!(failed, ["isac"]);
    assert!(reply.failures[0].reason.contains("isac"), "{:?}", reply.failures);
    for (id, codec, rate, heard) in [
        ("mono", "opus", 48_000, [true, true, false]),
        ("ulaw", "pcmu", 8000, [true, true, false]),
        ("alaw", "pcma", 8000, [true, false, false]),
        ("wide", "g722", 8000, [false, true, false]),
    ] {
        let tap = Tap::attach(output(&reply.outputs, id)).await;
        assert_eq!(tap.reply.clock_rate, rate);
        assert_eq!(tap.reply.format.as_ref().unwrap().codec, codec);
        let packets = tap.first(2.0).await;
        // A busy machine leaves ticks out, and tells so by the timestamps.
        let step = |p: &[Packet]| p[1].header.timestamp.wrapping_sub(p[0].header.timestamp);
        assert!(packets.windows(2).all(|p| step(p) > 0 && step(p) % (rate / 50) == 0));
        assert!(packets.windows(2).any(|p| step(p) == rate / 50));
        assert_eq!(hears(&packets, codec, TONES), heard, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_are_refused_and_bad_ones_cost_the_others_nothing() {
    let mut node = MixerNode::start().await;
    let many: Vec<_> = (0..100).map(|i| video(&format!("v{i}"), "vp8", (160, 90), 10)).collect();
    let refused = node.control.set_view(fast(1, vec![], many)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    let outputs = vec![
        video("good", "vp8", (160, 90), 10),
        video("fast", "vp8", (160, 90), 60),
        video("large", "vp8", (640, 360), 10),
        video("strange", "h265", (160, 90), 10),
    ];
    let reply = node.control.set_view(fast(1, vec![], outputs)).await.unwrap().into_inner();
    assert_eq!(reply.outputs.len(), 1);
    let failed: Vec<&str> = reply.failures.iter().map(|failure| failure.id.as_str()).collect();
    assert_eq!(failed, ["fast", "large", "strange"]);
    let tap = Tap::attach(output(&reply.outputs, "good")).await;
    eventually("pictures", || tap.packets().len() > 5).await;
}
