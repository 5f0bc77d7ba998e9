//! Fragments (ISO/IEC 14496-12 §8.8): some frames of one or several tracks, with what it takes to find and time them.

use std::io;

use bytes::Bytes;
use mp4_atom::{Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples};

use super::header::put;

/// Sample flags (§8.8.3.1): decoding can begin there, or depends on others.
const SYNC: u32 = 0x0200_0000;
/// See [`SYNC`].
const NOT_SYNC: u32 = 0x0101_0000;
/// Bytes of a box's size and name.
const BOX: usize = 8;

/// Frames of one track, one after the other.
#[derive(Debug)]
pub(crate) struct Run {
    /// Number of the track.
    pub(crate) track: u32,
    /// When the first begins, in units of the track.
    pub(crate) begin: u64,
    pub(crate) samples: Vec<Sample>,
}

/// A frame.
#[derive(Debug)]
pub(crate) struct Sample {
    /// In units of the track.
    pub(crate) duration: u32,
    /// Decoding can begin here.
    pub(crate) key: bool,
    pub(crate) data: Bytes,
}

/// One fragment with its frames; fragments are numbered in their order.
///
/// # Errors
/// `InvalidData` if it is larger than a fragment can be.
pub(crate) fn fragment(number: u32, runs: &[Run]) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    let mut trafs = Vec::with_capacity(runs.len());
    for run in runs {
        let offset = data.len();
        let mut samples = Vec::with_capacity(run.samples.len());
        for Sample { duration, key, data: frame } in &run.samples {
            samples.push(TrunEntry {
                duration: Some(*duration),
                size: Some(u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidData)?),
                flags: Some(if *key { SYNC } else { NOT_SYNC }),
                cts: None,
            });
            data.extend_from_slice(frame);
        }
        trafs.push(Traf {
            tfhd: Tfhd { track_id: run.track, default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: run.begin }),
            trun: vec![Trun { data_offset: Some(offset as i32), samples: TrunSamples::Explicit(samples) }],
            ..Traf::default()
        });
    }
    let mut moof = Moof { mfhd: Mfhd { sequence_number: number }, traf: trafs };
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
    Ok(text)
}
