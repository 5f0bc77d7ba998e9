//! The picture size in an H.264 sequence parameter set (ITU-T H.264 §7.3.2.1.1).

use crate::bits::Bits;

/// Most bytes read of one; the size stands in the first few dozen.
const MAX_SPS: usize = 256;

/// Width and height in pixels after cropping, from the bytes after the NAL unit's first.
#[must_use]
pub fn size(unit: &[u8]) -> Option<(u32, u32)> {
    let bytes = without_emulation_prevention(unit);
    let mut bits = Bits::new(&bytes);
    let profile = bits.fixed(8)?;
    bits.fixed(16)?;
    bits.unsigned()?;
    let mut chroma = 1;
    if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
        chroma = bits.unsigned()?;
        if chroma == 3 {
            bits.fixed(1)?;
        }
        bits.unsigned()?;
        bits.unsigned()?;
        bits.fixed(1)?;
        if bits.fixed(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.fixed(1)? == 1 {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.unsigned()?;
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?;
        }
        1 => {
            bits.fixed(1)?;
            bits.unsigned()?;
            bits.unsigned()?;
            for _ in 0..bits.unsigned()?.min(255) {
                bits.unsigned()?;
            }
        }
        _ => {}
    }
    bits.unsigned()?;
    bits.fixed(1)?;
    let width = bits.unsigned()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.unsigned()?.checked_add(1)?;
    let frames_only = bits.fixed(1)?;
    if frames_only == 0 {
        bits.fixed(1)?;
    }
    bits.fixed(1)?;
    let height = map_units.checked_mul(16)?.checked_mul(2 - frames_only)?;
    let (mut cut_x, mut cut_y) = (0u32, 0u32);
    if bits.fixed(1)? == 1 {
        let (left, right, top, bottom) =
            (bits.unsigned()?, bits.unsigned()?, bits.unsigned()?, bits.unsigned()?);
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * (2 - frames_only);
        cut_x = left.checked_add(right)?.checked_mul(unit_x)?;
        cut_y = top.checked_add(bottom)?.checked_mul(unit_y)?;
    }
    Some((width.checked_sub(cut_x)?, height.checked_sub(cut_y)?))
}

fn skip_scaling_list(bits: &mut Bits<'_>, length: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..length {
        if next != 0 {
            let code = i64::from(bits.unsigned()?);
            let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
            next = (last + delta + 256).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len().min(MAX_SPS));
    let mut zeros = 0;
    for &byte in unit.iter().take(MAX_SPS) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_real_parameter_sets() {
        // x264, high profile, 1280×720
        let high = [
            0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
            0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
        ];
        assert_eq!(size(&high), Some((1280, 720)));
        // OpenH264, constrained baseline, 640×480
        let baseline = [0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80, 0x6d, 0x0a, 0x13, 0x50];
        assert_eq!(size(&baseline), Some((640, 480)));
        for length in 0..high.len() {
            let _ = size(&high[..length]);
        }
    }
}
