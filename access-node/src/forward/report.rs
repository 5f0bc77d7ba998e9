//! What clients say of the streams that they are sent (RFC 3550 §6.4.2), and how long they are away: the delay between a report that was
//! sent and the answer that refers to it, less what the client took.

use std::time::{Duration, Instant};

/// Reports that an answer may refer to. They go out once a second, and clients answer within five.
const REMEMBERED: usize = 8;

/// One block of a sender or receiver report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source that it is on.
    pub ssrc: u32,
    /// Of the last interval, of 256.
    pub fraction_lost: u8,
    /// Since the beginning; fewer than none if packets came twice.
    pub total_lost: i32,
    /// In timestamp units.
    pub jitter: u32,
    /// Which report came last.
    pub reference: Reference,
}

/// Which report came last, and how long ago (LSR and DLSR; RFC 3611 §4.5: LRR and DLRR).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// The middle 32 bits of its NTP time; 0 = none.
    pub report: u32,
    /// In 1/65,536 s.
    pub delay: u32,
}

/// The blocks in the part of a report that has them.
pub fn report_blocks(bytes: &[u8]) -> impl Iterator<Item = ReportBlock> + '_ {
    bytes.chunks_exact(24).map(|block| {
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        ReportBlock {
            ssrc: word(0),
            fraction_lost: block[4],
            // 24 bits with a sign.
            total_lost: (word(4) << 8) as i32 >> 8,
            jitter: word(12),
            reference: Reference { report: word(16), delay: word(20) },
        }
    })
}

/// The reports that were sent of late.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentReports {
    sent: [Option<(u32, Instant)>; REMEMBERED],
    next: usize,
}

impl SentReports {
    /// One with that NTP time goes out.
    pub fn sent(&mut self, now: Instant, ntp: u64) {
        self.sent[self.next] = Some(((ntp >> 16) as u32, now));
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The round trip of which an answer tells. `None` if it refers to no report that is remembered, or says that it was there for
    /// longer than has passed.
    #[must_use]
    pub fn round_trip(&self, now: Instant, answer: Reference) -> Option<Duration> {
        let of = |sent: &&(u32, Instant)| sent.0 == answer.report && answer.report != 0;
        let (_, at) = self.sent.iter().flatten().find(of)?;
        let held = Duration::from_nanos((u64::from(answer.delay) * 1_000_000_000) >> 16);
        now.checked_duration_since(*at)?.checked_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_trip_is_what_the_client_did_not_take() {
        let (mut reports, start) = (SentReports::default(), Instant::now());
        let ntp = |n: u64| (0x8000 + n) << 32;
        for n in 0..20 {
            reports.sent(start + Duration::from_secs(n), ntp(n));
        }
        let answer = |n: u64, delay| Reference { report: (ntp(n) >> 16) as u32, delay };
        let after = |n, ms| start + Duration::from_secs(n) + Duration::from_millis(ms);
        assert_eq!(reports.round_trip(after(19, 80), answer(19, 0)), Some(Duration::from_millis(80)));
        let half = reports.round_trip(after(18, 600), answer(18, 0x8000)).unwrap();
        assert_eq!(half, Duration::from_millis(100));
        assert_eq!(reports.round_trip(after(19, 100), answer(19, 0x8000)), None, "longer than has passed");
        assert_eq!(reports.round_trip(after(19, 100), answer(3, 0)), None, "too long ago");
        assert_eq!(reports.round_trip(after(19, 100), Reference::default()), None);
    }

    #[test]
    fn blocks_are_read_with_their_signs() {
        let mut block = [0u8; 24];
        block[..8].copy_from_slice(&[0, 0, 0, 7, 64, 0xff, 0xff, 0xfe]);
        block[15] = 90;
        block[16..24].copy_from_slice(&[1, 2, 3, 4, 0, 0, 0, 9]);
        let bytes = [&block[..], &block[..], &[1, 2, 3]].concat();
        let read: Vec<_> = report_blocks(&bytes).collect();
        let reference = Reference { report: 0x0102_0304, delay: 9 };
        let expected = ReportBlock { ssrc: 7, fraction_lost: 64, total_lost: -2, jitter: 90, reference };
        assert_eq!(read, [expected, expected]);
    }
}
