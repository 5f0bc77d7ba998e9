//! A way that becomes narrow for a while, with a queue of two seconds before it: found, held and left.

use std::time::Duration;

use crate::stage::*;

/// What is looked at together.
const STEP: Duration = Duration::from_millis(100);
/// Longest wait in the queue that is none to speak of.
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_bottleneck_is_found_held_and_left() {
    for (capacity, held) in [(500e3, 16), (500e3, 18), (500e3, 20), (800e3, 17), (800e3, 19)] {
        let mut stage = Stage::new();
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(6));
        let way = stage.narrow(client);
        (way.queue, way.delay) = (seconds(2), Duration::from_millis(50));
        way.capacity = capacity;
        stage.run(seconds(5));
        stage.narrow(client).waited = Duration::ZERO;
        stage.run(seconds(held));
        let waited = stage.narrow(client).waited;
        assert!(waited < SHORT, "{waited:?} in a bottleneck of {capacity} that has been there for long");

        stage.narrow(client).capacity = 20e6;
        let ended = stage.world.now;
        stage.shown(client);
        while stage.shown[&client].last() != Some(&2) {
            stage.run(STEP);
            assert!(stage.world.now < ended + seconds(8), "a bottleneck of {capacity} has ended long ago");
        }
    }
}
