//! Real sockets: UDP, TCP and TLS, by which clients reach a peer, and which strangers can't wear out.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use kaigi_turn_server::{core::Deframer, listeners::Way};
use rtc_stun::{
    attributes::ATTR_REALM,
    message::{
        BINDING_REQUEST, METHOD_ALLOCATE, METHOD_CHANNEL_BIND, METHOD_REFRESH, Message, TransactionId,
    },
    textattrs::TextAttribute,
};
use support::{
    Settings, Stage, channel, lifetime, outcome, peer,
    running::{DEADLINE, Running, Wire, client},
    udp,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn a_peer_is_reached_by_udp_tcp_and_tls() {
    let running = Running::start(&[]).await;
    let stage = Stage::new(&Settings::default());
    let to = running.peer.local_addr().unwrap().to_string();
    for way in [Way::Udp, Way::Tcp, Way::Tls] {
        let (mut wire, mut aki) = (running.connect(way).await, client("aki"));
        assert_eq!(outcome(&wire.ask(&mut aki, &stage, METHOD_ALLOCATE, vec![udp()]).await), Err(438));
        assert_eq!(outcome(&wire.ask(&mut aki, &stage, METHOD_ALLOCATE, vec![udp()]).await), Ok(()), "{way}");
        let bound = wire.ask(&mut aki, &stage, METHOD_CHANNEL_BIND, vec![channel(0x4000), peer(&to)]).await;
        assert_eq!(outcome(&bound), Ok(()));
        let refused =
            wire.ask(&mut aki, &stage, METHOD_CHANNEL_BIND, vec![channel(0x4001), peer("127.0.0.1:1")]).await;
        assert_eq!(outcome(&refused), Err(403));
        wire.say(&[0x40, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0]).await;
        let mut buffer = [0; 100];
        let (length, relayed) =
            timeout(DEADLINE, running.peer.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..length], b"hello");
        running.peer.send_to(b"hi", relayed).await.unwrap();
        assert_eq!(wire.hear().await[..6], [0x40, 0, 0, 2, b'h', b'i']);
        let ended = wire.ask(&mut aki, &stage, METHOD_REFRESH, vec![lifetime(0)]).await;
        assert_eq!(outcome(&ended), Ok(()));
    }
    running.end().await;
}

#[tokio::test]
async fn strangers_are_cut_off_and_others_go_on() {
    let running = Running::start(&[]).await;
    let (mut by_udp, mut by_tls) = (running.connect(Way::Udp).await, running.connect(Way::Tls).await);
    // A frame that is too long, no frame at all, and HTTP.
    for bytes in [&[0, 1, 0xff, 0xff, 0x21, 0x12, 0xa4, 0x42][..], &[0xff; 64], b"GET / HTTP/1.1\r\n\r\n"] {
        for way in [Way::Tcp, Way::Tls] {
            let mut wire = running.connect(way).await;
            wire.say(bytes).await;
            assert!(wire.is_closed().await, "{way}: {bytes:?}");
        }
    }
    // No TLS on the port that is for it.
    let mut plain = Wire::Stream(
        Box::new(TcpStream::connect(running.place(Way::Tls)).await.unwrap()),
        Deframer::default(),
    );
    plain.say(b"\x00\x01\x00\x00 and what is no TLS").await;
    assert!(plain.is_closed().await);
    for length in [0, 1, 19, 1472, 4097, 9000] {
        by_udp.say(&vec![0x21; length]).await;
    }
    by_udp.is_served().await;
    by_tls.is_served().await;
    // Who is in the midst of a message keeps nobody waiting.
    let mut half = running.connect(Way::Tcp).await;
    half.say(&[0, 1, 0, 8]).await;
    running.connect(Way::Tcp).await.is_served().await;
    running.end().await;
}

#[tokio::test]
async fn there_are_so_many_connections_and_no_more() {
    let running = Running::start(&["--max-connections", "2"]).await;
    let (mut first, mut second) = (running.connect(Way::Tcp).await, running.connect(Way::Tls).await);
    first.is_served().await;
    second.is_served().await;
    assert!(running.connect(Way::Tcp).await.is_closed().await);
    drop(first);
    let again = async {
        loop {
            let mut third = TcpStream::connect(running.place(Way::Tcp)).await.unwrap();
            let mut request = Message::new();
            request.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
            let sent = third.write_all(&request.raw).await;
            if sent.is_ok() && third.read(&mut [0; 100]).await.is_ok_and(|length| length > 0) {
                break;
            }
        }
    };
    timeout(DEADLINE, again).await.unwrap();
    running.end().await;
}

#[tokio::test]
async fn whose_allocations_have_ended_is_served_to_the_end_and_nobody_new() {
    let running = Running::start(&[]).await;
    let stage = Stage::new(&Settings::default());
    let (mut wire, mut aki) = (running.connect(Way::Udp).await, client("aki"));
    wire.ask(&mut aki, &stage, METHOD_ALLOCATE, vec![udp()]).await;
    wire.ask(&mut aki, &stage, METHOD_ALLOCATE, vec![udp()]).await;
    running.shutdown.drain();
    let refused = async {
        loop {
            let (mut wire, mut ben) = (running.connect(Way::Udp).await, client("ben"));
            wire.ask(&mut ben, &stage, METHOD_ALLOCATE, vec![udp()]).await;
            let answer = wire.ask(&mut ben, &stage, METHOD_ALLOCATE, vec![udp()]).await;
            if outcome(&answer) == Err(508) {
                assert!(TextAttribute::get_from_as(&answer, ATTR_REALM).is_err());
                break;
            }
        }
    };
    timeout(DEADLINE, refused).await.unwrap();
    assert_eq!(outcome(&wire.ask(&mut aki, &stage, METHOD_REFRESH, vec![]).await), Ok(()));
    running.end().await;
}
