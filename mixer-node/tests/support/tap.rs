//! A consumer that looks at a track's packets themselves, and decodes sound by GStreamer.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use kaigi_media::{
    link::{FromProducer, LinkConsumer, LinkKeys},
    rtp::RtpHeader,
};
use kaigi_proto::v1::{self, media_link_client::MediaLinkClient};
use parking_lot::Mutex;

use super::{DEADLINE, amplitude, channels};

/// An RTP packet and when it came.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) at: Instant,
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: RtpHeader,
    pub(crate) payload: Vec<u8>,
}

/// All packets of a track from the attachment on; detached when dropped.
pub(crate) struct Tap {
    packets: Arc<Mutex<Vec<Packet>>>,
    report: Arc<Mutex<Option<(u64, u32)>>>,
    ask: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    pub(crate) reply: v1::AttachReply,
}

impl Tap {
    pub(crate) async fn attach(track: &v1::TrackSource) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (keys, ssrc) = (LinkKeys::random(), 77);
        let id = format!("tap-{:x}", rand::random::<u64>());
        let request = keys.attach_request(&id, &track.track_id, socket.local_addr().unwrap(), ssrc);
        let mut link = MediaLinkClient::new(channels().to(&track.endpoint).unwrap());
        let reply = link.attach(request).await.unwrap().into_inner();
        let producer: SocketAddr = reply.producer_address.parse().unwrap();
        let mut consumer = LinkConsumer::new(&keys, ssrc).unwrap();
        let (packets, ask, stop) = <(Arc<Mutex<Vec<Packet>>>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let report = Arc::new(Mutex::new(None));
        let told = Arc::clone(&report);
        let (heard, asked, ending) = (Arc::clone(&packets), Arc::clone(&ask), Arc::clone(&stop));
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let (mut datagram, mut reported) = ([0; 2048], Instant::now());
            while !ending.load(Ordering::Relaxed) {
                if asked.swap(false, Ordering::Relaxed) {
                    let request = consumer.request_key_frame().unwrap();
                    socket.send_to(&request, producer).unwrap();
                }
                if reported.elapsed() > Duration::from_secs(1) {
                    reported = Instant::now();
                    socket.send_to(&consumer.report().unwrap(), producer).unwrap();
                }
                let Ok(length) = socket.recv(&mut datagram) else { continue };
                match consumer.unprotect(&datagram[..length]) {
                    Ok(FromProducer::Rtp(packet)) => {
                        let header = RtpHeader::parse(&packet).unwrap();
                        let payload = header.payload(&packet).to_vec();
                        let bytes = packet.to_vec();
                        heard.lock().push(Packet { at: Instant::now(), bytes, header, payload });
                    }
                    Ok(FromProducer::SenderReport { ntp, rtp }) => *told.lock() = Some((ntp, rtp)),
                    _ => {}
                }
            }
            runtime.spawn(async move { link.detach(v1::DetachRequest { attachment_id: id }).await });
        });
        Self { packets, report, ask, stop, reply }
    }

    /// How an attachment is refused.
    pub(crate) async fn refusal(track: &v1::TrackSource) -> tonic::Code {
        let here = (Ipv4Addr::LOCALHOST, 9).into();
        let request = LinkKeys::random().attach_request("refused", &track.track_id, here, 77);
        let mut link = MediaLinkClient::new(channels().to(&track.endpoint).unwrap());
        link.attach(request).await.unwrap_err().code()
    }

    /// NTP time and RTP timestamp of the newest sender report.
    pub(crate) fn report(&self) -> Option<(u64, u32)> {
        *self.report.lock()
    }

    pub(crate) fn packets(&self) -> Vec<Packet> {
        self.packets.lock().clone()
    }

    pub(crate) fn request_key_frame(&self) {
        self.ask.store(true, Ordering::Relaxed);
    }

    /// Packets of the first `seconds` by their timestamps, when so many have come.
    pub(crate) async fn first(&self, seconds: f64) -> Vec<Packet> {
        let span = (seconds * f64::from(self.reply.clock_rate)) as u32;
        let deadline = Instant::now() + DEADLINE;
        loop {
            let packets = self.packets();
            if let Some(first) = packets.first() {
                let first = first.header.timestamp;
                let within = |packet: &Packet| packet.header.timestamp.wrapping_sub(first) < span;
                if let Some(end) = packets.iter().position(|packet| !within(packet)) {
                    return packets[..end].to_vec();
                }
            }
            assert!(Instant::now() < deadline, "{} packets only", packets.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Distinct timestamps: when the pictures are, in units of 1/90,000 s from the first.
pub(crate) fn picture_times(packets: &[Packet]) -> Vec<u32> {
    let Some(first) = packets.first().map(|packet| packet.header.timestamp) else { return vec![] };
    let mut times: Vec<u32> = packets.iter().map(|p| p.header.timestamp.wrapping_sub(first)).collect();
    times.dedup();
    times
}

/// Pictures per second by the median distance between two: the machine that runs the tests may cost a source some of its pictures.
pub(crate) fn picture_rate(packets: &[Packet]) -> f64 {
    let times = picture_times(packets);
    let mut distances: Vec<u32> = times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    distances.sort_unstable();
    let median = distances.get(distances.len() / 2).copied().unwrap_or(0);
    90_000.0 / f64::from(median)
}

/// kbit/s of what was taken in `seconds`.
pub(crate) fn kbps(packets: &[Packet], seconds: f64) -> f64 {
    packets.iter().map(|packet| packet.payload.len() as f64 * 8.0).sum::<f64>() / seconds / 1000.0
}

/// Timestamps of VP8 key frames (RFC 7741 §4.2 and §4.3): the first packet of a frame whose P bit is clear.
pub(crate) fn vp8_key_frames(packets: &[Packet]) -> Vec<u32> {
    let is_key = |packet: &&Packet| {
        let payload = &packet.payload;
        let (first, mut at) = (payload[0], 1);
        if first & 0x80 != 0 {
            let extended = payload[1];
            at += 1;
            if extended & 0x80 != 0 {
                at += if payload[at] & 0x80 != 0 { 2 } else { 1 };
            }
            at += usize::from(extended & 0x40 != 0) + usize::from(extended & 0x30 != 0);
        }
        first & 0x17 == 0x10 && payload[at] & 1 == 0
    };
    let first = packets.first().map_or(0, |packet| packet.header.timestamp);
    packets.iter().filter(is_key).map(|packet| packet.header.timestamp.wrapping_sub(first)).collect()
}

/// What GStreamer makes of these packets, which of the frequencies are in their last 400 ms.
pub(crate) fn hears<const N: usize>(packets: &[Packet], codec: &str, frequencies: [f32; N]) -> [bool; N] {
    let (caps, decode) = match codec {
        "opus" => ("encoding-name=OPUS,clock-rate=48000", "rtpopusdepay ! opusdec"),
        "pcmu" => ("encoding-name=PCMU,clock-rate=8000", "rtppcmudepay ! mulawdec"),
        "pcma" => ("encoding-name=PCMA,clock-rate=8000", "rtppcmadepay ! alawdec"),
        "g722" => ("encoding-name=G722,clock-rate=8000", "rtpg722depay ! avdec_g722"),
        other => panic!("{other}?"),
    };
    let launch = format!(
        "appsrc name=source format=time caps=application/x-rtp,media=audio,payload=96,{caps} ! {decode} ! audioconvert ! audioresample \
         ! audio/x-raw,format=F32LE,rate=48000,channels=1 ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("source").unwrap().downcast::<gstreamer_app::AppSrc>().unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for (number, packet) in packets.iter().enumerate() {
        let RtpHeader { sequence, timestamp, .. } = packet.header;
        let mut bytes = Vec::new();
        kaigi_media::rtp::write_header(&mut bytes, false, 96, sequence, timestamp, 1);
        bytes.extend_from_slice(&packet.payload);
        let mut buffer = gst::Buffer::from_slice(bytes);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::from_mseconds(20) * number as u64);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut samples: Vec<f64> = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let data = sample.buffer().unwrap().map_readable().unwrap();
        samples.extend(data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let last = &samples[samples.len() - 19_200..];
    frequencies.map(|hz| amplitude(last, hz.into()) > 0.05)
}
