//! For tests: descriptors as encoders of the common scalability modes write them.

#![allow(unreachable_pub, dead_code)]

use super::{BitsWriter, LayerId};

/// A scalability mode of up to three temporal layers: "L1T3", "L3T3", "L3T3_KEY".
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Spatial layers, each twice as large as the one below.
    pub spatial: u8,
    /// 1 or 3.
    pub temporal: u8,
    /// Pictures refer to smaller ones at key frames only.
    pub key: bool,
}

/// One template, or the frames that it describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its layer.
    pub layer: LayerId,
    /// One letter for each decode target: "-", "D", "S", "R".
    pub indications: String,
    /// Frames before.
    pub differences: Vec<u16>,
}

/// How a frame of the picture is coded, in the order of pictures.
const PATTERN: [(u8, u16); 4] = [(0, 4), (2, 1), (1, 2), (2, 1)];

impl Mode {
    /// Frames of the picture so many after the key frame.
    pub fn picture(self, picture: usize) -> Vec<Described> {
        (0..self.spatial).map(|spatial| self.frame(spatial, picture)).collect()
    }

    fn frame(self, spatial: u8, picture: usize) -> Described {
        let (temporal, back) = if self.temporal == 1 { (0, 1) } else { PATTERN[picture % PATTERN.len()] };
        let is_key = picture == 0;
        let inter_layer = spatial > 0 && (is_key || !self.key);
        let mut differences = Vec::new();
        if inter_layer {
            differences.push(1);
        }
        if !is_key {
            differences.push(back * u16::from(self.spatial));
        }
        let of = |target: LayerId| {
            let seen =
                if is_key || !self.key { spatial <= target.spatial } else { spatial == target.spatial };
            match () {
                () if !seen || temporal > target.temporal => '-',
                () if is_key => 'S',
                () if spatial < target.spatial => 'R',
                () if temporal == 2 || (temporal == 1 && target.temporal == 1) => 'D',
                () => 'S',
            }
        };
        let indications = self.targets().map(of).collect();
        Described { layer: LayerId { spatial, temporal }, indications, differences }
    }

    /// Its decode targets.
    pub fn targets(self) -> impl Iterator<Item = LayerId> {
        let of = move |spatial| (0..self.temporal).map(move |temporal| LayerId { spatial, temporal });
        (0..self.spatial).flat_map(of)
    }

    fn templates(self) -> Vec<Described> {
        let mut templates: Vec<Described> = Vec::new();
        for picture in 0..=PATTERN.len() {
            for frame in self.picture(picture) {
                if !templates.contains(&frame) {
                    templates.push(frame);
                }
            }
        }
        templates.sort_by_key(|template| template.layer);
        templates
    }

    /// The descriptor of a frame, as one that is whole in a packet has it; with the structure if it is of the first picture.
    pub fn descriptor(self, picture: usize, spatial: u8, number: u16) -> Vec<u8> {
        self.packet(picture, spatial, number, true, true)
    }

    /// The same of a packet that begins or ends the frame, or neither.
    pub fn packet(self, picture: usize, spatial: u8, number: u16, begins: bool, ends: bool) -> Vec<u8> {
        const OFFSET: u32 = 60;
        let templates = self.templates();
        let frame = self.frame(spatial, picture);
        let place = templates.iter().position(|template| *template == frame).expect("all are there");
        let mut out = BitsWriter::default();
        out.fixed(begins.into(), 1);
        out.fixed(ends.into(), 1);
        out.fixed((place as u32 + OFFSET) % 64, 6);
        out.fixed(number.into(), 16);
        if picture > 0 || spatial > 0 || !begins {
            return out.finish().0;
        }
        out.fixed(0b10000, 5);
        let targets = self.targets().count() as u32;
        out.fixed(OFFSET, 6);
        out.fixed(targets - 1, 5);
        for pair in templates.windows(2) {
            let [one, next] = pair else { unreachable!("windows of two") };
            out.fixed(
                match () {
                    () if one.layer == next.layer => 0,
                    () if one.layer.spatial == next.layer.spatial => 1,
                    () => 2,
                },
                2,
            );
        }
        out.fixed(3, 2);
        for indication in templates.iter().flat_map(|template| template.indications.chars()) {
            out.fixed("-DSR".find(indication).expect("one of the four") as u32, 2);
        }
        for template in &templates {
            for difference in &template.differences {
                out.fixed(1, 1);
                out.fixed(u32::from(*difference) - 1, 4);
            }
            out.fixed(0, 1);
        }
        // No chains: ns(targets + 1) of 0.
        let width = 32 - (targets + 1).leading_zeros();
        out.fixed(0, width as usize - 1);
        out.fixed(1, 1);
        for spatial in 0..self.spatial {
            out.fixed((320 << spatial) - 1, 16);
            out.fixed((180 << spatial) - 1, 16);
        }
        out.finish().0
    }
}
