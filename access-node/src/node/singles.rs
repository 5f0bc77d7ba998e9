//! Pictures of which there is one size only. They are sent whole, or, where it is certain that the way does not carry sound and them, not at all.

use std::time::Instant;

use kaigi_proto::v1;

use super::{
    TrackSource,
    layers::{Basis, Change},
};
use crate::{
    allocate::{Demand, Rung},
    forward::{Chosen, Forwarder, Why},
    keys::SinkKey,
};

/// One that a client subscribes.
pub(super) struct Single<'t> {
    pub(super) sink: SinkKey,
    track: &'t TrackSource,
    /// What its source sends, in bit/s; `None` if that is not known.
    bitrate: Option<u64>,
    /// Whether it is paused for want of bandwidth.
    pub(super) is_held: bool,
}

impl<'t> Single<'t> {
    /// `None` if there is nothing to say of it: it does not flow, and not for want of bandwidth.
    pub(super) fn new(
        now: Instant,
        sink: SinkKey,
        track: &'t TrackSource,
        forward: &mut Forwarder,
    ) -> Option<Self> {
        let key = forward.find(&track.track);
        let source = key.and_then(|key| forward.source_mut(key)).filter(|source| source.active);
        let bitrate = source.and_then(|source| source.rates(now)).map(|rates| rates.bitrate());
        let known = forward.sink(sink)?;
        (known.is_held() || known.is_flowing()).then(|| Self {
            sink,
            track,
            bitrate,
            is_held: known.is_held(),
        })
    }

    /// What is sent of it, in bit/s.
    pub(super) fn sent(&self) -> u64 {
        self.bitrate.filter(|_| !self.is_held).unwrap_or_default()
    }

    pub(super) fn demand(&self) -> Demand {
        let rungs: Vec<_> = self.bitrate.map(|bitrate| Rung { bitrate, value: 1.0 }).into_iter().collect();
        let current = (!self.is_held && !rungs.is_empty()).then_some(0);
        Demand { rungs, current, single: true, ..Demand::default() }
    }

    /// Shows it or not; what is to be done for that, if anything.
    pub(super) fn choose(&self, shown: bool, basis: Basis) -> Option<Change> {
        if shown != self.is_held {
            return None;
        }
        let kbits = basis.estimate.unwrap_or_default() / 1000;
        let why = if shown { Why::MoreCarried(kbits) } else { Why::LessCarried(kbits) };
        let limit = if shown { v1::Limit::None } else { v1::Limit::Bandwidth };
        let chosen = Chosen { limit, why, at_once: false };
        Some(Change { sink: self.sink, layer: shown.then(|| self.track.clone()), chosen })
    }
}
