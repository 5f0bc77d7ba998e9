//! Data of publications between clients of one node and of two, on virtual time.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{
    keys::DataFlowKey,
    node::{ConsumerId, DataCall, Limits, NodeError, request},
    sctp::Message,
};
use kaigi_proto::{
    ids::{SessionId, StreamId, TransportId},
    v1::{self, access_event::Event},
};
use rtc_datachannel::message::message_channel_open::ChannelType;
use support::{data::chance, world::*, *};

const STREAM: &str = "publication0";

fn roomy(worker: &str, seed: u8) -> World {
    World::with_limits(worker, "127.0.0.1:7000", seed, Limits { transports: 100, sessions: 8, links: 8 })
}

fn data_source(worker: &str) -> v1::DataSource {
    v1::DataSource {
        stream_id: STREAM.into(),
        worker_id: worker.into(),
        endpoint: "http://127.0.0.1:1".into(),
    }
}

impl World {
    fn publish_data(
        &mut self,
        client: usize,
        session: &str,
        tracks: Vec<v1::PublicationTrack>,
    ) -> Result<(), NodeError> {
        let request = v1::OpenPublicationRequest {
            agent_id: AGENT.into(),
            room_id: "room".into(),
            epoch: 1,
            participant_id: format!("participant{client}"),
            transport_id: Self::transport(client),
            session_id: session.into(),
            tracks,
            data: true,
            ..v1::OpenPublicationRequest::default()
        };
        self.open_data(request)
    }

    fn open_data(&mut self, request: v1::OpenPublicationRequest) -> Result<(), NodeError> {
        let (opened, tracks) = request::publication(request)?;
        self.node.open_publication(self.now, &opened, tracks)
    }

    /// Publishes what comes on channels of any label.
    fn publish_all_data(&mut self, client: usize) -> Result<(), NodeError> {
        self.open_data(v1::OpenPublicationRequest {
            agent_id: AGENT.into(),
            room_id: "room".into(),
            epoch: 1,
            participant_id: format!("participant{client}"),
            transport_id: Self::transport(client),
            session_id: "publication0".into(),
            data: true,
            any_label: true,
            ..v1::OpenPublicationRequest::default()
        })
    }

    fn subscribe_data(
        &mut self,
        client: usize,
        session: &str,
        from: v1::DataSource,
    ) -> Result<(), NodeError> {
        let request = v1::OpenSubscriptionRequest {
            agent_id: AGENT.into(),
            room_id: "room".into(),
            epoch: 1,
            participant_id: format!("participant{client}"),
            transport_id: Self::transport(client),
            session_id: session.into(),
            data: Some(from),
            ..Default::default()
        };
        let (opened, tracks) = request::subscription(request)?;
        self.node.open_subscription(self.now, &opened, tracks)
    }

    /// A client that is connected, with nothing but data channels.
    fn add_peer(&mut self, open: impl FnOnce(&mut Self, usize)) -> usize {
        let client = self.client();
        self.clients[client].1.add("application", Way::Inactive);
        open(self, client);
        self.negotiate(client);
        self.connect(client);
        self.clients[client].1.begin_data(self.now);
        self.exchange(client);
        client
    }

    fn add_sender(&mut self) -> usize {
        self.add_peer(|world, client| {
            world.publish_data(client, &format!("publication{client}"), vec![]).unwrap()
        })
    }

    fn add_receiver_of(&mut self, worker: &str) -> usize {
        self.add_peer(|world, client| {
            world.subscribe_data(client, &format!("subscription{client}"), data_source(worker)).unwrap();
        })
    }

    fn add_receiver(&mut self) -> usize {
        self.add_receiver_of("access-1")
    }

    /// Carries what a client has to say, and what comes of it.
    fn exchange(&mut self, client: usize) {
        self.flush_data(client);
        self.settle();
    }

    fn channel(&mut self, client: usize, label: &str, kind: ChannelType, parameter: u32) -> u16 {
        let now = self.now;
        let id = self.clients[client].1.data.as_mut().unwrap().open(now, label, kind, parameter);
        self.exchange(client);
        id
    }

