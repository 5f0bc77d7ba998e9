//! Clients as raw Engine.IO: version 3 and 4, by polling and by WebSocket.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::{PATIENCE, http};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Eio3Polling,
    Eio3WebSocket,
    Eio4Polling,
    Eio4WebSocket,
}

impl Speech {
    pub(crate) const ALL: [Self; 4] =
        [Self::Eio3Polling, Self::Eio3WebSocket, Self::Eio4Polling, Self::Eio4WebSocket];

    fn version(self) -> u8 {
        match self {
            Self::Eio3Polling | Self::Eio3WebSocket => 3,
            Self::Eio4Polling | Self::Eio4WebSocket => 4,
        }
    }
}

enum Wire {
    WebSocket(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
    Polling { sid: String },
}

/// One client.
pub(crate) struct Client {
    server: SocketAddr,
    speech: Speech,
    wire: Wire,
    received: VecDeque<String>,
    next_ack: u32,
    acks: BTreeMap<u32, Vec<Value>>,
    /// Events in the order of their arrival, until somebody asks for them.
    pub(crate) events: VecDeque<(String, Value)>,
    /// Numbers of events that came with one.
    pub(crate) seqs: Vec<u64>,
    /// Names of everything that arrived: events, and "ack".
    pub(crate) order: Vec<String>,
}

impl Client {
    /// Connects to the namespace `/`.
    pub(crate) async fn connect(server: SocketAddr, speech: Speech) -> Self {
        let version = speech.version();
        let (wire, open) = match speech {
            Speech::Eio3WebSocket | Speech::Eio4WebSocket => {
                let url = format!("ws://{server}/socket.io/?EIO={version}&transport=websocket");
                let (mut socket, _) = connect_async(url).await.unwrap();
                let open = socket.next().await.unwrap().unwrap().into_text().unwrap().to_string();
                (Wire::WebSocket(Box::new(socket)), open)
            }
            Speech::Eio3Polling | Speech::Eio4Polling => {
                let path = format!("/socket.io/?EIO={version}&transport=polling");
                let answer = http::send(server, "GET", &path, &[], "").await;
                let open = answer.body.trim_start_matches(|c: char| c != '{');
                let sid: Value = serde_json::from_str(open.split_inclusive('}').next().unwrap()).unwrap();
                (Wire::Polling { sid: sid["sid"].as_str().unwrap().to_owned() }, format!("0{open}"))
            }
        };
        assert!(open.starts_with("0{"), "{open}");
        let mut client = Self {
            server,
            speech,
            wire,
            received: VecDeque::new(),
            next_ack: 0,
            acks: BTreeMap::new(),
            events: VecDeque::new(),
            seqs: Vec::new(),
            order: Vec::new(),
        };
        if version == 4 {
            client.send("40").await;
        }
        let connected = client.receive().await.unwrap();
        assert!(connected.starts_with("40"), "{connected}");
        client
    }

    /// Goes on by WebSocket, as clients do that begin by polling.
    pub(crate) async fn upgrade(&mut self) {
        let Wire::Polling { sid } = &self.wire else { return };
        let version = self.speech.version();
        let url = format!("ws://{}/socket.io/?EIO={version}&transport=websocket&sid={sid}", self.server);
        let (mut socket, _) = connect_async(url).await.unwrap();
        socket.send(Message::text("2probe")).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("3probe"));
        socket.send(Message::text("5")).await.unwrap();
        self.wire = Wire::WebSocket(Box::new(socket));
    }

    /// Sends one Engine.IO packet.
    pub(crate) async fn send(&mut self, packet: &str) {
        match &mut self.wire {
            Wire::WebSocket(socket) => socket.send(Message::text(packet)).await.unwrap(),
            Wire::Polling { sid } => {
                let version = self.speech.version();
                let body = if version == 3 {
                    format!("{}:{packet}", packet.encode_utf16().count())
                } else {
                    packet.to_owned()
                };
                let path = format!("/socket.io/?EIO={version}&transport=polling&sid={sid}");
                let headers = [("content-type", "text/plain;charset=UTF-8")];
                assert_eq!(http::send(self.server, "POST", &path, &headers, &body).await.status, 200);
            }
        }
    }

    /// The next packet other than pings; `None` if the connection has ended.
    async fn receive(&mut self) -> Option<String> {
        loop {
            while let Some(packet) = self.received.pop_front() {
                match packet.as_str() {
                    "2" => self.send("3").await,
                    "3" | "6" => {}
                    "1" => return None,
                    _ => return Some(packet),
                }
            }
            let version = self.speech.version();
            match &mut self.wire {
                Wire::WebSocket(socket) => {
                    match timeout(PATIENCE, socket.next()).await.expect("a packet in time") {
                        Some(Ok(Message::Text(text))) => self.received.push_back(text.to_string()),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                        Some(Ok(_)) => {}
                    }
                }
                Wire::Polling { sid } => {
                    let path = format!("/socket.io/?EIO={version}&transport=polling&sid={sid}");
                    let poll = http::send(self.server, "GET", &path, &[], "");
                    let answer = timeout(PATIENCE, poll).await.expect("a poll answered in time");
                    if answer.status != 200 {
                        return None;
                    }
                    if version == 4 {
                        self.received.extend(answer.body.split('\u{1e}').map(str::to_owned));
                    } else {
                        self.received.extend(split_eio3(&answer.body));
                    }
                }
            }
        }
    }

