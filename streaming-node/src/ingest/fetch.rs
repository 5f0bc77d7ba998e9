//! Sources that are fed to the pipeline from here: files and playlists of HLS by HTTP, fetched so that every address is looked at; and what
//! encoders push.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSrc, AppSrcCallbacks, AppStreamType};
use kaigi_outbound::{
    Reach,
    http::{self, ClientError},
};
use reqwest::{Client, Response, StatusCode, header};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{
    branch::{News, Tell},
    hls,
    source::{Source, Way},
};
use crate::{
    door::Pushed,
    rtmp::{self, Tag},
    target::{Policy, is_listed},
};

/// Longest silence of a server.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Redirections that are followed.
const MAX_REDIRECTIONS: usize = 5;
/// Bytes that wait for the pipeline, about.
const MAX_WAITING: u64 = 4 << 20;
/// Between looks at whether there is room again.
const NAP: Duration = Duration::from_millis(50);
/// Between looks at whether the pipeline has begun.
const START_NAP: Duration = Duration::from_millis(2);

/// Why something can't be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Without the URL, which may have a secret in it.
    #[error("{0}")]
    Request(String),
    #[error("pulling from {0} is not allowed")]
    NotAllowed(String),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("redirected too often, or to nowhere")]
    Redirected,
    #[error("the server answers more than is taken")]
    TooMuch,
    #[error("{0}")]
    Playlist(&'static str),
    #[error("the pipeline takes no more")]
    Pipeline,
}

/// Fetches until dropped.
#[derive(Debug)]
pub(super) struct Fetcher {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

/// What to fetch with.
#[derive(Clone, Debug)]
pub(super) struct Web {
    client: Client,
    reach: Reach,
    /// See [`Policy::ingest_hosts`].
    hosts: Arc<[String]>,
}

/// A part of a file: from where, and how many bytes if not all.
pub(super) type Part = (u64, Option<u64>);

impl Fetcher {
    /// Looks what is there and begins to feed the sources that it gives. Blocks for the first answer; must be called within a tokio runtime,
    /// and not on one of its threads that must not block.
    pub(super) fn start(
        source: &Source,
        policy: &Policy,
        tell: Tell,
    ) -> Result<(Self, Vec<AppSrc>), FetchError> {
        let (reach, hosts) = (policy.reach, Arc::from(policy.ingest_hosts.as_slice()));
        let client = http::client(reach, |client| client.connect_timeout(TIMEOUT).read_timeout(TIMEOUT))?;
        let web = Web { client, reach, hosts };
        let url = Url::parse(&source.url).map_err(|_| FetchError::Redirected)?;
        let runtime = Handle::current();
        let mut tasks = Vec::new();
        let mut sources = Vec::new();
        let mut spawn = |feed: BoxFuture<'static, Result<(), FetchError>>| {
            let tell = tell.clone();
            tasks.push(AbortOnDropHandle::new(runtime.spawn(async move {
                if let Err(error) = feed.await {
                    tell.tell(News::Failed(error.to_string()));
                }
            })));
        };
        if source.way == Way::Hls {
            for playlist in runtime.block_on(hls::playlists(&web, &url))? {
                let source = app_source(AppStreamType::Stream);
                sources.push(source.clone());
                let web = web.clone();
                spawn(Box::pin(async move {
                    started(&source).await;
                    hls::feed(&web, playlist, &source).await
                }));
            }
        } else {
            let first = runtime.block_on(web.get(&url, Some((0, None))))?;
            let size = total(&first);
            let source =
                app_source(if size.is_some() { AppStreamType::Seekable } else { AppStreamType::Stream });
            let seeks = watch_seeks(&source);
            if let Some(size) = size {
                source.set_size(i64::try_from(size).unwrap_or(-1));
            }
            sources.push(source.clone());
            spawn(Box::pin(async move {
                started(&source).await;
                feed_file(&web, &url, first, &source, seeks).await
            }));
        }
        Ok((Self { _tasks: tasks }, sources))
    }

    /// Feeds what an encoder pushes. Must be called within a tokio runtime.
    pub(super) fn pushed(pushed: Pushed, tell: Tell) -> (Self, AppSrc) {
        let source = app_source(AppStreamType::Stream);
        let feed = {
            let source = source.clone();
            async move {
                started(&source).await;
                if let Err(error) = feed_pushed(&pushed, &source).await {
                    tell.tell(News::Failed(error.to_string()));
                }
            }
        };
        (Self { _tasks: vec![AbortOnDropHandle::new(Handle::current().spawn(feed))] }, source)
    }
}

/// From the next key frame on, if it is not the first to be fed with it.
async fn feed_pushed(pushed: &Pushed, source: &AppSrc) -> Result<(), FetchError> {
    push(source, rtmp::HEADER)?;
    let headers = pushed.headers();
    let mut skips = headers.iter().any(Tag::is_picture);
    for header in headers {
        push(source, header.to_bytes())?;
    }
    while let Some(tag) = pushed.next().await {
        skips &= !tag.is_key_frame();
        if !skips || !tag.is_picture() {
            room_in(source).await;
            push(source, tag.to_bytes())?;
        }
    }
    let _flow = source.end_of_stream();
    Ok(())
}

fn app_source(kind: AppStreamType) -> AppSrc {
    AppSrc::builder().format(gst::Format::Bytes).stream_type(kind).max_bytes(MAX_WAITING * 2).build()
}

