//! Packets on their way to other workers of the process, as records one after another in memory that is used again.

use crate::{
    arena::Key,
    ids::WorkerNumber,
    keys::{FlowKey, FlowTag},
};

/// Bytes before what a record carries: its length, what it is, a flow.
const HEADER: usize = 12;
const PACKET: u8 = 0;
const REPORT: u8 = 1;

/// What crosses from one worker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing<'b> {
    /// An RTP packet as the publisher sent it, without its protection.
    Packet(&'b [u8]),
    /// The NTP time of an RTP timestamp.
    Report {
        /// RFC 3550 §4.
        ntp: u64,
        /// In units of the format.
        rtp: u32,
    },
}

/// What is to cross to each of the other workers.
#[derive(Debug, Default)]
pub struct Crossings {
    to: Vec<Vec<u8>>,
    count: usize,
}

impl Crossings {
    /// Adds a packet of a flow of that worker.
    pub(super) fn packet(&mut self, to: WorkerNumber, flow: FlowKey, packet: &[u8]) {
        self.push(to, flow, PACKET, packet, &[]);
    }

    /// Adds a report.
    pub(super) fn report(&mut self, to: WorkerNumber, flow: FlowKey, ntp: u64, rtp: u32) {
        self.push(to, flow, REPORT, &ntp.to_be_bytes(), &rtp.to_be_bytes());
    }

    fn push(&mut self, to: WorkerNumber, flow: FlowKey, kind: u8, first: &[u8], second: &[u8]) {
        let Ok(length) = u16::try_from(first.len() + second.len()) else { return };
        let place = usize::from(to.0);
        if place >= self.to.len() {
            self.to.resize_with(place + 1, Vec::new);
        }
        let bytes = &mut self.to[place];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[kind, 0]);
        bytes.extend_from_slice(&flow.to_bits().to_be_bytes());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        self.count += 1;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The records for each worker that there are some for; [`record`] reads them.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerNumber, &[u8])> {
        (0..)
            .map(WorkerNumber)
            .zip(&self.to)
            .map(|(to, bytes)| (to, &bytes[..]))
            .filter(|(_, b)| !b.is_empty())
    }

    /// Forgets all; the room is kept.
    pub fn clear(&mut self) {
        self.to.iter_mut().for_each(Vec::clear);
        self.count = 0;
    }
}

/// Length of the record that begins there, if that much of it is there that it tells.
#[must_use]
pub fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<2>()?;
    Some(HEADER + usize::from(u16::from_be_bytes(*length)))
}

/// Reads a whole record: of which flow it is, and what.
pub(super) fn read(record: &[u8]) -> Option<(FlowKey, Crossing<'_>)> {
    let (header, body) = record.split_first_chunk::<HEADER>()?;
    let flow = Key::<FlowTag>::from_bits(u64::from_be_bytes(*header.last_chunk::<8>()?));
    let crossing = match header[2] {
        PACKET => Crossing::Packet(body),
        _ => {
            let (ntp, rtp) = body.split_first_chunk::<8>()?;
            Crossing::Report {
                ntp: u64::from_be_bytes(*ntp),
                rtp: u32::from_be_bytes(*rtp.first_chunk::<4>()?),
            }
        }
    };
    Some((flow, crossing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let mut crossings = Crossings::default();
        let (first, second) = (Key::for_tests(7), Key::for_tests(8));
        crossings.packet(WorkerNumber(2), first, &[1; 1200]);
        crossings.packet(WorkerNumber(0), first, &[]);
        crossings.report(WorkerNumber(2), second, 1 << 40, 9);
        assert_eq!(crossings.len(), 3);
        let mut all = Vec::new();
        for (to, mut bytes) in crossings.iter() {
            while let Some(length) = record_length(bytes) {
                let (record, rest) = bytes.split_at(length);
                let (flow, crossing) = read(record).unwrap();
                let what = match crossing {
                    Crossing::Packet(packet) => (packet.len() as u64, 0),
                    Crossing::Report { ntp, rtp } => (ntp, rtp),
                };
                all.push((to.0, flow, what));
                bytes = rest;
            }
        }
        assert_eq!(all, [(0, first, (0, 0)), (2, first, (1200, 0)), (2, second, (1 << 40, 9))]);
        crossings.clear();
        assert!(crossings.is_empty() && crossings.iter().next().is_none());
    }

    #[test]
    fn what_is_cut_off_is_no_record() {
        assert_eq!(record_length(&[1]), None);
        for length in 0..HEADER {
            assert_eq!(read(&vec![0; length]), None);
        }
        let mut report = vec![0; HEADER + 11];
        report[2] = REPORT;
        assert_eq!(read(&report), None);
    }
}
