//! Stores segments and the playlist at the server, one after the other.

use std::{collections::VecDeque, sync::mpsc as blocking};

use kaigi_outbound::{Reach, http::ClientError};
use tokio::sync::mpsc;

use super::{
    cutter::Piece,
    playlist::{Playlist, Segment},
};
use crate::{
    broadcast::{
        connection::{News, Tell},
        upload::Upload,
    },
    target::Segments,
};

/// What is to be done.
pub(super) enum Job {
    Segment { piece: Piece, after_break: bool, tell: Tell },
    End,
}

/// See the module.
pub(super) struct Store {
    upload: Upload,
    /// What names of segments begin with.
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
        let upload = Upload::new(url, segments.by_post, reach)?;
        Ok(Self {
            stem: upload.stem(run),
            upload,
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
        self.upload.put(&name, piece.data, "video/mp2t").await?;
        let after_break = after_break || std::mem::take(&mut self.broken);
        let gone = self.playlist.push(Segment { name, duration: piece.duration, after_break });
        self.outdated.extend(gone);
        self.put_playlist().await?;
        // Those who have the older playlist have until then to fetch them.
        while self.outdated.len() > self.window {
            let Some(name) = self.outdated.pop_front() else { break };
            self.upload.delete(&name).await;
        }
        Ok(())
    }

    async fn put_playlist(&self) -> Result<(), String> {
        self.upload.put_main(self.playlist.text().into(), "application/vnd.apple.mpegurl").await
    }
}
