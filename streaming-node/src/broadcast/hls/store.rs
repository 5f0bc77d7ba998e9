//! Stores segments and the playlist at the server, one after the other.

use std::{collections::VecDeque, sync::mpsc as blocking, time::Duration};

use bytes::Bytes;
use kaigi_outbound::{
    Reach,
    http::{self, ClientError},
};
use reqwest::{Client, Method, Url, header::CONTENT_TYPE};
use tokio::sync::mpsc;

use super::{
    cutter::Piece,
    playlist::{Playlist, Segment},
};
use crate::{
    broadcast::connection::{News, Tell},
    target::Segments,
};

/// Longest time for a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a connection, of [`TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is to be done.
pub(super) enum Job {
    Segment { piece: Piece, after_break: bool, tell: Tell },
    End,
}

/// See the module.
pub(super) struct Store {
    client: Client,
    reach: Reach,
    method: Method,
    playlist_url: Option<Url>,
    /// What names of segments begin with: no two broadcasts to one place have the same.
    stem: String,
    count: u64,
    playlist: Playlist,
    /// A segment is missing before the next.
    broken: bool,
    window: usize,
    /// Listed no more, but maybe still being fetched.
    outdated: VecDeque<String>,
}

impl Store {
    /// `run` tells one broadcast to a place from the next.
    pub(super) fn new(url: &str, run: u64, segments: Segments, reach: Reach) -> Result<Self, ClientError> {
        let client =
            http::client(reach, |builder| builder.connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT))?;
        let playlist_url = Url::parse(url).ok();
        let file = playlist_url.as_ref().and_then(|url| url.path_segments()?.next_back().map(str::to_owned));
        let file = file.unwrap_or_default();
        Ok(Self {
            client,
            reach,
            method: if segments.by_post { Method::POST } else { Method::PUT },
            playlist_url,
            stem: format!("{}-{run}", file.strip_suffix(".m3u8").unwrap_or(&file)),
            count: 0,
            playlist: Playlist::new(segments.window, segments.duration),
            broken: false,
            window: segments.window,
            outdated: VecDeque::new(),
        })
    }

    /// Until the end of the playlist is stored, or nobody sends any more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, ended: blocking::Sender<()>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Segment { piece, after_break, tell } => {
                    let news = match self.store(piece, after_break).await {
                        Ok(()) => News::Flows,
                        Err(reason) => {
                            self.broken = true;
                            News::Failed(reason)
                        }
                    };
                    // Its connection may be over.
                    drop(tell.send(news));
                }
                Job::End => {
                    self.playlist.end();
                    if !self.playlist.is_empty()
                        && let Err(reason) = self.put_playlist().await
                    {
                        tracing::warn!(reason, "the end of the playlist is not stored");
                    }
                    let _heard = ended.send(());
                    return;
                }
            }
        }
    }

    async fn store(&mut self, piece: Piece, after_break: bool) -> Result<(), String> {
        let name = format!("{}-{:05}.ts", self.stem, self.count);
        self.count += 1;
        self.put(&name, piece.data, "video/mp2t").await?;
        let after_break = after_break || std::mem::take(&mut self.broken);
        let gone = self.playlist.push(Segment { name, duration: piece.duration, after_break });
        self.outdated.extend(gone);
        self.put_playlist().await?;
        // Those who have the older playlist have until then to fetch them.
        while self.outdated.len() > self.window {
            let Some(name) = self.outdated.pop_front() else { break };
            self.delete(&name).await;
        }
        Ok(())
    }

    async fn put_playlist(&self) -> Result<(), String> {
        let url = self.playlist_url.clone().ok_or("the URL is none")?;
        self.send(url, self.playlist.text().into(), "application/vnd.apple.mpegurl").await
    }

    async fn put(&self, name: &str, data: Bytes, kind: &'static str) -> Result<(), String> {
        self.send(self.beside(name)?, data, kind).await
    }

    fn beside(&self, name: &str) -> Result<Url, String> {
        let url = self.playlist_url.as_ref().ok_or("the URL is none")?;
        let mut beside = url.join(name).map_err(|error| error.to_string())?;
        // A token in the playlist's URL is the segments' too.
        beside.set_query(url.query());
        Ok(beside)
    }

    async fn send(&self, url: Url, data: Bytes, kind: &'static str) -> Result<(), String> {
        http::check(&url, self.reach)?;
        let request = self.client.request(self.method.clone(), url).header(CONTENT_TYPE, kind).body(data);
        let status = request.send().await.map_err(http::reason)?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("the server answers with status {}", status.as_u16())),
        }
    }

    /// Servers need not offer it.
    async fn delete(&self, name: &str) {
        if let Ok(url) = self.beside(name) {
            let _answer = self.client.delete(url).send().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(url: &str) -> Store {
        let segments = Segments { by_post: false, duration: Duration::from_secs(2), window: 5 };
        Store::new(url, 7, segments, Reach::Any).unwrap()
    }

    #[test]
    fn segments_are_beside_the_playlist_with_its_credentials() {
        let store = store("https://u:p@live.example/room/a.m3u8?token=1");
        let name = format!("{}-00000.ts", store.stem);
        let url = store.beside(&name).unwrap();
        assert_eq!(url.as_str(), "https://u:p@live.example/room/a-7-00000.ts?token=1");
    }

    #[tokio::test]
    async fn what_may_not_be_reached_is_not() {
        let mut store = store("http://127.0.0.1:9/a.m3u8");
        store.reach = Reach::Public;
        let piece = Piece { data: Bytes::from_static(b"x"), duration: Duration::from_secs(1) };
        assert_eq!(store.store(piece, false).await, Err(http::NOT_PUBLIC.to_owned()));
    }
}
