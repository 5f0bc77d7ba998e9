//! An endpoint on a loopback port whose answers are the test's.

use std::collections::HashMap;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

/// See the module's description. It ends with the test.
pub(crate) struct Endpoint {
    pub(crate) url: String,
}

/// A request that waits for its answer.
pub(crate) struct Request {
    head: HashMap<String, String>,
    body: String,
    answer: oneshot::Sender<String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        &self.body
    }

    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn answer(self, status: u16) {
        self.answer_with(status, "");
    }

    /// `headers`: whole lines.
    pub(crate) fn answer_with(self, status: u16, headers: &str) {
        self.answer.send(format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\n\r\n")).unwrap();
    }
}

impl Endpoint {
    pub(crate) async fn start() -> (Self, mpsc::Receiver<Request>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let (requests_to, requests) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, requests_to.clone()));
            }
        });
        (Self { url }, requests)
    }
}

async fn serve(socket: TcpStream, requests: mpsc::Sender<Request>) {
    let mut socket = BufReader::new(socket);
    loop {
        let mut head = HashMap::new();
        let mut line = String::new();
        if socket.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        loop {
            line.clear();
            socket.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim().split_once(':') else { break };
            head.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; head["content-length"].parse().unwrap()];
        socket.read_exact(&mut body).await.unwrap();
        let (answer, answered) = oneshot::channel();
        let request = Request { head, body: String::from_utf8(body).unwrap(), answer };
        if requests.send(request).await.is_err() {
            return;
        }
        let Ok(answer) = answered.await else { std::future::pending().await };
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
}
