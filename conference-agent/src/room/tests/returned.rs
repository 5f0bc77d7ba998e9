//! What a participant publishes and takes back by one offer.

use kaigi_proto::{
    ids::{SessionId, SubscriptionId, TransportId},
    v1,
};
use serde_json::json;

use super::world::{Published, World, opus, vp8};
use crate::room::{AccessChange, CallRequest, Command, Kind, Negotiated, Refusal, Reply, Subscribe};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn subscribe(
    world: &mut World,
    name: &str,
    from: &str,
    transport: Option<&TransportId>,
) -> Result<SubscriptionId, Refusal> {
    let Command::Subscribe(mut subscribe) = World::subscribe_command(name, from, &BOTH) else { panic!() };
    for (i, track) in subscribe.tracks.iter_mut().enumerate() {
        track.mid = format!("returned-{i}");
    }
    let transport = transport.cloned();
    match world.run(Command::Subscribe(Subscribe { transport, ..subscribe }))? {
        Reply::Session { session, .. } => Ok(SubscriptionId::new(session.as_str()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn opened(world: &mut World) -> v1::OpenSubscriptionRequest {
    let mut calls = world.made().into_iter().filter_map(|call| match call {
        CallRequest::OpenSubscription(open) => Some(open),
        _ => None,
    });
    calls.next().expect("nothing was opened")
}

fn sources(world: &mut World) -> Vec<String> {
    let track = |call| match call {
        CallRequest::SetSource(set) => set.source.map(|source| source.track_id),
        _ => None,
    };
    world.made().into_iter().filter_map(track).collect()
}

fn establish(world: &mut World, published: &Published, id: &SubscriptionId) {
    let tracks = BOTH.into_iter().enumerate().map(|(i, kind)| Negotiated {
        track: None,
        mid: format!("returned-{i}"),
        kind,
        format: if kind == Kind::Audio { opus() } else { vp8() },
    });
    let session = SessionId::new(id.as_str()).unwrap();
    world.access_event(&published.transport, AccessChange::Established { session, tracks: tracks.collect() });
}

#[test]
fn a_stream_is_had_back_by_the_offer_that_brings_it() {
    for publication_first in [true, false] {
        let mut world = World::new(json!({}));
        world.presenters(&["ann"]);
        let published = world.announce("ann", &BOTH).unwrap();
        world.made();
        let id = subscribe(&mut world, "ann", published.stream.as_str(), Some(&published.transport)).unwrap();
        let open = opened(&mut world);
        assert_eq!(open.transport_id, published.transport.as_str());
        for track in &open.tracks {
            assert!(track.source.is_none() && track.layers.is_empty(), "nothing flows yet");
            assert!(
                track.client_order && track.formats.len() > 1,
                "what the room takes, as the client likes"
            );
        }
        if publication_first {
            world.establish(&published, &BOTH);
            establish(&mut world, &published, &id);
        } else {
            establish(&mut world, &published, &id);
            world.establish(&published, &BOTH);
        }
        let mut taken = sources(&mut world);
        taken.sort();
        assert_eq!(taken, [0, 1].map(|i| format!("{}-{i}", published.transport)));
    }
}

#[test]
fn nobody_elses_stream_is_subscribed_before_it_is_there() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &BOTH).unwrap();
    let stream = published.stream.as_str();
    let refused = Err(Refusal::NoSuchSource(Kind::Audio));
    assert_eq!(subscribe(&mut world, "ann", stream, None), refused, "on another transport");
    assert_eq!(subscribe(&mut world, "bob", stream, None), refused);
}

#[test]
fn what_is_had_back_ends_with_the_stream() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &BOTH).unwrap();
    let id = subscribe(&mut world, "ann", published.stream.as_str(), Some(&published.transport)).unwrap();
    let session = SessionId::new(published.stream.as_str()).unwrap();
    world.access_event(&published.transport, AccessChange::SessionFailed { session, reason: "no".into() });
    assert!(world.room.state.subscriptions.get(&id).is_none());
}
