//! Asking a process whether it is ready: one plain HTTP GET on its health address.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest wait for one answer; on one machine it takes a millisecond.
const TIMEOUT: Duration = Duration::from_millis(500);
/// Pause between two questions while waiting: small, because it is part of the time to start.
const POLL: Duration = Duration::from_millis(10);

/// Whether `/ready` at that address answers 200.
pub async fn is_ready(health: SocketAddr) -> bool {
    matches!(tokio::time::timeout(TIMEOUT, status(health)).await, Ok(Ok(200)))
}

/// Returns when `/ready` at that address answers 200.
pub async fn wait_until_ready(health: SocketAddr) {
    while !is_ready(health).await {
        tokio::time::sleep(POLL).await;
    }
}

async fn status(health: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(health).await?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {health}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(64);
    stream.take(64).read_to_end(&mut head).await?;
    parse_status(&head).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// The status code of a response that begins with `head` (RFC 9112, section 4).
fn parse_status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_is_read() {
        assert_eq!(parse_status(b"HTTP/1.1 200 OK\r\nX"), Some(200));
        assert_eq!(parse_status(b"HTTP/1.0 503 Service Unavailable"), Some(503));
        for nonsense in [&b""[..], b"HTTP/1.1", b"HTTP/1.1 2", b"HTTP/1.1 abc", b"SSH-2.0"] {
            assert_eq!(parse_status(nonsense), None);
        }
    }
}
