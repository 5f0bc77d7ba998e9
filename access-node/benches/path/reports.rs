//! What subscribers say of what they get, as browsers do: of each packet when it came, ten times a second, and a receiver report each second.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use kaigi_access_node::{forward::TransportCcReceiver, transport::Srtp};
use kaigi_media::rtp::RtpHeader;
use rtc_rtcp::{packet::marshal, receiver_report::ReceiverReport, reception_report::ReceptionReport};

use crate::support::narrow::TRANSPORT_CC;

/// Time between two receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The subscriber's own source.
const OWN: u32 = 1;

/// One subscriber of one forwarder.
pub(crate) struct Reporter {
    srtp: Srtp,
    to: SocketAddr,
    /// The forwarder's source.
    media: u32,
    transport_cc: TransportCcReceiver,
    highest: u32,
    next_report: Instant,
}

impl Reporter {
    pub(crate) fn new(srtp: Srtp, to: SocketAddr, media: u32) -> Self {
        let now = Instant::now();
        Self {
            srtp,
            to,
            media,
            transport_cc: TransportCcReceiver::new(now),
            highest: 0,
            next_report: now + REPORT_INTERVAL,
        }
    }

    /// A packet came.
    pub(crate) fn received(&mut self, now: Instant, protected: &[u8]) {
        let Ok(header) = RtpHeader::parse(protected) else { return };
        self.highest = self.highest & !0xffff | u32::from(header.sequence);
        if let Some([high, low]) = header.extension(protected, TRANSPORT_CC) {
            self.transport_cc.receive(now, u16::from_be_bytes([*high, *low]));
        }
    }

    /// Says what is due.
    pub(crate) fn report(&mut self, now: Instant, socket: &UdpSocket) {
        if self.transport_cc.next_timeout().is_some_and(|at| at <= now) {
            while let Some(feedback) = self.transport_cc.feedback(OWN, self.media) {
                self.send(&feedback, socket);
            }
        }
        if self.next_report <= now {
            self.next_report = now + REPORT_INTERVAL;
            let block = ReceptionReport {
                ssrc: self.media,
                last_sequence_number: self.highest,
                ..Default::default()
            };
            let report = ReceiverReport { ssrc: OWN, reports: vec![block], ..Default::default() };
            self.send(&marshal(&[Box::new(report)]).unwrap(), socket);
        }
    }

    fn send(&mut self, plain: &[u8], socket: &UdpSocket) {
        let protected = self.srtp.protect_rtcp(plain).unwrap();
        // What the system does not take is lost, as on a network.
        let _ = socket.send_to(&protected, self.to);
    }
}
