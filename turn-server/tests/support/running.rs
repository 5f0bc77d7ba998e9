//! A server with real sockets, and clients of it.

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
    attributes::ATTR_NONCE,
    crypto::default_provider,
    message::{BINDING_REQUEST, Message, Method, Setter, TransactionId},
    textattrs::TextAttribute,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{Client, REALM, SECRET, Stage, outcome};

/// Reached only if a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A server with all its listeners, and a peer that it may reach.
pub struct Running {
    dir: TempDir,
    places: Vec<(Way, SocketAddr)>,
    pub peer: UdpSocket,
    pub shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(more: &[&str]) -> Self {
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
            SECRET,
            "--realm",
            REALM,
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

    pub fn place(&self, way: Way) -> SocketAddr {
        self.places.iter().find(|(each, _)| *each == way).unwrap().1
    }

    pub async fn connect(&self, way: Way) -> Wire {
        let at = self.place(way);
        match way {
            Way::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                socket.connect(at).await.unwrap();
                Wire::Datagrams(socket)
            }
            Way::Tcp => Wire::Stream(Box::new(TcpStream::connect(at).await.unwrap()), Deframer::default()),
            Way::Tls => Wire::Stream(Box::new(self.encrypted(&[]).await.unwrap()), Deframer::default()),
        }
    }

    /// A connection by TLS of one who speaks these protocols.
    pub async fn encrypted(&self, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.dir.path().join("cert.pem")).unwrap()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(self.place(Way::Tls)).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    pub async fn end(self) {
        self.shutdown.stop().cancel();
        timeout(DEADLINE, self.task).await.unwrap().unwrap();
    }
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>, Deframer),
}

impl Wire {
    pub async fn say(&mut self, bytes: &[u8]) {
        match self {
            Self::Datagrams(socket) => drop(socket.send(bytes).await.unwrap()),
            Self::Stream(stream, _) => {
                stream.write_all(bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    pub async fn hear(&mut self) -> Vec<u8> {
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
    pub async fn is_closed(&mut self) -> bool {
        let Self::Stream(stream, _) = self else { panic!("a datagram socket is never closed") };
        let mut buffer = vec![0; 4096];
        let closed = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
        timeout(DEADLINE, closed).await.is_ok()
    }

    pub async fn ask(
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
    pub async fn is_served(&mut self) {
        let mut request = Message::new();
        request.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
        self.say(&request.raw).await;
        let mut answer = Message::new();
        answer.unmarshal_binary(&self.hear().await).unwrap();
        assert_eq!(outcome(&answer), Ok(()));
    }
}

/// Good until 2096.
pub fn client(name: &str) -> Client {
    Client::new(1, &format!("4000000000:{name}"))
}
