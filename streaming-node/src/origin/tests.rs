use std::net::SocketAddr;

use reqwest::{Client, Method};
use tokio::task::JoinHandle;

use super::*;

const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-PART-INF:PART-TARGET=0.500\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:1,\n7.mp4\n";
const PART: &str = "#EXT-X-PART:DURATION=0.5,URI=\"8.0.mp4\"\n";

struct World {
    origin: Arc<Origin>,
    address: SocketAddr,
    client: Client,
    stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
        kaigi_outbound::http::prepare_tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, origin) = (listener.local_addr().unwrap(), Origin::new("s3cret".into()));
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&origin).run(listener, stop.clone()));
        Self { origin, address, client: Client::builder().no_proxy().build().unwrap(), stop }
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        let answer = request.header("content-type", M3U8).body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn put(&self, body: &str) {
        assert_eq!(self.call(Method::PUT, "/live/v.m3u8?key=s3cret", body).await.0, 204);
    }

    async fn get(&self, query: &str) -> (u16, String) {
        self.call(Method::GET, &format!("/live/v.m3u8{query}"), "").await
    }

    /// One that waits.
    async fn waits(self: &Arc<Self>, query: &'static str) -> JoinHandle<(u16, String)> {
        let (world, before) = (Arc::clone(self), self.origin.places.available_permits());
        let waiting = tokio::spawn(async move { world.get(query).await });
        while self.origin.places.available_permits() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waiting
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn who_has_the_key_stores_and_everybody_fetches() {
    let world = World::start().await;
    for path in ["/live/a.mp4", "/live/a.mp4?key=s3cres", "/live/a.mp4?key=s3cret2", "/live/a.mp4?key="] {
        assert_eq!(world.call(Method::PUT, path, "a").await.0, 403, "{path}");
        assert_eq!(world.call(Method::DELETE, path, "").await.0, 403, "{path}");
    }
    assert_eq!(world.call(Method::GET, "/live/a.mp4", "").await.0, 404);
    assert_eq!(world.call(Method::POST, "/live/a.mp4?key=s3cret", "a").await.0, 204);
    assert_eq!(world.call(Method::GET, "/live/a.mp4", "").await, (200, "a".into()));
    assert_eq!(world.call(Method::GET, "/live/a.mp4?_HLS_msn=7", "").await, (200, "a".into()));
    assert_eq!(world.call(Method::DELETE, "/live/a.mp4?key=s3cret", "").await.0, 204);
    assert_eq!(world.call(Method::DELETE, "/live/a.mp4?key=s3cret", "").await.0, 404);
    assert_eq!(world.call(Method::PATCH, "/live/a.mp4?key=s3cret", "").await.0, 405);
}

#[tokio::test]
async fn a_request_waits_for_a_part_and_for_a_segment() {
    let world = Arc::new(World::start().await);
    world.put(HEAD).await;
    let (status, text) = world.get("?_HLS_msn=7").await;
    assert!(status == 200 && text.contains("CAN-BLOCK-RELOAD=YES"), "{text}");
    let part = world.waits("?_HLS_msn=8&_HLS_part=0").await;
    let segment = world.waits("?_HLS_msn=8").await;
    // Another playlist wakes them for nothing.
    assert_eq!(world.call(Method::PUT, "/live/a.m3u8?key=s3cret", HEAD).await.0, 204);
    world.put(&format!("{HEAD}{PART}")).await;
    let (status, text) = part.await.unwrap();
    assert!(status == 200 && text.contains("8.0.mp4"), "{text}");
    assert!(!segment.is_finished());
    world.put(&format!("{HEAD}{PART}#EXTINF:1,\n8.mp4\n")).await;
    let (status, text) = segment.await.unwrap();
    assert!(status == 200 && text.ends_with("8.mp4\n"), "{text}");
}

#[tokio::test]
async fn the_end_ends_the_wait() {
    let world = Arc::new(World::start().await);
    world.put(HEAD).await;
    let waiting = world.waits("?_HLS_msn=8").await;
    world.put(&format!("{HEAD}#EXT-X-ENDLIST\n")).await;
    let (status, text) = waiting.await.unwrap();
    assert!(status == 200 && text.ends_with("#EXT-X-ENDLIST\n"));
    assert!(!text.contains("CAN-BLOCK-RELOAD"));
    assert_eq!(world.get("?_HLS_msn=800").await.0, 200, "nothing more comes");
}

#[tokio::test]
async fn what_can_not_be_waited_for_is_refused() {
    let world = World::start().await;
    assert_eq!(world.get("?_HLS_msn=8").await.0, 404);
    world.put(HEAD).await;
    for bad in ["?_HLS_part=1", "?_HLS_msn=a", "?_HLS_msn=10", "?_HLS_msn=8&_HLS_part=6"] {
        assert_eq!(world.get(bad).await.0, 400, "{bad}");
    }
    let all = world.origin.places.try_acquire_many(MAX_WAITING as u32).unwrap();
    assert_eq!(world.get("?_HLS_msn=8").await.0, 503);
    drop(all);
}

#[tokio::test]
async fn nobody_waits_longer_than_three_target_durations() {
    let world = World::start().await;
    world.put(HEAD).await;
    let begun = Instant::now();
    assert_eq!(world.get("?_HLS_msn=8").await.0, 503);
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!(world.origin.places.available_permits(), MAX_WAITING);
}
