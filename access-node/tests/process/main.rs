//! The whole process: registration, gRPC with the cluster's secret, real sockets. A client publishes by UDP, another subscribes by TCP.

#![allow(clippy::unwrap_used)]

mod running;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kaigi_access_node::service::MAX_COUNTED;
use kaigi_media::link::LinkKeys;
use kaigi_proto::{
    auth::{ClusterSecret, Present},
    v1::{
        self, access_node_client::AccessNodeClient, data_link_client::DataLinkClient,
        media_link_client::MediaLinkClient, signal_transport_request::Signal,
    },
};
use kaigi_worker::Channels;
use running::*;
use support::*;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_published_by_udp_and_received_by_tcp() {
    let mut process = Process::start().await;
    assert_eq!(process.worker.purpose(), v1::Purpose::Access);
    let ready = async {
        while !process.health.is_ready() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, ready).await.expect("it gets ready");

    let (mut publisher, mut by_udp) = process.publisher().await;
    let (mut subscriber, mut by_tcp) = process.subscriber("tcp").await;

    for number in 0..20 {
        // Packets after which their frame should go on are not kept for ever if it does not.
        publisher.frame_goes_on = number > 10;
        let packet = publisher.media(0, &vp8(number == 0, number), 3000, number.into());
        by_udp.send(&packet).await;
    }
    let ssrc = subscriber.answer.ssrcs[0][0];
    by_tcp.until(&mut subscriber, |client| client.received.len() >= 20).await;
    let received = subscriber.take_rtp(ssrc);
    let numbers: Vec<_> = received.iter().map(|(header, packet)| header.payload(packet)[20]).collect();
    assert_eq!(numbers, (0..20).collect::<Vec<u8>>());

    let mut older = publication("0".into());
    (older.epoch, older.session_id) = (0, "s3".into());
    assert_eq!(process.agent.open_publication(older).await.unwrap_err().code(), Code::FailedPrecondition);
    let unknown = v1::CloseTransportRequest { transport_id: "nobody".into() };
    process.agent.close_transport(unknown).await.unwrap();
    process.stop.cancel();
    by_udp.until(&mut publisher, |client| client.is_closed).await;
    by_tcp.until(&mut subscriber, |client| client.is_closed).await;
    let ended = tokio::time::timeout(Duration::from_secs(2), process.ended).await;
    ended.expect("it ends within two seconds").unwrap().unwrap();
}

/// Of the candidates that a client was told, each once.
fn ports(client: &Client) -> BTreeSet<u16> {
    client.answer.candidates.iter().map(|c| c.split(' ').nth(5).unwrap().parse().unwrap()).collect()
}

