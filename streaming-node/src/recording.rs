//! Recording into files: one, and another whenever what is recorded changes so that the first can't go on. A manifest lists them.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    collection::{Collection, Subject, replace},
    container::{Container, Writer},
    frame::{Format, Frame},
    lanes::{Kind, LaneFrame},
    matroska::TrackEntry,
    store::Outbox,
};

/// How long the other kind is waited for before a file begins without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// What follows the recording's name in the manifest's.
const MANIFEST: &str = ".json";
/// Most frames kept meanwhile.
const MAX_WAITING: usize = 1024;

/// Why a recording ends.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Disk full, no right to write…
    #[error("the recording can't be written: {0}")]
    File(#[from] io::Error),
    /// No file of that kind has such a track.
    #[error("{0} can't be in {1}")]
    Codec(&'static str, &'static str),
}

/// One recording: frames in, files out. Blocks on the disk.
#[derive(Debug)]
pub struct Recording {
    /// Without the extension.
    base: PathBuf,
    container: Container,
    /// Which kinds there should be.
    expected: Vec<Kind>,
    /// What each kind is encoded with at present.
    formats: [Option<Format>; 2],
    waiting: Vec<LaneFrame>,
    file: Option<OpenFile>,
    /// Number of the next file.
    next: usize,
    /// What the manifest has of those before, of another process too.
    segments: Vec<Value>,
    /// Unix ms at which times of frames are zero.
    origin: u64,
    /// The collection that it belongs to, and what it is of there.
    collection: Option<(Arc<Collection>, Subject)>,
    /// Takes files that are complete.
    outbox: Option<Outbox>,
}

#[derive(Debug)]
struct OpenFile {
    writer: Writer<BufWriter<File>>,
    kinds: Vec<Kind>,
    begun: Duration,
    end: Duration,
    path: PathBuf,
}

/// A file in the manifest.
#[derive(Debug, Serialize)]
struct Segment<'r> {
    file: &'r str,
    /// When it began, Unix time in milliseconds.
    at: u64,
    /// Where it begins and ends in the recording, in seconds.
    begin: f64,
    end: f64,
    tracks: Vec<TrackShown>,
}

#[derive(Debug, Serialize)]
struct TrackShown {
    codec: &'static str,
    /// Of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
}

impl From<&Format> for TrackShown {
    fn from(format: &Format) -> Self {
        let side = |side: u32| format.codec.is_video().then_some(side);
        Self { codec: format.codec.name(), width: side(format.size.0), height: side(format.size.1) }
    }
}

impl Recording {
    /// Nothing is written before the first frame. Files that are there already are left as they are, and gone on from. `origin`: the Unix time in
    /// milliseconds at which times of frames are zero.
    #[must_use]
    pub fn new(base: PathBuf, container: Container, expected: Vec<Kind>, origin: u64) -> Self {
        let next = (1..).find(|number| !path(&base, *number, container).exists()).unwrap_or(usize::MAX);
        let manifest = std::fs::read(with_suffix(&base, MANIFEST)).ok();
        let known = manifest.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let segments = known.and_then(|known| known["segments"].as_array().cloned()).unwrap_or_default();
        Self {
            base,
            container,
            expected,
            formats: [None, None],
            waiting: Vec::new(),
            file: None,
            next,
            segments,
            origin,
            collection: None,
            outbox: None,
        }
    }

    /// Lists its files in a collection's manifest, too.
    #[must_use]
    pub fn within(self, collection: Arc<Collection>, subject: Subject) -> Self {
        Self { collection: Some((collection, subject)), ..self }
    }

    /// Has its files stored elsewhere when they are complete.
    #[must_use]
    pub fn stored(self, outbox: Option<Outbox>) -> Self {
        Self { outbox, ..self }
    }

