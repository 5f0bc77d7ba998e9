//! A view's picture in several sizes: described before anybody takes them, encoded while somebody does.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1::{self, layer_link_client::LayerLinkClient};
use support::{Consumer, MixerNode, Publisher, channels, eventually, view};

const RED: u32 = 0xff0000;

fn layer(id: &str, width: u32, height: u32, bitrate: u32) -> v1::VideoOutput {
    v1::VideoOutput {
        id: id.into(),
        format: Some(v1::MediaFormat { codec: "vp8".into(), ..Default::default() }),
        resolution: Some(v1::Resolution { width, height }),
        framerate: 15,
        bitrate,
        ..Default::default()
    }
}

async fn described(node: &MixerNode, track_ids: &[&str]) -> Vec<v1::LayerDescription> {
    let mut link = LayerLinkClient::new(channels().to(&node.endpoint).unwrap());
    let track_ids = track_ids.iter().map(ToString::to_string).collect();
    let request = v1::DescribeLayersRequest { track_ids, wanted_track_ids: vec![] };
    link.describe(request).await.unwrap().into_inner().layers
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_described_at_once_and_encoded_while_somebody_takes_them() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let video_layers = vec![layer("half", 160, 90, 200), layer("quarter", 80, 46, 60)];
    let wanted = v1::ViewDescription { video_layers, ..view(1, vec![a.input()], 1) };
    let reply = node.control.set_view(wanted).await.unwrap().into_inner();
    assert_eq!((reply.outputs.len(), reply.failures.len()), (2, 0));
    let whole = reply.video.unwrap();
    let layers: Vec<_> = reply.layers.iter().map(|layer| layer.source.clone().unwrap()).collect();
    assert_eq!(reply.layers.iter().map(|layer| layer.id.as_str()).collect::<Vec<_>>(), ["half", "quarter"]);

    let ids = [&whole.track_id[..], &layers[0].track_id, &layers[1].track_id, "another"];
    let told = described(&node, &ids).await;
    let tell = |layer: &v1::LayerDescription| {
        let size = layer.resolution.unwrap();
        (size.width, size.height, layer.bitrates[0], layer.framerates[3] as u32, layer.flowing)
    };
    let expected = [(320, 180, 800_000, 15, true), (160, 90, 200_000, 15, true), (80, 46, 60_000, 15, true)];
    assert_eq!(told.iter().map(tell).collect::<Vec<_>>(), expected, "before anybody takes any");

    let consumer = Consumer::start();
    let small = consumer.watch(&layers[1]);
    eventually("the quarter", || small.size() == Some((80, 46)) && small.shows([(40, 22)], [RED])).await;
    let track_ids = ids.iter().map(ToString::to_string).collect();
    let counted = node.control.stats(v1::MixerStatsRequest { track_ids }).await.unwrap().into_inner().tracks;
    let sent: Vec<_> = counted.iter().map(|track| track.frames > 0).collect();
    assert_eq!(sent, [false, false, true], "nobody takes the others");

    // One colour costs hardly anything, and so will the other sizes.
    let shown = small.number();
    eventually("a second of it", || small.number() > shown + 30).await;
    let told = described(&node, &ids).await;
    assert!(told[2].bitrates[0] > 0 && told[2].bitrates[0] < 60_000, "{:?}", told[2]);
    assert!(told[0].bitrates[0] < 800_000 && told[0].bitrates[0] > told[1].bitrates[0], "{told:?}");

    drop(small);
    let half = consumer.watch(&layers[0]);
    eventually("the half", || half.size() == Some((160, 90)) && half.shows([(80, 44)], [RED])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_somebody_wants_by_name_is_made_once() {
    let mut node = MixerNode::start().await;
    let half = layer("half", 160, 90, 200);
    let wanted = v1::ViewDescription {
        video_layers: vec![half.clone(), layer("large", 640, 360, 900)],
        video_outputs: vec![half],
        ..view(1, vec![], 1)
    };
    let reply = node.control.set_view(wanted.clone()).await.unwrap().into_inner();
    let ids: Vec<_> = reply.outputs.iter().map(|output| output.id.as_str()).collect();
    assert_eq!(ids, ["half"], "and one that is larger than the view is not made");
    assert_eq!(reply.layers, reply.outputs);
    let mut many = v1::ViewDescription { revision: 2, ..wanted };
    many.video_layers = (0..5).map(|number| layer(&format!("l{number}"), 64, 36, 50)).collect();
    let refused = node.control.set_view(many).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
