//! What a recording's files are.

use std::io::{self, Seek, Write};

use crate::{
    frame::{Codec, Frame},
    matroska::{Matroska, TrackEntry},
    mp4::{self, FragmentedMp4},
};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// Takes every codec. See [`Matroska`].
    Matroska,
    /// See [`FragmentedMp4`].
    Mp4,
}

impl Container {
    /// By the name that OWT gives it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "mkv" => Some(Self::Matroska),
            "mp4" => Some(Self::Mp4),
            _ => None,
        }
    }

    /// Of its files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Matroska => "mkv",
            Self::Mp4 => "mp4",
        }
    }

    /// Whether a track can be in one.
    #[must_use]
    pub fn takes(self, codec: Codec) -> bool {
        match self {
            Self::Matroska => true,
            Self::Mp4 => mp4::takes(codec),
        }
    }
}

/// Writes a file of either kind.
#[derive(Debug)]
pub enum Writer<W> {
    /// Matroska.
    Matroska(Matroska<W>),
    /// MP4.
    Mp4(FragmentedMp4<W>),
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file; `wall`: Unix time.
    ///
    /// # Errors
    /// Of the file; `InvalidData` if it can't have such a track.
    pub fn begin(
        container: Container,
        out: W,
        tracks: Vec<TrackEntry>,
        wall: std::time::Duration,
    ) -> io::Result<Self> {
        Ok(match container {
            Container::Matroska => Self::Matroska(Matroska::begin(out, tracks, wall)?),
            Container::Mp4 => Self::Mp4(FragmentedMp4::begin(out, tracks)?),
        })
    }

    /// Takes a frame of a track.
    ///
    /// # Errors
    /// Of the file.
    pub fn write(&mut self, track: usize, frame: Frame) -> io::Result<()> {
        match self {
            Self::Matroska(file) => file.write(track, frame),
            Self::Mp4(file) => file.write(track, frame),
        }
    }

    /// Writes what is kept.
    ///
    /// # Errors
    /// Of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Matroska(file) => file.flush(),
            Self::Mp4(file) => file.flush(),
        }
    }

    /// Completes it.
    ///
    /// # Errors
    /// Of the file; what was written before can be played all the same.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Matroska(file) => file.finish(),
            Self::Mp4(file) => file.finish(),
        }
    }
}
