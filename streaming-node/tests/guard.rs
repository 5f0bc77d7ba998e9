//! Sources that send who pulls from them elsewhere: only to where the settings allow it. There is one guard in a process, and so one list of hosts here.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use gstreamer as gst;
use kaigi_intake::{LinkContext, Receiver};
use kaigi_outbound::Reach;
use kaigi_proto::{auth::ClusterSecret, v1};
use kaigi_streaming_node::{door::Doors, guard, ingest::Place, node::Node, target::Policy};
use kaigi_supply::Outputs;
use kaigi_worker::Channels;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    runtime::Runtime,
    sync::mpsc,
};

/// A pipeline starts, and a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(40);
const H264: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:1\r\n";

/// Of all tests: the guard is the first one's, and serves the others, too.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

struct World {
    node: Node,
    events: mpsc::Receiver<v1::OutputEvent>,
    _folder: tempfile::TempDir,
}

/// What may be pulled from is 127.0.0.1, by that name alone.
async fn world() -> World {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = Ipv4Addr::LOCALHOST.into();
    let receiver = Arc::new(Receiver::bind(local).unwrap());
    let link = LinkContext { receiver, channels: Channels::new(ClusterSecret::default()) };
    let policy = Policy {
        recordings: folder.path().to_owned(),
        reach: Reach::Any,
        allowed_hosts: Vec::new(),
        slate: None,
        ingest_hosts: vec!["127.0.0.1".into()],
        ingest_files: None,
    };
    let place = Place {
        outputs: Arc::new(Outputs::bind(local).unwrap()),
        worker_id: "streaming-1".into(),
        endpoint: "http://127.0.0.1:1".into(),
    };
    guard::install(&policy).await.unwrap();
    let node = Node::new(link, policy, "host".into(), place, None, Doors::default());
    let events = node.events().open("agent");
    World { node, events, _folder: folder }
}

impl World {
    fn pull(&self, url: &str) {
        let formats = vec![v1::MediaFormat { codec: "h264".into(), ..Default::default() }];
        let description = v1::InputDescription {
            agent_id: "agent".into(),
            room_id: "room".into(),
            id: "1".into(),
            epoch: 1,
            revision: 1,
            url: url.into(),
            video_formats: formats,
            ..Default::default()
        };
        let source = self.node.check_input(&description).unwrap();
        self.node.set_input(&description, source, Instant::now()).unwrap();
    }

    /// Why it can't be had.
    async fn failure(&mut self) -> String {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            match event.state() {
                v1::OutputState::Starting => {}
                v1::OutputState::Failed => return event.reason,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A server of RTSP or HTTP that tells what it is asked (the first line), and answers with what is made of that and the number of the request.
async fn server(
    answer: impl Fn(&str, &str) -> String + Clone + Send + 'static,
) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, tell) = (answer.clone(), tell.clone());
            tokio::spawn(async move {
                let (read, mut write) = stream.split();
                let mut lines = BufReader::new(read).lines();
                let (mut first, mut number) = (String::new(), String::new());
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.is_empty() {
                        let text = answer(&first, &number);
                        let _told = tell.send(std::mem::take(&mut first));
                        if write.write_all(text.as_bytes()).await.is_err() {
                            return;
                        }
                    } else if first.is_empty() {
                        first = line;
                    } else if let Some(cseq) = line.strip_prefix("CSeq: ") {
                        cseq.clone_into(&mut number);
                    }
                }
            });
        }
    });
    (port, asked)
}

