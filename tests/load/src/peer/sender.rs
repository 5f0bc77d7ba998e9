//! One published track: plays a recording in a loop, in all its layers, and sends again what is asked for.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_media::rtp::write_header;

use super::sdp::Extensions;
use crate::{
    meter::Sent,
    payload::vp8,
    recording::{Codec, Place},
    track::Track,
};

/// Packets that can be sent again; that of a second of 8 Mbit/s, as browsers keep.
const KEPT: usize = 1024;
/// Most packets that leave at once; the rest of a large picture follows by as many each [`PACE`], as browsers pace it.
const BURST: usize = 10;
/// See [`BURST`].
const PACE: Duration = Duration::from_millis(5);
/// Frames behind which a track that could not keep up gives up catching up.
const MAX_BEHIND: u32 = 15;
/// Packets that wait to leave, with which no further frame is played: browsers, too, encode none while they don't get rid of the last ones.
const MAX_QUEUED: usize = 3 * BURST;
/// Packets that say which layer they are of; by then the server has answered.
const SAYING: u64 = 100;

/// Numbers and types that a sender has agreed on with its server.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Of the m-line.
    pub mid: String,
    /// Payload type, and that of retransmissions.
    pub payload_type: u8,
    /// See [`Self::payload_type`]; `None` without retransmissions.
    pub rtx_type: Option<u8>,
    /// Source of each layer, and of its retransmissions.
    pub ssrcs: Vec<(u32, u32)>,
    /// Of each layer, if there are several.
    pub rids: Vec<String>,
    /// dBov below full scale that sound is said to have.
    pub level: u8,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    place: Place,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    picture: u16,
    tl0: u8,
}

#[derive(Debug)]
struct Layer {
    /// The frame that is next.
    frame: u32,
    sequence: u16,
    rtx_sequence: u16,
    picture: u16,
    tl0: u8,
    timestamp: u32,
    sent: u64,
    octets: u32,
    kept: VecDeque<Packet>,
}

/// One published track.
#[derive(Debug)]
pub struct Sender {
    pub(super) outgoing: Outgoing,
    pub(super) extensions: Extensions,
    track: Arc<Track>,
    layers: Vec<Layer>,
    started: Option<Instant>,
    /// Frames since the beginning.
    played: u32,
    queue: VecDeque<(usize, Packet)>,
    paced: Option<Instant>,
    /// What was sent.
    pub counts: Sent,
}

impl Sender {
    pub(super) fn new(track: Arc<Track>, outgoing: Outgoing, extensions: Extensions) -> Self {
        let layer = |_| Layer {
            frame: 0,
            sequence: rand::random::<u16>() & 0x7fff,
            rtx_sequence: rand::random::<u16>() & 0x7fff,
            picture: rand::random::<u16>() & 0x7fff,
            tl0: rand::random(),
            timestamp: rand::random(),
            sent: 0,
            octets: 0,
            kept: VecDeque::new(),
        };
        let layers = outgoing.ssrcs.iter().map(layer).collect();
        Self {
            outgoing,
            extensions,
            track,
            layers,
            started: None,
            played: 0,
            queue: VecDeque::new(),
            paced: None,
            counts: Sent::default(),
        }
    }

    fn codec(&self) -> Codec {
        self.track.recording().codec
    }

    fn interval(&self, frames: u32) -> Duration {
        let rate = if self.codec().is_audio() { 48_000 } else { 90_000 };
        Duration::from_micros(u64::from(frames) * u64::from(self.track.recording().ticks) * 1_000_000 / rate)
    }

