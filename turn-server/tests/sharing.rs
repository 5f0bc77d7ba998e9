//! HTTPS and TURN by one port: who is who, what a portal gets, and what becomes of clients whom no portal takes.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use kaigi_turn_server::{core::Deframer, listeners::Way};
use support::running::{DEADLINE, Running, Wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A server that passes HTTPS on, and the one to whom.
async fn shared(more: &[&str]) -> (Running, TcpListener) {
    let portal = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = portal.local_addr().unwrap().to_string();
    (Running::start(&[&["--https-to", &to], more].concat()).await, portal)
}

/// The next connection, and the port of the client whose it is, which stands before it.
async fn passed_on(portal: &TcpListener) -> (TcpStream, u16) {
    let (mut stream, _) = timeout(DEADLINE, portal.accept()).await.unwrap().unwrap();
    let mut header = [0; 28];
    timeout(DEADLINE, stream.read_exact(&mut header)).await.unwrap().unwrap();
    assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(header[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    (stream, u16::from_be_bytes([header[24], header[25]]))
}

async fn says(stream: &mut (impl AsyncReadExt + Unpin), expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    timeout(DEADLINE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn who_speaks_http_is_with_a_portal_and_turn_is_served_beside() {
    let (running, portal) = shared(&[]).await;
    for protocols in [&[][..], &[&b"h2"[..], b"http/1.1"], &[b"http/1.1"]] {
        let mut browser = running.encrypted(protocols).await.unwrap();
        let own = browser.get_ref().0.local_addr().unwrap().port();
        browser.write_all(b"GET /").await.unwrap();
        let (mut served, client) = passed_on(&portal).await;
        assert_eq!(client, own);
        says(&mut served, b"GET /").await;
        // Both go on for as long as they want, as in a WebSocket.
        for round in 0..20_u8 {
            let many = vec![round; 20_000];
            served.write_all(&many).await.unwrap();
            says(&mut browser, &many).await;
            browser.write_all(&many).await.unwrap();
            says(&mut served, &many).await;
        }
        // When one has said all, the other does.
        served.shutdown().await.unwrap();
        assert_eq!(timeout(DEADLINE, browser.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
        browser.shutdown().await.unwrap();
        assert_eq!(timeout(DEADLINE, served.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    }
    for protocols in [&[][..], &[&b"stun.turn"[..]], &[b"stun.nat-discovery"]] {
        let stream = running.encrypted(protocols).await.unwrap();
        Wire::Stream(Box::new(stream), Deframer::default()).is_served().await;
    }
    running.connect(Way::Tcp).await.is_served().await;
    running.end().await;
}

#[tokio::test]
async fn who_speaks_neither_is_cut_off_and_so_is_http_without_tls() {
    let (running, _portal) = shared(&[]).await;
    assert!(running.encrypted(&[b"webrtc"]).await.is_err());
    for (way, bytes) in
        [(Way::Tls, &[0xff; 64][..]), (Way::Tls, b"get /"), (Way::Tcp, b"GET / HTTP/1.1\r\n\r\n")]
    {
        let mut wire = running.connect(way).await;
        wire.say(bytes).await;
        assert!(wire.is_closed().await, "{way}: {bytes:?}");
    }
    running.end().await;
}

#[tokio::test]
async fn without_a_portal_there_is_an_answer_and_with_several_each_of_those_that_are_there_is_good() {
    let (gone, here) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let addresses = [&gone, &here].map(|portal| portal.local_addr().unwrap().to_string());
    drop(gone);
    let running = Running::start(&["--https-to", &addresses.join(",")]).await;
    let mut first = None;
    for _ in 0..2 {
        let mut browser = running.encrypted(&[b"http/1.1"]).await.unwrap();
        browser.write_all(b"GET /").await.unwrap();
        let (mut served, _) = passed_on(&here).await;
        says(&mut served, b"GET /").await;
        first = Some((browser, served));
    }
    drop((here, first));
    let mut browser = running.encrypted(&[b"http/1.1"]).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    says(&mut browser, b"HTTP/1.1 503 ").await;
    running.end().await;
}

#[tokio::test]
async fn https_takes_no_places_of_turn_and_has_as_many_of_its_own() {
    let (running, portal) = shared(&["--max-connections", "2"]).await;
    let mut browsers = Vec::new();
    for _ in 0..2 {
        let mut browser = running.encrypted(&[b"http/1.1"]).await.unwrap();
        browser.write_all(b"GET /").await.unwrap();
        browsers.push((browser, passed_on(&portal).await));
    }
    let mut refused = running.encrypted(&[b"http/1.1"]).await.unwrap();
    let read = timeout(DEADLINE, refused.read(&mut [0; 1])).await.unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
    let (mut one, mut other) = (running.connect(Way::Tcp).await, running.connect(Way::Tls).await);
    one.is_served().await;
    other.is_served().await;
    drop(browsers);
    running.end().await;
}