    fn reliable(&mut self, client: usize, label: &str) -> u16 {
        self.channel(client, label, ChannelType::Reliable, 0)
    }

    fn say(&mut self, client: usize, channel: u16, payload: &[u8]) {
        let now = self.now;
        self.clients[client].1.data.as_mut().unwrap().send(now, channel, payload, false);
        self.exchange(client);
    }

    fn heard(&mut self, client: usize) -> Vec<Vec<u8>> {
        self.clients[client].1.data.as_mut().unwrap().take()
    }

    fn closed(&self, client: usize) -> &[u16] {
        &self.clients[client].1.data.as_ref().unwrap().closed
    }

    fn failures(&self) -> Vec<(String, String)> {
        let failed = self.events.iter().filter_map(|(_, _, event)| match event {
            Event::SessionFailed(failed) => Some((failed.session_id.clone(), failed.reason.clone())),
            _ => None,
        });
        failed.collect()
    }

    fn close_session(&mut self, client: usize, session: &str) {
        let transport = TransportId::new(Self::transport(client)).unwrap();
        self.node.close_session(&transport, &SessionId::new(session).unwrap());
        self.settle();
    }

    fn data_calls(&mut self) -> Vec<DataCall> {
        std::mem::take(&mut self.node.output().data)
    }

    fn asked(&mut self) -> Option<DataFlowKey> {
        self.data_calls().into_iter().find_map(|call| match call {
            DataCall::Subscribe { flow, stream, .. } => {
                assert_eq!(stream.as_str(), STREAM);
                Some(flow)
            }
            _ => None,
        })
    }
}

#[test]
fn what_is_sent_reaches_every_subscriber_as_it_was_sent() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    let channel = world.reliable(sender, "publication0");
    let receivers: Vec<_> = (0..50).map(|_| world.add_receiver()).collect();
    for receiver in &receivers {
        world.reliable(*receiver, &format!("subscription{receiver}"));
    }
    let now = world.now;
    let data = world.clients[sender].1.data.as_mut().unwrap();
    for (payload, text) in [(&b"hello"[..], true), (b"\x00\xff", false), (b"", true), (b"", false)] {
        data.send(now, channel, payload, text);
    }
    data.send(now, channel, &[9; 65_536], false);
    world.exchange(sender);
    for receiver in receivers {
        let data = world.clients[receiver].1.data.as_mut().unwrap();
        let received: Vec<_> = data
            .received
            .drain(..)
            .map(|(_, payload, text)| (payload.len(), payload.first().copied(), text))
            .collect();
        let expected = [
            (5, Some(b'h'), true),
            (2, Some(0), false),
            (0, None, true),
            (0, None, false),
            (65_536, Some(9), false),
        ];
        assert_eq!(received, expected, "receiver {receiver}");
    }
    let counters = *world.node.counters();
    assert_eq!((counters.data_messages_in, counters.data_bytes_in), (5, 65_543));
    assert_eq!((counters.data_messages_out, counters.data_bytes_out), (250, 50 * 65_543));
    assert_eq!((counters.data_lost, counters.data_slow_receivers), (0, 0));
}

#[test]
fn a_session_is_established_once_its_channel_is_open() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    assert!(world.established().is_empty());
    world.reliable(sender, "publication0");
    assert_eq!(world.established(), ["publication0"]);
    let receiver = world.add_receiver();
    world.reliable(receiver, "subscription1");
    assert_eq!(world.established(), ["publication0", "subscription1"]);
    // A second channel establishes nothing anew.
    world.reliable(receiver, "subscription1");
    assert_eq!(world.established().len(), 2);
}

