use std::{net::SocketAddr, pin::Pin};

use kaigi_proto::{
    auth::ClusterSecret,
    v1::events_server::{Events, EventsServer},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use super::*;
use crate::Channels;

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A hub that tells the test what was published, and answers what the test says.
struct Hub {
    published: mpsc::Sender<v1::PublishEventsRequest>,
    answers: Mutex<VecDeque<Status>>,
}

#[tonic::async_trait]
impl Events for Hub {
    async fn publish(
        &self,
        request: Request<v1::PublishEventsRequest>,
    ) -> Result<Response<v1::PublishEventsReply>, Status> {
        let answer = self.answers.lock().unwrap().pop_front();
        self.published.send(request.into_inner()).await.unwrap();
        answer.map_or(Ok(Response::new(v1::PublishEventsReply {})), Err)
    }

    type WatchStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::EventDelivery, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::WatchEventsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn webhook_status(
        &self,
        _: Request<v1::WebhookStatusRequest>,
    ) -> Result<Response<v1::WebhookStatusReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn webhook_changed(
        &self,
        _: Request<v1::WebhookChangedRequest>,
    ) -> Result<Response<v1::WebhookChangedReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn hub(address: &str, answers: Vec<Status>) -> (SocketAddr, mpsc::Receiver<v1::PublishEventsRequest>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (published, requests) = mpsc::channel(100);
    let hub = EventsServer::new(Hub { published, answers: Mutex::new(answers.into()) });
    let server = tonic::transport::Server::builder().add_service(hub);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    (address, requests)
}

fn publisher(queue: &EventQueue, address: SocketAddr, stop: &CancellationToken) -> JoinHandle<()> {
    let channel = Channels::new(ClusterSecret::default()).to(&format!("http://{address}")).unwrap();
    let publisher = WorkerId::new("agent").unwrap();
    let publisher = EventPublisher { queue: queue.clone(), hub: EventsClient::new(channel), publisher };
    tokio::spawn(publisher.run(stop.clone()))
}

fn push(queue: &EventQueue, room: &str) {
    queue.push(EventType::RoomStarted, "s", room, "{}".into());
}

fn rooms(request: &v1::PublishEventsRequest) -> Vec<&str> {
    request.events.iter().map(|event| event.room_id.as_str()).collect()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("ends in time")
}

#[tokio::test]
async fn what_is_not_answered_is_published_again_under_the_same_numbers() {
    let (address, mut requests) = hub("127.0.0.1:0", vec![Status::unavailable("away")]).await;
    let (queue, stop) = (EventQueue::default(), CancellationToken::new());
    push(&queue, "a");
    push(&queue, "b");
    publisher(&queue, address, &stop);
    let first = within(requests.recv()).await.unwrap();
    push(&queue, "c");
    let again = within(requests.recv()).await.unwrap();
    assert_eq!((first.first_seq, rooms(&first)), (1, vec!["a", "b"]));
    assert_eq!(again, first);
    let next = within(requests.recv()).await.unwrap();
    assert_eq!((next.first_seq, rooms(&next)), (3, vec!["c"]));
}

#[tokio::test]
async fn events_wait_for_a_cluster_manager_that_is_away() {
    // A port that nobody listens on, for now.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (queue, stop) = (EventQueue::default(), CancellationToken::new());
    publisher(&queue, address, &stop);
    push(&queue, "a");
    let (_, mut requests) = hub(&address.to_string(), Vec::new()).await;
    assert_eq!(rooms(&within(requests.recv()).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn what_the_hub_refuses_holds_up_nothing() {
    let (address, mut requests) = hub("127.0.0.1:0", vec![Status::invalid_argument("no")]).await;
    let (queue, stop) = (EventQueue::default(), CancellationToken::new());
    push(&queue, "a");
    publisher(&queue, address, &stop);
    within(requests.recv()).await.unwrap();
    push(&queue, "b");
    let next = within(requests.recv()).await.unwrap();
    assert_eq!((next.first_seq, rooms(&next)), (2, vec!["b"]));
}

#[tokio::test]
async fn what_still_waits_at_the_end_is_published() {
    let (address, mut requests) = hub("127.0.0.1:0", Vec::new()).await;
    let (queue, stop) = (EventQueue::default(), CancellationToken::new());
    stop.cancel();
    push(&queue, "a");
    within(publisher(&queue, address, &stop)).await.unwrap();
    assert_eq!(rooms(&within(requests.recv()).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_cluster_manager_that_is_away() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (queue, stop) = (EventQueue::default(), CancellationToken::new());
    push(&queue, "a");
    stop.cancel();
    within(publisher(&queue, address, &stop)).await.unwrap();
}

#[test]
fn the_oldest_make_room_and_batches_are_bounded() {
    let queue = EventQueue::default();
    (0..MAX_WAITING + 5).for_each(|i| push(&queue, &i.to_string()));
    let batch = queue.take();
    assert_eq!((batch.len(), batch[0].room_id.as_str()), (MAX_EVENTS, "5"));

    let queue = EventQueue::default();
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_DATA - 10));
    (0..1000).for_each(|_| queue.push(EventType::StreamAdded, "s", "r", large.clone()));
    assert!(queue.0.queue.lock().unwrap().bytes <= MAX_WAITING_BYTES);
    assert_eq!(queue.take().len(), MAX_BATCH / MAX_DATA);
    queue.push(EventType::StreamAdded, "s", "r", format!("{large}{large}"));
    assert!(queue.0.queue.lock().unwrap().events.len() < 600);
}
