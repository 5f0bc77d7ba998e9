//! Views over real gRPC and a real media link: what counts is the picture and the sound.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1::{self, mixer_event::Event};
use support::{Consumer, MixerNode, Publisher, eventually, view};

const RED: u32 = 0xff0000;
const GREEN: u32 = 0x00ff00;
const BLUE: u32 = 0x0000ff;
const GREY: u32 = 0x202020;
/// Centres of the regions of a 2×2 grid in a picture of 320×180.
const GRID: [(u32, u32); 4] = [(80, 44), (240, 44), (80, 134), (240, 134)];
const TONES: [f32; 3] = [400.0, 700.0, 1100.0];

#[tokio::test(flavor = "multi_thread")]
async fn three_participants_are_seen_and_heard() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let [a, b, c] = [("a", RED, 400.0), ("b", GREEN, 700.0), ("c", BLUE, 1100.0)]
        .map(|(name, rgb, hz)| publisher.publish(name, rgb, hz));
    let all = vec![a.input(), b.input(), c.input()];

    let first = v1::ViewDescription { minus_participants: vec!["pb".into()], ..view(1, all.clone(), 2) };
    let reply = node.control.set_view(first).await.unwrap().into_inner();
    let video = reply.video.unwrap();
    assert_eq!(video.endpoint, node.endpoint);
    assert_eq!(video.track_id, "mix:room1:common:video");
    let consumer = Consumer::start();
    let screen = consumer.watch(&video);
    let mut common = consumer.listen(&reply.audio.unwrap());
    let mut minus = consumer.listen(reply.minus_audio[0].audio.as_ref().unwrap());

    eventually("three colours in their regions", || screen.shows(GRID, [RED, GREEN, BLUE, GREY])).await;
    assert_eq!(screen.size(), Some((320, 180)));
    eventually("all three tones", || common.hears(TONES) == Some([true; 3])).await;
    eventually("all tones but one's own", || minus.hears(TONES) == Some([true, false, true])).await;

    // One leaves: the others move up, nothing else changes.
    let without_a = vec![b.input(), c.input()];
    let second =
        v1::ViewDescription { minus_participants: vec!["pb".into()], ..view(2, without_a.clone(), 2) };
    node.control.set_view(second).await.unwrap();
    eventually("the others moved up", || screen.shows(GRID, [GREEN, BLUE, GREY, GREY])).await;
    eventually("two tones", || common.hears(TONES) == Some([false, true, true])).await;

    // Edges: bright lines where the regions meet, no colours.
    let mut third = view(3, without_a.clone(), 2);
    third.video.as_mut().unwrap().filter = "edgedetect".into();
    node.control.set_view(third).await.unwrap();
    let colourless = |screen: &support::Screen| {
        let pixels = screen.pixels(GRID);
        pixels.is_some_and(|pixels| {
            pixels.iter().all(|[y, u, v]| *y < 60 && u.abs_diff(128) + v.abs_diff(128) < 12)
        })
    };
    eventually("edges of the regions", || {
        let row = screen.luma(44).unwrap_or_default();
        colourless(&screen) && row.get(154..166).is_some_and(|border| border.iter().any(|luma| *luma > 120))
    })
    .await;

    // A filter on one input leaves the others as they are.
    let turned = v1::ViewInput {
        filter: "rotate".into(),
        filter_parameters: r#"{"angle": 180}"#.into(),
        ..without_a[1].clone()
    };
    let edges = v1::ViewInput { filter: "edgedetect".into(), ..without_a[0].clone() };
    node.control.set_view(view(4, vec![edges, turned], 2)).await.unwrap();
    eventually("edges of one input alone", || {
        screen
            .pixels(GRID)
            .is_some_and(|[edges, blue, ..]| edges[0] < 40 && edges[1].abs_diff(128) < 8 && blue[1] > 180)
    })
    .await;

    // And back; then everybody is muted.
    node.control.set_view(view(5, without_a.clone(), 2)).await.unwrap();
    eventually("colours again", || screen.shows(GRID, [GREEN, BLUE, GREY, GREY])).await;
    let muted =
        without_a.into_iter().map(|input| v1::ViewInput { audio_muted: true, video_muted: true, ..input });
    node.control.set_view(view(6, muted.collect(), 2)).await.unwrap();
    eventually("background only", || screen.shows(GRID, [GREY; 4])).await;
    eventually("silence", || common.hears(TONES) == Some([false; 3])).await;

    // Without any input the output goes on.
    node.control.set_view(view(7, vec![], 1)).await.unwrap();
    let number = screen.number();
    eventually("more pictures", || screen.number() > number + 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_drawn_over_the_inputs_is_what_was_asked_for() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let [a, b] =
        [("a", RED, 400.0), ("b", BLUE, 0.0)].map(|(name, rgb, hz)| publisher.publish(name, rgb, hz));
    let named = |input: v1::ViewInput, name: &str| v1::ViewInput { name: name.into(), ..input };
    let muted = v1::ViewInput { video_muted: true, ..named(b.input(), "Bob Other") };
    let decorated = |revision, change: fn(&mut v1::ViewVideo)| {
        let mut view = view(revision, vec![named(a.input(), "Ann"), muted.clone()], 2);
        change(view.video.as_mut().unwrap());
        view
    };
    let reply = node.control.set_view(decorated(1, |_| {})).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    eventually("nothing but the picture", || screen.shows(GRID, [RED, GREY, GREY, GREY])).await;
    let bright = |columns: std::ops::Range<usize>, rows: std::ops::Range<u32>| {
        rows.filter_map(|y| screen.luma(y)).any(|row| row[columns.clone()].iter().any(|luma| *luma > 170))
    };
    assert!(!bright(0..320, 0..180));

    node.control.set_view(decorated(2, |video| video.avatars = true)).await.unwrap();
    eventually("initials of who is muted", || bright(200..280, 20..70)).await;
    assert!(!bright(0..160, 0..180) && screen.shows([(240, 130)], [GREY]));

    node.control.set_view(decorated(3, |video| video.captions = true)).await.unwrap();
    eventually("names at the lower edges", || bright(0..80, 74..90) && bright(160..240, 74..90)).await;
    assert!(!bright(0..320, 0..70) && !bright(0..320, 92..180));

    node.control.set_view(decorated(4, |video| video.active_border_rgb = Some(GREEN))).await.unwrap();
    let edges = [(80, 0), (0, 44), (158, 44), (80, 88)];
    eventually("a border around who speaks", || screen.shows(edges, [GREEN; 4])).await;
    assert!(screen.shows(GRID, [RED, GREY, GREY, GREY]) && screen.shows([(240, 0)], [GREY]));

    node.control.set_view(decorated(5, |video| video.clock = true)).await.unwrap();
    eventually("the time of day", || bright(200..320, 0..16) && !screen.shows([(80, 0)], [GREEN])).await;
    assert!(!bright(0..160, 0..180));

    // One whole region in place of four: on the way there, the picture is between both sizes.
    let mut smooth = view(6, vec![a.input()], 1);
    smooth.video.as_mut().unwrap().animation_ms = 2000;
    node.control.set_view(smooth).await.unwrap();
    let (outer, inner) = ((310, 170), (180, 100));
    eventually("it grows", || screen.shows([inner, outer], [RED, GREY])).await;
    eventually("and fills the picture", || screen.shows([inner, outer], [RED, RED])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_pictures_are_shown_where_the_view_has_them() {
    let directory = std::env::temp_dir().join(format!("kaigi-mixer-pictures-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, rgb) in [("Ann.png", [255u8, 0, 0]), ("logo.png", [0, 0, 255])] {
        image::RgbImage::from_pixel(64, 64, image::Rgb(rgb)).save(directory.join(name)).unwrap();
    }
    let mut node = MixerNode::start_with(&[format!("--pictures={}", directory.display())]).await;
    let muted = |stream: &str, name: &str| v1::ViewInput {
        stream_id: stream.into(),
        owner: "p".into(),
        name: name.into(),
        ..Default::default()
    };
    let pictured = |revision, change: fn(&mut v1::ViewVideo)| {
        let mut view = view(revision, vec![muted("a", "Ann"), muted("b", "../Ann")], 2);
        let video = view.video.as_mut().unwrap();
        video.avatars = true;
        change(video);
        view
    };
    let reply = node.control.set_view(pictured(1, |_| {})).await.unwrap().into_inner();
    // It listens before it has read them, and answers after that.
    std::fs::remove_dir_all(&directory).unwrap();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    // Beside the letters, within the discs of initials and within pictures.
    let beside = [(62, 44), (222, 44)];
    eventually("initials", || {
        screen.pixels(beside).is_some_and(|pixels| pixels.iter().all(|[luma, ..]| luma.abs_diff(95) < 12))
    })
    .await;
    node.control.set_view(pictured(2, |video| video.avatar_picture = "*.png".into())).await.unwrap();
    eventually("a picture of who has one", || {
        screen.shows([(62, 44)], [RED])
            && screen.pixels([(222, 44)]).is_some_and(|[pixel]| pixel[0].abs_diff(95) < 12)
    })
    .await;

    let corners = [(12, 12), (308, 12), (12, 168), (308, 168)];
    let logo = |corner: v1::Corner| {
        Some(v1::Logo { picture: "logo.png".into(), corner: corner.into(), height_percent: 20 })
    };
    assert!(screen.shows(corners, [GREY; 4]));
    let third = pictured(3, |_| {});
    for (revision, corner, shown) in [
        (3, v1::Corner::TopLeft, 0),
        (4, v1::Corner::TopRight, 1),
        (5, v1::Corner::BottomLeft, 2),
        (6, v1::Corner::BottomRight, 3),
    ] {
        let mut view = v1::ViewDescription { revision, ..third.clone() };
        view.video.as_mut().unwrap().logo = logo(corner);
        node.control.set_view(view).await.unwrap();
        let colours: [u32; 4] = std::array::from_fn(|index| if index == shown { BLUE } else { GREY });
        eventually("the logo in its corner", || screen.shows(corners, colours)).await;
    }
    assert!(
        screen.shows([(308, 148), (288, 168), (308, 128)], [BLUE, BLUE, GREY]),
        "a fifth as high as the view"
    );
    let mut unknown = v1::ViewDescription { revision: 7, ..third };
    unknown.video.as_mut().unwrap().logo =
        Some(v1::Logo { picture: "other.png".into(), ..logo(v1::Corner::TopLeft).unwrap() });
    node.control.set_view(unknown).await.unwrap();
    eventually("nothing", || screen.shows(corners, [GREY; 4])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_have_the_codec_asked_for() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let consumer = Consumer::start();
    for (revision, codec) in [(1, "vp9"), (2, "h264"), (3, "vp8")] {
        let mut wanted = view(revision, vec![a.input()], 1);
        wanted.video.as_mut().unwrap().format.as_mut().unwrap().codec = codec.into();
        let reply = node.control.set_view(wanted).await.unwrap().into_inner();
        let video = reply.video.unwrap();
        assert_eq!(video.format.as_ref().unwrap().codec, codec);
        // A consumer of the earlier format would attach anew; this one is new.
        let screen = Consumer::start().watch(&video);
        drop(screen);
        let screen = consumer.watch(&video);
        eventually(codec, || screen.shows([(160, 90)], [RED])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_who_speaks_and_what_fails() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let mut lost = a.input();
    lost.stream_id = "lost".into();
    lost.audio = None;
    lost.video = Some(publisher.source("nowhere", v1::MediaKind::Video, None));

    let request = v1::MixerEventsRequest { agent_id: "agent-1".into() };
    let mut events = node.control.events(request).await.unwrap().into_inner();
    let reply = node.control.set_view(view(1, vec![a.input(), lost], 2)).await.unwrap().into_inner();
    // Of pictures that nobody watches it is not known.
    let consumer = Consumer::start();
    let _screen = consumer.watch(&reply.video.unwrap());
    let (mut speaking, mut failed) = (None, None);
    while speaking.is_none() || failed.is_none() {
        let wait = tokio::time::timeout(std::time::Duration::from_secs(20), events.message());
        let told = wait.await.expect("an event is missing").unwrap().unwrap();
        assert_eq!((told.room_id.as_str(), told.label.as_str()), ("room1", "common"));
        match told.event.unwrap() {
            Event::ActiveInput(stream) => assert!(speaking.replace(stream).is_none(), "told twice"),
            Event::InputFailed(failure) => assert!(failed.replace(failure).is_none(), "told twice"),
            Event::TranscoderFailed(failure) => panic!("there is no transcoder: {failure:?}"),
        }
    }
    assert_eq!(speaking.as_deref(), Some("a"));
    let failed = failed.unwrap();
    assert_eq!(failed.stream_id, "lost");
    assert!(failed.reason.contains("no such track"), "{}", failed.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_comes_late_is_shown_when_it_comes() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let expected = publisher.source("a-video", v1::MediaKind::Video, None);
    let input = v1::ViewInput {
        stream_id: "a".into(),
        owner: "pa".into(),
        video: Some(expected),
        ..Default::default()
    };
    let reply = node.control.set_view(view(1, vec![input], 1)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    eventually("the background", || screen.shows([(160, 90)], [GREY])).await;
    let _a = publisher.publish("a", BLUE, 400.0);
    eventually("the late input", || screen.shows([(160, 90)], [BLUE])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_descriptions_and_bad_ones_are_refused() {
    let mut node = MixerNode::start().await;
    node.control.set_view(view(5, vec![], 1)).await.unwrap();
    node.control.set_view(view(5, vec![], 1)).await.unwrap();
    let code = |result: Result<_, tonic::Status>| {
        result.map(|_: tonic::Response<v1::ViewReply>| ()).unwrap_err().code()
    };
    assert_eq!(code(node.control.set_view(view(4, vec![], 1)).await), tonic::Code::FailedPrecondition);
    let mut strange = view(6, vec![], 1);
    strange.video.as_mut().unwrap().filter = "sepia".into();
    assert_eq!(code(node.control.set_view(strange).await), tonic::Code::InvalidArgument);
    let newer = v1::ViewDescription { epoch: 2, agent_id: "agent-2".into(), ..view(1, vec![], 1) };
    node.control.set_view(newer).await.unwrap();
    assert_eq!(code(node.control.set_view(view(9, vec![], 1)).await), tonic::Code::FailedPrecondition);

    let remove = |epoch| v1::RemoveViewRequest { room_id: "room1".into(), label: "common".into(), epoch };
    let refused = node.control.remove_view(remove(1)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    node.control.remove_view(remove(2)).await.unwrap();
    node.control.remove_view(remove(2)).await.unwrap();
    node.control.set_view(view(1, vec![], 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_whose_node_starts_anew_is_attached_again() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let reply = node.control.set_view(view(1, vec![a.input()], 1)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    let mut common = consumer.listen(&reply.audio.unwrap());
    eventually("the picture", || screen.shows([(160, 90)], [RED])).await;
    eventually("the tone", || common.hears(TONES) == Some([true, false, false])).await;
    publisher.forget(a);
    let _again = publisher.publish("a", BLUE, 700.0);
    eventually("the new picture", || screen.shows([(160, 90)], [BLUE])).await;
    eventually("the new tone", || common.hears(TONES) == Some([false, true, false])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coming_and_going_never_stalls_the_output() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let [a, b] =
        [("a", RED, 400.0), ("b", GREEN, 700.0)].map(|(name, rgb, hz)| publisher.publish(name, rgb, hz));
    let reply = node.control.set_view(view(1, vec![a.input()], 2)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    let mut common = consumer.listen(&reply.audio.unwrap());
    eventually("the first input", || screen.shows(GRID, [RED, GREY, GREY, GREY])).await;
    let (mut last, mut longest) = ((screen.number(), std::time::Instant::now()), std::time::Duration::ZERO);
    for change in 0..10 {
        let both = change % 2 == 0;
        let inputs = if both { vec![a.input(), b.input()] } else { vec![a.input()] };
        node.control.set_view(view(2 + change, inputs, 2)).await.unwrap();
        let second = if both { GREEN } else { GREY };
        eventually("the change", || {
            if screen.number() != last.0 {
                longest = longest.max(last.1.elapsed());
                last = (screen.number(), std::time::Instant::now());
            }
            common.hears(TONES);
            screen.shows(GRID, [RED, second, GREY, GREY])
        })
        .await;
    }
    assert!(longest < std::time::Duration::from_secs(1), "stood still for {longest:?}");
    assert_eq!(common.lost, 0);
}
