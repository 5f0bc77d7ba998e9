//! The server's side of SOCKS 5 (RFC 1928), as far as GIO speaks it: connections out, for who has the password (RFC 1929), so that it is
//! of no use to others on this machine.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Who may.
pub(super) const USER: &str = "kaigi";

const VERSION: u8 = 5;
const BY_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
/// Of the negotiation of a password.
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;

/// Where somebody wants to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Address(SocketAddr),
    /// And its port.
    Name(String, u16),
}

/// What is said to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Connected = 0,
    NotAllowed = 2,
    Unreachable = 4,
}

/// Why it is not heard.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocksError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("what is said is no SOCKS 5")]
    Version,
    #[error("who connects has not the password")]
    Password,
    #[error("it asks for more than a connection")]
    Command,
    #[error("the address is none")]
    Address,
}

impl Destination {
    /// As in lists of hosts.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Address(address) => address.ip().to_string(),
            Self::Name(name, _) => name.clone(),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Lets somebody say where to connect to. A [`reply`] is to follow.
pub(super) async fn greet<S>(stream: &mut S, password: &str) -> Result<Destination, SocksError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if stream.read_u8().await? != VERSION {
        return Err(SocksError::Version);
    }
    if !text(stream).await?.contains(&BY_PASSWORD) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(SocksError::Password);
    }
    stream.write_all(&[VERSION, BY_PASSWORD]).await?;
    if stream.read_u8().await? != PASSWORD_VERSION {
        return Err(SocksError::Version);
    }
    let is_known = (text(stream).await?, text(stream).await?) == (USER.into(), password.into());
    stream.write_all(&[PASSWORD_VERSION, u8::from(!is_known)]).await?;
    if !is_known {
        return Err(SocksError::Password);
    }
    let [version, command, _, kind] = bytes(stream).await?;
    match (version, command) {
        (VERSION, CONNECT) => {}
        (VERSION, _) => return Err(SocksError::Command),
        _ => return Err(SocksError::Version),
    }
    let host = match kind {
        1 => Ok(IpAddr::from(Ipv4Addr::from(bytes::<4, S>(stream).await?))),
        3 => Err(String::from_utf8(text(stream).await?).map_err(|_| SocksError::Address)?),
        4 => Ok(IpAddr::from(Ipv6Addr::from(bytes::<16, S>(stream).await?))),
        _ => return Err(SocksError::Address),
    };
    let port = stream.read_u16().await?;
    Ok(match host {
        Ok(address) => Destination::Address(SocketAddr::new(address, port)),
        // A name that is an address is looked at as one.
        Err(name) => match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => Destination::Address(SocketAddr::new(address, port)),
            Err(_) => Destination::Name(name, port),
        },
    })
}

/// Answers; without the address that is connected from, which nobody needs.
pub(super) async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, reply: Reply) -> Result<(), SocksError> {
    Ok(stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await?)
}

/// Behind its length.
async fn text<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut text = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut text).await?;
    Ok(text)
}

async fn bytes<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of it, and what is answered.
    async fn greeted(said: &[u8]) -> (Result<Destination, SocksError>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(said).await.unwrap();
        far.shutdown().await.unwrap();
        let heard = greet(&mut near, "pw").await;
        drop(near);
        let mut answered = Vec::new();
        far.read_to_end(&mut answered).await.unwrap();
        (heard, answered)
    }

    const KNOWN: &[u8] = b"\x05\x02\x00\x02\x01\x05kaigi\x02pw";

    #[tokio::test]
    async fn names_and_addresses_are_heard() {
        for (rest, expected) in [
            (&b"\x05\x01\x00\x03\x04a.ex\x07\x8f"[..], Destination::Name("a.ex".into(), 1935)),
            (b"\x05\x01\x00\x03\x0710.0.0.\x00\x01", Destination::Name("10.0.0.".into(), 1)),
            (b"\x05\x01\x00\x03\x0810.0.0.1\x00\x01", Destination::Address("10.0.0.1:1".parse().unwrap())),
            (
                b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50",
                Destination::Address("127.0.0.1:80".parse().unwrap()),
            ),
            (
                b"\x05\x01\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50",
                Destination::Address("[::1]:80".parse().unwrap()),
            ),
        ] {
            let (heard, answered) = greeted(&[KNOWN, rest].concat()).await;
            assert_eq!(heard.unwrap(), expected);
            assert_eq!(answered, b"\x05\x02\x01\x00");
        }
    }

    #[tokio::test]
    async fn who_has_no_password_is_not() {
        let (heard, answered) = greeted(b"\x05\x01\x00").await;
        assert!(matches!(heard, Err(SocksError::Password)));
        assert_eq!(answered, [VERSION, NO_METHOD]);
        let (heard, answered) = greeted(b"\x05\x01\x02\x01\x05kaigi\x02px\x05\x01\x00\x03").await;
        assert!(matches!(heard, Err(SocksError::Password)));
        assert_eq!(answered, [VERSION, BY_PASSWORD, PASSWORD_VERSION, 1]);
    }

    #[tokio::test]
    async fn nonsense_ends_it() {
        for said in [
            &b""[..],
            b"\x04\x01\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x05\xff\x00",
            b"\x05\x01\x02\x02\x05kaigi",
        ] {
            assert!(greeted(said).await.0.is_err());
        }
        for rest in [
            &b"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"[..],
            b"\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50",
            b"\x05\x01\x00\x09\x7f\x00\x00\x01\x00\x50",
            b"\x05\x01\x00\x03\x02\xff\xfe\x00\x50",
            b"\x05\x01\x00\x03\xff",
        ] {
            assert!(greeted(&[KNOWN, rest].concat()).await.0.is_err());
        }
    }
}
