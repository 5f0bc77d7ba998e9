//! Cuts a transport stream into segments that can each be decoded alone (RFC 8216 §3): at key frames, once they are long enough.

use std::time::Duration;

use bytes::Bytes;

/// Most bytes of a segment: without key frames it would grow without end.
const MAX_BYTES: usize = 64 << 20;

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) data: Bytes,
    pub(super) duration: Duration,
}

/// No decoder could do with what has come.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no key frame comes")]
pub(super) struct NoKeyFrame;

/// See the module.
#[derive(Debug)]
pub(super) struct Cutter {
    at_least: Duration,
    /// What each segment begins with: the programme tables.
    headers: Vec<u8>,
    data: Vec<u8>,
    begin: Option<Duration>,
    newest: Duration,
}

impl Cutter {
    pub(super) fn new(at_least: Duration) -> Self {
        Self { at_least, headers: Vec::new(), data: Vec::new(), begin: None, newest: Duration::ZERO }
    }

    pub(super) fn set_headers(&mut self, headers: Vec<u8>) {
        self.headers = headers;
    }

    /// Takes the next bytes; `key`: decoding can begin there. Returns the segment that they complete.
    pub(super) fn push(
        &mut self,
        data: &[u8],
        time: Option<Duration>,
        key: bool,
    ) -> Result<Option<Piece>, NoKeyFrame> {
        let time = time.unwrap_or(self.newest).max(self.newest);
        self.newest = time;
        let long_enough = |begin: Duration| time.saturating_sub(begin) >= self.at_least;
        let done = (key && self.begin.is_some_and(long_enough)).then(|| self.take()).flatten();
        if self.begin.is_none() {
            if !key {
                return Ok(done);
            }
            self.begin = Some(time);
            self.data.extend_from_slice(&self.headers);
        }
        if self.data.len() + data.len() > MAX_BYTES {
            return Err(NoKeyFrame);
        }
        self.data.extend_from_slice(data);
        Ok(done)
    }

    /// What there is since the last cut.
    pub(super) fn take(&mut self) -> Option<Piece> {
        let begin = self.begin.take()?;
        let duration = self.newest.saturating_sub(begin);
        let data = Bytes::from(std::mem::take(&mut self.data));
        (!duration.is_zero()).then_some(Piece { data, duration })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Option<Duration> {
        Some(Duration::from_secs_f64(seconds))
    }

    fn cutter() -> Cutter {
        let mut cutter = Cutter::new(Duration::from_secs(2));
        cutter.set_headers(b"H".to_vec());
        cutter
    }

    #[test]
    fn segments_begin_with_the_tables_and_a_key_frame() {
        let mut cutter = cutter();
        assert_eq!(cutter.push(b"x", seconds(0.0), false), Ok(None));
        assert_eq!(cutter.push(b"K", seconds(0.5), true), Ok(None));
        assert_eq!(cutter.push(b"a", seconds(1.5), false), Ok(None));
        // Too early for a cut.
        assert_eq!(cutter.push(b"K", seconds(2.0), true), Ok(None));
        assert_eq!(cutter.push(b"b", seconds(3.0), false), Ok(None));
        let piece = cutter.push(b"K", seconds(3.25), true).unwrap().unwrap();
        assert_eq!((&piece.data[..], piece.duration), (&b"HKaKb"[..], Duration::from_millis(2_750)));
        cutter.push(b"c", seconds(3.5), false).unwrap();
        assert_eq!(&cutter.take().unwrap().data[..], b"HKc");
        assert_eq!(cutter.take(), None);
    }

    #[test]
    fn what_never_ends_fails() {
        let mut cutter = cutter();
        cutter.push(b"K", seconds(0.0), true).unwrap();
        let chunk = vec![0; 1 << 20];
        let mut pushed = (0..100).map(|_| cutter.push(&chunk, None, false));
        assert!(pushed.any(|result| result == Err(NoKeyFrame)));
    }
}
