//! Stores segments, and the manifests that tell of them, at the server, one after the other.

use std::{
    collections::VecDeque,
    sync::mpsc as blocking,
    time::{Duration, SystemTime},
};

use kaigi_outbound::{Reach, http::ClientError};
use tokio::sync::mpsc;

use super::{
    catalogue::{Catalogue, Part, Segment, time},
    mpd::{self, Presentation},
    playlist::{self, Promise},
    segmenter::Chunk,
};
use crate::{
    broadcast::{
        connection::{News, Tell},
        upload::Upload,
    },
    frame::Format,
    lanes::Kind,
    mp4::header,
    target::{Fragments, Manifest, Segments},
};

const MPD: &str = "application/dash+xml";
const M3U8: &str = "application/vnd.apple.mpegurl";

/// What is to be done.
pub(super) enum Job {
    /// What comes next is of another connection.
    Connection {
        /// When its times began, since the beginning of the broadcast.
        at: Duration,
        tell: Tell,
    },
    /// A segment, or a part of one, of the newest connection.
    Chunk(Chunk),
    End,
}

/// See the module.
pub(super) struct Publisher {
    upload: Upload,
    fragments: Fragments,
    begun: SystemTime,
    stem: String,
    catalogue: Catalogue,
    connection: Option<Connection>,
    /// Eras and segments of earlier connections.
    eras: u64,
    /// See [`Publisher::eras`].
    numbers: u64,
    /// Bytes of the segments under way, by kind.
    open: [Vec<u8>; 2],
    /// Up to which segment the manifest of DASH tells.
    told: Option<u64>,
    /// Bits a second that the main playlist tells.
    told_peak: u64,
    /// Of a segment, as promised, in whole seconds.
    target: u64,
    /// Listed no more, but maybe still being fetched: names of files, by segment.
    outdated: VecDeque<Vec<String>>,
}

struct Connection {
    at: Duration,
    tell: Tell,
    /// What comes of it is of no use any more.
    is_broken: bool,
}

impl Publisher {
    /// `run` tells one broadcast to a place from the next.
    pub(super) fn new(
        url: &str,
        run: u64,
        fragments: Fragments,
        kinds: &[Kind],
        reach: Reach,
    ) -> Result<Self, ClientError> {
        let Segments { by_post, duration, window } = fragments.segments;
        let upload = Upload::new(url, by_post, reach)?;
        Ok(Self {
            stem: upload.stem(run),
            upload,
            fragments,
            begun: SystemTime::now(),
            catalogue: Catalogue::new(window, kinds),
            connection: None,
            eras: 0,
            numbers: 0,
            open: [Vec::new(), Vec::new()],
            told: None,
            told_peak: 0,
            target: (duration.as_secs_f64().ceil() as u64).max(1),
            outdated: VecDeque::new(),
        })
    }

