//! Media that come back, by offer and answer over HTTP.

use std::{net::SocketAddr, pin::Pin};

use futures::Stream as Flow;
use kaigi_proto::v1::{
    Collection, DataExchangeReply, DataExchangeRequest, DataMessage, DataRequest, Progress,
    Stream as RoomStream, StreamEvent, data_exchange_reply::Event, data_link_server::DataLink, join_event,
    progress, stream_event,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    House,
    cluster::Cluster,
    eventually,
    http::{self, Answer},
};

const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
/// What the room calls what is published, had back, and made of it.
const PUBLICATION: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
const BACK: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

type Replies = mpsc::Sender<Result<DataExchangeReply, Status>>;

/// An access-node's data channels, as far as portals see them.
#[derive(Default)]
pub(crate) struct Channels {
    open: Vec<Replies>,
    heard: Vec<(String, Option<u32>)>,
}

#[tonic::async_trait]
impl DataLink for Cluster {
    type SubscribeStream = Pin<Box<dyn Flow<Item = Result<DataMessage, Status>> + Send>>;
    type ExchangeStream = ReceiverStream<Result<DataExchangeReply, Status>>;

    async fn subscribe(&self, _: Request<DataRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn exchange(
        &self,
        request: Request<Streaming<DataExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        assert_eq!(first.stream_id, PUBLICATION);
        let (replies, stream) = mpsc::channel(16);
        self.state().channels.open.push(replies);
        let cluster = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(DataExchangeRequest { message: Some(message), .. })) = requests.message().await
            {
                let text = String::from_utf8(message.payload.to_vec()).unwrap();
                cluster.state().channels.heard.push((text, message.channel));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Cluster {
    async fn channel(&self, event: Event) {
        let replies = self.state().channels.open.last().unwrap().clone();
        replies.send(Ok(DataExchangeReply { event: Some(event) })).await.unwrap();
    }

    async fn client_says(&self, text: &str, channel: u32) {
        let payload = text.to_owned().into_bytes().into();
        let message = DataMessage { payload, text: true, channel: Some(channel) };
        self.channel(Event::Message(message)).await;
    }

    fn client_heard(&self) -> Vec<(String, Option<u32>)> {
        self.state().channels.heard.clone()
    }

    async fn stream_comes(&self, id: &str) {
        let change = stream_event::Change::Added(RoomStream { id: id.into(), ..RoomStream::default() });
        let event = StreamEvent { stream_id: id.into(), change: Some(change) };
        self.tell(join_event::Event::Stream(event)).await;
    }

    async fn progresses(&self, progress: progress::Progress) {
        let event = Progress { transport_id: PUBLICATION.into(), progress: Some(progress) };
        self.tell(join_event::Event::Progress(event)).await;
    }
}

fn sdp(direction: &str, payload: u8) -> String {
    let mut text = "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n".to_owned();
    for (mid, kind) in ["audio", "video"].iter().enumerate() {
        text += &format!("m={kind} 9 UDP/TLS/RTP/SAVPF {payload}\r\n{ICE}a=mid:{mid}\r\na={direction}\r\n");
    }
    text + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n"
}

impl House {
    async fn echoes(sessions: &str) -> Self {
        Self::with(&["--echo-sessions", sessions, "--echo-port", "0"]).await
    }

    async fn posted(&self, place: SocketAddr, path: &str, body: &Value) -> Answer {
        let kind = [("content-type", "application/json")];
        http::send(place, "POST", path, &kind, &body.to_string()).await
    }

    async fn offers(&self, body: Value) -> Answer {
        self.posted(self.http, "/echo/offer", &body).await
    }

    /// A session that is begun: its answer.
    async fn echoed(&self, transform: &str) -> Value {
        let body = json!({"sdp": sdp("sendrecv", 96), "type": "offer", "video_transform": transform});
        let answer = self.offers(body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn said(&self, session: &str, text: &str) -> Answer {
        self.posted(self.http, "/echo/message", &json!({"session": session, "text": text})).await
    }

    async fn sessions(&self) -> Value {
        http::send(self.http, "GET", "/echo/health", &[], "").await.json()["sessions"].clone()
    }

    async fn ended(&self) {
        let ended = async { while self.sessions().await != 0 {} };
        tokio::time::timeout(super::PATIENCE, ended).await.expect("the session goes on");
        assert!(self.cluster.state().members.is_empty());
    }
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_offer_of_both_ways_is_one_publication_and_one_subscription_of_it() {
    let house = House::echoes("2").await;
    let answer = house.echoed("none").await;
    assert_eq!(answer["type"], "answer");
    let text = answer["sdp"].as_str().unwrap();
    assert_eq!(text.matches("\r\nm=").count(), 3, "as many m-lines as were offered: {text}");
    assert!(text.contains("a=ice-ufrag:dcba") && !text.contains("back-"), "{text}");
    let published = house.cluster.calls("publish");
    assert_eq!(published, [json!({"tracks": 2, "attributes": null, "data": true, "anyLabel": true})]);
    let subscribed = &house.cluster.calls("subscribe")[0];
    assert_eq!(subscribed["from"], json!([PUBLICATION, PUBLICATION]));
    assert_eq!(subscribed["transport"], PUBLICATION);
    assert_eq!(house.cluster.calls("control_subscription").len(), 0);
    let room = "6563686f0000000000000001";
    let stored = house.cluster.document(Collection::Rooms, room).unwrap();
    assert_eq!(
        (&stored["views"], &stored["service"]),
        (&json!([]), &json!("echo")),
        "nobody's, and nothing is mixed"
    );
    assert_eq!(house.cluster.calls("join")[0]["room"], room);
    house.cluster.progresses(progress::Progress::TransportError("gone".into())).await;
    house.ended().await;
}

#[tokio::test]
async fn the_picture_comes_back_when_it_is_filtered() {
    for (transform, algorithm, parameters) in
        [("edges", "edgedetect", ""), ("cartoon", "cartoon", ""), ("rotate", "rotate", "{\"angle\":90}")]
    {
        let house = House::echoes("1").await;
        house.echoed(transform).await;
        let controls = || house.cluster.calls("control_subscription");
        assert!(controls()[0].as_str().unwrap().starts_with("Pause"), "no picture before");
        house.cluster.stream_comes(PUBLICATION).await;
        house.cluster.progresses(progress::Progress::SessionReady(BACK.into())).await;
        eventually("the filter is begun", || !house.cluster.calls("start_analytics").is_empty()).await;
        assert_eq!(house.cluster.calls("start_analytics"), [json!([algorithm, parameters, PUBLICATION])]);
        house.cluster.stream_comes("somebody else's").await;
        house.cluster.stream_comes(&format!("{algorithm}{PUBLICATION}")).await;
        eventually("it is had back", || controls().len() == 3).await;
        let told: Vec<String> = controls().iter().map(|told| told.as_str().unwrap().to_owned()).collect();
        assert!(
            told[1].starts_with("Update") && told[1].contains(&format!("{algorithm}{PUBLICATION}")),
            "{told:?}"
        );
        assert!(told[2].starts_with("Play"), "{told:?}");
    }
}

#[tokio::test]
async fn a_filter_that_is_not_to_be_had_ends_the_session() {
    let house = House::echoes("1").await;
    house.echoed("edges").await;
    house.cluster.state().refusals.insert("start_analytics", Status::unavailable("No mixer node"));
    house.cluster.progresses(progress::Progress::SessionReady(BACK.into())).await;
    house.cluster.stream_comes(PUBLICATION).await;
    house.ended().await;
}

#[tokio::test]
async fn pings_are_answered_and_texts_are_sent() {
    let house = House::echoes("1").await;
    let answer = house.echoed("none").await;
    let session = answer["session"].as_str().unwrap();
    assert_eq!(refused(&house.said(session, "early").await), (409, "no_channel".into()));
    house.cluster.channel(Event::Channels(1)).await;
    house.cluster.client_says("ping 1234", 7).await;
    eventually("the ping is answered", || !house.cluster.client_heard().is_empty()).await;
    assert_eq!(house.cluster.client_heard(), [("pong 1234".to_owned(), Some(7))]);
    house.cluster.client_says("hello", 7).await;
    assert_eq!(house.said(session, "from outside").await.status, 200);
    eventually("the text is sent", || house.cluster.client_heard().len() == 2).await;
    assert_eq!(house.cluster.client_heard()[1], ("from outside".to_owned(), None));
    house.cluster.channel(Event::Channels(0)).await;
    house.cluster.client_says("ping", 7).await;
    assert_eq!(refused(&house.said(&"0".repeat(32), "x").await), (404, "no_session".into()));
    let long = "x".repeat(16 * 1024 + 1);
    assert_eq!(refused(&house.said(session, &long).await), (413, "too_large".into()));
    // The data end with their publication, and the session with them.
    house.cluster.state().channels.open.clear();
    house.ended().await;
    assert_eq!(refused(&house.said(session, "late").await), (404, "no_session".into()));
}

#[tokio::test]
async fn what_can_not_be_served_is_refused_and_leaves_nothing() {
    let house = House::echoes("1").await;
    let offer = |sdp: &str| json!({"sdp": sdp, "type": "offer"});
    for (body, expected) in [
        (json!([]), (400, "malformed")),
        (json!({"sdp": sdp("sendrecv", 96)}), (400, "malformed")),
        (json!({"sdp": sdp("sendrecv", 96), "type": "answer"}), (400, "malformed")),
        (json!({"sdp": sdp("sendrecv", 96), "type": "offer", "video_transform": "blur"}), (400, "malformed")),
        (offer("hello"), (400, "malformed_offer")),
        (offer(&sdp("sendrecv", 96).replace("BUNDLE 0 1 2", "BUNDLE 0")), (400, "malformed_offer")),
        // No format in common: answered inactive.
        (offer(&sdp("sendrecv", 126)), (422, "offer_not_served")),
        (offer(&"x".repeat(200_000)), (413, "too_large")),
    ] {
        assert_eq!(refused(&house.offers(body.clone()).await), (expected.0, expected.1.to_owned()), "{body}");
        eventually("nobody stays", || house.cluster.state().members.is_empty()).await;
    }
    let text = http::send(house.http, "POST", "/echo/offer", &[("content-type", "text/plain")], "{}").await;
    assert_eq!(refused(&text), (415, "media_type".into()));
    assert_eq!(house.sessions().await, 0);
}

#[tokio::test]
async fn sessions_are_bounded_in_number_and_rate() {
    let house = House::echoes("1").await;
    house.echoed("none").await;
    let again = house.offers(json!({"sdp": sdp("sendrecv", 96), "type": "offer"})).await;
    assert_eq!(refused(&again), (503, "full".into()));
    assert_eq!(again.header("retry-after"), Some("2"));
    let mut last = again;
    for _ in 0..20 {
        last = house.offers(json!({})).await;
    }
    assert_eq!(refused(&last), (429, "too_fast".into()));
}

#[tokio::test]
async fn the_port_of_its_own_serves_the_same() {
    let house = House::echoes("1").await;
    let own = house.echo.unwrap();
    let health = http::send(own, "GET", "/health", &[], "").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok", "sessions": 0, "max_sessions": 1}))
    );
    let begun = house.posted(own, "/offer", &json!({"sdp": sdp("sendrecv", 96), "type": "offer"})).await;
    assert_eq!(begun.status, 200, "{begun:?}");
    let session = begun.json()["session"].as_str().unwrap().to_owned();
    let said = house.posted(own, "/message", &json!({"session": session, "text": "x"})).await;
    assert_eq!(refused(&said), (409, "no_channel".into()));
    house.stop.cancel();
    eventually("nobody stays", || house.cluster.state().members.is_empty()).await;
}

#[tokio::test]
async fn it_is_not_served_unless_that_is_wished() {
    let house = House::new().await;
    assert_eq!(http::send(house.http, "GET", "/echo/health", &[], "").await.status, 404);
    assert!(house.offers(json!({})).await.status >= 400);
    assert!(house.echo.is_none());
}
