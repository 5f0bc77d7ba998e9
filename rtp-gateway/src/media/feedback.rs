//! RTCP between the device and the far side. Each side's transport makes its own reports and repairs; what passes is what one of them
//! has to know of the other.

use bytes::Bytes;
use rtc::rtcp::{
    self, Packet,
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    sender_report::SenderReport,
};

/// What a device says by RTCP that concerns the far side.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FromDevice {
    /// It needs a key frame.
    pub(crate) key_frame: bool,
    /// It can take so much, bit/s.
    pub(crate) bitrate: Option<f32>,
}

/// Reads what a device sent; `None` if that is no RTCP.
pub(crate) fn from_device(mut datagram: Bytes) -> Option<FromDevice> {
    let packets = rtcp::packet::unmarshal(&mut datagram).ok()?;
    let mut said = FromDevice::default();
    for packet in packets {
        let packet = packet.as_any();
        if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
            said.key_frame = true;
        } else if let Some(estimate) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            said.bitrate = Some(estimate.bitrate);
        }
    }
    Some(said)
}

/// Whether there is something in a packet of the far side's that [`for_device`] passes on.
pub(crate) fn concerns_device(packet: &dyn Packet) -> bool {
    let packet = packet.as_any();
    packet.is::<PictureLossIndication>()
        || packet.is::<FullIntraRequest>()
        || packet.is::<ReceiverEstimatedMaximumBitrate>()
        || packet.is::<SenderReport>()
}

/// What the far side says of what the device sends, and of what it gets: requests for key frames, estimates of bandwidth, the clock of
/// the sender. `device` is the SSRC by which the device knows what it sends, instead of `ours`. `None`: there is nothing in it for the device.
pub(crate) fn for_device(packets: &[Box<dyn Packet>], ours: u32, device: Option<u32>) -> Option<Bytes> {
    let own = |ssrc: u32| if ssrc == ours { device.unwrap_or(ssrc) } else { ssrc };
    let passed: Vec<Box<dyn Packet>> = packets
        .iter()
        .filter_map(|packet| -> Option<Box<dyn Packet>> {
            let any = packet.as_any();
            if let Some(loss) = any.downcast_ref::<PictureLossIndication>() {
                Some(Box::new(PictureLossIndication {
                    sender_ssrc: loss.sender_ssrc,
                    media_ssrc: own(loss.media_ssrc),
                }))
            } else if let Some(request) = any.downcast_ref::<FullIntraRequest>() {
                let mut request = request.clone();
                request.media_ssrc = own(request.media_ssrc);
                for entry in &mut request.fir {
                    entry.ssrc = own(entry.ssrc);
                }
                Some(Box::new(request))
            } else if let Some(estimate) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                let mut estimate = estimate.clone();
                for ssrc in &mut estimate.ssrcs {
                    *ssrc = own(*ssrc);
                }
                Some(Box::new(estimate))
            } else if let Some(report) = any.downcast_ref::<SenderReport>() {
                Some(Box::new(SenderReport { reports: Vec::new(), ..report.clone() }))
            } else {
                None
            }
        })
        .collect();
    if passed.is_empty() {
        return None;
    }
    rtcp::packet::marshal(&passed).ok().map(bytes::BytesMut::freeze)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::rtcp::receiver_report::ReceiverReport;

    fn bytes(packets: &[Box<dyn Packet>]) -> Bytes {
        rtcp::packet::marshal(packets).unwrap().freeze()
    }

    #[test]
    fn a_device_asks_for_key_frames_and_tells_its_bandwidth() {
        let loss = PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 };
        let estimate = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 500_000.0, ssrcs: vec![2] };
        let said = from_device(bytes(&[Box::new(loss), Box::new(estimate)])).unwrap();
        assert!(said.key_frame);
        assert!(said.bitrate.is_some_and(|bitrate| (490_000.0..=500_000.0).contains(&bitrate)));
        let report = from_device(bytes(&[Box::new(ReceiverReport::default())])).unwrap();
        assert_eq!(report, FromDevice::default());
        assert_eq!(from_device(Bytes::from_static(b"hello, this is no RTCP")), None);
    }

    #[test]
    fn a_device_is_told_by_the_name_under_which_it_sends() {
        let loss = PictureLossIndication { sender_ssrc: 9, media_ssrc: 77 };
        let told = for_device(&[Box::new(loss), Box::new(ReceiverReport::default())], 77, Some(5)).unwrap();
        let mut read = told;
        let packets = rtcp::packet::unmarshal(&mut read).unwrap();
        assert_eq!(packets.len(), 1);
        let loss = packets[0].as_any().downcast_ref::<PictureLossIndication>().unwrap();
        assert_eq!(loss.media_ssrc, 5);
        assert_eq!(for_device(&[Box::new(ReceiverReport::default())], 77, Some(5)), None);
    }
}
