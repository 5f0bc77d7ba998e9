//! A thread that forwards and does nothing else.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use kaigi_access_node::transport::{Srtp, SrtpKeys};
use kaigi_media::rtp::is_rtcp;
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rtc_srtp::{crypto, protection_profile::ProtectionProfile};

use crate::{
    Forwarder,
    peers::{PACKETS, Publisher, Subscribers},
    reports::Reporter,
    worker::thread_time,
};

/// The source under which subscribers get what they get.
const SSRC: u32 = 0x0102_0304;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sending {
    /// A system call for each packet.
    EachAlone,
    /// A system call for each frame (GSO).
    FramesTogether,
}

pub(crate) struct Minimal {
    sending: Sending,
    publisher: Publisher,
    reporters: Vec<Reporter>,
    used: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder for Minimal {
    fn name(&self) -> &'static str {
        match self.sending {
            Sending::EachAlone => "minimal, each packet sent alone",
            Sending::FramesTogether => "minimal, frames sent together",
        }
    }

    fn publisher(&mut self) -> &mut Publisher {
        &mut self.publisher
    }

    fn reporters(&mut self) -> &mut Vec<Reporter> {
        &mut self.reporters
    }

    fn used(&mut self) -> Duration {
        Duration::from_micros(self.used.load(Ordering::Relaxed))
    }
}

impl Drop for Minimal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn srtp(local: u8, remote: u8) -> Srtp {
    let provider = crypto::default_provider().unwrap();
    let side = |n: u8| (vec![n; 16], vec![n; 12]);
    let keys =
        SrtpKeys { profile: ProtectionProfile::AeadAes128Gcm, local: side(local), remote: side(remote) };
    Srtp::new(&keys, provider.crypto()).unwrap()
}

pub(crate) fn start(subscribers: &Subscribers, sending: Sending) -> Minimal {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let publisher = Publisher {
        socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
        srtp: srtp(1, 2),
        to: socket.local_addr().unwrap(),
        ssrc: 7,
        sequence: 0,
        frame: 0,
    };
    let (used, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut clients: Vec<_> = subscribers
        .sockets()
        .iter()
        .map(|socket| (socket.local_addr().unwrap(), srtp(3, 4), Vec::new()))
        .collect();
    let reporters = (0..subscribers.len()).map(|_| Reporter::new(srtp(4, 3), publisher.to, SSRC)).collect();
    let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut from = srtp(2, 1);
    let thread = std::thread::spawn({
        let (used, stop) = (used.clone(), stop.clone());
        move || {
            let mut buffer = [0; 2048];
            let mut waiting = 0;
            while !stop.load(Ordering::Relaxed) {
                if let Ok(length) = socket.recv(&mut buffer)
                    && !is_rtcp(&buffer[..length])
                {
                    let mut plain = from.unprotect_rtp(&buffer[..length]).unwrap();
                    waiting += 1;
                    for (address, srtp, frame) in &mut clients {
                        plain[8..12].copy_from_slice(&SSRC.to_be_bytes());
                        let protected = srtp.protect_rtp(&plain).unwrap();
                        if sending == Sending::EachAlone {
                            socket.send_to(&protected, *address).unwrap();
                            continue;
                        }
                        frame.extend_from_slice(&protected);
                        if waiting == PACKETS {
                            let transmit = Transmit {
                                destination: *address,
                                ecn: None,
                                contents: frame,
                                segment_size: Some(protected.len()),
                                src_ip: None,
                            };
                            state.try_send(UdpSockRef::from(&socket), &transmit).unwrap();
                            frame.clear();
                        }
                    }
                    waiting %= PACKETS;
                }
                used.store(thread_time().as_micros() as u64, Ordering::Relaxed);
            }
        }
    });
    Minimal { sending, publisher, reporters, used, stop, thread: Some(thread) }
}