    /// Begins to play.
    pub(super) fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let frame = self.started? + self.interval(self.played);
        Some(self.paced.map_or(frame, |paced| paced.min(frame)))
    }

    /// Whether a source is one of its layers: which.
    fn layer_of(&self, ssrc: u32) -> Option<usize> {
        self.outgoing.ssrcs.iter().position(|(own, _)| *own == ssrc)
    }

    /// A key frame is wanted: the layer goes on with one.
    pub(super) fn key_frame(&mut self, ssrc: u32) {
        let Some(layer) = self.layer_of(ssrc) else { return };
        let played = &self.track.recording().layers[layer];
        self.layers[layer].frame = played.key_frame_from(self.layers[layer].frame);
        self.counts.key_frames_asked += 1;
    }

    /// Takes what is due; each packet is given with a buffer that has its header and payload.
    pub(super) fn play(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        twcc: &mut u16,
        mut send: impl FnMut(&[u8]),
    ) {
        let Some(started) = self.started else { return };
        while started + self.interval(self.played) <= now {
            let due = started + self.interval(self.played);
            self.played += 1;
            if now > due + self.interval(MAX_BEHIND) || self.queue.len() > MAX_QUEUED {
                self.skip();
                continue;
            }
            self.frame();
        }
        if self.paced.is_some_and(|paced| paced > now) {
            return;
        }
        for _ in 0..BURST {
            let Some((layer, packet)) = self.queue.pop_front() else { break };
            self.write(layer, &packet, None, twcc, buffer);
            self.track.sent(Instant::now().max(now), packet.place);
            send(buffer);
            let sending = &mut self.layers[layer];
            sending.sent += 1;
            sending.octets = sending.octets.wrapping_add(buffer.len() as u32);
            self.counts.packets += 1;
            self.counts.bytes += buffer.len() as u64;
            if self.outgoing.rtx_type.is_some() {
                if sending.kept.len() == KEPT {
                    sending.kept.pop_front();
                }
                sending.kept.push_back(packet);
            }
        }
        self.paced = (!self.queue.is_empty()).then_some(now + PACE);
    }

    /// Time passes without a frame, as in a browser that can't keep up.
    fn skip(&mut self) {
        let ticks = self.track.recording().ticks;
        self.layers.iter_mut().for_each(|layer| layer.timestamp = layer.timestamp.wrapping_add(ticks));
    }

    fn frame(&mut self) {
        let recording = self.track.recording();
        let audio = recording.codec.is_audio();
        for (at, layer) in self.layers.iter_mut().enumerate() {
            let Some(played) = recording.layers.get(at) else { continue };
            let frame = &played.frames[layer.frame as usize];
            for chunk in 0..frame.chunks.len() as u16 {
                let packet = Packet {
                    place: Place { layer: at as u8, chunk, frame: layer.frame },
                    sequence: layer.sequence,
                    timestamp: layer.timestamp,
                    marker: !audio && usize::from(chunk) + 1 == frame.chunks.len(),
                    picture: layer.picture,
                    tl0: layer.tl0,
                };
                layer.sequence = layer.sequence.wrapping_add(1);
                self.queue.push_back((at, packet));
            }
            layer.timestamp = layer.timestamp.wrapping_add(recording.ticks);
            layer.picture = (layer.picture + 1) & 0x7fff;
            layer.tl0 = layer.tl0.wrapping_add(1);
            layer.frame = (layer.frame + 1) % played.frames.len() as u32;
            self.counts.frames += 1;
        }
    }

    /// Packets that the server misses.
    pub(super) fn again(
        &mut self,
        ssrc: u32,
        missing: impl Iterator<Item = u16>,
        buffer: &mut Vec<u8>,
        twcc: &mut u16,
        mut send: impl FnMut(&[u8]),
    ) {
        let Some(layer) = self.layer_of(ssrc) else { return };
        for sequence in missing {
            let newest = self.layers[layer].sequence;
            let back = usize::from(newest.wrapping_sub(sequence));
            let queued = self.queue.iter().filter(|(of, _)| *of == layer).count();
            let kept = &self.layers[layer].kept;
            let at = (kept.len() + queued).checked_sub(back);
            let Some(packet) = at.and_then(|at| kept.get(at)).copied() else { continue };
            let rtx_sequence = self.layers[layer].rtx_sequence;
            self.layers[layer].rtx_sequence = rtx_sequence.wrapping_add(1);
            self.write(layer, &packet, Some(rtx_sequence), twcc, buffer);
            self.counts.retransmitted += 1;
            send(buffer);
        }
    }

    /// The packet, or its retransmission (RFC 4588 §4) under that number.
    fn write(&self, layer: usize, packet: &Packet, again: Option<u16>, twcc: &mut u16, out: &mut Vec<u8>) {
        out.clear();
        let (ssrc, rtx) = self.outgoing.ssrcs[layer];
        let (payload_type, sequence, ssrc) = match (again, self.outgoing.rtx_type) {
            (Some(number), Some(rtx_type)) => (rtx_type, number, rtx),
            _ => (self.outgoing.payload_type, packet.sequence, ssrc),
        };
        write_header(out, packet.marker, payload_type, sequence, packet.timestamp, ssrc);
        self.extend(layer, again.is_some(), twcc, out);
        if again.is_some() {
            out.extend_from_slice(&packet.sequence.to_be_bytes());
        }
        if self.codec() == Codec::Vp8 {
            let descriptor = vp8::Descriptor {
                start: packet.place.chunk == 0,
                picture: Some(packet.picture),
                tl0: Some(packet.tl0),
                temporal: 0,
            };
            descriptor.write(out);
        }
        if let Some(frame) = self.track.recording().frame(packet.place) {
            out.extend_from_slice(&frame.chunks[usize::from(packet.place.chunk)].bytes);
        }
    }

    /// Header extensions (RFC 8285 §4.2).
    fn extend(&self, layer: usize, again: bool, twcc: &mut u16, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0xbe, 0xde, 0, 0]);
        let mut put = |id: Option<u8>, data: &[u8]| {
            if let Some(id) = id {
                out.push(id << 4 | (data.len() as u8 - 1));
                out.extend_from_slice(data);
            }
        };
        let ids = &self.extensions;
        put(ids.transport_cc, &twcc.to_be_bytes());
        *twcc = twcc.wrapping_add(u16::from(ids.transport_cc.is_some()));
        if self.codec().is_audio() {
            put(ids.audio_level, &[0x80 | self.outgoing.level]);
        }
        if self.layers[layer].sent < SAYING {
            put(ids.mid, self.outgoing.mid.as_bytes());
            if let Some(rid) = self.outgoing.rids.get(layer) {
                put(if again { ids.repaired_rid } else { ids.rid }, rid.as_bytes());
            }
        }
        let length = (out.len() - start - 4).next_multiple_of(4);
        if length == 0 {
            out.truncate(start);
            return;
        }
        out.resize(start + 4 + length, 0);
        out[start + 2..start + 4].copy_from_slice(&((length / 4) as u16).to_be_bytes());
        out[start - 12] |= 0x10;
    }

    /// What sender reports say: source, timestamp now, packets and octets.
    pub(super) fn reports(&self, now: Instant) -> impl Iterator<Item = (u32, u32, u32, u32)> + '_ {
        let since =
            self.started.map(|started| now.saturating_duration_since(started + self.interval(self.played)));
        let rate = if self.codec().is_audio() { 48_000.0 } else { 90_000.0 };
        // A frame is due at most an interval from now, so the distance is negative; the timestamp is that of the next frame.
        let ahead = self.started.map(|started| {
            (started + self.interval(self.played)).saturating_duration_since(now).as_secs_f64()
        });
        let offset =
            ((since.unwrap_or_default().as_secs_f64() - ahead.unwrap_or_default()) * rate) as i64 as u32;
        self.layers.iter().zip(&self.outgoing.ssrcs).filter(|(layer, _)| layer.sent > 0).map(
            move |(layer, (ssrc, _))| {
                (*ssrc, layer.timestamp.wrapping_add(offset), layer.sent as u32, layer.octets)
            },
        )
    }
}