#[test]
fn a_session_with_media_waits_for_both() {
    for application_first in [true, false] {
        let mut world = roomy("access-1", 7);
        let client = world.client();
        let peer = &mut world.clients[client].1;
        if application_first {
            peer.add("application", Way::Inactive);
        }
        let mid = peer.add("audio", Way::Send);
        if !application_first {
            peer.add("application", Way::Inactive);
        }
        let track = v1::PublicationTrack {
            track_id: format!("transport0-{mid}"),
            kind: v1::MediaKind::Audio.into(),
            mid,
            accepted_formats: vec![format("opus")],
        };
        world.publish_data(client, "publication0", vec![track]).unwrap();
        world.negotiate(client);
        world.connect(client);
        assert!(world.established().is_empty());
        world.clients[client].1.begin_data(world.now);
        world.exchange(client);
        world.reliable(client, "publication0");
        assert_eq!(world.established(), ["publication0"]);
        let directions = &world.clients[client].1.answer.directions;
        let expected = if application_first { ["", "recvonly"] } else { ["recvonly", ""] };
        assert_eq!(*directions, expected);
        let text = &world.clients[client].1.answer.text;
        assert!(text.contains("a=group:BUNDLE 0 1\r\n") && text.contains("a=sctp-port:5000\r\n"));
    }
}

#[test]
fn data_may_be_added_to_a_transport_with_media_and_before_there_is_a_session() {
    let mut world = World::conference();
    world.clients[0].1.add("application", Way::Inactive);
    world.negotiate(0);
    world.clients[0].1.begin_data(world.now);
    world.exchange(0);
    assert!(!world.clients[0].1.data.as_ref().unwrap().association.is_handshaking());
    // Without another offer.
    world.publish_data(0, "data", vec![]).unwrap();
    let channel = world.reliable(0, "data");
    assert_eq!(world.established().last().unwrap(), "data");
    world.say(0, channel, b"for nobody");
    world.media(0, 1, &vp8(true, 1), 3000);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    assert_eq!(world.clients[1].1.take_rtp(ssrc).len(), 1, "media go on");
}

#[test]
fn a_channel_may_be_faster_than_its_session() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    world.reliable(sender, "publication0");
    let receiver = world.add_receiver();
    world.reliable(receiver, "subscription1");
    let early = world.add_peer(|world, client| world.publish_data(client, "other", vec![]).unwrap());
    let channel = world.reliable(early, "publication9");
    world.say(early, channel, b"early");
    world
        .subscribe_data(
            receiver,
            "late",
            v1::DataSource { stream_id: "publication9".into(), ..data_source("access-1") },
        )
        .unwrap();
    world.reliable(receiver, "late");
    world.pass(Duration::from_secs(5));
    world.publish_data(early, "publication9", vec![]).unwrap();
    world.settle();
    world.say(early, channel, b"in time");
    assert_eq!(world.heard(receiver), [&b"early"[..], b"in time"]);
    // One that stays nobody's is closed.
    let nobody = world.reliable(early, "nobody");
    let odd = world.reliable(early, "no session's id, at all");
    world.pass(Duration::from_secs(9));
    assert_eq!(world.closed(early), [odd]);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.closed(early), [odd, nobody]);
}

#[test]
fn closing_a_session_closes_its_channels_and_those_of_its_subscribers() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    let channel = world.reliable(sender, "publication0");
    let receivers = [world.add_receiver(), world.add_receiver()];
    let channels = receivers.map(|receiver| world.reliable(receiver, &format!("subscription{receiver}")));
    world.close_session(receivers[0], "subscription1");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.closed(receivers[0]), [channels[0]]);
    world.say(sender, channel, b"for the other");
    assert_eq!((world.heard(receivers[0]).len(), world.heard(receivers[1]).len()), (0, 1));
    world.close_session(sender, "publication0");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.closed(sender), [channel]);
    assert_eq!(world.closed(receivers[1]), [channels[1]]);
}

#[test]
fn a_slow_receiver_is_ended_and_holds_up_nobody() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    let channel = world.reliable(sender, "publication0");
    let (fast, slow, lossy) = (world.add_receiver(), world.add_receiver(), world.add_receiver());
    world.reliable(fast, "subscription1");
    world.reliable(slow, "subscription2");
    world.channel(lossy, "subscription3", ChannelType::PartialReliableRexmit, 2);
    for deaf in [slow, lossy] {
        world.clients[deaf].1.data.as_mut().unwrap().is_deaf = true;
    }
    for number in 0..200u8 {
        world.say(sender, channel, &[number; 40_000]);
        world.pass(Duration::from_millis(20));
    }
    let heard: Vec<_> = world.heard(fast).iter().map(|payload| payload[0]).collect();
    assert_eq!(heard, (0..200).collect::<Vec<u8>>());
    assert_eq!(world.failures(), [("subscription2".to_owned(), "Receiver is too slow".to_owned())]);
    let counters = world.node.counters();
    assert_eq!(counters.data_slow_receivers, 1);
    assert!(counters.data_lost > 50, "{}", counters.data_lost);
}

