//! Matroska (RFC 9559) for what is recorded live: every cluster is written at once with its size, so that a file that ends anywhere can be
//! played up to its last cluster; the index and the duration come when it is finished.

use std::{
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use bytes::BufMut;

use crate::frame::{Codec, Format, Frame};

/// Longest cluster: what a crash costs.
const MAX_CLUSTER: Duration = Duration::from_secs(1);
/// A cluster's timestamps are 16 bits of milliseconds; this is far below.
const MAX_CLUSTER_BYTES: usize = 8 << 20;
/// Bytes kept at the beginning for where the index is.
const SEEK_HEAD: usize = 64;
/// RFC 7845 §4.2: samples at 48 kHz that a decoder throws away.
pub(crate) const OPUS_PRE_SKIP: u16 = 312;

mod id {
    pub(super) const EBML: u32 = 0x1A45_DFA3;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const SEEK_HEAD: u32 = 0x114D_9B74;
    pub(super) const INFO: u32 = 0x1549_A966;
    pub(super) const TRACKS: u32 = 0x1654_AE6B;
    pub(super) const CLUSTER: u32 = 0x1F43_B675;
    pub(super) const CUES: u32 = 0x1C53_BB6B;
    pub(super) const VOID: u32 = 0xEC;
    pub(super) const DURATION: u32 = 0x4489;
}

/// One of a file's tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackEntry {
    /// How it is encoded.
    pub format: Format,
}

/// Writes one file.
#[derive(Debug)]
pub struct Matroska<W> {
    out: W,
    tracks: Vec<TrackEntry>,
    /// Where the segment's contents begin.
    segment: u64,
    duration_at: u64,
    /// Where the next cluster goes.
    position: u64,
    cluster: Vec<(usize, Frame)>,
    cluster_bytes: usize,
    cues: Vec<(u64, usize, u64)>,
    end: Duration,
}