/// What is said by RTSP, with more headers and a body.
fn said(status: &str, number: &str, headers: &str, body: &str) -> String {
    format!("RTSP/1.0 {status}\r\nCSeq: {number}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

const METHODS: &str = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n";

/// A server that sends everybody elsewhere.
async fn redirecting(location: String) -> u16 {
    let answer = move |request: &str, number: &str| match request.starts_with("DESCRIBE") {
        true => said("302 Found", number, &format!("Location: {location}\r\n"), ""),
        false => said("200 OK", number, METHODS, ""),
    };
    server(answer).await.0
}

#[test]
fn an_rtsp_server_sends_only_to_hosts_that_are_allowed() {
    RUNTIME.block_on(async {
        let mut world = world().await;
        let (port, mut asked) = server(|_, number| said("404 Not Found", number, "", "")).await;
        let first = redirecting(format!("rtsp://localhost:{port}/inside")).await;
        world.pull(&format!("rtsp://127.0.0.1:{first}/camera"));
        world.failure().await;
        assert!(asked.try_recv().is_err(), "it was connected to");
        // The same, to one that is allowed.
        let first = redirecting(format!("rtsp://127.0.0.1:{port}/other")).await;
        world.pull(&format!("rtsp://127.0.0.1:{first}/camera"));
        let request = tokio::time::timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
        assert_eq!(request, format!("OPTIONS rtsp://127.0.0.1:{port}/other RTSP/1.0"));
    });
}

#[test]
fn a_server_of_files_sends_only_to_hosts_that_are_allowed() {
    RUNTIME.block_on(async {
        let mut world = world().await;
        let (port, mut asked) =
            server(|_, _| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()).await;
        let redirect = move |host: &'static str| {
            let location = format!("http://{host}:{port}/a.mp4");
            move |_: &str, _: &str| {
                format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
            }
        };
        let (first, _) = server(redirect("localhost")).await;
        world.pull(&format!("http://127.0.0.1:{first}/a.mp4"));
        assert_eq!(world.failure().await, "pulling from localhost is not allowed");
        assert!(asked.try_recv().is_err(), "it was connected to");
        let (first, _) = server(redirect("127.0.0.1")).await;
        world.pull(&format!("http://127.0.0.1:{first}/a.mp4"));
        assert!(world.failure().await.contains("404"));
        assert_eq!(asked.recv().await.unwrap(), "GET /a.mp4 HTTP/1.1");
    });
}

#[test]
fn a_playlist_names_only_hosts_that_are_allowed() {
    RUNTIME.block_on(async {
        let mut world = world().await;
        let (port, mut asked) =
            server(|_, _| "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()).await;
        let playlist =
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://localhost:{port}/a.ts\n");
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{playlist}", playlist.len());
        let (first, _) = server(move |_, _| whole.clone()).await;
        world.pull(&format!("http://127.0.0.1:{first}/a.m3u8"));
        assert_eq!(world.failure().await, "pulling from localhost is not allowed");
        assert!(asked.try_recv().is_err(), "it was connected to");
    });
}

#[test]
fn an_rtsp_server_has_no_datagrams_sent_to_where_it_says() {
    RUNTIME.block_on(async {
        let world = world().await;
        let victim = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = victim.local_addr().unwrap().port();
        let answer = move |request: &str, number: &str| match request.split(' ').next() {
            Some("DESCRIBE") => said("200 OK", number, "Content-Type: application/sdp\r\n", H264),
            Some("SETUP") => {
                let transport = format!(
                    "Transport: RTP/AVP;unicast;client_port=50000-50001;server_port={at}-{at};source=127.0.0.1\r\nSession: 1\r\n"
                );
                said("200 OK", number, &transport, "")
            }
            Some("PLAY") => said("200 OK", number, "Session: 1\r\n", ""),
            _ => said("200 OK", number, METHODS, ""),
        };
        let (port, mut asked) = server(answer).await;
        world.pull(&format!("rtsp://127.0.0.1:{port}/camera"));
        loop {
            let request = tokio::time::timeout(PATIENCE, asked.recv()).await.unwrap().unwrap();
            if request.starts_with("PLAY") {
                break;
            }
        }
        // Those that would open a firewall come at once.
        victim.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let got = tokio::task::spawn_blocking(move || victim.recv(&mut [0; 1500])).await.unwrap();
        assert!(got.is_err(), "{got:?}");
    });
}
