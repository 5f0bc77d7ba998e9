//! What a client's packets may make the association do. The association trusts its peer in some respects (RFC 9260 leaves much to
//! its good will); here is checked, before and beside it, what would cost memory or time without end.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{
    MAX_STREAMS, RECEIVE_WINDOW,
    packet::{self, Chunk, Data, Init, before},
};

/// TSNs that may be received beyond a missing one; the association keeps each of them, up to a whole datagram.
const MAX_AHEAD: u32 = 2048;
/// TSNs that the client may give up at once. The association goes through them one by one.
const MAX_FORWARD: u32 = 16_384;
/// Chunks received in sequence that have not become messages: of an unfinished message, or of messages that never can be.
const MAX_BACKLOG: isize = 1024;
/// Requests to reset streams that the association has not answered for good. Clients have one at a time (RFC 6525 §5.1.1).
const MAX_RESETS: usize = 2;
/// Bytes that the association may keep although nothing accounts for them.
const MAX_ORPHANED: isize = 16 * 1024;
/// A TSN so far behind is none that was received before, but one that is far ahead.
const MAX_AGE: u32 = 1 << 30;
/// TSNs sent and not acknowledged.
const MAX_OUTSTANDING: u32 = 16_384;

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The association may have it. The cost is in packets.
    Pass { cost: u32 },
    /// It is dropped, as if it were lost.
    Drop,
    /// It begins an association.
    Init(Init),
}

/// The numbers of one association.
#[derive(Debug)]
pub(super) struct Guard {
    /// The tag that the client's packets must have, once it was told. What has another one the association does not look at, so it must
    /// not count.
    tag: Option<u32>,
    /// Whether the association goes along with FORWARD-TSN.
    can_forward: bool,
    /// The next TSN in sequence.
    next: u32,
    /// Those beyond a missing one.
    ahead: HashMap<u32, Data>,
    /// What the association has acknowledged.
    acknowledged: u32,
    /// Chunks and bytes in sequence that were not read, and those of them that are of the message not finished yet.
    backlog: (isize, isize),
    open: (isize, isize),
    /// Whether the message not finished yet has its beginning.
    has_begun: bool,
    /// Bytes that the association keeps, and nobody knows what for.
    orphaned: isize,
    resets: HashSet<u32>,
    /// The last TSN sent, and the last one that the client has acknowledged.
    sent: Option<u32>,
    confirmed: Option<u32>,
}

impl Guard {
    /// For an association that the client begins so.
    pub(super) fn new(init: Init) -> Self {
        let first = init.first_tsn;
        Self {
            tag: None,
            can_forward: init.can_forward,
            next: first,
            ahead: HashMap::new(),
            acknowledged: first.wrapping_sub(1),
            backlog: (0, 0),
            open: (0, 0),
            has_begun: false,
            orphaned: 0,
            resets: HashSet::new(),
            sent: None,
            confirmed: None,
        }
    }

    /// Whether a packet begins an association.
    pub(super) fn init(packet: &Bytes) -> Option<Init> {
        match &packet::chunks(packet).ok()?[..] {
            [chunk] if chunk.kind == packet::INIT => chunk.init(),
            _ => None,
        }
    }

    /// Looks at a packet from the client. What it has for streams that are closing is not kept.
    pub(super) fn inspect(&mut self, packet: &Bytes, is_closing: impl Fn(u16) -> bool) -> Verdict {
        let Ok(chunks) = packet::chunks(packet) else { return Verdict::Drop };
        if let [chunk] = &chunks[..]
            && chunk.kind == packet::INIT
        {
            return chunk.init().map_or(Verdict::Drop, Verdict::Init);
        }
        if self.tag != packet::tag(packet) {
            return Verdict::Drop;
        }
        let mut cost = 1;
        // All is looked at before anything is noted: a packet passes whole or not at all.
        for chunk in &chunks {
            match self.allows(chunk) {
                Some(more) => cost += more,
                None => return Verdict::Drop,
            }
        }
        for chunk in &chunks {
            match chunk.kind {
                packet::DATA => {
                    if let Some(mut data) = chunk.data() {
                        if is_closing(data.stream) {
                            data.length = 0;
                        }
                        self.receive(data);
                    }
                }
                packet::FORWARD_TSN => {
                    if let Some(to) = chunk.cumulative() {
                        self.forward(to);
                    }
                }
                packet::RECONFIG => self.resets.extend(chunk.reset_requests()),
                packet::SACK => self.confirmed = chunk.cumulative().or(self.confirmed),
                _ => {}
            }
        }
        Verdict::Pass { cost }
    }

    /// What a chunk costs, or `None` if the association must not have it.
    fn allows(&self, chunk: &Chunk<'_>) -> Option<u32> {
        match chunk.kind {
            packet::DATA => {
                let data = chunk.data()?;
                let distance = data.tsn.wrapping_sub(self.acknowledged);
                let fits = distance <= MAX_AHEAD || self.is_old(data.tsn);
                (data.stream < MAX_STREAMS && fits).then_some(0)
            }
            packet::FORWARD_TSN => {
                let to = chunk.cumulative().filter(|_| self.can_forward)?;
                let distance = to.wrapping_sub(self.acknowledged);
                if self.is_old(to) {
                    return Some(0);
                }
                (distance <= MAX_FORWARD).then_some(distance / 64)
            }
            packet::SACK => chunk.has_tidy_gaps().then_some(0),
            packet::RECONFIG => {
                let more = chunk.reset_requests().filter(|request| !self.resets.contains(request)).count();
                (more == 0 || self.resets.len() + more <= MAX_RESETS).then_some(0)
            }
            // An INIT comes alone (RFC 9260 §3.3.2).
            packet::INIT => None,
            _ => Some(0),
        }
    }

