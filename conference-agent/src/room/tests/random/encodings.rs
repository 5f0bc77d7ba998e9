//! Parameters of subscriptions, their updates, and what mixers make for them.

use std::collections::BTreeSet;

use kaigi_room_config::Resolution;
use rand::{Rng, seq::IndexedRandom};

use super::Play;
use crate::room::{
    Command, Feed, Format, Kind, SubscriptionUpdate, TrackUpdate, VideoParameters, Wish,
    feeds::Demand,
    mixer::{Description, Part},
    state::Phase,
    tests::world::{MIXED, codec, h264, opus, vp8},
};

impl Play {
    /// What a publisher's client negotiates.
    pub(super) fn published(&mut self, kind: Kind) -> Format {
        let common = self.rng.random_bool(0.7);
        match kind {
            Kind::Audio if common => opus(),
            Kind::Audio => codec("pcmu"),
            Kind::Video if common => vp8(),
            Kind::Video => h264("CB"),
        }
    }

    fn parameters(&mut self) -> VideoParameters {
        let mut want = || self.rng.random_bool(0.3);
        VideoParameters {
            resolution: want().then_some(Resolution { width: 320, height: 240 }),
            framerate: want().then_some(12),
            bitrate: None,
            key_frame_interval: want().then_some(5),
        }
    }

    fn multiplier(&mut self) -> Option<String> {
        self.rng
            .random_bool(0.3)
            .then(|| ["x0.8", "x0.6", "x1.0", "x7"].choose(&mut self.rng).unwrap().to_string())
    }

    pub(super) fn wish(&mut self, kind: Kind) -> Wish {
        let format = self.rng.random_bool(0.2).then(|| match kind {
            Kind::Audio => [codec("pcmu"), codec("pcma"), opus()].choose(&mut self.rng).unwrap().clone(),
            Kind::Video => [vp8(), h264("B"), codec("vp9")].choose(&mut self.rng).unwrap().clone(),
        });
        if kind == Kind::Audio || self.rng.random_bool(0.5) {
            return Wish { format, ..Wish::default() };
        }
        Wish {
            format,
            parameters: self.parameters(),
            bitrate_multiplier: self.multiplier(),
            priority: self.rng.random_range(0..3),
        }
    }

    pub(super) fn update_subscription(&mut self) {
        let all: Vec<_> = self.world.room.state.subscriptions.keys().cloned().collect();
        let Some(subscription) = self.pick(all) else { return };
        let change = |play: &mut Self| {
            let mut from: Vec<String> = play.streams().into_iter().map(String::from).collect();
            from.extend([MIXED.to_owned(), MIXED.replace("common", "other")]);
            TrackUpdate {
                from: play.pick(from).filter(|_| play.rng.random_bool(0.5)),
                parameters: play.parameters(),
                bitrate_multiplier: play.multiplier(),
                priority: play.rng.random_bool(0.2).then(|| play.rng.random_range(0..3)),
            }
        };
        let update = SubscriptionUpdate {
            audio: self
                .rng
                .random_bool(0.4)
                .then(|| TrackUpdate { from: change(self).from, ..TrackUpdate::default() }),
            video: self.rng.random_bool(0.7).then(|| change(self)),
        };
        self.ask(Command::UpdateSubscription { by: None, subscription, update });
    }

    /// Every output that a mixer is to make has somebody who takes it, and the other way round.
    pub(super) fn check_demand(&self) {
        let room = &self.world.room;
        let demand: Demand = room.demand();
        for view in &room.state.views {
            let link = &room.mixer.parts[&Part::View(view.label.clone())];
            let described = room.describe_view(view, &demand).map(|view| Description::View(Box::new(view)));
            assert_eq!(link.wanted, described, "{} is to be made otherwise", view.label);
        }
        assert!(
            room.state.transcoders.keys().eq(demand.tracks.keys()),
            "transcoders that nobody or somebody needs"
        );
        for (of, (stream, specs)) in &demand.tracks {
            let revision = room.state.transcoders[of].revision;
            let described = room.describe_transcoder(of, stream, specs, revision).unwrap();
            let link = &room.mixer.parts[&Part::Transcoder(of.clone())];
            assert_eq!(link.wanted, Some(Description::Transcoder(Box::new(described))));
        }
    }

    /// Whoever is established is given what was negotiated; mixers have what is needed and nothing else.
    pub(super) fn check_encodings(&self) {
        let room = &self.world.room;
        assert!(room.updates.is_empty(), "updates are not done: {:?}", room.updates);
        for (id, subscription) in &room.state.subscriptions {
            let at = room.node_of(&subscription.transport).unwrap().worker;
            for track in &subscription.tracks {
                let feed = room.feed_of(subscription, track);
                assert_eq!(track.feed, feed, "{id} takes its {:?} elsewhere", track.kind);
                let told = &self.nodes[at.as_str()].feeds[&(id.to_string(), track.kind.to_wire())];
                assert_eq!(*told, feed.as_ref().map(Feed::to_wire).unwrap_or_default(), "at the access node");
                if subscription.phase == Phase::Established {
                    let (feed, negotiated) = (feed.expect("a feed"), track.negotiated.as_ref().unwrap());
                    if let Feed::Selected(_, format) = &feed {
                        assert!(format.is_within(negotiated));
                        continue;
                    }
                    let fits = feed.sources().iter().all(|source| source.format.is_within(negotiated));
                    assert!(fits && !feed.sources().is_empty(), "{feed:?} is not {negotiated:?}");
                }
            }
        }
        let demand = room.demand();
        let Some(mixer) = &room.state.mixer else { panic!("views are mixed") };
        let there = &self.nodes[mixer.worker.as_str()];
        let made: BTreeSet<String> = there.transcoders.keys().cloned().collect();
        assert_eq!(made, demand.tracks.keys().map(|of| of.id()).collect());
        for (of, (stream, specs)) in &demand.tracks {
            let revision = room.state.transcoders[of].revision;
            let described = room.describe_transcoder(of, stream, specs, revision);
            assert_eq!(there.transcoders.get(&of.id()), described.as_ref());
        }
        let links = room.mixer.parts.len();
        assert_eq!(
            links,
            room.state.views.len() + room.state.transcoders.len(),
            "something is not forgotten"
        );
    }

    /// When nobody takes anything, nothing is made.
    pub(super) fn check_empty(&self) {
        let room = &self.world.room;
        assert!(room.state.subscriptions.is_empty());
        for node in self.nodes.values() {
            assert!(node.transcoders.is_empty(), "{:?}", node.transcoders);
        }
        for view in &room.state.views {
            let view = &self.nodes[room.state.mixer.as_ref().unwrap().worker.as_str()].views[&view.label];
            assert!(view.video_outputs.is_empty() && view.audio_outputs.is_empty(), "{view:?}");
            assert!(view.minus_participants.is_empty());
        }
    }
}
