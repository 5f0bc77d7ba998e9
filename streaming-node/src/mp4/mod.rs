//! Fragmented MP4 (ISO/IEC 14496-12 §8.8) for what is recorded live: each fragment is complete by itself, so that a file that ends anywhere can
//! be played up to its last one; the index and the duration come when it is finished.

pub(crate) mod fragment;
pub(crate) mod header;

use std::{
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use mp4_atom::{FragmentInfo, Mfra, Mfro, Tfra};

use crate::{
    frame::{Codec, Format, Frame},
    matroska::TrackEntry,
};
use fragment::{Run, Sample};
use header::put;

/// Longest fragment: what a crash costs.
const MAX_FRAGMENT: Duration = Duration::from_secs(1);
/// Most bytes of one.
const MAX_FRAGMENT_BYTES: usize = 8 << 20;
/// Writes one file: H.264, VP9 and Opus.
#[derive(Debug)]
pub struct FragmentedMp4<W> {
    out: W,
    tracks: Vec<Track>,
    position: u64,
    /// Where the whole duration goes.
    duration_at: u64,
    begun: Option<Duration>,
    bytes: usize,
    number: u32,
    end: Duration,
}

#[derive(Debug)]
struct Track {
    format: Format,
    /// Frames of the fragment under way; the last one lasts until the next.
    frames: Vec<Frame>,
    /// What the last frame whose end is known took, in units of the track.
    usual: u32,
    entrances: Vec<FragmentInfo>,
}

/// Whether it can be in such a file.
#[must_use]
pub fn takes(codec: Codec) -> bool {
    matches!(codec, Codec::H264 | Codec::Vp9 | Codec::Opus)
}

impl<W: Write + Seek> FragmentedMp4<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Of the file; `InvalidData` if a format can't be in one.
    pub fn begin(mut out: W, tracks: Vec<TrackEntry>) -> io::Result<Self> {
        let tracks: Vec<Track> = tracks
            .into_iter()
            .map(|entry| Track { format: entry.format, frames: Vec::new(), usual: 0, entrances: Vec::new() })
            .collect();
        let formats: Vec<&Format> = tracks.iter().map(|track| &track.format).collect();
        let head = header::head(&formats, header::Kind::File)?;
        // The box has a version of eight bytes' duration.
        let place = head.windows(4).position(|name| name == b"mehd").ok_or(io::ErrorKind::InvalidData)?;
        out.write_all(&head)?;
        Ok(Self {
            out,
            tracks,
            position: head.len() as u64,
            duration_at: place as u64 + 8,
            begun: None,
            bytes: 0,
            number: 0,
            end: Duration::ZERO,
        })
    }

    /// Takes a frame of a track.
    ///
    /// # Errors
    /// Of the file.
    pub fn write(&mut self, track: usize, frame: Frame) -> io::Result<()> {
        let Some(is_picture) = self.tracks.get(track).map(|track| track.format.codec.is_video()) else {
            return Ok(());
        };
        let over = self.begun.is_some_and(|begun| {
            let long = frame.time.saturating_sub(begun) >= MAX_FRAGMENT;
            long || self.bytes > MAX_FRAGMENT_BYTES || (is_picture && frame.key)
        });
        self.end = self.end.max(frame.time);
        let (time, length) = (frame.time, frame.data.len());
        self.tracks[track].frames.push(frame);
        if over {
            self.flush()?;
        }
        self.begun.get_or_insert(time);
        self.bytes += length;
        Ok(())
    }

    /// Writes what is kept, but for the last frame of each track, which lasts until the next comes.
    ///
    /// # Errors
    /// Of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.fragment(1)
    }

    fn fragment(&mut self, kept: usize) -> io::Result<()> {
        let mut runs: Vec<Run> = Vec::new();
        for (track, id) in self.tracks.iter_mut().zip(1..) {
            let count = track.frames.len().saturating_sub(kept);
            if count == 0 {
                continue;
            }
            let times: Vec<u64> =
                track.frames.iter().map(|frame| track.format.codec.ticks(frame.time)).collect();
            let mut samples = Vec::with_capacity(count);
            for (at, Frame { key, data, .. }) in track.frames.drain(..count).enumerate() {
                let next = times.get(at + 1).map(|next| next.saturating_sub(times[at]));
                let duration = next.and_then(|next| u32::try_from(next).ok()).unwrap_or(track.usual);
                track.usual = duration;
                samples.push(Sample { duration, key, data });
            }
            if samples[0].key {
                track.entrances.push(FragmentInfo {
                    time: times[0],
                    moof_offset: self.position,
                    traf_number: runs.len() as u32 + 1,
                    trun_number: 1,
                    sample_delta: 1,
                });
            }
            runs.push(Run { track: id, begin: times[0], samples });
        }
        (self.begun, self.bytes) = (None, 0);
        if runs.is_empty() {
            return Ok(());
        }
        self.number += 1;
        let text = fragment::fragment(self.number, &runs)?;
        self.out.write_all(&text)?;
        self.out.flush()?;
        self.position += text.len() as u64;
        Ok(())
    }

    /// Writes the index and the duration.
    ///
    /// # Errors
    /// Of the file; what was written before can be played all the same.
    pub fn finish(mut self) -> io::Result<W> {
        self.fragment(0)?;
        let tfra = |(index, track): (usize, &mut Track)| Tfra {
            track_id: index as u32 + 1,
            entries: std::mem::take(&mut track.entrances),
        };
        let tfra: Vec<Tfra> = self.tracks.iter_mut().enumerate().map(tfra).collect();
        let mut mfra = Mfra { tfra, mfro: Mfro::default() };
        let mut tail = Vec::new();
        put(&mut tail, &mfra)?;
        mfra.mfro.parent_size = u32::try_from(tail.len()).unwrap_or(u32::MAX);
        tail.clear();
        put(&mut tail, &mfra)?;
        self.out.write_all(&tail)?;
        let duration = u64::try_from(self.end.as_millis()).unwrap_or(u64::MAX);
        self.out.seek(SeekFrom::Start(self.duration_at))?;
        self.out.write_all(&duration.to_be_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}