    /// What lists its files: the collection's, if it belongs to one.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        match &self.collection {
            Some((collection, _)) => collection.file().to_owned(),
            None => with_suffix(&self.base, MANIFEST),
        }
    }

    /// The file that it begins with.
    #[must_use]
    pub fn first_file(&self) -> PathBuf {
        path(&self.base, 1, self.container)
    }

    /// Whether a file is open.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.file.is_some()
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// See [`RecordingError`]: the recording is over; what was written before can be played.
    pub fn write(&mut self, lane: LaneFrame) -> Result<(), RecordingError> {
        if let Some(format) = &lane.format
            && !self.container.takes(format.codec)
        {
            return Err(RecordingError::Codec(format.codec.name(), self.container.extension()));
        }
        let place = &mut self.formats[lane.kind as usize];
        let changes = lane.format.as_ref().is_some_and(|format| place.as_ref() != Some(format));
        if changes {
            place.clone_from(&lane.format);
            let concerns = self.file.is_some();
            if concerns {
                self.close()?;
            }
        }
        if self.file.is_none() {
            self.waiting.push(lane);
            return self.begin();
        }
        self.append(lane.kind, lane.frame)
    }

    /// Begins a file once all kinds are there, or have been waited for long enough.
    fn begin(&mut self) -> Result<(), RecordingError> {
        let (Some(first), Some(last)) = (self.waiting.first(), self.waiting.last()) else { return Ok(()) };
        let complete = self.expected.iter().all(|kind| self.formats[*kind as usize].is_some());
        let waited = last.frame.time.saturating_sub(first.frame.time) >= PATIENCE;
        if !complete && !waited && self.waiting.len() < MAX_WAITING {
            return Ok(());
        }
        // Pictures can't begin but with a key frame, and sound before the first picture is kept.
        let waiting = std::mem::take(&mut self.waiting);
        let begun = waiting.iter().map(|lane| lane.frame.time).min().unwrap_or_default();
        let kinds: Vec<Kind> =
            Kind::ALL.into_iter().filter(|kind| self.formats[*kind as usize].is_some()).collect();
        let tracks: Vec<Format> =
            kinds.iter().filter_map(|kind| self.formats[*kind as usize].clone()).collect();
        let path = path(&self.base, self.next, self.container);
        self.next += 1;
        if let Some(outbox) = &self.outbox {
            outbox.begin(&path)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let entries = tracks.iter().map(|format| TrackEntry { format: format.clone() }).collect();
        let wall = Duration::from_millis(self.origin).saturating_add(begun);
        let writer = Writer::begin(self.container, BufWriter::new(file), entries, wall)?;
        let segment = Segment {
            file: &path.file_name().unwrap_or_default().to_string_lossy(),
            at: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            begin: begun.as_secs_f64(),
            end: begun.as_secs_f64(),
            tracks: tracks.iter().map(TrackShown::from).collect(),
        };
        self.segments.push(serde_json::to_value(segment).map_err(io::Error::from)?);
        self.file = Some(OpenFile { writer, kinds, begun, end: begun, path });
        self.write_manifest()?;
        for lane in waiting {
            self.append(lane.kind, lane.frame)?;
        }
        Ok(())
    }

    fn append(&mut self, kind: Kind, mut frame: Frame) -> Result<(), RecordingError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let Some(track) = file.kinds.iter().position(|other| *other == kind) else { return Ok(()) };
        file.end = file.end.max(frame.time);
        frame.time = frame.time.saturating_sub(file.begun);
        Ok(file.writer.write(track, frame)?)
    }

    fn close(&mut self) -> Result<(), RecordingError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        if let Some(segment) = self.segments.last_mut() {
            segment["end"] = file.end.as_secs_f64().into();
        }
        file.writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        self.write_manifest()?;
        if let Some(outbox) = &self.outbox {
            outbox.changed(&with_suffix(&self.base, MANIFEST))?;
            outbox.changed(&self.manifest())?;
            outbox.complete(&file.path);
        }
        Ok(())
    }

    /// Writes what is kept, so that a crash costs no more than what has come since.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        match &mut self.file {
            Some(file) => Ok(file.writer.flush()?),
            None => Ok(()),
        }
    }

    /// Completes the files.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn finish(mut self) -> Result<(), RecordingError> {
        if self.file.is_none() && !self.waiting.is_empty() {
            self.expected.retain(|kind| self.formats[*kind as usize].is_some());
            self.begin()?;
        }
        self.close()
    }

    /// Replaces the manifest as a whole, so that it is never half written.
    fn write_manifest(&self) -> Result<(), RecordingError> {
        replace(&with_suffix(&self.base, MANIFEST), &json!({ "segments": self.segments }))?;
        if let Some((collection, subject)) = &self.collection {
            let id = self.base.file_name().unwrap_or_default().to_string_lossy();
            collection.update(&id, subject, &self.segments)?;
        }
        Ok(())
    }
}

/// Of the files of a recording, from 1.
fn path(base: &Path, number: usize, container: Container) -> PathBuf {
    let extension = container.extension();
    let suffix = if number == 1 { format!(".{extension}") } else { format!("-{number}.{extension}") };
    with_suffix(base, &suffix)
}

fn with_suffix(base: &Path, suffix: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
