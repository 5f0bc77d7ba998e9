//! Clients whose connections are passed on by a proxy that ends TLS: it says whose each is before the first byte (version 2 of HAProxy's PROXY
//! protocol), so that nothing in requests has to be believed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Extension,
    extract::{ConnectInfo, Request},
    middleware::AddExtension,
};
use axum_server::accept::Accept;
use futures::{FutureExt, future::BoxFuture};
use hyper::body::Incoming;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tower::{Layer, Service};

/// How a header begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;
/// Longest rest that is read: addresses and what else the proxy tells, which is passed over.
const MAX_REST: usize = 2048;
/// Longest wait for a header, which is the first thing that a proxy sends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a connection is none of a proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum HeaderError {
    #[error("it does not begin with a header of the PROXY protocol, version 2")]
    Unknown,
    #[error("a header of {0} bytes")]
    TooLong(usize),
    #[error("a header without addresses of TCP")]
    Addresses,
}

/// The part of a header that every one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fixed {
    /// The proxy speaks for itself, as when it looks whether anybody is there.
    is_local: bool,
    family: u8,
    rest: usize,
}

impl Fixed {
    fn read(bytes: &[u8; FIXED]) -> Result<Self, HeaderError> {
        let (signature, [command, family, high, low]) =
            bytes.split_last_chunk().ok_or(HeaderError::Unknown)?;
        if signature != SIGNATURE || !matches!(command, 0x20 | 0x21) {
            return Err(HeaderError::Unknown);
        }
        let rest = usize::from(u16::from_be_bytes([*high, *low]));
        if rest > MAX_REST {
            return Err(HeaderError::TooLong(FIXED + rest));
        }
        Ok(Self { is_local: *command == 0x20, family: *family, rest })
    }

    /// The client's address, from what follows; `None`: the proxy itself.
    fn client(self, rest: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
        let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let found = match self.family {
            _ if self.is_local => return Ok(None),
            // Source, destination, and the ports of both.
            0x11 => rest.first_chunk::<4>().map(|ip| IpAddr::from(Ipv4Addr::from(*ip))).zip(port(8)),
            0x21 => rest.first_chunk::<16>().map(|ip| IpAddr::from(Ipv6Addr::from(*ip))).zip(port(32)),
            _ => None,
        };
        found.map(|address| Some(address.into())).ok_or(HeaderError::Addresses)
    }
}

/// Whose connection it is; nothing behind the header is read.
async fn client(stream: &mut TcpStream) -> io::Result<SocketAddr> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let fixed = Fixed::read(&fixed).map_err(io::Error::other)?;
    let mut rest = vec![0; fixed.rest];
    stream.read_exact(&mut rest).await?;
    match fixed.client(&rest).map_err(io::Error::other)? {
        Some(client) => Ok(client),
        None => stream.peer_addr(),
    }
}

/// Takes connections of a proxy; those who serve them find the client's address where that of a connection usually is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxiedAcceptor;

impl<S: Service<Request<Incoming>> + Send + 'static> Accept<TcpStream, S> for ProxiedAcceptor {
    type Stream = TcpStream;
    type Service = AddExtension<S, ConnectInfo<SocketAddr>>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, mut stream: TcpStream, service: S) -> Self::Future {
        let accepted = async move {
            stream.set_nodelay(true)?;
            let client = timeout(PATIENCE, client(&mut stream)).await??;
            Ok((stream, Extension(ConnectInfo(client)).layer(service)))
        };
        accepted.boxed()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn read(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let mut fixed = [0; FIXED];
        fixed[..12].copy_from_slice(&SIGNATURE);
        fixed[12..].copy_from_slice(&[command, family, length[0], length[1]]);
        Fixed::read(&fixed)?.client(rest)
    }

    #[test]
    fn a_header_says_whose_a_connection_is() {
        let v4 = [203, 0, 113, 7, 127, 0, 0, 1, 0xc3, 0x50, 1, 0xbb];
        assert_eq!(read(0x21, 0x11, &v4), Ok(Some("203.0.113.7:50000".parse().unwrap())));
        // What else it says is passed over.
        assert_eq!(read(0x21, 0x11, &[&v4[..], &[1, 0, 2, b'h', b'2']].concat()), read(0x21, 0x11, &v4));
        let v6 = [
            &Ipv6Addr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]).octets()[..],
            &[0; 16],
            &[0, 9, 0, 8],
        ];
        assert_eq!(read(0x21, 0x21, &v6.concat()), Ok(Some("[2001:db8::7]:9".parse().unwrap())));
        assert_eq!(read(0x20, 0, &[]), Ok(None));
    }

    #[tokio::test]
    async fn who_serves_finds_the_client_where_others_have_the_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let told = |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() };
        let router = axum::Router::new().route("/", axum::routing::get(told));
        let server = axum_server::from_tcp(listener).unwrap().acceptor(ProxiedAcceptor);
        let serving = tokio::spawn(server.serve(router.into_make_service()));
        let ask = async |header: &[u8]| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(header).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            // Who sends no header is not answered.
            let _: Result<_, _> = stream.read_to_end(&mut answer).await;
            String::from_utf8(answer).unwrap()
        };
        let rest = [203, 0, 113, 7, 127, 0, 0, 1, 0xc3, 0x50, 1, 0xbb];
        let header = [&SIGNATURE[..], &[0x21, 0x11, 0, 12], &rest].concat();
        assert!(ask(&header).await.ends_with("\r\n\r\n203.0.113.7:50000"));
        assert!(ask(&[&SIGNATURE[..], &[0x20, 0, 0, 0]].concat()).await.contains("127.0.0.1:"));
        assert_eq!(ask(b"").await, "");
        serving.abort();
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert_eq!(Fixed::read(b"GET / HTTP/1.1\r\n"), Err(HeaderError::Unknown));
        assert_eq!(read(0x11, 0x11, &[0; 12]), Err(HeaderError::Unknown));
        assert_eq!(read(0x21, 0x11, &[0; 9]), Err(HeaderError::Addresses));
        assert_eq!(read(0x21, 0x21, &[0; 33]), Err(HeaderError::Addresses));
        assert_eq!(read(0x21, 0x31, &[0; 216]), Err(HeaderError::Addresses));
        assert_eq!(read(0x21, 0x11, &[0; 3000]), Err(HeaderError::TooLong(3016)));
    }
}
