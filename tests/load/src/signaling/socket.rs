//! A connection to a portal.

use std::collections::{HashMap, VecDeque};

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{
    PATIENCE, SignalingError,
    packet::{Packet, request},
};

/// Requests that wait to be sent.
const MAX_REQUESTS: usize = 64;
/// Notifications that wait to be read, and that are kept because they are read out of order; whoever does not read loses later ones.
const MAX_NOTIFICATIONS: usize = 4096;

/// What the portal tells unasked, as far as clients wait for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Its name.
    pub name: String,
    /// Its first argument.
    pub data: Value,
}

struct Request {
    name: &'static str,
    data: Value,
    reply: oneshot::Sender<Vec<Value>>,
}

/// See the module's description. The connection ends when this is dropped.
#[derive(Debug)]
pub struct Socket {
    requests: mpsc::Sender<Request>,
    notifications: mpsc::Receiver<Notification>,
    /// What nobody has waited for yet.
    kept: VecDeque<Notification>,
}

type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Socket {
    /// Connects to a portal: "host:port".
    ///
    /// # Errors
    /// If there is none, or it does not speak Socket.IO.
    pub async fn connect(host: &str) -> Result<Self, SignalingError> {
        let url = format!("ws://{host}/socket.io/?EIO=4&transport=websocket");
        let connected = async {
            let (mut socket, _) =
                connect_async(url).await.map_err(|error| SignalingError::Connect(error.to_string()))?;
            loop {
                match next(&mut socket).await? {
                    Packet::Open => say(&mut socket, "40".to_owned()).await?,
                    Packet::Connected => return Ok(socket),
                    Packet::Ping => say(&mut socket, "3".to_owned()).await?,
                    _ => return Err(SignalingError::Connect("it does not speak Socket.IO".to_owned())),
                }
            }
        };
        let socket =
            timeout(PATIENCE, connected).await.map_err(|_| SignalingError::Silent("connecting"))??;
        let (requests, to_send) = mpsc::channel(MAX_REQUESTS);
        let (heard, notifications) = mpsc::channel(MAX_NOTIFICATIONS);
        tokio::spawn(run(socket, to_send, heard));
        Ok(Self { requests, notifications, kept: VecDeque::new() })
    }

    /// Sends a request; what it is answered with.
    ///
    /// # Errors
    /// If it is refused or not answered.
    pub async fn request(&self, name: &'static str, data: Value) -> Result<Value, SignalingError> {
        let (reply, replied) = oneshot::channel();
        let request = Request { name, data, reply };
        self.requests.send(request).await.map_err(|_| SignalingError::Ended)?;
        let answer = timeout(PATIENCE, replied).await.map_err(|_| SignalingError::Silent(name))?;
        let mut answer = answer.map_err(|_| SignalingError::Ended)?.into_iter();
        let status = answer.next().unwrap_or_default();
        let data = answer.next().unwrap_or_default();
        if status == "ok" {
            return Ok(data);
        }
        let reason = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
        Err(SignalingError::Refused { request: name, reason })
    }

    /// What was told and not waited for, which is not kept any longer.
    pub fn heard(&mut self) -> Vec<Notification> {
        let mut heard: Vec<_> = std::mem::take(&mut self.kept).into();
        heard.extend(std::iter::from_fn(|| self.notifications.try_recv().ok()));
        heard
    }

    /// Waits for a notification of which `find` makes something; others are kept for later.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn told<T>(
        &mut self,
        what: &'static str,
        mut find: impl FnMut(&Notification) -> Option<T>,
    ) -> Result<T, SignalingError> {
        for at in 0..self.kept.len() {
            if let Some(found) = find(&self.kept[at]) {
                self.kept.remove(at);
                return Ok(found);
            }
        }
        let wait = async {
            while let Some(notification) = self.notifications.recv().await {
                if let Some(found) = find(&notification) {
                    return Ok(found);
                }
                if self.kept.len() < MAX_NOTIFICATIONS {
                    self.kept.push_back(notification);
                }
            }
            Err(SignalingError::Ended)
        };
        timeout(PATIENCE, wait).await.map_err(|_| SignalingError::Silent(what))?
    }
}

async fn next(socket: &mut WebSocket) -> Result<Packet, SignalingError> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Packet::parse(&text)),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(SignalingError::Ended),
            Some(Ok(_)) => {}
        }
    }
}

async fn say(socket: &mut WebSocket, text: String) -> Result<(), SignalingError> {
    socket.send(Message::text(text)).await.map_err(|_| SignalingError::Ended)
}

/// Runs until either side has enough.
async fn run(
    mut socket: WebSocket,
    mut requests: mpsc::Receiver<Request>,
    notifications: mpsc::Sender<Notification>,
) {
    let (mut waiting, mut count) = (HashMap::new(), 0u64);
    loop {
        let said = tokio::select! {
            asked = requests.recv() => {
                let Some(Request { name, data, reply }) = asked else { break };
                count += 1;
                waiting.insert(count, reply);
                say(&mut socket, request(count, name, &data)).await
            }
            packet = next(&mut socket) => match packet {
                Err(error) => Err(error),
                Ok(Packet::Ping) => say(&mut socket, "3".to_owned()).await,
                Ok(Packet::Ack(id, answer)) => {
                    if let Some(reply) = waiting.remove(&id) {
                        // Nobody waits any more.
                        let _ = reply.send(answer);
                    }
                    Ok(())
                }
                Ok(Packet::Event(name, arguments)) => {
                    let data = arguments.into_iter().next().unwrap_or_default();
                    // Full: nobody reads; it is of no interest then.
                    let _ = notifications.try_send(Notification { name, data });
                    Ok(())
                }
                Ok(Packet::Closed) => Err(SignalingError::Ended),
                Ok(Packet::Open | Packet::Connected | Packet::Other) => Ok(()),
            },
        };
        if said.is_err() {
            return;
        }
    }
    // The last word of a client that is gone.
    let _ = socket.close(None).await;
}
