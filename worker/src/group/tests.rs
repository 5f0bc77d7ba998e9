use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kaigi_proto::{
    auth::ClusterSecret,
    v1::group_server::{Group as GroupRpc, GroupServer},
};
use tokio::{io::AsyncReadExt, net::TcpListener};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::Channels;

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A cluster-manager that says what the test wants.
#[derive(Clone, Default)]
struct Member {
    leads: Arc<AtomicBool>,
    term: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl GroupRpc for Member {
    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderReply>, Status> {
        Ok(Response::new(LeaderReply {
            leads: self.leads.load(Ordering::SeqCst),
            term: self.term.load(Ordering::SeqCst),
            leader: String::new(),
        }))
    }
}

impl Member {
    fn says(&self, leads: bool, term: u64) {
        self.leads.store(leads, Ordering::SeqCst);
        self.term.store(term, Ordering::SeqCst);
    }

    async fn start(leads: bool, term: u64) -> (Self, SocketAddr) {
        let member = Self::default();
        member.says(leads, term);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(GroupServer::new(member.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (member, address)
    }
}

fn group(addresses: &[SocketAddr]) -> Arc<Group> {
    let maker = Channels::new(ClusterSecret::default()).maker;
    let places = addresses.iter().map(|address| maker.place(&format!("http://{address}")).unwrap()).collect();
    Arc::new(Group::new(places, maker))
}

async fn connected(group: &Arc<Group>) -> Guarded {
    let connection = tokio::time::timeout(DEADLINE, group.clone().connect()).await;
    connection.expect("connects in time").unwrap().into_inner()
}

#[tokio::test]
async fn the_leader_is_found_among_those_who_are_dead_or_stand_still_or_follow() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    // Never accepts: the kernel answers for it.
    let still = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, follows) = Member::start(false, 4).await;
    let (_, leads) = Member::start(true, 4).await;
    let group = group(&[dead, still.local_addr().unwrap(), follows, leads]);
    assert_eq!(connected(&group).await.stream.peer_addr().unwrap(), leads);
}

#[tokio::test]
async fn one_that_does_not_know_that_its_term_is_over_is_not_taken_for_the_leader() {
    let (_, old) = Member::start(true, 4).await;
    let (_, new) = Member::start(true, 5).await;
    assert_eq!(connected(&group(&[old, new])).await.stream.peer_addr().unwrap(), new);
}

#[tokio::test]
async fn a_leader_is_waited_for() {
    let (first, address) = Member::start(false, 4).await;
    let (_, other) = Member::start(false, 4).await;
    let group = group(&[address, other]);
    let waiting = tokio::spawn({
        let group = group.clone();
        async move { connected(&group).await.stream.peer_addr().unwrap() }
    });
    first.says(true, 5);
    assert_eq!(waiting.await.unwrap(), address);
}

#[tokio::test]
async fn the_connection_breaks_when_another_leads() {
    let (first, address) = Member::start(true, 4).await;
    let (second, other) = Member::start(false, 4).await;
    let group = group(&[address, other]);
    let mut connection = connected(&group).await;
    assert_eq!(connection.stream.peer_addr().unwrap(), address);
    // It stands still, or has no way to know: it still says that it leads.
    second.says(true, 5);
    let mut ignored = Vec::new();
    let read = tokio::time::timeout(DEADLINE, connection.read_to_end(&mut ignored)).await;
    assert_eq!(read.expect("is not noticed").unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(connected(&group).await.stream.peer_addr().unwrap(), other);
    assert!(first.leads.load(Ordering::SeqCst));
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = group(&[dead]).connect().await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
}

#[test]
fn each_endpoint_has_a_host_and_a_port() {
    let channels = Channels::new(ClusterSecret::default());
    let made = |text: &str| channels.maker.place(text).map(|place| (place.host, place.port));
    assert_eq!(made("http://[::1]:80").unwrap(), ("::1".to_owned(), 80));
    assert_eq!(made("http://manager:10080").unwrap(), ("manager".to_owned(), 10080));
    for wrong in ["", "manager", "http://manager", "http://:80"] {
        assert!(made(wrong).is_err(), "{wrong}");
    }
}