impl<W: Write + Seek> Matroska<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Of the file.
    pub fn begin(mut out: W, tracks: Vec<TrackEntry>, wall: Duration) -> io::Result<Self> {
        let web = tracks.iter().all(|t| matches!(t.format.codec, Codec::Opus | Codec::Vp8 | Codec::Vp9));
        let mut head = Vec::new();
        element(&mut head, id::EBML, |ebml| {
            unsigned(ebml, 0x4286, 1);
            unsigned(ebml, 0x42F7, 1);
            unsigned(ebml, 0x42F2, 4);
            unsigned(ebml, 0x42F3, 8);
            // A WebM file is a Matroska file, but does not have to be called one.
            text(ebml, 0x4282, if web { "webm" } else { "matroska" });
            unsigned(ebml, 0x4287, 4);
            unsigned(ebml, 0x4285, 2);
        });
        identifier(&mut head, id::SEGMENT);
        // Unknown size, until it is finished.
        head.put_u64(0x01FF_FFFF_FFFF_FFFF);
        let segment = head.len() as u64;
        void(&mut head, SEEK_HEAD);
        let mut info = Vec::new();
        unsigned(&mut info, 0x2A_D7B1, 1_000_000);
        text(&mut info, 0x4D80, "Kaigi");
        text(&mut info, 0x5741, "Kaigi");
        let since_2001 = i64::try_from(wall.as_nanos()).unwrap_or(0) - 978_307_200_000_000_000;
        identifier(&mut info, 0x4461);
        info.put_u8(0x88);
        info.put_i64(since_2001);
        let duration_in_info = info.len();
        // The place of the duration, which is not known yet.
        void(&mut info, 11);
        let info_at = head.len();
        element(&mut head, id::INFO, |out| out.extend_from_slice(&info));
        let duration_at = (head.len() - info.len() + duration_in_info) as u64;
        debug_assert!(info_at < head.len());
        element(&mut head, id::TRACKS, |out| {
            for (index, track) in tracks.iter().enumerate() {
                element(out, 0xAE, |out| entry(out, index as u64 + 1, &track.format));
            }
        });
        out.write_all(&head)?;
        Ok(Self {
            out,
            tracks,
            segment,
            duration_at,
            position: head.len() as u64,
            cluster: Vec::new(),
            cluster_bytes: 0,
            cues: Vec::new(),
            end: Duration::ZERO,
        })
    }

    /// The tracks, by their indices.
    #[must_use]
    pub fn tracks(&self) -> &[TrackEntry] {
        &self.tracks
    }

    /// Bytes written so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.position
    }

    /// Takes a frame of a track.
    ///
    /// # Errors
    /// Of the file.
    pub fn write(&mut self, track: usize, frame: Frame) -> io::Result<()> {
        let begins = self.cluster.first().map(|(_, first)| first.time);
        let is_picture = self.tracks.get(track).is_some_and(|track| track.format.codec.is_video());
        let over = begins.is_some_and(|begins| {
            frame.time.saturating_sub(begins) >= MAX_CLUSTER || self.cluster_bytes > MAX_CLUSTER_BYTES
        });
        if over || (is_picture && frame.key && !self.cluster.is_empty()) {
            self.flush()?;
        }
        self.end = self.end.max(frame.time);
        self.cluster_bytes += frame.data.len();
        self.cluster.push((track, frame));
        Ok(())
    }

    /// Writes what is kept.
    ///
    /// # Errors
    /// Of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.cluster.is_empty() {
            return Ok(());
        }
        self.cluster.sort_by_key(|(_, frame)| frame.time);
        let frames = std::mem::take(&mut self.cluster);
        self.cluster_bytes = 0;
        let base = millis(frames[0].1.time);
        let has_video = self.tracks.iter().any(|track| track.format.codec.is_video());
        let mut cluster = Vec::new();
        element(&mut cluster, id::CLUSTER, |out| {
            unsigned(out, 0xE7, base);
            for (track, frame) in &frames {
                identifier(out, 0xA3);
                size(out, frame.data.len() as u64 + 4);
                // Track numbers are below 127.
                out.put_u8(0x80 | (*track as u8 + 1));
                out.put_i16(i16::try_from(millis(frame.time) - base).unwrap_or(i16::MAX));
                out.put_u8(if frame.key { 0x80 } else { 0 });
                out.extend_from_slice(&frame.data);
            }
        });
        let entrance = frames
            .iter()
            .find(|(track, frame)| frame.key && (!has_video || self.tracks[*track].format.codec.is_video()));
        if let Some((track, frame)) = entrance {
            self.cues.push((millis(frame.time), track + 1, self.position - self.segment));
        }
        self.out.write_all(&cluster)?;
        self.out.flush()?;
        self.position += cluster.len() as u64;
        Ok(())
    }

    /// Writes the index and the duration.
    ///
    /// # Errors
    /// Of the file; what was written before can be played all the same.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        let cues_at = self.position - self.segment;
        let mut tail = Vec::new();
        element(&mut tail, id::CUES, |out| {
            for (time, track, position) in &self.cues {
                element(out, 0xBB, |out| {
                    unsigned(out, 0xB3, *time);
                    element(out, 0xB7, |out| {
                        unsigned(out, 0xF7, *track as u64);
                        unsigned(out, 0xF1, *position);
                    });
                });
            }
        });
        self.out.write_all(&tail)?;
        let length = self.position + tail.len() as u64 - self.segment;
        let mut seek = Vec::new();
        element(&mut seek, id::SEEK_HEAD, |out| {
            element(out, 0x4DBB, |out| {
                identifier(out, 0x53AB);
                out.put_u8(0x84);
                out.put_u32(id::CUES);
                unsigned(out, 0x53AC, cues_at);
            });
        });
        let left = SEEK_HEAD - seek.len();
        void(&mut seek, left);
        self.out.seek(SeekFrom::Start(self.segment))?;
        self.out.write_all(&seek)?;
        let mut duration = Vec::new();
        identifier(&mut duration, id::DURATION);
        duration.put_u8(0x88);
        duration.put_f64(self.end.as_secs_f64() * 1000.0);
        self.out.seek(SeekFrom::Start(self.duration_at))?;
        self.out.write_all(&duration)?;
        self.out.seek(SeekFrom::Start(self.segment - 8))?;
        self.out.write_all(&(length | 1 << 56).to_be_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn entry(out: &mut Vec<u8>, number: u64, format: &Format) {
    unsigned(out, 0xD7, number);
    unsigned(out, 0x73C5, number);
    unsigned(out, 0x83, if format.codec.is_video() { 1 } else { 2 });
    // No lacing.
    unsigned(out, 0x9C, 0);
    let (codec, private) = match format.codec {
        Codec::Vp8 => ("V_VP8", Vec::new()),
        Codec::Vp9 => ("V_VP9", Vec::new()),
        Codec::H264 => ("V_MPEG4/ISO/AVC", format.config.to_vec()),
        Codec::Opus => ("A_OPUS", opus_head()),
        Codec::Aac => ("A_AAC", format.config.to_vec()),
        Codec::Pcmu => ("A_MS/ACM", wave_format(7)),
        Codec::Pcma => ("A_MS/ACM", wave_format(6)),
    };
    text(out, 0x86, codec);
    if !private.is_empty() {
        identifier(out, 0x63A2);
        size(out, private.len() as u64);
        out.extend_from_slice(&private);
    }
    if format.codec == Codec::Opus {
        unsigned(out, 0x56AA, u64::from(OPUS_PRE_SKIP) * 1_000_000_000 / 48_000);
        unsigned(out, 0x56BB, 80_000_000);
    }
    if format.codec.is_video() {
        element(out, 0xE0, |out| {
            unsigned(out, 0xB0, format.size.0.into());
            unsigned(out, 0xBA, format.size.1.into());
        });
    } else {
        let narrow = matches!(format.codec, Codec::Pcmu | Codec::Pcma);
        element(out, 0xE1, |out| {
            identifier(out, 0xB5);
            out.put_u8(0x84);
            out.put_f32(if narrow { 8_000.0 } else { 48_000.0 });
            unsigned(out, 0x9F, if narrow { 1 } else { 2 });
        });
    }
}

/// RFC 7845 §5.1
fn opus_head() -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.put_slice(&[1, 2]);
    head.put_u16_le(OPUS_PRE_SKIP);
    head.put_u32_le(48_000);
    head.put_slice(&[0, 0, 0]);
    head
}

