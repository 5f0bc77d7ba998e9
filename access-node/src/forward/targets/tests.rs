use kaigi_media::{bits::BitsWriter, dependency_descriptor::Descriptor};

use super::*;

#[path = "../../../../media/src/dependency_descriptor/example.rs"]
mod example;

use example::Mode;

const L1T3: Mode = Mode { spatial: 1, temporal: 3, key: false };
const L3T3: Mode = Mode { spatial: 3, temporal: 3, key: false };
const L3T3_KEY: Mode = Mode { spatial: 3, temporal: 3, key: true };

/// An encoder, and a subscriber whose decoder must have every frame that a frame refers to.
struct World {
    mode: Mode,
    structure: Structure,
    targets: Targets,
    /// Since the last key frame.
    picture: usize,
    /// Of all.
    pictures: u32,
    number: u16,
    decoded: Vec<u16>,
    wanted: LayerId,
    waits: bool,
}

impl World {
    fn new(mode: Mode) -> Self {
        let structure = Descriptor::read(&mode.descriptor(0, 0, 0), None).unwrap().1.unwrap();
        Self {
            mode,
            structure,
            targets: Targets::default(),
            picture: 0,
            pictures: 0,
            number: 65_500,
            decoded: Vec::new(),
            wanted: LayerId { spatial: u8::MAX, temporal: u8::MAX },
            waits: false,
        }
    }

    fn wants(&mut self, spatial: u8, temporal: u8) {
        self.wanted = LayerId { spatial, temporal };
    }

    fn key_frame(&mut self) -> Vec<LayerId> {
        self.picture = 0;
        self.next()
    }

    /// The layers that are sent of the next picture.
    fn next(&mut self) -> Vec<LayerId> {
        let mut sent = Vec::new();
        for spatial in 0..self.mode.spatial {
            let bytes = self.mode.descriptor(self.picture, spatial, self.number);
            let (descriptor, _) = Descriptor::read(&bytes, Some(&self.structure)).unwrap();
            let frame = Described { descriptor, structure: &self.structure, active: self.structure.all() };
            let timestamp = self.pictures * 3_000;
            if self.targets.takes(self.wanted, timestamp, &frame) {
                assert!(self.targets.takes(self.wanted, timestamp, &frame), "each packet of it");
                for back in descriptor.references.iter() {
                    let needed = self.number.wrapping_sub(back);
                    assert!(
                        self.decoded.contains(&needed),
                        "{:?} needs a frame that was left out",
                        descriptor.layer
                    );
                }
                self.decoded.push(self.number);
                sent.push(descriptor.layer);
            }
            self.waits = self.targets.waits(self.wanted, &frame);
            self.number = self.number.wrapping_add(1);
        }
        self.picture += 1;
        self.pictures += 1;
        sent
    }

    /// How many layers of each of the next pictures are sent.
    fn counts<const N: usize>(&mut self) -> [usize; N] {
        std::array::from_fn(|_| self.next().len())
    }
}

#[test]
fn all_is_sent_if_all_is_wanted() {
    for mode in [L1T3, L3T3] {
        let mut world = World::new(mode);
        assert_eq!(world.counts(), [usize::from(mode.spatial); 20]);
        assert!(!world.waits);
    }
}

#[test]
fn frame_rates_change_at_once_and_without_a_key_frame() {
    let mut world = World::new(L1T3);
    assert_eq!(world.counts(), [1; 4]);
    world.wants(0, 0);
    assert_eq!(world.counts(), [1, 0, 0, 0, 1, 0, 0, 0]);
    world.wants(0, 1);
    assert_eq!(world.counts(), [1, 0, 1, 0, 1, 0, 1, 0]);
    world.wants(0, 2);
    assert_eq!(world.counts(), [1, 1, 1, 1]);
    assert!(!world.waits);
}

