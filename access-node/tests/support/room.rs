//! A room that selects its audio, with an agent that puts whom it is told to into the slots.

use std::time::Duration;

use kaigi_access_node::node::{Limits, NodeError, request};
use kaigi_media::rtp::RtpHeader;
use kaigi_proto::{
    ids::RoomId,
    v1::{self, access_event::Event},
};

use super::{
    Way,
    world::{World, format, source},
};

/// Time from one packet of sound to the next.
pub const FRAME: Duration = Duration::from_millis(20);
/// As the extension has it: nothing is heard.
pub const SILENT: u8 = 127;

/// The room. Everybody publishes sound on line 0 and gets the slots on the lines after that.
pub struct Room {
    pub world: World,
    revision: u64,
}

impl Room {
    /// A room of so many who publish, each of whom subscribes so many slots; nobody is in them.
    pub fn new(people: usize, slots: usize) -> Self {
        Self::at("access-1", "127.0.0.1:7000", people, slots)
    }

    pub fn at(worker: &str, link: &str, people: usize, slots: usize) -> Self {
        let limits = Limits { transports: people + 1, sessions: 8, links: 8 };
        let mut world = World::with_limits(worker, link, 7, limits);
        world.selection = Some(selection(1, &[None, None, None]));
        let mut room = Self { world, revision: 1 };
        for _ in 0..people {
            room.enter(slots);
        }
        room
    }

    /// One more.
    pub fn enter(&mut self, slots: usize) -> usize {
        let world = &mut self.world;
        let client = world.client();
        let mid = world.clients[client].1.add("audio", Way::Send);
        world.publish(client, &format!("publication{client}"), &[(&mid, v1::MediaKind::Audio)]).unwrap();
        for slot in 0..slots {
            let mid = world.clients[client].1.add("audio", Way::Receive);
            let track = v1::SubscriptionTrack {
                kind: v1::MediaKind::Audio.into(),
                mid,
                selected: Some(v1::SelectedTrack { slot: slot as u32, format: Some(format("opus")) }),
                formats: vec![format("opus")],
                ..Default::default()
            };
            world.subscribe_to(client, &format!("subscription{client}-{slot}"), vec![track]).unwrap();
        }
        world.negotiate(client);
        world.connect(client);
        world.clients[client].1.level = SILENT;
        client
    }

    /// The agent says who is in the slots.
    pub fn select(&mut self, slots: &[Option<usize>]) -> Result<(), NodeError> {
        self.revision += 1;
        let slots: Vec<_> = slots.iter().map(|slot| slot.map(published)).collect();
        self.say(self.revision, &slots)
    }

    pub fn say(
        &mut self,
        revision: u64,
        slots: &[Option<(v1::TrackSource, String)>],
    ) -> Result<(), NodeError> {
        let said = selection(revision, slots);
        self.world.selection = Some(said.clone());
        let said = request::selection(said)?;
        let (now, epoch) = (self.world.now, self.world.epoch);
        self.world.node.select_audio(now, &RoomId::new("room").unwrap(), epoch, &said)?;
        self.world.settle();
        Ok(())
    }

    /// For so long, a packet of each of these comes each 20 ms, with that level.
    pub fn speak(&mut self, time: Duration, people: &[(usize, u8)]) {
        for _ in 0..time.as_millis() / FRAME.as_millis() {
            for (client, level) in people {
                self.world.clients[*client].1.level = *level;
                self.world.media(*client, 0, format!("from {client}").as_bytes(), 960);
            }
            self.world.pass(FRAME);
        }
    }

    /// What the agent was told of who is heard: each time the names with what is immediate, medium and long.
    pub fn told(&mut self) -> Vec<Vec<(String, [u32; 3])>> {
        let told = self.world.events.extract_if(.., |(_, _, event)| matches!(event, Event::Speakers(_)));
        let levels = |level: v1::SpeakerLevel| (level.track_id, [level.immediate, level.medium, level.long]);
        told.map(|(_, _, event)| match event {
            Event::Speakers(told) => told.speakers.into_iter().map(levels).collect(),
            _ => unreachable!("only these were taken"),
        })
        .collect()
    }

    /// What came in a client's slot.
    pub fn heard(&mut self, client: usize, slot: usize) -> Vec<(RtpHeader, String)> {
        let client = &mut self.world.clients[client].1;
        let ssrc = client.answer.ssrcs[slot + 1][0];
        let packets = client.take_rtp(ssrc).into_iter();
        packets.map(|(header, p)| (header, String::from_utf8(header.payload(&p).to_vec()).unwrap())).collect()
    }
}

/// A client's publication, and who that is.
pub fn published(client: usize) -> (v1::TrackSource, String) {
    (source(&format!("transport{client}-0"), "opus"), format!("participant{client}"))
}

fn selection(revision: u64, slots: &[Option<(v1::TrackSource, String)>]) -> v1::AudioSelection {
    let slot = |slot: &Option<(v1::TrackSource, String)>| {
        let (source, owner) = slot.clone().unzip();
        v1::SelectedAudio { source, owner: owner.unwrap_or_default() }
    };
    v1::AudioSelection { revision, slots: slots.iter().map(slot).collect() }
}