#[test]
fn data_get_through_loss_in_order() {
    for seed in 1..=3 {
        let mut world = roomy("access-1", 7);
        let sender = world.add_sender();
        let channel = world.reliable(sender, "publication0");
        let receiver = world.add_receiver();
        world.reliable(receiver, "subscription1");
        world.loses = Box::new(chance(seed, 10));
        for number in 0..100u8 {
            world.say(sender, channel, &vec![number; 1 + usize::from(number) * 97]);
            world.pass(Duration::from_millis(10));
        }
        for _ in 0..12 {
            world.pass(Duration::from_secs(10));
            for client in [sender, receiver] {
                let check = world.clients[client].1.check();
                world.send(client, &check);
            }
        }
        let heard: Vec<_> = world.heard(receiver).iter().map(|payload| payload[0]).collect();
        assert_eq!(heard, (0..100).collect::<Vec<u8>>(), "seed {seed}");
    }
}

#[test]
fn what_a_subscriber_says_is_for_nobody() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    world.reliable(sender, "publication0");
    let receivers = [world.add_receiver(), world.add_receiver()];
    let channels = receivers.map(|receiver| world.reliable(receiver, &format!("subscription{receiver}")));
    world.say(receivers[0], channels[0], b"hello?");
    assert!(world.heard(receivers[1]).is_empty() && world.heard(sender).is_empty());
    assert_eq!(world.node.counters().data_messages_in, 0);
}