/// Where the pipeline wants to go on, with a number that rises.
fn watch_seeks(source: &AppSrc) -> watch::Receiver<(u64, u64)> {
    let (seek, seeks) = watch::channel((0, 0));
    let callbacks = AppSrcCallbacks::builder().seek_data(move |_, offset| {
        seek.send_modify(|(number, at)| (*number, *at) = (*number + 1, offset));
        true
    });
    source.set_callbacks(callbacks.build());
    seeks
}

/// The size of a file of which any part can be had.
fn total(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit_once('/')?.1.parse().ok()
}

async fn feed_file(
    web: &Web,
    url: &Url,
    first: Response,
    source: &AppSrc,
    mut seeks: watch::Receiver<(u64, u64)>,
) -> Result<(), FetchError> {
    let (mut response, mut number, mut at) = (Some(first), 0, 0);
    loop {
        let (newest, offset) = *seeks.borrow_and_update();
        // It seeks to the beginning at first, where it is.
        if newest != number && !(number == 0 && offset == at) {
            response = Some(web.get(url, Some((offset, None))).await?);
            at = offset;
        }
        number = newest;
        match &mut response {
            Some(rest) => {
                match rest.chunk().await.map_err(|error| FetchError::Request(http::reason(error)))? {
                    Some(bytes) => {
                        at += bytes.len() as u64;
                        room_in(source).await;
                        if !seeks.has_changed().unwrap_or(false) {
                            push(source, bytes)?;
                        }
                    }
                    None => {
                        response = None;
                        let _flow = source.end_of_stream();
                    }
                }
            }
            // It may go back, as from an index at the end.
            None => seeks.changed().await.map_err(|_| FetchError::Pipeline)?,
        }
    }
}

/// Waits until the pipeline takes anything: what a source is given before is thrown away.
async fn started(source: &AppSrc) {
    while source.current_state() < gst::State::Paused {
        tokio::time::sleep(START_NAP).await;
    }
}

/// Waits until the pipeline can take more.
pub(super) async fn room_in(source: &AppSrc) {
    while source.current_level_bytes() > MAX_WAITING {
        tokio::time::sleep(NAP).await;
    }
}

pub(super) fn push(source: &AppSrc, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<(), FetchError> {
    match source.push_buffer(gst::Buffer::from_slice(bytes)) {
        // What is pushed while it seeks is not wanted any more.
        Ok(_) | Err(gst::FlowError::Flushing) => Ok(()),
        Err(_) => Err(FetchError::Pipeline),
    }
}

impl Web {
    /// What playlists and redirections name, too.
    fn check(&self, url: &Url) -> Result<(), FetchError> {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if !is_listed(host, &self.hosts) {
            return Err(FetchError::NotAllowed(host.to_owned()));
        }
        http::check(url, self.reach).map_err(|reason| FetchError::Request(reason.to_owned()))
    }

    /// An answer that is a success.
    pub(super) async fn get(&self, url: &Url, part: Option<Part>) -> Result<Response, FetchError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTIONS {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(FetchError::Redirected);
            }
            self.check(&url)?;
            let mut request = self.client.get(url.clone());
            if let Some((from, length)) = part {
                let to =
                    length.map(|length| (from + length.saturating_sub(1)).to_string()).unwrap_or_default();
                request = request.header(header::RANGE, format!("bytes={from}-{to}"));
            }
            let response = request.send().await.map_err(|error| FetchError::Request(http::reason(error)))?;
            if response.status().is_redirection() {
                let place = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
                url = place.and_then(|place| url.join(place).ok()).ok_or(FetchError::Redirected)?;
                continue;
            }
            let whole = part.is_none_or(|(from, length)| from == 0 && length.is_none());
            return match response.status() {
                StatusCode::OK if whole => Ok(response),
                StatusCode::PARTIAL_CONTENT if part.is_some() => Ok(response),
                status => Err(FetchError::Status(status)),
            };
        }
        Err(FetchError::Redirected)
    }

    /// All of it, and where it was found in the end.
    pub(super) async fn bytes(
        &self,
        url: &Url,
        part: Option<Part>,
        most: usize,
    ) -> Result<(Vec<u8>, Url), FetchError> {
        let mut response = self.get(url, part).await?;
        let found = response.url().clone();
        let mut all = Vec::new();
        while let Some(bytes) =
            response.chunk().await.map_err(|error| FetchError::Request(http::reason(error)))?
        {
            if all.len() + bytes.len() > most {
                return Err(FetchError::TooMuch);
            }
            all.extend_from_slice(&bytes);
        }
        Ok((all, found))
    }
}

#[cfg(test)]
mod tests {
    use gstreamer_app::AppSink;

    use super::*;

    #[tokio::test]
    async fn a_pipeline_that_has_not_begun_is_fed_nothing_that_it_would_lose() {
        gst::init().unwrap();
        let (source, sink) = (app_source(AppStreamType::Stream), AppSink::builder().sync(false).build());
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([source.upcast_ref::<gst::Element>(), sink.upcast_ref()]).unwrap();
        source.link(&sink).unwrap();
        let fed = tokio::spawn({
            let source = source.clone();
            async move {
                started(&source).await;
                push(&source, [1, 2, 3]).unwrap();
            }
        });
        tokio::task::yield_now().await;
        assert!(!fed.is_finished());
        pipeline.set_state(gst::State::Playing).unwrap();
        fed.await.unwrap();
        let got = tokio::task::spawn_blocking(move || sink.pull_sample()).await.unwrap().unwrap();
        assert_eq!(got.buffer().unwrap().size(), 3);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
