use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A name whose address changes, as of one who wants to be taken for another.
fn guard(policy: &Policy, look_up: LookUp) -> Arc<Guard> {
    Arc::new(Guard::new(Rule::new(policy), look_up))
}

/// The answer to somebody who wants to be connected to a name.
async fn connected(guard: &Arc<Guard>, name: &str, port: u16) -> (u8, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(Arc::clone(guard).run(listener));
    let mut said = b"\x05\x01\x02\x01\x05kaigi\x20".to_vec();
    said.extend(guard.password.as_bytes());
    said.extend([5, 1, 0, 3, u8::try_from(name.len()).unwrap()]);
    said.extend(name.as_bytes());
    said.extend(port.to_be_bytes());
    stream.write_all(&said).await.unwrap();
    let mut answer = [0; 14];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..5], [5, 2, 1, 0, 5]);
    (answer[5], stream)
}

/// A server that says where it was spoken to, once.
async fn server() -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(b"yours").await.unwrap();
        heard
    });
    (address, served)
}

fn loopback(_: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]) })
}

#[tokio::test]
async fn what_may_be_connected_to_is() {
    let (address, served) = server().await;
    let policy = Policy { reach: kaigi_outbound::Reach::Any, ..Policy::closed("/r") };
    let (answer, mut stream) = connected(&guard(&policy, loopback), "camera.example", address.port()).await;
    assert_eq!(answer, Reply::Connected as u8);
    stream.write_all(b"hello").await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!((served.await.unwrap().as_slice(), heard.as_slice()), (&b"hello"[..], &b"yours"[..]));
}

#[tokio::test]
async fn a_name_that_has_become_an_address_inside_is_not_connected_to() {
    let (address, served) = server().await;
    let guard = guard(&Policy::closed("/r"), loopback);
    for name in ["camera.example", "127.0.0.1", "[::1]", "::ffff:127.0.0.1"] {
        let (answer, mut stream) = connected(&guard, name, address.port()).await;
        assert_eq!(answer, Reply::NotAllowed as u8, "{name}");
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn of_several_addresses_those_inside_are_left_out() {
    let guard = guard(&Policy::closed("/r"), |_, port| {
        // TEST-NET-1, then one that nobody answers at but that may be asked for.
        let found = ["192.0.2.1", "127.0.0.1", "10.0.0.1"];
        Box::pin(async move {
            Ok(found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), port)).collect())
        })
    });
    let (answer, _stream) = connected(&guard, "camera.example", 1).await;
    assert_eq!(answer, Reply::NotAllowed as u8);
}

#[tokio::test]
async fn hosts_that_are_not_listed_are_not_even_looked_up() {
    let policy = Policy {
        reach: kaigi_outbound::Reach::Any,
        ingest_hosts: vec!["camera.example".into()],
        ..Policy::closed("/r")
    };
    let guard = guard(&policy, |name, port| {
        assert_eq!(name, "camera.example");
        loopback(name, port)
    });
    let (address, _served) = server().await;
    assert_eq!(connected(&guard, "other.example", address.port()).await.0, Reply::NotAllowed as u8);
    assert_eq!(connected(&guard, "camera.example", address.port()).await.0, Reply::Connected as u8);
}

#[tokio::test]
async fn a_name_that_is_none_and_a_server_that_is_away_are_said() {
    let policy = Policy { reach: kaigi_outbound::Reach::Any, ..Policy::closed("/r") };
    let unknown = guard(&policy, |_, _| Box::pin(async { Err(io::Error::other("no such name")) }));
    assert_eq!(connected(&unknown, "camera.example", 1).await.0, Reply::Unreachable as u8);
    // Nobody listens there: it was free a moment ago.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
    assert_eq!(
        connected(&guard(&policy, loopback), "camera.example", free).await.0,
        Reply::Unreachable as u8
    );
}
