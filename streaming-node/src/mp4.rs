//! Fragmented MP4 (ISO/IEC 14496-12 §8.8) for what is recorded live: each fragment is complete by itself, so that a file that ends anywhere can
//! be played up to its last one; the index and the duration come when it is finished.

use std::{
    io::{self, Seek, SeekFrom, Write},
    time::Duration,
};

use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec as Entry, Dinf, Dops, Dref, DrefEntry, Encode, FourCC, FragmentInfo, Ftyp,
    Hdlr, Mdhd, Mdia, Mehd, Mfhd, Mfra, Mfro, Minf, Moof, Moov, Mvex, Mvhd, Opus, Smhd, Stbl, Stsd, Tfdt,
    Tfhd, Tfra, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, TrunSamples, Url, Visual, Vmhd, Vp09, VpcC,
};

use crate::{
    frame::{Codec, Format, Frame},
    matroska::{OPUS_PRE_SKIP, TrackEntry},
};

/// Longest fragment: what a crash costs.
const MAX_FRAGMENT: Duration = Duration::from_secs(1);
/// Most bytes of one.
const MAX_FRAGMENT_BYTES: usize = 8 << 20;
/// Units of the file's own times in a second.
const TIMESCALE: u32 = 1000;
/// Sample flags (§8.8.3.1): decoding can begin there, or depends on others.
const SYNC: u32 = 0x0200_0000;
/// See [`SYNC`].
const NOT_SYNC: u32 = 0x0101_0000;
/// Bytes of a box's size and name.
const BOX: usize = 8;

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

