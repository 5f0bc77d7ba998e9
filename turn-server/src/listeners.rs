//! Where clients come in.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::{Args, tls::Certificate, web};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;

/// A port can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{way} port {port} on {address}: {source}")]
pub struct ListenError {
    way: Way,
    port: u16,
    address: IpAddr,
    source: io::Error,
}

/// How clients speak to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream that is encrypted.
    Tls,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        })
    }
}

/// Where clients are listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// By what.
    pub way: Way,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.way, self.address)
    }
}

/// All sockets that are listened on.
pub struct Listeners {
    pub(crate) datagrams: Vec<UdpSocket>,
    pub(crate) streams: Vec<TcpListener>,
    pub(crate) encrypted: Vec<TcpListener>,
    pub(crate) certificate: Option<Certificate>,
}

impl Listeners {
    /// Listens on all that the arguments name. `::` is one socket of each version, so that addresses of clients are what they are; of IPv6 only
    /// where the machine has it.
    ///
    /// # Errors
    /// If a port is taken, or not allowed.
    pub fn bind(args: &Args) -> Result<Self, ListenError> {
        let mut all =
            Self { datagrams: Vec::new(), streams: Vec::new(), encrypted: Vec::new(), certificate: None };
        let both = args.bind == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let addresses: &[IpAddr] =
            if both { &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), args.bind] } else { &[args.bind] };
        for (index, address) in addresses.iter().enumerate() {
            // What is only there because there are both versions may be missing.
            match all.add(args, *address) {
                Err(error) if index > 0 && error.source.kind() != io::ErrorKind::AddrInUse => {
                    tracing::warn!(%error, "only IPv4 is listened on");
                }
                other => other?,
            }
        }
        if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
            let protocols: &[_] = if args.https_to.is_empty() { &[] } else { &web::PROTOCOLS };
            let certificate = Certificate::new(cert.clone(), key.clone(), protocols);
            if let (Some(_), Err(error)) = (args.tls_port, certificate.acceptor()) {
                tracing::warn!(%error, "there is no TLS until the certificate can be read");
            }
            all.certificate = Some(certificate);
        }
        Ok(all)
    }

    fn add(&mut self, args: &Args, address: IpAddr) -> Result<(), ListenError> {
        let failed = |way, port| move |source| ListenError { way, port, address, source };
        let stream = listen(SocketAddr::new(address, args.port)).map_err(failed(Way::Tcp, args.port))?;
        let at = stream.local_addr().map_err(failed(Way::Tcp, args.port))?;
        let datagrams = udp(at).map_err(failed(Way::Udp, at.port()))?;
        if let Some(port) = args.tls_port {
            self.encrypted.push(listen(SocketAddr::new(address, port)).map_err(failed(Way::Tls, port))?);
        }
        self.streams.push(stream);
        self.datagrams.push(datagrams);
        Ok(())
    }

    /// Where they are.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let udp = self.datagrams.iter().map(|socket| (Way::Udp, socket.local_addr()));
        let tcp = self.streams.iter().map(|socket| (Way::Tcp, socket.local_addr()));
        let tls = self.encrypted.iter().map(|socket| (Way::Tls, socket.local_addr()));
        let all = udp.chain(tcp).chain(tls);
        all.filter_map(|(way, address)| Some(Place { way, address: address.ok()? })).collect()
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // A server that is started again takes its port again.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A socket for datagrams at that address.
pub(crate) fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}
