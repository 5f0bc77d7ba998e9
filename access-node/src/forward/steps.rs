//! Which of a source's layers a stream gets where payloads tell their layer (VP8's temporal ones, VP9's): fewer of them cost nothing but leaving
//! packets out.

use kaigi_media::dependency_descriptor::LayerId;

use super::picture::Picture;

/// Down at the next picture, up where a decoder can go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    /// The highest layers that are sent.
    current: LayerId,
    /// The newest picture.
    timestamp: Option<u32>,
    /// It allows for more frames from the next one on.
    up: bool,
}

impl Default for Steps {
    fn default() -> Self {
        Self { current: LayerId { spatial: u8::MAX, temporal: u8::MAX }, timestamp: None, up: false }
    }
}

impl Steps {
    /// The highest layers that are sent.
    pub(super) fn layer(&self) -> LayerId {
        self.current
    }

    /// Whether larger pictures are wanted, which begin at a key frame.
    pub(super) fn waits(&self, wanted: LayerId) -> bool {
        self.current.spatial < wanted.spatial
    }

    /// Whether a packet of such a picture is sent; packets in their order.
    pub(super) fn takes(&mut self, wanted: LayerId, timestamp: u32, picture: &Picture) -> bool {
        let is_new = self.timestamp.is_none_or(|last| timestamp.wrapping_sub(last) as i32 > 0);
        if is_new {
            self.timestamp = Some(timestamp);
            if std::mem::take(&mut self.up) {
                self.current.temporal = wanted.temporal;
            }
            let LayerId { spatial, temporal } = self.current;
            self.current =
                LayerId { spatial: spatial.min(wanted.spatial), temporal: temporal.min(wanted.temporal) };
        }
        let (wants, sent) = (picture.temporal <= wanted.temporal, picture.temporal <= self.current.temporal);
        if picture.key_frame {
            self.current = wanted;
        } else if wants && !sent && picture.sync {
            self.current.temporal = picture.temporal;
        }
        let taken = picture.temporal <= self.current.temporal && picture.spatial <= self.current.spatial;
        self.up |= taken && picture.up;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of pictures one after the other.
    #[derive(Default)]
    struct Stream {
        steps: Steps,
        pictures: u32,
        wanted: LayerId,
    }

    impl Stream {
        fn wants(spatial: u8, temporal: u8) -> Self {
            Self { wanted: LayerId { spatial, temporal }, ..Self::default() }
        }

        fn picture(&mut self, temporal: u8, change: impl Fn(&mut Picture)) -> bool {
            self.pictures += 1;
            self.packet(temporal, change)
        }

        fn packet(&mut self, temporal: u8, change: impl Fn(&mut Picture)) -> bool {
            let mut picture = Picture { temporal, ..Picture::default() };
            change(&mut picture);
            self.steps.takes(self.wanted, self.pictures * 3_000, &picture)
        }
    }

    #[test]
    fn frame_rates_go_down_at_once_and_up_where_a_decoder_can() {
        let mut stream = Stream::wants(0, 2);
        let sync = |picture: &mut Picture| picture.sync = true;
        assert!(stream.picture(2, |_| {}));
        stream.wanted.temporal = 0;
        assert!(stream.packet(2, |_| {}), "a picture is sent whole");
        assert!(!stream.picture(1, sync));
        assert!(stream.picture(0, |_| {}));
        stream.wanted.temporal = 2;
        assert!(!stream.picture(2, |_| {}), "it depends on what was left out");
        assert!(stream.picture(1, sync));
        assert!(!stream.picture(2, |_| {}));
        assert!(stream.picture(2, sync));
        stream.wanted.temporal = 1;
        assert!(!stream.picture(2, sync));
        stream.wanted.temporal = 2;
        assert!(stream.picture(0, |picture| picture.key_frame = true));
        assert!(stream.picture(2, |_| {}), "after a key frame all can be had");
    }

    #[test]
    fn frame_rates_go_up_after_a_switching_point() {
        let mut stream = Stream::wants(0, 0);
        assert!(stream.picture(0, |_| {}));
        assert!(!stream.picture(2, |picture| picture.up = true));
        stream.wanted.temporal = 2;
        assert!(stream.picture(0, |picture| picture.up = true));
        assert!(stream.picture(2, |_| {}));
    }

    #[test]
    fn pictures_become_smaller_at_the_next_one_and_larger_at_a_key_frame() {
        let mut stream = Stream::wants(2, 0);
        let layer = |spatial| move |picture: &mut Picture| picture.spatial = spatial;
        assert!(stream.picture(0, layer(0)) && stream.packet(0, layer(1)));
        stream.wanted.spatial = 0;
        assert!(stream.packet(0, layer(2)), "the picture is sent whole");
        assert!(stream.picture(0, layer(0)));
        assert!(!stream.packet(0, layer(1)) && !stream.packet(0, layer(2)));
        stream.wanted.spatial = 1;
        assert!(stream.picture(0, layer(0)) && !stream.packet(0, layer(1)));
        assert!(stream.steps.waits(stream.wanted));
        assert!(stream.picture(0, |picture| picture.key_frame = true));
        assert!(stream.packet(0, layer(1)) && !stream.packet(0, layer(2)));
        assert!(!stream.steps.waits(stream.wanted));
    }
}
