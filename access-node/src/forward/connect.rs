//! Which source a sink gets, and how it goes over from one to another.

use std::time::Instant;

use kaigi_media::dependency_descriptor::LayerId;
use kaigi_proto::v1;

use super::{Forwarder, Outlet, Source, choices::Why, sink::Destination, sink::Sink};
use crate::{
    keys::{SinkKey, SourceKey},
    sdp::Kind,
};

/// Why a source is chosen of several, and what it leaves to be desired.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// What keeps more from being sent.
    pub limit: v1::Limit,
    /// Why it is this one.
    pub why: Why,
    /// Whether what flows can't go on until it comes.
    pub at_once: bool,
}

impl Forwarder {
    /// Takes a sink away; returns the sources that it had.
    pub fn remove_sink(&mut self, key: SinkKey) -> impl Iterator<Item = SourceKey> + use<> {
        let sources = self.sinks.remove(key).map(|sink| [sink.source, sink.next]);
        let sources = sources.into_iter().flatten().flatten();
        for source in sources.clone() {
            self.detach(key, source);
        }
        sources
    }

    /// Connects a sink to a source in place of the one it has. A stream that flows goes on with what it has until the new source can be
    /// joined: at its first key frame, or its first packet of sound. What was left is in [`Self::take_left`].
    pub fn connect(&mut self, now: Instant, key: SinkKey, source_key: SourceKey, out: &mut impl Outlet) {
        if let Some(sink) = self.sinks.get_mut(key) {
            sink.limit = v1::Limit::None;
        }
        self.hold(now, key, false, out);
        self.connect_for(now, key, source_key, Why::SourceSet, out);
    }

    /// Takes away what a sink gets. What it gets next follows on what it got last.
    pub fn disconnect(&mut self, key: SinkKey) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        let before = [sink.source.take(), sink.next.take()];
        if let Destination::Client(stream) = &mut sink.to {
            stream.continuity.interrupt();
            stream.awaits_key_frame = sink.kind == Kind::Video;
        }
        for source in before.into_iter().flatten() {
            self.leave(key, source);
        }
    }

    /// The same, for one of several sources that show the same, which leaves something to be desired or not: `limit`. If it is to be
    /// `at_once`, nothing flows until the new source can be joined.
    pub fn choose(
        &mut self,
        now: Instant,
        key: SinkKey,
        source: SourceKey,
        chosen: Chosen,
        out: &mut impl Outlet,
    ) {
        let Chosen { limit, why, at_once } = chosen;
        let Some(sink) = self.sinks.get_mut(key) else { return };
        sink.limit = limit;
        let resumes = sink.held && sink.source == Some(source);
        let stays = !sink.held && sink.source == Some(source) && sink.next.is_none();
        self.connect_for(now, key, source, why, out);
        self.hold(now, key, false, out);
        if at_once {
            self.finish_switch(key);
        }
        if resumes {
            self.chose(now, key, why);
        } else if stays {
            self.chose_layer(now, key, why);
        }
    }

    /// Holds back what goes to a sink, and what it would have gone over to, until another source is chosen.
    pub fn choose_nothing(&mut self, now: Instant, key: SinkKey, why: Why, out: &mut impl Outlet) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        sink.limit = v1::Limit::Bandwidth;
        self.hold(now, key, true, out);
        self.chose(now, key, why);
    }

    /// The highest layers of its source that are sent to a sink, where sources tell them.
    pub fn limit_layers(&mut self, key: SinkKey, most: LayerId) {
        let Some(Sink { to: Destination::Client(stream), source, .. }) = self.sinks.get_mut(key) else {
            return;
        };
        if stream.selection.limit(most)
            && let Some(source) = source.and_then(|source| self.sources.get_mut(source))
        {
            source.need_key_frame();
        }
    }

    /// What keeps more from being sent than the source that is chosen.
    pub fn set_limit(&mut self, key: SinkKey, limit: v1::Limit) {
        if let Some(sink) = self.sinks.get_mut(key) {
            sink.limit = limit;
        }
    }

    fn connect_for(
        &mut self,
        now: Instant,
        key: SinkKey,
        source_key: SourceKey,
        why: Why,
        out: &mut impl Outlet,
    ) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        if sink.next == Some(source_key) {
            return;
        }
        if let Some(next) = sink.next.take() {
            self.leave(key, next);
        }
        let Some(sink) = self.sinks.get_mut(key) else { return };
        if sink.source == Some(source_key) {
            return;
        }
        // What is held back is not worth keeping until then.
        let (flows, held) = (sink.flows(), sink.held);
        let is_link = matches!(sink.to, Destination::Link { .. });
        let is_there = |key| self.sources.get(key).is_some_and(|source: &Source| source.supply.is_some());
        let goes_on = flows && !held && sink.source.is_some_and(is_there);
        sink.next = Some(source_key);
        if let Some(source) = self.sources.get_mut(source_key) {
            if is_link {
                // What others need time for goes before what is written here.
                source.sinks.insert(0, key);
            } else {
                source.sinks.push(key);
            }
            source.awaited |= flows;
        }
        self.chose(now, key, why);
        if let Some(source) = self.sources.get(source_key) {
            // Nothing can be joined where nothing flows on purpose.
            if !goes_on || !source.active {
                self.finish_switch(key);
            }
        }
        if flows {
            self.want_key_frame(now, source_key, out);
        }
    }

    fn hold(&mut self, now: Instant, key: SinkKey, held: bool, out: &mut impl Outlet) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        if let Some(next) = sink.next.take_if(|_| held) {
            self.leave(key, next);
        }
        let Some(sink) = self.sinks.get_mut(key) else { return };
        if std::mem::replace(&mut sink.held, held) && !held {
            self.begin_anew(now, key, out);
        }
    }

    /// Leaves the old source now, not at the new one's next key frame. Until that nothing flows.
    pub(super) fn finish_switch(&mut self, key: SinkKey) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        let Some(next) = sink.next.take() else { return };
        let before = sink.source.replace(next);
        sink.held = false;
        if let Destination::Client(stream) = &mut sink.to {
            stream.continuity.interrupt();
            stream.awaits_key_frame = sink.kind == Kind::Video;
        }
        if let Some(before) = before {
            self.leave(key, before);
        }
    }

    fn leave(&mut self, key: SinkKey, source: SourceKey) {
        self.detach(key, source);
        self.left.push(source);
    }

    fn detach(&mut self, key: SinkKey, source: SourceKey) {
        if let Some(source) = self.sources.get_mut(source) {
            source.sinks.retain(|other| *other != key);
        }
    }

    /// A source that a sink has left for another since the last time.
    pub fn take_left(&mut self) -> Option<SourceKey> {
        self.left.pop()
    }
}
