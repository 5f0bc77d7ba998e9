//! The layers of a simulcast publication as an offer names them (RFC 8853), each by a restriction identifier (RFC 8851).

use crate::ids::Rid;

/// Most layers that are accepted of one m-line; browsers send three at most. Each costs a packet cache of up to 750 kB.
pub(super) const MAX_LAYERS: usize = 3;
/// Most entries of a list that are read.
const MAX_READ: usize = 16;

/// A layer that the client offers to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OfferedLayer {
    pub(super) rid: Rid,
    /// Payload types that it is restricted to; none if it is not.
    payloads: Vec<u8>,
}

impl OfferedLayer {
    /// Whether it may be sent with that payload type.
    pub(super) fn may_have(&self, payload: u8) -> bool {
        self.payloads.is_empty() || self.payloads.contains(&payload)
    }
}

/// The layers to be sent, in the order of the simulcast line; `rids` are the values of the m-line's rid attributes. Of alternatives
/// for one layer the client's first is taken. A layer that starts paused ("~") is one like the others.
pub(super) fn offered<'v>(
    simulcast: Option<&'v str>,
    rids: impl Iterator<Item = &'v str>,
) -> Vec<OfferedLayer> {
    let Some(list) = simulcast.and_then(sent) else { return Vec::new() };
    let rids: Vec<_> = rids.take(MAX_READ).filter_map(layer).collect();
    let mut layers: Vec<OfferedLayer> = Vec::new();
    for alternatives in list.split(';').take(MAX_READ) {
        let mut named = alternatives.split(',').take(MAX_READ).map(|rid| rid.trim_start_matches('~'));
        let layer = named.find_map(|rid| rids.iter().find(|layer| layer.rid.as_str() == rid));
        if let Some(layer) = layer.filter(|layer| !layers.contains(layer)) {
            layers.push(layer.clone());
        }
    }
    layers
}

/// The list after "send", which may stand before or after the one that is received.
fn sent(value: &str) -> Option<&str> {
    let mut words = value.split_whitespace();
    while let Some(direction) = words.next() {
        let list = words.next();
        if direction == "send" {
            return list;
        }
    }
    None
}

/// `<rid> send [pt=<payload type>,…;…]`
fn layer(value: &str) -> Option<OfferedLayer> {
    let mut words = value.split_whitespace();
    let rid = Rid::new(words.next()?)?;
    if words.next()? != "send" {
        return None;
    }
    let payloads = words
        .flat_map(|restrictions| restrictions.split(';'))
        .find_map(|restriction| restriction.strip_prefix("pt="))
        .map(|list| list.split(',').take(MAX_READ).filter_map(|number| number.parse().ok()).collect());
    Some(OfferedLayer { rid, payloads: payloads.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_in_each_form_of_the_line() {
        let rids = ["q send", "h send pt=96,98;max-width=640", "f send", "in recv", "a b"];
        let table = [
            ("send q;h;f", vec!["q", "h", "f"]),
            (" send f;~h;q", vec!["f", "h", "q"]),
            ("send q recv in", vec!["q"]),
            ("recv in send h;f", vec!["h", "f"]),
            ("send x,h;f,q;f;q;in", vec!["h", "f", "q"]),
            ("recv in", vec![]),
            ("send", vec![]),
            ("send ;;,~;", vec![]),
            ("", vec![]),
        ];
        for (line, expected) in table {
            let layers = offered(Some(line), rids.into_iter());
            let found: Vec<_> = layers.iter().map(|layer| layer.rid.as_str()).collect();
            assert_eq!(found, expected, "{line:?}");
        }
        assert_eq!(offered(None, rids.into_iter()), []);
        let layers = offered(Some("send q;h"), rids.into_iter());
        let may: Vec<_> = layers.iter().map(|layer| (layer.may_have(96), layer.may_have(97))).collect();
        assert_eq!(may, [(true, true), (true, false)]);
    }
}