    /// Until the end is stored, or nobody sends any more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, ended: blocking::Sender<()>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Connection { at, tell } => self.connect(at, tell).await,
                Job::Chunk(chunk) => self.take(chunk).await,
                Job::End => {
                    self.catalogue.has_ended = true;
                    if let Err(reason) = self.end().await {
                        tracing::warn!(reason, "the end of the broadcast is not stored");
                    }
                    let _heard = ended.send(());
                    return;
                }
            }
        }
    }

    async fn connect(&mut self, at: Duration, tell: Tell) {
        let names = self.catalogue.drop_incomplete();
        self.open = [Vec::new(), Vec::new()];
        self.eras = self.catalogue.eras.back().map_or(0, |era| era.number + 1);
        self.numbers = self.catalogue.newest().map_or(0, |newest| newest + 1);
        self.connection = Some(Connection { at, tell, is_broken: false });
        for name in names {
            self.upload.delete(&name).await;
        }
    }

    async fn take(&mut self, chunk: Chunk) {
        let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_broken) else {
            return;
        };
        let (at, tell) = (connection.at, connection.tell.clone());
        let news = match self.store(chunk, at).await {
            Ok(false) => return,
            Ok(true) => News::Flows,
            Err(reason) => {
                if let Some(connection) = &mut self.connection {
                    connection.is_broken = true;
                }
                News::Failed(reason)
            }
        };
        // Its connection may be over.
        drop(tell.send(news));
    }

    /// Whether players can see what is new.
    async fn store(&mut self, chunk: Chunk, at: Duration) -> Result<bool, String> {
        let (kind, era) = (chunk.kind, self.eras + chunk.era);
        self.store_head(era, at + chunk.era_begin, &chunk).await?;
        let number = self.numbers + chunk.segment;
        let open = &mut self.open[kind as usize];
        open.extend_from_slice(&chunk.data);
        let whole = chunk.last.then(|| std::mem::take(open));
        let name = mpd::segment_name(&self.stem, era, kind, chunk.begin);
        let Some(track) = self.catalogue.track(kind) else { return Ok(false) };
        let parts = track
            .segments
            .back()
            .filter(|segment| !segment.is_complete)
            .map_or(0, |segment| segment.parts.len());
        let (begin, name) = match track.segments.back().filter(|segment| !segment.is_complete) {
            Some(segment) => (segment.begin, segment.name.clone()),
            None => (chunk.begin, name),
        };
        let mut part = None;
        if self.fragments.part.is_some() {
            let part_name = format!("{}.{parts}.m4s", name.trim_end_matches(".m4s"));
            let file = media_type(kind);
            self.upload.put(&part_name, chunk.data.clone(), file).await?;
            let duration = time(chunk.duration, chunk.format.codec);
            part = Some(Part { name: part_name, duration, independent: chunk.independent });
        }
        let is_complete = whole.is_some();
        let length = (chunk.begin + chunk.duration).saturating_sub(begin);
        let seconds = time(length, chunk.format.codec).as_secs_f64();
        let mut rate = 0;
        if let Some(whole) = whole {
            rate = (whole.len() as f64 * 8.0 / seconds.max(0.1)) as u64;
            self.upload.put(&name, whole.into(), media_type(kind)).await?;
        }
        self.target = self.target.max(seconds.round() as u64);
        let Some(track) = self.catalogue.track(kind) else { return Ok(false) };
        track.peak = track.peak.max(rate);
        match track.segments.back_mut().filter(|segment| !segment.is_complete) {
            Some(segment) => {
                (segment.duration, segment.is_complete) = (length, is_complete);
                segment.parts.extend(part);
            }
            None => track.segments.push_back(Segment {
                era,
                number,
                begin,
                duration: length,
                name,
                is_complete,
                parts: part.into_iter().collect(),
            }),
        }
        let gone = self.catalogue.trim();
        if !gone.is_empty() {
            self.outdated.push_back(gone);
        }
        let is_seen = self.tell(kind, is_complete || self.fragments.part.is_some()).await?;
        // Those who have an older manifest have until then to fetch them.
        while self.outdated.len() > self.fragments.segments.window * self.catalogue.tracks.len() {
            for name in self.outdated.pop_front().into_iter().flatten() {
                self.upload.delete(&name).await;
            }
        }
        Ok(is_seen)
    }

    /// Stores what it takes to decode an era's segments of a kind, if that is not there yet.
    async fn store_head(&mut self, era: u64, start: Duration, chunk: &Chunk) -> Result<(), String> {
        let kind = chunk.kind as usize;
        if self.catalogue.era(era, start, chunk.era_begin).heads[kind].is_some() {
            return Ok(());
        }
        let name = format!("{}-{era}{}.mp4", self.stem, mpd::names(chunk.kind).1);
        let head =
            header::head(&[&chunk.format], header::Kind::Segments).map_err(|error| error.to_string())?;
        self.upload.put(&name, head.into(), media_type(chunk.kind)).await?;
        let format: Format = chunk.format.clone();
        self.catalogue.era(era, start, chunk.era_begin).heads[kind] = Some((format, name));
        Ok(())
    }

    /// Stores manifests that have become others with a segment, or a part of one; whether players have something to see.
    async fn tell(&mut self, kind: Kind, is_listed: bool) -> Result<bool, String> {
        match self.fragments.manifest {
            Manifest::Dash => {
                let complete = self.catalogue.complete();
                if complete.is_none() || complete == self.told {
                    return Ok(false);
                }
                self.put_mpd().await?;
                self.told = complete;
                Ok(true)
            }
            Manifest::Hls => {
                if !is_listed {
                    return Ok(false);
                }
                self.put_playlist(kind).await?;
                let peak = self.catalogue.tracks.iter().map(|track| track.peak).sum();
                let is_known = self.catalogue.complete().is_some();
                // It says what the most is, up to a tenth (RFC 8216 §4.3.4.2).
                if is_known && peak > self.told_peak + self.told_peak / 10 {
                    if let Some(text) = playlist::main_text(&self.catalogue, &self.stem) {
                        self.upload.put_main(text.into(), M3U8).await?;
                    }
                    self.told_peak = peak;
                }
                Ok(is_known)
            }
        }
    }

    async fn put_mpd(&self) -> Result<(), String> {
        let presentation = Presentation {
            begun: self.begun,
            now: SystemTime::now(),
            duration: self.fragments.segments.duration,
            window: self.fragments.segments.window,
            stem: &self.stem,
        };
        self.upload.put_main(mpd::text(&self.catalogue, presentation).into(), MPD).await
    }

    async fn put_playlist(&self, kind: Kind) -> Result<(), String> {
        let Some(track) = self.catalogue.tracks.iter().find(|track| track.kind == kind) else {
            return Ok(());
        };
        let promise = Promise { target: self.target, part: self.fragments.part, begun: self.begun };
        let text = playlist::text(&self.catalogue, track, promise);
        self.upload.put(&playlist::name(&self.stem, kind), text.into(), M3U8).await
    }

    async fn end(&self) -> Result<(), String> {
        if self.catalogue.complete().is_none() {
            return Ok(());
        }
        match self.fragments.manifest {
            Manifest::Dash => self.put_mpd().await,
            Manifest::Hls => {
                for track in &self.catalogue.tracks {
                    self.put_playlist(track.kind).await?;
                }
                Ok(())
            }
        }
    }
}

fn media_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio/mp4",
        Kind::Video => "video/mp4",
    }
}