#[test]
fn frame_rates_of_larger_pictures_change_too() {
    let mut world = World::new(L3T3);
    world.wants(1, 2);
    assert_eq!(world.counts(), [2; 4]);
    world.wants(1, 0);
    assert_eq!(world.counts(), [2, 0, 0, 0, 2, 0, 0, 0]);
    world.wants(1, 2);
    let counts: [usize; 8] = world.counts();
    assert_eq!(counts[4..], [2; 4]);
}

#[test]
fn pictures_become_smaller_at_once_and_larger_at_a_key_frame() {
    let mut world = World::new(L3T3);
    assert_eq!(world.counts(), [3; 3]);
    world.wants(0, 2);
    assert_eq!(world.counts(), [1; 3]);
    assert!(!world.waits);
    world.wants(2, 2);
    assert_eq!(world.counts(), [1; 3]);
    assert!(world.waits, "a key frame is needed");
    assert_eq!(world.key_frame().len(), 3);
    assert!(!world.waits);
    assert_eq!(world.counts(), [3; 5]);
}

#[test]
fn where_pictures_depend_on_smaller_ones_at_key_frames_only_those_are_left_out() {
    let mut world = World::new(L3T3_KEY);
    assert_eq!(world.key_frame().len(), 3);
    assert_eq!(world.next(), [LayerId { spatial: 2, temporal: 2 }]);
    world.counts::<4>();
    // The smaller pictures can't be gone on with: fewer frames must do until there is a key frame.
    world.wants(0, 2);
    let sent: Vec<_> = (0..8).flat_map(|_| world.next()).collect();
    assert_eq!(sent, [LayerId { spatial: 2, temporal: 0 }; 2]);
    assert!(world.waits);
    assert_eq!(world.key_frame(), [LayerId::default()]);
    assert_eq!(world.counts(), [1; 8]);
    assert!(!world.waits);
}

#[test]
fn what_comes_late_is_sent_if_its_layers_are() {
    let mut world = World::new(L1T3);
    world.wants(0, 1);
    world.next();
    let late = |world: &mut World, picture: usize, number: u16| {
        let bytes = world.mode.descriptor(picture, 0, number);
        let (descriptor, _) = Descriptor::read(&bytes, Some(&world.structure)).unwrap();
        let active = world.structure.all();
        world.targets.takes(world.wanted, 0, &Described { descriptor, structure: &world.structure, active })
    };
    // Pictures 1 and 2, of layers 2 and 1, are late.
    (world.number, world.picture) = (world.number.wrapping_add(2), 3);
    world.next();
    let first = world.number.wrapping_sub(4);
    assert!(late(&mut world, 2, first.wrapping_add(2)));
    assert!(!late(&mut world, 1, first.wrapping_add(1)));
    assert!(late(&mut world, 0, first), "a packet of it");
}

#[test]
fn a_source_whose_numbers_jump_is_gone_on_with_at_a_key_frame() {
    let mut world = World::new(L1T3);
    assert_eq!(world.counts(), [1; 4]);
    world.number = world.number.wrapping_sub(5_000);
    assert_eq!(world.counts(), [0; 3]);
    assert!(world.waits);
    assert_eq!(world.key_frame().len(), 1);
    assert!(!world.waits);
    assert_eq!(world.counts(), [1; 5]);
}

#[test]
fn whatever_is_wanted_in_whatever_order_a_decoder_gets_along() {
    let mut state = 11u32;
    let mut next = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    for mode in [L1T3, L3T3, L3T3_KEY, Mode { spatial: 2, temporal: 1, key: false }] {
        let mut world = World::new(mode);
        let mut sent = 0;
        for _ in 0..2_000 {
            match next(12) {
                0 => world.wants(next(4) as u8, next(4) as u8),
                // A key frame is asked for, and comes some time.
                1 if world.waits => sent += world.key_frame().len(),
                _ => sent += world.next().len(),
            }
            let most = world.decoded.len().saturating_sub(300);
            world.decoded.drain(..most);
        }
        assert!(sent > 500, "{sent}");
    }
}
