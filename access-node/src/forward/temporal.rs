//! Which of a source's temporal layers a stream gets: a lower frame rate costs nothing but leaving pictures out.

use super::{meter::TEMPORAL_LAYERS, picture::Picture};

/// Down at once, up where a decoder can go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Temporal {
    /// The highest layer that is wanted.
    most: u8,
    /// The highest that is sent.
    current: u8,
}

impl Default for Temporal {
    fn default() -> Self {
        let most = TEMPORAL_LAYERS as u8 - 1;
        Self { most, current: most }
    }
}

impl Temporal {
    pub(super) fn limit(&mut self, most: u8) {
        self.most = most;
        self.current = self.current.min(most);
    }

    /// Whether a packet of such a picture is sent; packets in their order.
    pub(super) fn takes(&mut self, picture: &Picture) -> bool {
        let goes_up = picture.temporal <= self.most && picture.temporal > self.current && picture.sync;
        if goes_up {
            self.current = picture.temporal;
        } else if picture.key_frame {
            self.current = self.most;
        }
        picture.temporal <= self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_down_at_once_and_up_where_a_decoder_can() {
        let mut temporal = Temporal::default();
        let mut takes = |temporal_layer, sync, key_frame, limit: Option<u8>| {
            limit.into_iter().for_each(|most| temporal.limit(most));
            temporal.takes(&Picture { temporal: temporal_layer, sync, key_frame, ..Picture::default() })
        };
        assert!(takes(2, false, false, None));
        assert!(!takes(1, true, false, Some(0)));
        assert!(takes(0, false, false, None));
        assert!(!takes(2, false, false, Some(2)), "it depends on what was left out");
        assert!(takes(1, true, false, None));
        assert!(!takes(2, false, false, None));
        assert!(takes(2, true, false, None));
        assert!(!takes(2, true, false, Some(1)));
        assert!(takes(0, false, true, Some(2)));
        assert!(takes(2, false, false, None), "after a key frame all can be had");
    }
}
