//! A WebSocket's bytes, with a Ping frame behind what is to be receipted. Nothing is held back and nothing else is changed: Pong frames
//! are left to the library, which ignores them.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    Count, Receipts, count_packet,
    frames::{Frames, KEPT, PING, PONG, TEXT},
};

/// A Ping frame with what it proves as its payload.
const PING_LENGTH: usize = 2 + KEPT;

/// A connection that is upgraded to a WebSocket.
#[derive(Debug)]
pub(super) struct Tap<S> {
    inner: S,
    receipts: Arc<Receipts>,
    outgoing: Frames,
    incoming: Frames,
    /// What was sent by now.
    sent: Count,
    /// What the latest Ping proves. At most one is on its way: another is sent when its Pong is there.
    pinged: Count,
    waiting: bool,
    /// A Ping that is being written, and how far it is.
    writing: Option<([u8; PING_LENGTH], usize)>,
    /// Nothing is read any more when it is ready.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Its other end learns that the connection is dropped.
    _open: oneshot::Sender<Infallible>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tap<S> {
    pub(super) fn new(inner: S, receipts: Arc<Receipts>, open: oneshot::Sender<Infallible>) -> Self {
        let sent = receipts.sent(Count::default());
        Self {
            cut: Box::pin(receipts.cut.clone().cancelled_owned()),
            inner,
            receipts,
            outgoing: Frames::default(),
            incoming: Frames::default(),
            sent,
            // What came by polling was receipted there.
            pinged: sent,
            waiting: false,
            writing: None,
            _open: open,
        }
    }

    /// Begins a Ping if there is something to be receipted and a frame may begin here.
    fn ping(&mut self) {
        if self.waiting || self.pinged == self.sent || !self.outgoing.between() {
            return;
        }
        let mut frame = [0; PING_LENGTH];
        (frame[0], frame[1]) = (0x80 | PING, KEPT as u8);
        frame[2..].copy_from_slice(&payload(self.sent));
        (self.writing, self.pinged, self.waiting) = (Some((frame, 0)), self.sent, true);
    }

    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((frame, written)) = &mut self.writing {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &frame[*written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += n;
            if *written == PING_LENGTH {
                self.writing = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn payload(count: Count) -> [u8; KEPT] {
    let mut payload = [0; KEPT];
    payload[..8].copy_from_slice(&count.events.to_be_bytes());
    payload[8..].copy_from_slice(&count.answers.to_be_bytes());
    payload
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut.as_mut().poll(cx).is_ready() {
            // The end of what comes, without a word: a broken connection.
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        let wanted = payload(this.pinged);
        let mut answered = false;
        this.incoming.pass(&buf.filled()[before..], |frame| {
            answered |= frame.opcode == PONG && frame.length == KEPT as u64 && frame.begins == wanted;
        });
        if answered && this.waiting && this.writing.is_none() {
            this.waiting = false;
            this.receipts.arrived(this.pinged);
            this.ping();
        }
        // Who reads may be the only one to be woken. What goes wrong here, the writer or the reader learns.
        if this.writing.is_some() && matches!(this.poll_ping(cx), Poll::Ready(Ok(()))) {
            let _: Poll<io::Result<()>> = Pin::new(&mut this.inner).poll_flush(cx);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx))?;
        let n = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        let mut count = Count::default();
        this.outgoing.pass(&buf[..n], |frame| {
            if frame.opcode == TEXT {
                count = count.plus(count_packet(frame.begins));
            }
        });
        if count != Count::default() {
            this.sent = this.receipts.sent(count);
        }
        this.ping();
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use super::*;

    type Server = WebSocketStream<Tap<DuplexStream>>;

    async fn pair(buffer: usize) -> (Arc<Receipts>, Server, WebSocketStream<DuplexStream>) {
        let (server, client) = tokio::io::duplex(buffer);
        let receipts = Arc::new(Receipts::default());
        let server = WebSocketStream::from_raw_socket(
            Tap::new(server, receipts.clone(), oneshot::channel().0),
            Role::Server,
            None,
        )
        .await;
        (receipts, server, WebSocketStream::from_raw_socket(client, Role::Client, None).await)
    }

    #[tokio::test]
    async fn what_the_client_has_read_is_receipted_whatever_fits_the_way() {
        for buffer in [1, 5, 64, 1 << 20] {
            let (receipts, server, mut client) = pair(buffer).await;
            let (mut tx, mut rx) = server.split();
            let reading = tokio::spawn(async move { while let Some(Ok(_)) = rx.next().await {} });
            let writing = tokio::spawn(async move {
                for i in 0..50 {
                    tx.send(Message::text("2")).await.unwrap();
                    tx.send(Message::text(format!("42[\"text\",{i}]"))).await.unwrap();
                }
                std::future::pending::<()>().await;
            });
            let client = tokio::spawn(async move {
                let mut texts = 0;
                while let Some(Ok(message)) = client.next().await {
                    if let Message::Text(text) = message
                        && text.starts_with("42[")
                    {
                        assert_eq!(text, format!("42[\"text\",{texts}]"), "whole and in order");
                        texts += 1;
                    }
                }
            });
            let all = async {
                while receipts.events() < 50 {
                    receipts.news().await
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(10), all).await.expect("receipts in time");
            for task in [reading, writing] {
                task.abort();
            }
            drop(client);
        }
    }

    #[tokio::test]
    async fn who_is_cut_off_sees_a_connection_that_breaks_without_a_word() {
        let (receipts, mut server, mut client) = pair(1 << 10).await;
        client.send(Message::text("40")).await.unwrap();
        assert!(server.next().await.unwrap().is_ok());
        let reading = tokio::spawn(async move { server.next().await });
        receipts.cut();
        assert!(!matches!(reading.await.unwrap(), Some(Ok(_))), "and its reader is woken");
        assert!(!matches!(client.next().await, Some(Ok(_))));
    }

    #[tokio::test]
    async fn only_what_was_pinged_is_receipted_and_one_ping_is_on_its_way_at_a_time() {
        let (server, mut client) = tokio::io::duplex(1 << 16);
        let receipts = Arc::new(Receipts::default());
        let mut tap = Tap::new(server, receipts.clone(), oneshot::channel().0);
        let event = [&[0x81, 6][..], b"42[\"a\""].concat();
        for _ in 0..3 {
            tap.write_all(&event).await.unwrap();
        }
        tap.flush().await.unwrap();
        let mut all = vec![0; 3 * event.len() + PING_LENGTH];
        client.read_exact(&mut all).await.unwrap();
        let ping = &all[event.len()..event.len() + PING_LENGTH];
        assert_eq!((ping[0], ping[1], ping[9]), (0x89, 16, 1), "behind the first: {all:?}");
        let pong = |events: u8| {
            let mut frame = vec![0x8a, 0x80 | 16, 0, 0, 0, 0];
            frame.extend(payload(Count { events: events.into(), answers: 0 }));
            frame
        };
        let mut read = [0; 64];
        client.write_all(&pong(3)).await.unwrap();
        let n = tap.read(&mut read).await.unwrap();
        assert_eq!((n, receipts.events()), (22, 0), "it was not asked for, and passes on");
        client.write_all(&pong(1)).await.unwrap();
        assert_ne!(tap.read(&mut read).await.unwrap(), 0);
        assert_eq!(receipts.events(), 1);
        let mut second = [0; PING_LENGTH];
        client.read_exact(&mut second).await.unwrap();
        assert_eq!(second[9], 3, "all that was sent meanwhile");
    }
}
