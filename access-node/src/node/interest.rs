//! Which layers of a picture somebody wants: those that nobody does its publisher need not send. What is wanted is what is asked for, not what
//! ways carry at the moment, so that a larger layer is there when there is room for it; and all that are smaller than a wanted one are, so that
//! a way that becomes narrow is served at once. The smallest is always wanted: it is there for whoever comes next.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kaigi_proto::v1::{self, access_event::Event};

use super::{Node, transport::Layer, transport::Role};
use crate::{forward::Forwarder, ids::Mid, keys::TransportKey};

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How long a layer must not have been wanted before its publisher is told. To begin with one again takes about a second and a key frame, so
/// who merely looks at something else for a moment should not cost that.
const LINGER: Duration = Duration::from_secs(5);
/// How long what is asked for counts, if it is not asked for again: here it is every 200 ms, by other nodes every second.
pub(super) const ASKED: Duration = Duration::from_secs(3);

/// What a client was told of the layers of its pictures, by m-line.
#[derive(Debug, Default)]
pub(super) struct Interest {
    tracks: HashMap<Mid, Told>,
    /// Present while it publishes layers.
    next: Option<Instant>,
}

impl Interest {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }
}

#[derive(Debug)]
struct Told {
    /// How many layers, from the smallest on, are wanted.
    wanted: usize,
    /// Since when it could be fewer, and the most that were wanted meanwhile.
    fewer: Option<(Instant, usize)>,
}

impl Told {
    /// So many are wanted now. Whether the client has to be told.
    fn changes(&mut self, now: Instant, wanted: usize) -> bool {
        if wanted >= self.wanted {
            self.fewer = None;
            return std::mem::replace(&mut self.wanted, wanted) != wanted;
        }
        let (since, most) = self.fewer.get_or_insert((now, wanted));
        *most = wanted.max(*most);
        if now < *since + LINGER {
            return false;
        }
        self.wanted = *most;
        self.fewer = None;
        true
    }
}

impl Node {
    pub(super) fn interest_timeout(&mut self, now: Instant, key: TransportKey) {
        let next = self.net.transports.get(key).and_then(|transport| transport.interest.next);
        if next.is_none_or(|at| at <= now) {
            self.look_for_interest(now, key);
        }
    }

    /// Looks at which layers of a client's pictures are wanted, and tells the agent if that has changed.
    pub(super) fn look_for_interest(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let mut events = Vec::new();
        let told = &mut transport.interest.tracks;
        let mut seen = 0;
        for (session, track) in
            transport.sessions.iter().flat_map(|(id, s)| s.tracks.iter().map(move |t| (id, t)))
        {
            let Role::Published(layers) = &track.role else { continue };
            if layers.len() < 2 {
                continue;
            }
            seen += 1;
            let known = told.entry(track.mid.clone()).or_insert(Told { wanted: layers.len(), fewer: None });
            let order = by_size(&self.forward, layers);
            let wanted =
                order.as_ref().map_or(layers.len(), |order| wanted(now, &self.forward, layers, order));
            let Some(order) = order.filter(|_| known.changes(now, wanted)) else { continue };
            let wanted = known.wanted;
            let is_wanted = |layer: usize| order.iter().take(wanted).any(|wanted| *wanted == layer);
            let layers: Vec<_> = layers
                .iter()
                .enumerate()
                .map(|(place, layer)| {
                    if let Some(source) = self.forward.source_mut(layer.source) {
                        source.is_wanted = is_wanted(place);
                    }
                    v1::WantedLayer { track_id: layer.track.to_string(), wanted: is_wanted(place) }
                })
                .collect();
            events.push(v1::WantedLayers { session_id: session.to_string(), layers });
        }
        if told.len() > seen {
            let sessions = transport.sessions.values();
            let mids: Vec<_> = sessions.flat_map(|session| &session.tracks).map(|track| &track.mid).collect();
            told.retain(|mid, _| mids.contains(&mid));
        }
        transport.interest.next = (seen > 0).then_some(now + TICK);
        for event in events {
            self.net.event(key, Event::WantedLayers(event));
        }
    }
}

/// The layers, the smallest first; `None` if nothing is known of any. One that has never sent anything is taken for larger than those that have:
/// browsers begin with the smallest.
fn by_size(forward: &Forwarder, layers: &[Layer]) -> Option<Vec<usize>> {
    let area = |layer: &Layer| {
        let (width, height) = forward.source(layer.source)?.size()?;
        Some(u64::from(width) * u64::from(height))
    };
    let areas: Vec<Option<u64>> = layers.iter().map(area).collect();
    areas.iter().flatten().next()?;
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|layer| areas[*layer].unwrap_or(u64::MAX));
    Some(order)
}

/// How many of them somebody wants.
fn wanted(now: Instant, forward: &Forwarder, layers: &[Layer], order: &[usize]) -> usize {
    let is_used = |layer: &usize| layers.get(*layer).is_some_and(|layer| forward.is_used(now, layer.source));
    order.iter().rposition(is_used).map_or(1, |place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_at_once_and_less_after_a_while() {
        let start = Instant::now();
        let mut told = Told { wanted: 3, fewer: None };
        let mut at = |seconds, wanted| {
            let changes = told.changes(start + Duration::from_secs(seconds), wanted);
            (changes, told.wanted)
        };
        assert_eq!(at(0, 3), (false, 3));
        assert_eq!(at(1, 1), (false, 3));
        assert_eq!(at(5, 2), (false, 3));
        assert_eq!(at(6, 1), (true, 2), "the most that was wanted meanwhile");
        assert_eq!(at(7, 1), (false, 2));
        assert_eq!(at(11, 2), (false, 2));
        assert_eq!(at(12, 1), (false, 2), "it was wanted since");
        assert_eq!(at(17, 1), (true, 1));
        assert_eq!(at(18, 3), (true, 3));
    }
}
