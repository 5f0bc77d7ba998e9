//! Layers of another node.

use kaigi_access_node::node::LinkCall;
use kaigi_proto::{ids::TransportId, v1};

use crate::{
    stage::*,
    support::{narrow::Narrow, world::*, *},
};

#[test]
fn layers_of_another_node_are_known_before_they_are_brought() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let mut consumer = World::with_worker("access-2", "127.0.0.1:7001", 9);
    consumer.now = stage.world.now;
    let client = consumer.client();
    let video = consumer.clients[client].1.add("video", Way::Receive);
    let track = v1::SubscriptionTrack {
        kind: v1::MediaKind::Video.into(),
        mid: video,
        layers: (0..3).map(layer_source).collect(),
        wanted: Some(wish((640, 360))),
        ..Default::default()
    };
    consumer.subscribe_to(client, "subscription", vec![track]).unwrap();
    consumer.negotiate(client);
    consumer.connect(client);
    consumer.narrow.insert(client, Narrow::new(consumer.now, 20e6));
    let (mut attached, mut asked) = (Vec::new(), 0);
    for _ in 0..150 {
        stage.run(FRAME);
        consumer.now = stage.world.now - FRAME;
        consumer.pass(FRAME);
        for call in std::mem::take(&mut consumer.node.output().calls) {
            match call {
                LinkCall::Attach { flow, request, .. } => {
                    attached.push(request.track_id.clone());
                    let reply = stage.world.node.attach(stage.world.now, &request).unwrap();
                    consumer.node.attached(consumer.now, flow, &request, Ok(reply));
                }
                LinkCall::Detach { attachment, .. } => stage.world.node.detach(&attachment),
                LinkCall::Describe { endpoint, request } => {
                    asked += 1;
                    assert_eq!(request.track_ids.len(), 3);
                    let reply = stage.world.node.describe_layers(stage.world.now, &request);
                    consumer.node.described(consumer.now, &endpoint, &reply);
                }
            }
        }
        carry(&mut stage.world, &mut consumer);
        carry(&mut consumer, &mut stage.world);
    }
    assert!((5..=7).contains(&asked), "{asked} questions in six seconds");
    assert_eq!(attached, ["transport0-1:q", "transport0-1:h"], "what is first named, then what is wanted");
    let ssrc = consumer.clients[client].1.answer.ssrcs[0][0];
    let shown = consumer.clients[client].1.take_rtp(ssrc);
    let (header, packet) = shown.last().unwrap();
    assert_eq!(header.payload(packet).last(), Some(&1));
    let transport = TransportId::new(World::transport(client)).unwrap();
    consumer.node.close_transport(consumer.now, &transport);
    consumer.pass(seconds(10));
    assert!(!consumer.node.output().calls.iter().any(|call| matches!(call, LinkCall::Describe { .. })));
}

#[test]
fn nothing_that_another_node_says_of_layers_is_too_strange() {
    let mut world = World::new();
    let strange = v1::LayerDescription {
        track_id: "t".into(),
        flowing: true,
        resolution: Some(v1::Resolution { width: 0, height: u32::MAX }),
        bitrates: vec![u64::MAX; 4],
        framerates: vec![f64::NAN; 4],
        ..Default::default()
    };
    let client = world.client();
    let video = world.clients[client].1.add("video", Way::Receive);
    let elsewhere = v1::TrackSource { worker_id: "access-2".into(), ..source("t", "vp8") };
    let track = v1::SubscriptionTrack {
        kind: v1::MediaKind::Video.into(),
        mid: video,
        layers: vec![elsewhere.clone(), v1::TrackSource { track_id: "u".into(), ..elsewhere.clone() }],
        ..Default::default()
    };
    world.subscribe_to(client, "subscription", vec![track]).unwrap();
    world.negotiate(client);
    world.connect(client);
    for description in [strange.clone(), v1::LayerDescription { bitrates: vec![], ..strange }] {
        let reply = v1::DescribeLayersReply { layers: vec![description] };
        world.node.described(world.now, &elsewhere.endpoint, &reply);
        world.node.described(world.now, "http://nobody", &reply);
        world.pass(seconds(1));
    }
    let bad = vec!["x y".to_owned(); 10_000];
    let many = v1::DescribeLayersRequest { track_ids: bad.clone(), wanted_track_ids: bad };
    assert!(world.node.describe_layers(world.now, &many).layers.is_empty());
}