    fn is_old(&self, tsn: u32) -> bool {
        self.acknowledged.wrapping_sub(tsn) < MAX_AGE
    }

    fn receive(&mut self, data: Data) {
        if before(data.tsn, self.next) {
            return;
        }
        self.ahead.entry(data.tsn).or_insert(data);
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(data) = self.ahead.remove(&self.next) {
            self.take(data);
            self.next = self.next.wrapping_add(1);
        }
    }

    /// The next chunk in sequence.
    fn take(&mut self, data: Data) {
        if data.begin {
            self.open = (0, 0);
            self.has_begun = true;
        }
        let (chunks, bytes) = (isize::from(data.length > 0), signed(data.length));
        self.open = (self.open.0 + chunks, self.open.1 + bytes);
        self.backlog = (self.backlog.0 + chunks, self.backlog.1 + bytes);
        if data.end {
            self.open = (0, 0);
            self.has_begun = false;
        }
    }

    /// The message that is not finished will not be: the association forgets it.
    fn abandon(&mut self) {
        self.backlog = (self.backlog.0 - self.open.0, self.backlog.1 - self.open.1);
        self.open = (0, 0);
        self.has_begun = false;
    }

    /// The client gives up what is missing up to that TSN (RFC 3758 §3.6).
    fn forward(&mut self, to: u32) {
        if before(to, self.next) {
            return;
        }
        let mut skipped: Vec<Data> =
            self.ahead.values().filter(|data| !before(to, data.tsn)).copied().collect();
        skipped.sort_by_key(|data| data.tsn.wrapping_sub(self.next));
        for data in skipped {
            self.ahead.remove(&data.tsn);
            if data.tsn != self.next {
                self.abandon();
            }
            self.next = data.tsn.wrapping_add(1);
            // What has lost its beginning is forgotten too.
            if data.begin || self.has_begun {
                self.take(data);
            }
        }
        self.abandon();
        self.next = to.wrapping_add(1);
        self.advance();
    }

    /// The association gave a message of so many chunks and bytes.
    pub(super) fn read(&mut self, chunks: usize, bytes: usize) {
        self.backlog.0 -= signed(chunks);
        self.backlog.1 -= signed(bytes);
    }

    /// Whether more is kept for the client than any that keeps to the protocol and to the longest message needs.
    pub(super) fn is_exceeded(&self) -> bool {
        self.backlog.0 > MAX_BACKLOG
            || self.backlog.1 > RECEIVE_WINDOW as isize
            || self.orphaned > MAX_ORPHANED
    }

    /// Looks at a packet to the client.
    pub(super) fn note_sent(&mut self, packet: &Bytes) {
        for chunk in packet::chunks(packet).unwrap_or_default() {
            match chunk.kind {
                packet::INIT_ACK => self.tag = chunk.init().map(|init| init.tag),
                packet::SACK => {
                    self.acknowledged = chunk.cumulative().unwrap_or(self.acknowledged);
                    self.note_window(chunk.window().unwrap_or(RECEIVE_WINDOW));
                }
                packet::DATA => self.note_tsn(chunk.data().map(|data| data.tsn)),
                packet::FORWARD_TSN => self.note_tsn(chunk.cumulative()),
                packet::RECONFIG => {
                    for answered in chunk.reset_answers() {
                        self.resets.remove(&answered);
                    }
                }
                _ => {}
            }
        }
    }

    /// The window tells what the association keeps.
    fn note_window(&mut self, window: u32) {
        let kept = RECEIVE_WINDOW.saturating_sub(window) as isize;
        if kept == 0 && self.ahead.is_empty() && self.open.0 == 0 {
            // Nothing: whatever was counted amiss is set right.
            self.backlog = (0, 0);
        }
        let ahead: usize = self.ahead.values().map(|data| data.length).sum();
        self.orphaned = kept - signed(ahead) - self.backlog.1;
    }

    fn note_tsn(&mut self, tsn: Option<u32>) {
        let Some(tsn) = tsn else { return };
        self.confirmed.get_or_insert(tsn.wrapping_sub(1));
        if self.sent.is_none_or(|sent| before(sent, tsn)) {
            self.sent = Some(tsn);
        }
    }

    /// The TSN up to which the client has acknowledged, if anything sent is not.
    pub(super) fn awaits(&self) -> Option<u32> {
        let (sent, confirmed) = (self.sent?, self.confirmed?);
        before(confirmed, sent).then_some(confirmed)
    }

    /// Whether so much is not acknowledged that no more may be sent.
    pub(super) fn is_choked(&self) -> bool {
        let (Some(sent), Some(confirmed)) = (self.sent, self.confirmed) else { return false };
        before(confirmed, sent) && sent.wrapping_sub(confirmed) > MAX_OUTSTANDING
    }
}

fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX)
}