/// WAVEFORMATEX of G.711: 8 kHz, one channel.
fn wave_format(tag: u16) -> Vec<u8> {
    let mut format = Vec::new();
    format.put_u16_le(tag);
    format.put_u16_le(1);
    format.put_u32_le(8_000);
    format.put_u32_le(8_000);
    format.put_u16_le(1);
    format.put_u16_le(8);
    format.put_u16_le(0);
    format
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 8794 §5: the id as it stands.
fn identifier(out: &mut Vec<u8>, id: u32) {
    let bytes = id.to_be_bytes();
    let skip = (id.leading_zeros() / 8) as usize;
    out.extend_from_slice(&bytes[skip..]);
}

/// RFC 8794 §4, always in eight bytes.
fn size(out: &mut Vec<u8>, size: u64) {
    out.put_u64(size | 1 << 56);
}

fn element(out: &mut Vec<u8>, id: u32, content: impl FnOnce(&mut Vec<u8>)) {
    identifier(out, id);
    let at = out.len();
    size(out, 0);
    content(out);
    let length = (out.len() - at - 8) as u64 | 1 << 56;
    out[at..at + 8].copy_from_slice(&length.to_be_bytes());
}

fn unsigned(out: &mut Vec<u8>, id: u32, value: u64) {
    identifier(out, id);
    let skip = (value.leading_zeros() / 8).min(7) as usize;
    out.put_u8(0x80 | (8 - skip) as u8);
    out.extend_from_slice(&value.to_be_bytes()[skip..]);
}

fn text(out: &mut Vec<u8>, id: u32, value: &str) {
    identifier(out, id);
    size(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// Fills exactly so many bytes, 2 at least.
fn void(out: &mut Vec<u8>, length: usize) {
    identifier(out, id::VOID);
    if length > 9 {
        size(out, length as u64 - 9);
        out.resize(out.len() + length - 9, 0);
    } else {
        out.put_u8(0x80 | (length as u8 - 2));
        out.resize(out.len() + length - 2, 0);
    }
}