/// A publication in another room than [`publication`]'s.
fn publication_elsewhere() -> v1::OpenPublicationRequest {
    let mut elsewhere = publication("0".into());
    elsewhere.room_id = "elsewhere".into();
    (elsewhere.transport_id, elsewhere.session_id) = ("t9".into(), "s9".into());
    elsewhere.tracks[0].track_id = "t9-0".into();
    elsewhere
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_are_divided_among_the_workers_and_calls_find_theirs() {
    let mut process = Process::start().await;
    let (mut here, mut by_udp) = process.publisher().await;
    let (mut subscriber, mut to_subscriber) = process.subscriber("udp").await;
    let (mut there, mut by_other) = process.publish(publication_elsewhere()).await;
    assert_eq!(ports(&here).len(), 1);
    assert_eq!(ports(&here), ports(&subscriber), "a room is one worker's");
    assert_ne!(ports(&here), ports(&there));

    let packet = here.media(0, &vp8(true, 1), 3000, 1);
    by_udp.send(&packet).await;
    to_subscriber.until(&mut subscriber, has_rtp).await;
    let packet = there.media(0, &vp8(true, 1), 3000, 1);
    by_other.send(&packet).await;

    let transports = ["t9", "nobody", "t1", "t2"].map(str::to_owned);
    let counted = async {
        loop {
            let request = v1::StatsRequest { transport_ids: transports.to_vec() };
            let stats = process.agent.stats(request).await.unwrap().into_inner().transports;
            let mut ids: Vec<_> = stats.iter().map(|transport| transport.transport_id.as_str()).collect();
            ids.sort_unstable();
            assert_eq!(ids, ["t1", "t2", "t9"]);
            let packets = |t: &v1::TransportStats| t.sessions[0].tracks[0].packets;
            if stats.iter().all(|transport| packets(transport) == 1) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.expect("packets on both workers are counted");

    let channels = Channels::new(ClusterSecret::new(SECRET));
    let mut link = MediaLinkClient::new(channels.to(&process.worker.endpoint).unwrap());
    let consumer = "127.0.0.1:9".parse().unwrap();
    let mut producers = BTreeSet::new();
    for (number, track) in (10..).zip(["t1-0", "t9-0"]) {
        let request = LinkKeys::random().attach_request(&format!("a{number}"), track, consumer, number);
        producers.insert(link.attach(request).await.unwrap().into_inner().producer_address);
        let request = v1::DetachRequest { attachment_id: format!("a{number}") };
        link.detach(request).await.unwrap();
    }
    assert_eq!(producers.len(), 2, "each worker sends by itself");
    let request = LinkKeys::random().attach_request("a1", "nothing", consumer, 1);
    assert_eq!(link.attach(request).await.unwrap_err().code(), Code::NotFound);

    // What belongs to a transport that is there is not taken for another room's.
    let mut wrong = publication_elsewhere();
    (wrong.transport_id, wrong.session_id) = ("t1".into(), "s10".into());
    assert_eq!(process.agent.open_publication(wrong).await.unwrap_err().code(), Code::FailedPrecondition);

    // Rooms that ended are forgotten: the first free worker is the first again.
    for transport in ["t1", "t2", "t9"] {
        let request = v1::CloseTransportRequest { transport_id: transport.into() };
        process.agent.close_transport(request).await.unwrap();
    }
    by_other.until(&mut there, |client| client.is_closed).await;
    let (again, _) = process.publish(publication_elsewhere()).await;
    assert_eq!(ports(&again), ports(&here));
    process.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_on_two_workers_is_one_by_either_family_of_addresses_and_either_protocol() {
    let families: [&[&str]; 4] = [
        &["--bind=127.0.0.1"],
        &["--bind=::1"],
        &["--bind=::", "--announce=127.0.0.1"],
        &["--bind=::", "--announce=::1"],
    ];
    for options in families {
        for protocol in ["udp", "tcp"] {
            let mut process =
                Process::start_with(&[options, &["--room-transports-per-worker=1"]].concat()).await;
            let (mut publisher, mut up) = process.publisher().await;
            let (mut subscriber, mut down) = process.subscriber(protocol).await;
            assert_ne!(ports(&publisher), ports(&subscriber), "{options:?}");
            // The subscriber's worker asks for a key frame.
            up.until(&mut publisher, |client| !client.take_rtcp().is_empty()).await;
            for number in 0..20 {
                let packet = publisher.media(0, &vp8(number == 0, number), 3000, number.into());
                up.send(&packet).await;
            }
            let came = |client: &mut Client| {
                client.received.iter().filter(|received| matches!(received, Received::Rtp(..))).count() == 20
            };
            down.until(&mut subscriber, came).await;
            process.stop.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_the_secret_are_refused_and_bad_ones_named() {
    let mut process = Process::start().await;
    let stranger =
        tonic::transport::Endpoint::from_shared(process.worker.endpoint.clone()).unwrap().connect_lazy();
    let mut stranger = AccessNodeClient::with_interceptor(stranger, Present(ClusterSecret::new("wrong")));
    let refused = stranger.events(v1::AccessEventsRequest { agent_id: "agent".into() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let offer = |sdp: &str| v1::SignalTransportRequest {
        transport_id: "t".into(),
        signal: Some(Signal::Offer(sdp.into())),
        request_id: String::new(),
    };
    for (sdp, code) in [("", Code::InvalidArgument), ("v=0\r\nm=x", Code::InvalidArgument)] {
        assert_eq!(process.agent.signal_transport(offer(sdp)).await.unwrap_err().code(), code);
    }
    let mut client = Client::new();
    client.add("audio", Way::Send);
    let unknown = process.agent.signal_transport(offer(&client.offer())).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let empty = process.agent.open_publication(v1::OpenPublicationRequest::default()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let close = v1::CloseSessionRequest { transport_id: "t".into(), session_id: "s".into() };
    process.agent.close_session(close).await.unwrap();
    for transport_ids in [vec!["no id!".to_owned()], vec!["t".to_owned(); MAX_COUNTED + 1]] {
        let refused = process.agent.stats(v1::StatsRequest { transport_ids }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_told_what_is_counted_of_its_transports() {
    let mut process = Process::start().await;
    let (mut publisher, mut by_udp) = process.publisher().await;
    let (mut subscriber, mut wire) = process.subscriber("udp").await;
    by_udp.send(&publisher.media(0, &vp8(true, 1), 3000, 0)).await;
    wire.until(&mut subscriber, has_rtp).await;
    let transport_ids = ["t2", "nobody", "t1"].map(str::to_owned).to_vec();
    let told = process.agent.stats(v1::StatsRequest { transport_ids }).await.unwrap().into_inner();
    let counted = told.transports.iter().map(|transport| {
        let track = &transport.sessions[0].tracks[0];
        (transport.transport_id.as_str(), track.packets, track.key_frames, track.flowing)
    });
    assert_eq!(counted.collect::<Vec<_>>(), [("t2", 1, 1, true), ("t1", 1, 1, true)]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let choices = &told.transports[0].sessions[0].tracks[0].choices;
    assert!(!choices.is_empty() && choices.iter().all(|choice| now.abs_diff(choice.time_ms) < 60_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_moves_from_udp_to_tcp_and_back_with_its_stream() {
    let mut process = Process::start().await;
    let (mut publisher, mut by_udp) = process.publisher().await;
    let (mut subscriber, mut wire) = process.subscriber("udp").await;
    let ssrc = subscriber.answer.ssrcs[0][0];
    let mut received = Vec::new();
    for (round, protocol) in ["tcp", "udp", "udp"].into_iter().enumerate() {
        let number = 3 * round as u8;
        let packet = publisher.media(0, &vp8(round == 0, number), 3000, 0);
        by_udp.send(&packet).await;
        wire.until(&mut subscriber, has_rtp).await;
        received.extend(subscriber.take_rtp(ssrc));

        subscriber.ice += 1;
        process.negotiate("t2", &mut subscriber).await;
        let packet = publisher.media(0, &vp8(false, number + 1), 3000, 0);
        by_udp.send(&packet).await;
        wire.until(&mut subscriber, has_rtp).await;
        received.extend(subscriber.take_rtp(ssrc));

        let mut new = Wire::open(&subscriber.answer, protocol).await;
        let check = subscriber.check();
        new.send(&check).await;
        let reply = new.receive().await;
        assert!(reply[0] < 4, "the check is answered where it came from");
        wire = new;
        let packet = publisher.media(0, &vp8(false, number + 2), 3000, 0);
        by_udp.send(&packet).await;
        wire.until(&mut subscriber, has_rtp).await;
        received.extend(subscriber.take_rtp(ssrc));
    }
    let numbers: Vec<_> = received.iter().map(|(header, packet)| header.payload(packet)[20]).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<u8>>());
    let first = received[0].0.sequence;
    let sequence: Vec<_> = received.iter().map(|(header, _)| header.sequence.wrapping_sub(first)).collect();
    assert_eq!(sequence, (0..9).collect::<Vec<u16>>(), "nothing was lost or sent twice");
    process.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_go_to_subscribers_on_the_node_and_on_another() {
    // The near ones on the publisher's worker, or on another one of its process.
    for together in ["32", "1"] {
        let together = format!("--room-transports-per-worker={together}");
        let options = ["--bind=127.0.0.1", &together];
        let (mut here, mut there) = (Process::start_with(&options).await, Process::start().await);
        let (mut sender, mut up, channel) = here.data_session("publication", None).await;
        let from = v1::DataSource {
            stream_id: "publication".into(),
            worker_id: here.worker.worker_id.clone(),
            endpoint: here.worker.endpoint.clone(),
        };
        let (mut near, mut near_wire, _) = here.data_session("near", Some(from.clone())).await;
        let (mut far, mut far_wire, _) = there.data_session("far", Some(from.clone())).await;
        let received = |client: &mut Client| !client.data.as_ref().unwrap().received.is_empty();

        // The nodes are connected once the first message is through; until then it is said again.
        let heard = async {
            loop {
                sender.data.as_mut().unwrap().send(Instant::now(), channel, b"are you there?", true);
                up.flush(&mut sender).await;
                let pause = Duration::from_millis(50);
                let waited = tokio::time::timeout(pause, far_wire.until(&mut far, received)).await;
                if waited.is_ok() {
                    return;
                }
            }
        };
        tokio::time::timeout(DEADLINE, heard).await.expect("the nodes are connected in time");
        near_wire.until(&mut near, received).await;
        for client in [&mut near, &mut far] {
            client.data.as_mut().unwrap().received.retain(|(_, payload, _)| payload != b"are you there?");
        }
        let count = 50u8;
        for number in 0..count {
            let payload = vec![number; 1 + usize::from(number) * 100];
            sender.data.as_mut().unwrap().send(Instant::now(), channel, &payload, number % 2 == 0);
            up.flush(&mut sender).await;
        }
        let expected: Vec<(Vec<u8>, bool)> =
            (0..count).map(|number| (vec![number; 1 + usize::from(number) * 100], number % 2 == 0)).collect();
        let last = |client: &mut Client| {
            let received = &client.data.as_ref().unwrap().received;
            received.iter().any(|(_, payload, _)| payload.first() == Some(&(count - 1)))
        };
        up.until(&mut sender, |client| {
            client.data.as_mut().unwrap().association.stream(channel).unwrap().buffered_amount().unwrap() == 0
        })
        .await;
        for (client, wire) in [(&mut near, &mut near_wire), (&mut far, &mut far_wire)] {
            wire.until(client, last).await;
            let received = &client.data.as_ref().unwrap().received;
            let heard: Vec<_> = received
                .iter()
                .filter(|(_, payload, _)| payload != b"are you there?")
                .map(|(_, payload, text)| (payload.clone(), *text))
                .collect();
            assert_eq!(heard, expected);
        }

        // The publication ends: so do its subscribers' channels, here and there.
        let close =
            v1::CloseSessionRequest { transport_id: "publication".into(), session_id: "publication".into() };
        here.agent.close_session(close).await.unwrap();
        let closed = |client: &mut Client| !client.data.as_ref().unwrap().closed.is_empty();
        near_wire.until(&mut near, closed).await;
        far_wire.until(&mut far, closed).await;

        let channels = Channels::new(ClusterSecret::new(SECRET));
        let mut link = DataLinkClient::new(channels.to(&here.worker.endpoint).unwrap());
        let request = v1::DataRequest { stream_id: "publication".into() };
        assert_eq!(link.subscribe(request.clone()).await.unwrap_err().code(), Code::NotFound);
        let stranger =
            tonic::transport::Endpoint::from_shared(here.worker.endpoint.clone()).unwrap().connect_lazy();
        let mut stranger = DataLinkClient::with_interceptor(stranger, Present(ClusterSecret::new("wrong")));
        assert_eq!(stranger.subscribe(request).await.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_keeps_its_clients_until_they_leave() {
    let mut node = Process::start_with(&["--bind=127.0.0.1", "--drain-timeout=600"]).await;
    let (mut publisher, mut way, channel) = node.data_session("pub", None).await;
    node.shutdown.drain();
    let source = v1::DataSource {
        stream_id: "pub".into(),
        worker_id: node.worker.worker_id.clone(),
        endpoint: node.worker.endpoint.clone(),
    };
    // Whoever is in its rooms may still come: the cluster names other nodes.
    let (mut subscriber, mut their_way, _) = node.data_session("sub", Some(source)).await;
    publisher.data.as_mut().unwrap().send(Instant::now(), channel, b"still here", true);
    way.flush(&mut publisher).await;
    their_way.until(&mut subscriber, |client| !client.data.as_ref().unwrap().received.is_empty()).await;
    assert!(!node.ended.is_finished());
    for id in ["pub", "sub"] {
        let close = v1::CloseTransportRequest { transport_id: id.into() };
        node.agent.close_transport(close).await.unwrap();
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), node.ended).await;
    ended.expect("it ends when nobody is there").unwrap().unwrap();
}
