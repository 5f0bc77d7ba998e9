//! Files that are stored at a server by HTTP, beside one that the broadcast's URL names.

use std::time::Duration;

use bytes::Bytes;
use kaigi_outbound::{
    Reach,
    http::{self, ClientError},
};
use reqwest::{Client, Method, Url, header::CONTENT_TYPE};

/// Longest time for a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a connection, of [`TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Upload {
    client: Client,
    reach: Reach,
    method: Method,
    url: Option<Url>,
}

impl Upload {
    pub(super) fn new(url: &str, by_post: bool, reach: Reach) -> Result<Self, ClientError> {
        let client =
            http::client(reach, |builder| builder.connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT))?;
        let method = if by_post { Method::POST } else { Method::PUT };
        Ok(Self { client, reach, method, url: Url::parse(url).ok() })
    }

    /// What names beside the URL's file begin with: its own name without the extension, so that no two broadcasts to one place (that differ in
    /// `run`) have the same. Of letters and digits and a few signs only, which mean the same in URLs, playlists and templates.
    pub(super) fn stem(&self, run: u64) -> String {
        let file = self.url.as_ref().and_then(|url| url.path_segments()?.next_back());
        let file = file.unwrap_or_default();
        let name = file.rsplit_once('.').map_or(file, |(name, _)| name);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.%".contains(c) { c } else { '_' };
        format!("{}-{run}", name.chars().map(plain).collect::<String>())
    }

    /// Stores the file that the URL names.
    pub(super) async fn put_main(&self, data: Bytes, kind: &'static str) -> Result<(), String> {
        self.send(self.url.clone().ok_or("the URL is none")?, data, kind).await
    }

    /// Stores a file beside it.
    pub(super) async fn put(&self, name: &str, data: Bytes, kind: &'static str) -> Result<(), String> {
        self.send(self.beside(name)?, data, kind).await
    }

    fn beside(&self, name: &str) -> Result<Url, String> {
        let url = self.url.as_ref().ok_or("the URL is none")?;
        let mut beside = url.join(name).map_err(|error| error.to_string())?;
        // A token in the URL is the others' too.
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
    pub(super) async fn delete(&self, name: &str) {
        if let Ok(url) = self.beside(name) {
            let _answer = self.client.delete(url).send().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_beside_the_first_with_its_credentials() {
        let upload = Upload::new("https://u:p@live.example/room/a.m3u8?token=1", false, Reach::Any).unwrap();
        let name = format!("{}-00000.ts", upload.stem(7));
        let url = upload.beside(&name).unwrap();
        assert_eq!(url.as_str(), "https://u:p@live.example/room/a-7-00000.ts?token=1");
    }

    #[test]
    fn names_mean_nothing_but_themselves() {
        let stem = |url: &str| Upload::new(url, false, Reach::Any).unwrap().stem(7);
        assert_eq!(stem("https://h/file:a&b'$Time$.mpd"), "file_a_b__Time_-7");
        assert_eq!(stem("https://h/%C3%A9t%C3%A9.m3u8"), "%C3%A9t%C3%A9-7");
    }

    #[tokio::test]
    async fn what_may_not_be_reached_is_not() {
        let upload = Upload::new("http://127.0.0.1:9/a.m3u8", false, Reach::Public).unwrap();
        let stored = upload.put("a.ts", Bytes::from_static(b"x"), "video/mp2t").await;
        assert_eq!(stored, Err(http::NOT_PUBLIC.to_owned()));
    }
}
