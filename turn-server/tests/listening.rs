//! Real sockets: UDP, TCP and TLS, by which clients reach a peer, and which strangers can't wear out.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use kaigi_turn_server::{
    Args,
    core::Deframer,
    listeners::{Listeners, Way},
    shell::Shell,
};
use kaigi_worker::Shutdown;
use rtc_stun::{
    attributes::{ATTR_NONCE, ATTR_REALM},
    crypto::default_provider,
    message::{
        BINDING_REQUEST, METHOD_ALLOCATE, METHOD_CHANNEL_BIND, METHOD_REFRESH, Message, Method, Setter,
        TransactionId,
    },
    textattrs::TextAttribute,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use support::{Client, Settings, Stage, channel, lifetime, outcome, peer, udp};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server with all its listeners, and a peer that it may reach.
struct Running {
    dir: TempDir,
    places: Vec<(Way, SocketAddr)>,
    peer: UdpSocket,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let allowed = peer.local_addr().unwrap().to_string();
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        let fixed = [
            "kaigi-turn-server",
            "--bind",
            "127.0.0.1",
            "--port",
            "0",
            "--tls-port",
            "0",
            "--tls-cert",
            &cert,
            "--tls-key",
            &key,
            "--secret",
            support::SECRET,
            "--realm",
            support::REALM,
            "--allow-peers",
            &allowed,
        ];
        let args = Args::try_parse_from([&fixed[..], more].concat()).unwrap();
        let listeners = Listeners::bind(&args).unwrap();
        let places = listeners.places().iter().map(|place| (place.way, place.address)).collect();
        let shutdown = Shutdown::default();
        let task =
            tokio::spawn(Shell::new(&args, listeners, default_provider().unwrap()).run(shutdown.clone()));
        Self { dir, places, peer, shutdown, task }
    }

    fn place(&self, way: Way) -> SocketAddr {
        self.places.iter().find(|(each, _)| *each == way).unwrap().1
    }

    async fn connect(&self, way: Way) -> Wire {
        let at = self.place(way);
        match way {
            Way::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(at).await.unwrap();
                Wire::Datagrams(socket)
            }
            Way::Tcp => Wire::Stream(Box::new(TcpStream::connect(at).await.unwrap()), Deframer::default()),
            Way::Tls => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(self.dir.path().join("cert.pem")).unwrap()).unwrap();
                let config =
                    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                        .with_safe_default_protocol_versions()
                        .unwrap()
                        .with_root_certificates(roots)
                        .with_no_client_auth();
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let stream = TcpStream::connect(at).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                Wire::Stream(Box::new(connector.connect(name, stream).await.unwrap()), Deframer::default())
            }
        }
    }

    async fn end(self) {
        self.shutdown.stop().cancel();
        timeout(DEADLINE, self.task).await.unwrap().unwrap();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>, Deframer),
}

impl Wire {
    async fn say(&mut self, bytes: &[u8]) {
        match self {
            Self::Datagrams(socket) => drop(socket.send(bytes).await.unwrap()),
            Self::Stream(stream, _) => {
                stream.write_all(bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    async fn hear(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let heard = async {
            match self {
                Self::Datagrams(socket) => {
                    let length = socket.recv(&mut buffer).await.unwrap();
                    buffer[..length].to_vec()
                }
                Self::Stream(stream, deframer) => loop {
                    if let Some(message) = deframer.next_message().unwrap() {
                        break message;
                    }
                    let length = stream.read(&mut buffer).await.unwrap();
                    assert_ne!(length, 0, "it is closed");
                    deframer.push(&buffer[..length]);
                },
            }
        };
        timeout(DEADLINE, heard).await.unwrap()
    }

    /// Whether the server closes it.
    async fn is_closed(&mut self) -> bool {
        let Self::Stream(stream, _) = self else { panic!("a datagram socket is never closed") };
        let mut buffer = vec![0; 4096];
        let closed = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
        timeout(DEADLINE, closed).await.is_ok()
    }

    async fn ask(
        &mut self,
        client: &mut Client,
        stage: &Stage,
        method: Method,
        attributes: Vec<Box<dyn Setter>>,
    ) -> Message {
        self.say(&client.sign(stage, method, attributes)).await;
        let mut answer = Message::new();
        answer.unmarshal_binary(&self.hear().await).unwrap();
        if let Ok(nonce) = TextAttribute::get_from_as(&answer, ATTR_NONCE) {
            client.nonce = nonce.text;
        }
        answer
    }

    /// Whether the server still answers here.
    async fn is_served(&mut self) {
        let mut request = Message::new();
        request.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
        self.say(&request.raw).await;
        let mut answer = Message::new();
        answer.unmarshal_binary(&self.hear().await).unwrap();
        assert_eq!(outcome(&answer), Ok(()));
    }
}

/// Good until 2096.
fn client(name: &str) -> Client {
    Client::new(1, &format!("4000000000:{name}"))
}

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