    /// Sends a request and waits for its ack: status and data. Events that arrive meanwhile are kept.
    pub(crate) async fn request(&mut self, event: &str, data: Value) -> (String, Value) {
        self.request_with(event, &[data]).await
    }

    pub(crate) async fn request_with(&mut self, event: &str, arguments: &[Value]) -> (String, Value) {
        let id = self.send_event(event, arguments).await;
        self.ack(id).await
    }

    /// Sends a request; the number of its ack.
    pub(crate) async fn send_event(&mut self, event: &str, arguments: &[Value]) -> u32 {
        let mut array = vec![json!(event)];
        array.extend_from_slice(arguments);
        let id = self.next_ack;
        self.next_ack += 1;
        self.send(&format!("42{id}{}", Value::Array(array))).await;
        id
    }

    /// Waits for the ack of that number: status and data.
    pub(crate) async fn ack(&mut self, id: u32) -> (String, Value) {
        let mut arguments = self.plain_ack(id).await;
        let data = if arguments.len() > 1 { arguments.remove(1) } else { Value::Null };
        (arguments[0].as_str().unwrap().to_owned(), data)
    }

    /// Waits for the ack of that number: what it carries.
    pub(crate) async fn plain_ack(&mut self, id: u32) -> Vec<Value> {
        loop {
            if let Some(arguments) = self.acks.remove(&id) {
                return arguments;
            }
            let packet = self.receive().await.expect("an ack before the end");
            self.note(&packet);
        }
    }

    /// Keeps an event or an ack.
    fn note(&mut self, packet: &str) {
        if let Some(rest) = packet.strip_prefix("43") {
            self.order.push("ack".into());
            let at = rest.find('[').unwrap();
            self.acks.insert(rest[..at].parse().unwrap(), serde_json::from_str(&rest[at..]).unwrap());
        } else if let Some(rest) = packet.strip_prefix("42") {
            let mut arguments: Vec<Value> = serde_json::from_str(rest).unwrap();
            let name = arguments[0].as_str().unwrap().to_owned();
            let data = if arguments.len() > 1 { arguments.remove(1) } else { Value::Null };
            self.seqs.extend(arguments.get(1).and_then(Value::as_u64));
            self.order.push(name.clone());
            self.events.push_back((name, data));
        } else {
            self.order.push(packet.to_owned());
        }
    }

    /// The next event of that name; others before it are discarded.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, data)) = self.events.pop_front() {
                if event == name {
                    return data;
                }
            }
            let packet = self.receive().await.unwrap_or_else(|| panic!("no {name} before the end"));
            self.note(&packet);
        }
    }

    /// Waits until the server disconnects.
    pub(crate) async fn disconnected(&mut self) {
        while let Some(packet) = self.receive().await {
            if packet == "41" {
                self.order.push(packet);
                return;
            }
            self.note(&packet);
        }
    }

    /// Reads for that long, by WebSocket; whether the connection is still there then.
    pub(crate) async fn listens(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            match timeout_at(end, self.receive()).await {
                Ok(Some(packet)) => self.note(&packet),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Logs in with this token, as the JavaScript SDK does.
    pub(crate) async fn login(&mut self, token: &str) -> (String, Value) {
        self.request("login", login_request(token)).await
    }

    /// Closes without a word.
    pub(crate) async fn vanish(self) {
        match self.wire {
            Wire::WebSocket(socket) => drop(socket),
            Wire::Polling { sid } => {
                let path = format!("/socket.io/?EIO={}&transport=polling&sid={sid}", self.speech.version());
                let body = if self.speech.version() == 3 { "1:1" } else { "1" };
                http::send(self.server, "POST", &path, &[], body).await;
            }
        }
    }
}

/// A login request as the JavaScript SDK 5.1 makes it.
pub(crate) fn login_request(token: &str) -> Value {
    json!({"token": token, "userAgent": {"sdk": {"type": "JavaScript", "version": "5.1"}}, "protocol": "1.2"})
}

fn split_eio3(payload: &str) -> Vec<String> {
    let mut rest = payload;
    let mut packets = Vec::new();
    while let Some((length, after)) = rest.split_once(':') {
        let units: usize = length.parse().unwrap();
        let mut counted = 0;
        let end = after.char_indices().find(|(_, c)| {
            let full = counted >= units;
            counted += c.len_utf16();
            full
        });
        let end = end.map_or(after.len(), |(i, _)| i);
        packets.push(after[..end].to_owned());
        rest = &after[end..];
    }
    packets
}