impl Track {
    fn ticks(&self, time: Duration) -> u64 {
        let rate = u128::from(self.format.codec.clock_rate());
        u64::try_from((time.as_nanos() * rate + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
    }
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
        let mut head = Vec::new();
        let brands: [&[u8; 4]; 3] = [b"isom", b"iso6", b"mp41"];
        let ftyp = Ftyp {
            major_brand: FourCC::new(b"iso6"),
            minor_version: 0,
            compatible_brands: brands.into_iter().map(FourCC::new).collect(),
        };
        put(&mut head, &ftyp)?;
        put(&mut head, &movie(&tracks)?)?;
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
        let mut trafs = Vec::new();
        let mut data = Vec::new();
        for (index, track) in self.tracks.iter_mut().enumerate() {
            let count = track.frames.len().saturating_sub(kept);
            if count == 0 {
                continue;
            }
            let times: Vec<u64> = track.frames.iter().map(|frame| track.ticks(frame.time)).collect();
            let frames: Vec<Frame> = track.frames.drain(..count).collect();
            let offset = data.len();
            let mut samples = Vec::with_capacity(count);
            for (at, frame) in frames.iter().enumerate() {
                let next = times.get(at + 1).map(|next| next.saturating_sub(times[at]));
                let duration = next.and_then(|next| u32::try_from(next).ok()).unwrap_or(track.usual);
                track.usual = duration;
                samples.push(TrunEntry {
                    duration: Some(duration),
                    size: Some(u32::try_from(frame.data.len()).map_err(|_| io::ErrorKind::InvalidData)?),
                    flags: Some(if frame.key { SYNC } else { NOT_SYNC }),
                    cts: None,
                });
                data.extend_from_slice(&frame.data);
            }
            if frames[0].key {
                track.entrances.push(FragmentInfo {
                    time: times[0],
                    moof_offset: self.position,
                    traf_number: trafs.len() as u32 + 1,
                    trun_number: 1,
                    sample_delta: 1,
                });
            }
            let tfhd = Tfhd { track_id: index as u32 + 1, default_base_is_moof: true, ..Tfhd::default() };
            trafs.push(Traf {
                tfhd,
                tfdt: Some(Tfdt { base_media_decode_time: times[0] }),
                trun: vec![Trun {
                    data_offset: Some(offset as i32),
                    samples: TrunSamples::Explicit(samples),
                }],
                ..Traf::default()
            });
        }
        (self.begun, self.bytes) = (None, 0);
        if trafs.is_empty() {
            return Ok(());
        }
        self.number += 1;
        let mut moof = Moof { mfhd: Mfhd { sequence_number: self.number }, traf: trafs };
        // Offsets are from the beginning of the box, whose length does not depend on them.
        let mut text = Vec::new();
        put(&mut text, &moof)?;
        let begin = (text.len() + BOX) as i32;
        for trun in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
            trun.data_offset = trun.data_offset.map(|offset| offset + begin);
        }
        text.clear();
        put(&mut text, &moof)?;
        let size = u32::try_from(data.len() + BOX).map_err(|_| io::ErrorKind::InvalidData)?;
        text.extend_from_slice(&size.to_be_bytes());
        text.extend_from_slice(b"mdat");
        text.append(&mut data);
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

fn put(out: &mut Vec<u8>, atom: &impl Encode) -> io::Result<()> {
    atom.encode(out).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn movie(tracks: &[Track]) -> io::Result<Moov> {
    let trex = |index| Trex { track_id: index, default_sample_description_index: 1, ..Trex::default() };
    let count = tracks.len() as u32;
    let traks = tracks.iter().zip(1..).map(|(track, id)| trak(id, &track.format));
    Ok(Moov {
        mvhd: Mvhd { timescale: TIMESCALE, next_track_id: count + 1, rate: 1.into(), ..Mvhd::default() },
        mvex: Some(Mvex { mehd: Some(Mehd { fragment_duration: 0 }), trex: (1..=count).map(trex).collect() }),
        trak: traks.collect::<io::Result<_>>()?,
        ..Moov::default()
    })
}

fn trak(id: u32, format: &Format) -> io::Result<Trak> {
    let is_video = format.codec.is_video();
    let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    let (width, height) = (side(format.size.0), side(format.size.1));
    let visual = || Visual { data_reference_index: 1, width, height, ..Visual::default() };
    let entry = match format.codec {
        Codec::H264 => {
            let avcc = Avcc::decode_body(&mut &format.config[..]);
            let avcc = avcc.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Entry::from(Avc1 { visual: visual(), avcc, ..Avc1::default() })
        }
        Codec::Vp9 => {
            let vpcc = VpcC { profile: 0, level: 0, bit_depth: 8, chroma_subsampling: 1, ..VpcC::default() };
            Entry::from(Vp09 { visual: visual(), vpcc, ..Vp09::default() })
        }
        Codec::Opus => Entry::from(Opus {
            audio: Audio {
                data_reference_index: 1,
                channel_count: 2,
                sample_size: 16,
                sample_rate: 48_000.into(),
            },
            dops: Dops {
                output_channel_count: 2,
                pre_skip: OPUS_PRE_SKIP,
                input_sample_rate: 48_000,
                output_gain: 0,
                channel_mapping: None,
            },
            btrt: None,
        }),
        other => {
            let text = format!("{} can't be in MP4", other.name());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    };
    let handler: (&[u8; 4], &str) = if is_video { (b"vide", "picture") } else { (b"soun", "sound") };
    Ok(Trak {
        tkhd: Tkhd {
            track_id: id,
            enabled: true,
            in_movie: true,
            volume: u8::from(!is_video).into(),
            width: width.into(),
            height: height.into(),
            ..Tkhd::default()
        },
        mdia: Mdia {
            mdhd: Mdhd {
                timescale: format.codec.clock_rate(),
                language: "und".to_owned(),
                ..Mdhd::default()
            },
            hdlr: Hdlr { handler: FourCC::new(handler.0), name: handler.1.to_owned() },
            minf: Minf {
                vmhd: is_video.then(Vmhd::default),
                smhd: (!is_video).then(Smhd::default),
                dinf: Dinf { dref: Dref { entries: vec![DrefEntry::from(Url::default())] } },
                stbl: Stbl { stsd: Stsd { codecs: vec![entry] }, ..Stbl::default() },
                ..Minf::default()
            },
        },
        ..Trak::default()
    })
}
