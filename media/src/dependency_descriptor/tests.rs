use super::{example::Mode, *};

const L1T3: Mode = Mode { spatial: 1, temporal: 3, key: false };
const L3T3: Mode = Mode { spatial: 3, temporal: 3, key: false };
const L3T3_KEY: Mode = Mode { spatial: 3, temporal: 3, key: true };

fn structure(mode: Mode) -> Structure {
    Descriptor::read(&mode.descriptor(0, 0, 1), None).unwrap().1.unwrap()
}

fn letters(indications: Indications, targets: usize) -> String {
    let letter = |target| match 1u32 << target {
        bit if indications.present & bit == 0 => '-',
        bit if indications.switch & bit != 0 => 'S',
        bit if indications.required & bit != 0 => 'R',
        _ => 'D',
    };
    (0..targets).map(letter).collect()
}

#[test]
fn every_frame_of_the_common_modes_is_read() {
    for mode in [L1T3, L3T3, L3T3_KEY, Mode { temporal: 1, ..L3T3 }] {
        let known = structure(mode);
        assert!(known.targets().iter().copied().eq(mode.targets()));
        assert_eq!(known.spatial_layers(), mode.spatial);
        assert_eq!(known.needs_below(mode.spatial - 1), mode.spatial > 1 && !mode.key);
        assert_eq!(known.sizes().last(), Some(&(320 << (mode.spatial - 1), 180 << (mode.spatial - 1))));
        for picture in 0..9 {
            for (spatial, frame) in (0..).zip(mode.picture(picture)) {
                let bytes = mode.descriptor(picture, spatial, 65_535);
                let (read, own) = Descriptor::read(&bytes, Some(&known)).unwrap();
                assert_eq!(own.as_ref(), (picture == 0 && spatial == 0).then_some(&known));
                assert_eq!(
                    (read.begins, read.ends, read.number, read.layer),
                    (true, true, 65_535, frame.layer)
                );
                assert_eq!(letters(read.indications, known.targets().len()), frame.indications);
                assert!(read.references.iter().eq(frame.differences));
                assert_eq!(read.is_key_frame(), picture == 0 && spatial == 0);
            }
        }
    }
}

#[test]
fn what_is_written_says_the_same_with_another_number_and_other_targets() {
    let known = structure(L3T3);
    for (picture, spatial) in [(0, 0), (0, 2), (1, 1), (4, 0)] {
        let bytes = L3T3.descriptor(picture, spatial, 7);
        let (read, _) = Descriptor::read(&bytes, Some(&known)).unwrap();
        let mut out = vec![1, 2, 3];
        read.write(&mut out, &bytes, 900, None);
        assert_eq!(
            (&out[..4], &out[4..6], &out[6..]),
            (&[1, 2, 3, bytes[0]][..], &[3, 132][..], &bytes[3..])
        );
        out.truncate(3);
        read.write(&mut out, &bytes, 900, Some((0b1011, 9)));
        assert!(Descriptor::brings_news(&out[3..]));
        assert_eq!(Descriptor::brings_news(&bytes), picture == 0 && spatial == 0);
        let (again, own) = Descriptor::read(&out[3..], Some(&known)).unwrap();
        assert_eq!(own.is_some(), read.has_structure());
        assert_eq!((again.number, again.active), (900, Some(0b1011)));
        let same = |read: Descriptor| (read.begins, read.ends, read.layer, read.indications, read.references);
        assert_eq!(same(again), same(read));
    }
}

#[test]
fn a_frame_may_differ_from_its_template() {
    let known = structure(L1T3);
    let mut bits = BitsWriter::default();
    // Template 60, frame 5; custom indications "SRD", references to 1 and 300 before.
    for (value, count) in [(0b11, 2), (60, 6), (5, 16), (0b00110, 5), (0b10_11_01, 6)] {
        bits.fixed(value, count);
    }
    for (value, count) in [(1, 2), (0, 4), (3, 2), (299, 12), (0, 2)] {
        bits.fixed(value, count);
    }
    let (bytes, _) = bits.finish();
    let (read, _) = Descriptor::read(&bytes, Some(&known)).unwrap();
    assert_eq!(letters(read.indications, 3), "SRD");
    assert!(read.references.iter().eq([1, 300]));
    assert!(!read.is_key_frame());
}

#[test]
fn what_is_malformed_is_refused() {
    let known = structure(L1T3);
    let read = |bytes: &[u8]| Descriptor::read(bytes, Some(&known)).map(|_| ()).unwrap_err();
    assert_eq!(read(&[]), DescriptorError::TooShort);
    assert_eq!(read(&[0, 0]), DescriptorError::TooShort);
    assert_eq!(read(&[30, 0, 0]), DescriptorError::UnknownTemplate);
    assert_eq!(
        Descriptor::read(&L1T3.descriptor(1, 0, 0), None).unwrap_err(),
        DescriptorError::UnknownTemplate,
        "no structure is known"
    );
    let whole = L3T3.descriptor(0, 0, 1);
    for length in 3..whole.len() {
        let cut = Descriptor::read(&whole[..length], None);
        assert!(cut.is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn no_bytes_make_it_panic_and_what_is_read_can_be_written() {
    let mut state = 3u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let modes = [L1T3, L3T3, L3T3_KEY];
    let structures = modes.map(structure);
    let mut read = 0;
    for round in 0..60_000usize {
        let mode = round % modes.len();
        let bytes: Vec<u8> = if round % 2 == 0 {
            (0..usize::from(next()) % 80).map(|_| next()).collect()
        } else {
            // A good one with some bits wrong.
            let mut bytes = modes[mode].descriptor(round / 7 % 2, 0, round as u16);
            for _ in 0..next() % 4 {
                let at = usize::from(next()) % bytes.len();
                bytes[at] ^= 1 << (next() % 8);
            }
            bytes
        };
        let Ok((descriptor, own)) = Descriptor::read(&bytes, Some(&structures[mode])) else { continue };
        read += 1;
        let used = own.as_ref().unwrap_or(&structures[mode]);
        assert_eq!(descriptor.indications.switch & !descriptor.indications.present, 0);
        assert_eq!(descriptor.indications.present & !used.all(), 0);
        let mut out = Vec::new();
        descriptor.write(&mut out, &bytes, 77, Some((1, used.targets().len())));
        let (again, _) = Descriptor::read(&out, Some(used)).unwrap();
        assert_eq!((again.number, again.active), (77, Some(1)));
        assert_eq!((again.layer, again.references), (descriptor.layer, descriptor.references));
    }
    assert!(read > 1_000, "{read}");
}