#[test]
fn data_go_from_node_to_node_once_for_all_subscribers_there() {
    let (mut here, mut there) = (roomy("access-1", 7), roomy("access-2", 8));
    let sender = here.add_sender();
    let channel = here.reliable(sender, "publication0");
    let stream = StreamId::new(STREAM).unwrap();
    let receivers = [there.add_receiver_of("access-1"), there.add_receiver_of("access-1")];
    for receiver in receivers {
        there.reliable(receiver, &format!("subscription{receiver}"));
    }
    let flow = there.asked().unwrap();
    assert!(there.asked().is_none(), "once");
    let consumer = ConsumerId(1);
    here.node.open_data_consumer(consumer, &stream).unwrap();
    here.say(sender, channel, b"over there");
    let carried: Vec<Message> = here
        .data_calls()
        .into_iter()
        .map(|call| match call {
            DataCall::Message { consumer: to, message, .. } if to == consumer => message,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(there.node.data_arrived(there.now, flow, &carried));
    there.settle();
    for receiver in receivers {
        assert_eq!(there.heard(receiver), [b"over there"]);
    }
    // It breaks: asked for again after a pause, longer each time.
    for pause in [200, 400, 800] {
        there.node.data_ended(there.now, flow, Err(tonic::Status::unavailable("gone")));
        there.pass(Duration::from_millis(pause - 10));
        assert!(there.asked().is_none());
        there.pass(Duration::from_millis(20));
        assert_eq!(there.asked(), Some(flow));
    }
    here.close_session(sender, "publication0");
    assert!(matches!(here.data_calls()[..], [DataCall::End { consumer: to }] if to == consumer));
    assert_eq!(here.node.open_data_consumer(consumer, &stream), Err(NodeError::UnknownStream));
    there.node.data_ended(there.now, flow, Err(tonic::Status::not_found("stream unknown")));
    there.settle();
    there.pass(Duration::from_secs(10));
    assert!(there.asked().is_none());
    for receiver in receivers {
        assert_eq!(there.closed(receiver).len(), 1);
    }
    assert!(!there.node.data_arrived(there.now, flow, &[]));
}

#[test]
fn a_node_without_subscribers_wants_no_data() {
    let mut there = roomy("access-2", 8);
    let receivers = [there.add_receiver_of("access-1"), there.add_receiver_of("access-1")];
    let flow = there.asked().unwrap();
    there.close_session(receivers[0], "subscription0");
    assert!(there.data_calls().is_empty());
    let transport = TransportId::new("transport1").unwrap();
    there.node.close_transport(there.now, &transport);
    assert!(matches!(there.data_calls()[..], [DataCall::Unsubscribe { flow: of }] if of == flow));
}

#[test]
fn a_turn_of_data_is_bounded() {
    let mut world = roomy("access-1", 7);
    let sender = world.add_sender();
    world.reliable(sender, "publication0");
    let receivers: Vec<_> = (0..20).map(|_| world.add_receiver()).collect();
    for receiver in &receivers {
        world.reliable(*receiver, &format!("subscription{receiver}"));
    }
    // Congestion windows open.
    let channel = 0;
    for _ in 0..20 {
        world.say(sender, channel, &[1; 60_000]);
    }
    world.node.output().datagrams.clear();
    let now = world.now;
    world.clients[sender].1.data.as_mut().unwrap().send(now, channel, &[2; 60_000], false);
    world.clients[sender].1.flush_data(now);
    let packets = std::mem::take(&mut world.clients[sender].1.outgoing);
    let address = world.clients[sender].0;
    let path = kaigi_access_node::transport::Path {
        peer: kaigi_access_node::transport::Peer { address, tcp: None },
        local: None,
    };
    for packet in packets {
        world.node.handle_datagram(now, path, &packet);
    }
    let mut turns = 0;
    while let Some(at) = world.node.data_due() {
        world.node.output().datagrams.clear();
        world.now = world.now.max(at);
        world.node.handle_timeout(world.now);
        assert!(world.node.output().datagrams.len() <= 256);
        turns += 1;
    }
    assert!(turns > 2, "20 receivers of 52 datagrams each take {turns} turns");
}

#[test]
fn channels_of_any_label_are_answered_by_whoever_exchanges_data_with_their_publisher() {
    let mut world = roomy("access-1", 7);
    let peer = world.add_peer(|world, client| world.publish_all_data(client).unwrap());
    let stream = StreamId::new(STREAM).unwrap();
    let established = |(_, _, event): &(String, String, Event)| matches!(event, Event::SessionEstablished(_));
    assert!(world.events.iter().any(established), "it needs no channel");
    let portal = ConsumerId(5);
    let unknown = StreamId::new("other").unwrap();
    assert_eq!(world.node.open_data_exchange(portal, &unknown), Err(NodeError::UnknownStream));
    world.node.open_data_exchange(portal, &stream).unwrap();
    let told = |world: &mut World| -> Vec<usize> {
        let open = |call| match call {
            DataCall::Channels { consumer, open } if consumer == portal => Some(open),
            _ => None,
        };
        world.data_calls().into_iter().filter_map(open).collect()
    };
    assert_eq!(told(&mut world), [0]);
    let chat = world.reliable(peer, "chat");
    let other = world.reliable(peer, "what is no id: \u{e9}");
    assert_eq!(told(&mut world), [1, 2]);
    world.say(peer, chat, b"ping 1");
    let calls = world.data_calls();
    let [DataCall::Message { consumer, message, channel: Some(from) }] = &calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!((*consumer, &message.payload[..]), (portal, &b"ping 1"[..]));
    // Back on the channel that it came on; to all, if none is named.
    let answer = |text: &'static [u8]| Message { payload: text.into(), text: true };
    assert!(world.node.send_to_publisher(world.now, portal, Some(*from), &answer(b"pong 1")));
    assert!(world.node.send_to_publisher(world.now, portal, None, &answer(b"all")));
    world.settle();
    let mut heard = world.heard(peer);
    heard.sort();
    assert_eq!(heard, [&b"all"[..], b"all", b"pong 1"]);
    let now = world.now;
    world.clients[peer].1.data.as_mut().unwrap().close(now, other);
    world.exchange(peer);
    assert_eq!(told(&mut world), [1]);
    world.close_session(peer, STREAM);
    assert!(
        world
            .data_calls()
            .iter()
            .any(|call| matches!(call, DataCall::End { consumer } if *consumer == portal))
    );
    assert!(!world.node.send_to_publisher(world.now, portal, None, &answer(b"late")));
}
