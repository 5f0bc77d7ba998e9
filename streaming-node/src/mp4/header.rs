//! What a file of fragments, or a track of segments, begins with: brands and formats (ISO/IEC 14496-12 §4.3, §8.2).

use std::io;

use mp4_atom::{
    Atom, Audio, Avc1, Avcc, Codec as Entry, Dinf, Dops, Dref, DrefEntry, Encode, Esds, FourCC, Ftyp, Hdlr,
    Mdhd, Mdia, Mehd, Minf, Moov, Mp4a, Mvex, Mvhd, Opus, Smhd, Stbl, Stsd, Tkhd, Trak, Trex, Url, Visual,
    Vmhd, Vp09, VpcC,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig},
};

use crate::{
    frame::{Codec, Format},
    matroska::OPUS_PRE_SKIP,
};

/// Units of the file's own times in a second.
const TIMESCALE: u32 = 1000;
/// Audio by ISO/IEC 14496-3 (14496-1 §7.2.6.6).
const AAC: u8 = 0x40;
/// An audio stream (14496-1 §7.2.6.6).
const AUDIO_STREAM: u8 = 5;

/// What is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file whose duration is written into it once it is known.
    File,
    /// Segments of a broadcast (ISO/IEC 23000-19 §7.2).
    Segments,
}

/// The boxes before the first fragment; tracks have the numbers from 1 on.
///
/// # Errors
/// `InvalidData` if a format can't be in MP4.
pub(crate) fn head(formats: &[&Format], kind: Kind) -> io::Result<Vec<u8>> {
    let brands: &[&[u8; 4]] = match kind {
        Kind::File => &[b"isom", b"iso6", b"mp41"],
        Kind::Segments => &[b"iso6", b"cmfc", b"mp41"],
    };
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: brands.iter().map(|brand| FourCC::new(brand)).collect(),
    };
    let mut head = Vec::new();
    put(&mut head, &ftyp)?;
    put(&mut head, &movie(formats, kind)?)?;
    Ok(head)
}

pub(super) fn put(out: &mut Vec<u8>, atom: &impl Encode) -> io::Result<()> {
    atom.encode(out).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn movie(formats: &[&Format], kind: Kind) -> io::Result<Moov> {
    let trex = |index| Trex { track_id: index, default_sample_description_index: 1, ..Trex::default() };
    let count = formats.len() as u32;
    let traks = formats.iter().zip(1..).map(|(format, id)| trak(id, format));
    let mehd = (kind == Kind::File).then_some(Mehd { fragment_duration: 0 });
    Ok(Moov {
        mvhd: Mvhd { timescale: TIMESCALE, next_track_id: count + 1, rate: 1.into(), ..Mvhd::default() },
        mvex: Some(Mvex { mehd, trex: (1..=count).map(trex).collect() }),
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
        Codec::Aac => {
            Entry::from(Mp4a { audio: stereo(), esds: elementary(&format.config)?, btrt: None, taic: None })
        }
        Codec::Opus => Entry::from(Opus {
            audio: stereo(),
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

fn stereo() -> Audio {
    Audio { data_reference_index: 1, channel_count: 2, sample_size: 16, sample_rate: 48_000.into() }
}

/// Tells a decoder of AAC its configuration (AudioSpecificConfig, ISO/IEC 14496-3 §1.6.2.1).
fn elementary(config: &[u8]) -> io::Result<Esds> {
    let [first, second, ..] = *config else { return Err(io::ErrorKind::InvalidData.into()) };
    let specific = DecoderSpecific {
        profile: first >> 3,
        freq_index: (first & 7) << 1 | second >> 7,
        chan_conf: second >> 3 & 15,
        raw: config.to_vec(),
    };
    let dec_config = DecoderConfig {
        object_type_indication: AAC,
        stream_type: AUDIO_STREAM,
        up_stream: 0,
        buffer_size_db: Default::default(),
        max_bitrate: 0,
        avg_bitrate: 0,
        dec_specific: Some(specific),
    };
    let es_desc = EsDescriptor {
        es_id: 0,
        depends_on_es_id: None,
        url: None,
        ocr_es_id: None,
        stream_priority: 0,
        dec_config,
        sl_config: SLConfig::default(),
    };
    Ok(Esds { es_desc })
}
