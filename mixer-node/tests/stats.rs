//! What is counted of the tracks that are made, beside what those who take them get.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1;
use support::{
    MixerNode, Publisher, eventually,
    tap::{Tap, vp8_key_frames},
    view,
};

async fn stats(node: &mut MixerNode, ids: &[&str]) -> Vec<v1::TrackStats> {
    let track_ids = ids.iter().map(ToString::to_string).collect();
    node.control.stats(v1::MixerStatsRequest { track_ids }).await.unwrap().into_inner().tracks
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_are_of_what_is_sent() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", 0xff0000, 400.0);
    let small = v1::VideoOutput {
        id: "small".into(),
        format: Some(v1::MediaFormat { codec: "vp8".into(), ..Default::default() }),
        resolution: Some(v1::Resolution { width: 160, height: 90 }),
        ..Default::default()
    };
    let wanted = v1::ViewDescription { video_outputs: vec![small], ..view(1, vec![a.input()], 2) };
    let size = wanted.video.as_ref().unwrap().resolution;
    let reply = node.control.set_view(wanted).await.unwrap().into_inner();
    let (video, audio) = (reply.video.unwrap(), reply.audio.unwrap());
    let small = reply.outputs[0].source.clone().unwrap();
    let ids = [&video.track_id[..], &audio.track_id, &small.track_id, "another"];
    let nobody = stats(&mut node, &ids).await;
    assert_eq!(nobody.len(), 3, "those that are not made here are left out");
    assert!(nobody.iter().all(|track| track.packets == 0 && track.takers == 0 && !track.flowing));

    let (tap, tapped, second) =
        (Tap::attach(&video).await, Tap::attach(&small).await, Tap::attach(&video).await);
    let heard = Tap::attach(&audio).await;
    tap.first(3.0).await;
    tap.request_key_frame();
    eventually("a second key frame", || vp8_key_frames(&tap.packets()).len() >= 2).await;
    let told = stats(&mut node, &ids).await;
    let [whole, sound, part] = &told[..] else { panic!("{told:?}") };

    let got = tap.packets();
    let bytes: usize = got.iter().map(|packet| packet.payload.len() + 12).sum();
    let close = |a: u64, b: usize| (a as f64 / b as f64 - 1.0).abs() < 0.1;
    assert!(close(whole.packets, got.len()), "{} of {}", whole.packets, got.len());
    assert!(close(whole.bytes, bytes), "{} of {bytes}", whole.bytes);
    let key_frames = vp8_key_frames(&got).len() as u64;
    assert!(whole.key_frames.abs_diff(key_frames) <= 1, "{} of {key_frames}", whole.key_frames);
    let pictures = got.iter().filter(|packet| packet.header.marker).count();
    assert!(close(whole.frames, pictures), "{} of {pictures}", whole.frames);
    assert_eq!((whole.takers, part.takers, sound.takers), (2, 1, 1));
    assert_eq!((whole.resolution, part.resolution), (size, Some(v1::Resolution { width: 160, height: 90 })));
    assert!(whole.flowing && part.flowing && sound.flowing);
    assert!(whole.frame_rate > 5.0 && whole.bitrate > 0, "{whole:?}");
    assert!((sound.packets as f64 / heard.packets().len() as f64 - 1.0).abs() < 0.1);
    assert_eq!((sound.frames, sound.kind()), (0, v1::MediaKind::Audio));
    drop((tap, tapped, second, heard));
}
