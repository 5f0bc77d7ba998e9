//! Which layers publishers are told that somebody wants.

use kaigi_access_node::sdp::Kind;
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, LayerWish, access_event::Event},
};

use crate::{stage::*, support::world::*};

impl Stage {
    /// Sends what it was told that somebody wants, and nothing else, as the project's own SDK does.
    fn obey(&mut self) -> Vec<[bool; 3]> {
        let mut told = Vec::new();
        self.world.events.retain(|(_, _, event)| {
            let Event::WantedLayers(layers) = event else { return true };
            assert_eq!(layers.session_id, "publication0");
            told.push(RIDS.map(|rid| {
                let id = format!("transport0-1:{rid}");
                layers.layers.iter().find(|layer| layer.track_id == id).unwrap().wanted
            }));
            false
        });
        if let Some(wanted) = told.last() {
            for (layer, wants_key) in self.wants_key.iter_mut().enumerate() {
                *wants_key |= wanted[layer] && !self.live[layer];
            }
            self.live = *wanted;
        }
        told
    }

    fn pause(&mut self, client: usize, active: bool) {
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        self.world.node.set_active(self.world.now, &transport, &session, Kind::Video, active).unwrap();
        self.world.settle();
    }

    /// How long it takes, in frames, until that layer is shown.
    fn frames_until(&mut self, client: usize, layer: usize) -> usize {
        for frame in 0.. {
            assert!(frame < 250, "it never comes");
            self.run(FRAME);
            self.obey();
            if self.current.get(&client) == Some(&layer) {
                return frame;
            }
        }
        unreachable!()
    }
}

#[test]
fn what_nobody_asks_for_the_publisher_need_not_send() {
    let mut stage = Stage::new();
    stage.run(seconds(4));
    assert_eq!(stage.obey(), [[true; 3]; 0]);
    stage.run(seconds(3));
    assert_eq!(stage.obey(), [[true, false, false]], "the smallest is there for whoever comes");
    let client = stage.subscriber(20e6, Some(wish((640, 360))));
    assert_eq!(stage.obey(), [[true, true, false]], "at once");
    stage.run(seconds(4));
    assert_eq!(stage.shown(client).last(), Some(&1));
    stage.wants(client, LayerWish::default());
    assert_eq!(stage.obey(), [[true; 3]]);
    assert!(stage.frames_until(client, 2) < 50, "two seconds");
    stage.pause(client, false);
    stage.run(seconds(4));
    assert_eq!(stage.obey(), [[true; 3]; 0], "it may look again");
    stage.run(seconds(5));
    assert_eq!(stage.obey(), [[true, false, false]], "what is paused is not used");
    stage.pause(client, true);
    stage.run(FRAME * 2);
    assert_eq!(stage.obey(), [[true; 3]]);
    stage.frames_until(client, 2);
    stage.world.node.close_transport(stage.world.now, &TransportId::new(World::transport(client)).unwrap());
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, false, false]]);
}

#[test]
fn a_layer_that_never_came_is_taken_for_the_largest() {
    let mut stage = Stage::new();
    stage.live = [true, true, false];
    stage.run(seconds(8));
    assert_eq!(stage.obey(), [[true, false, false]]);
    let client = stage.subscriber(20e6, Some(wish((640, 360))));
    assert_eq!(stage.obey(), [[true; 3]], "nobody knows what its size is");
    stage.frames_until(client, 1);
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, true, false]], "now it is known");
}

#[test]
fn a_narrow_way_switches_nothing_off_that_is_asked_for() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(400_000.0, None);
    stage.run(seconds(20));
    assert_eq!(stage.obey(), [[true; 3]; 0], "the largest is there when there is room for it");
    assert_ne!(stage.current[&client], 2);
}

#[test]
fn what_another_node_is_to_be_sent_is_wanted() {
    let mut stage = Stage::new();
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, false, false]]);
    let id = |layer: usize| format!("transport0-1:{}", RIDS[layer]);
    let question = v1::DescribeLayersRequest {
        track_ids: (0..3).map(id).collect(),
        wanted_track_ids: vec![id(1), id(0)],
    };
    let reply = stage.world.node.describe_layers(stage.world.now, &question);
    assert!(reply.layers.iter().all(|layer| layer.resolution.is_some()), "as they were");
    stage.world.settle();
    assert_eq!(stage.obey(), [[true, true, false]]);
    stage.run(seconds(10));
    assert_eq!(stage.obey(), [[true, false, false]], "it does not ask any more");
}
