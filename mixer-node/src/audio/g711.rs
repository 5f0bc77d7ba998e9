//! ITU-T G.711: a byte for a sample of 8 kHz.

/// Added to the magnitude, so that its highest bit tells the segment (µ-law).
const BIAS: i32 = 0x84;
/// Largest magnitude that still fits with the bias.
const CLIP: i32 = 32_635;

/// µ-law.
pub(super) fn expand_ulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = (((i16::from(code & 0x0f) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

/// A-law.
pub(super) fn expand_alaw(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = ((code >> 4) & 7, i16::from(code & 0x0f) << 4);
    let magnitude = match exponent {
        0 => mantissa + 8,
        exponent => (mantissa + 0x108) << (exponent - 1),
    };
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// µ-law.
pub(super) fn compress_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    let segment = magnitude.ilog2() - 7;
    let mantissa = magnitude >> (segment + 3) & 0x0f;
    !(sign | (segment << 4) as u8 | mantissa as u8)
}

/// A-law.
pub(super) fn compress_alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 { (0x00, !sample) } else { (0x80, sample) };
    let code = match magnitude {
        ..256 => magnitude >> 4,
        _ => {
            let segment = magnitude.ilog2() as i16 - 7;
            segment << 4 | magnitude >> (segment + 3) & 0x0f
        }
    };
    (sign | code as u8) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_expand_as_the_standard_says() {
        let ulaw = [(0x00, -32124), (0x80, 32124), (0x7f, 0), (0xff, 0), (0x0f, -16764), (0xf0, 120)];
        for (code, sample) in ulaw {
            assert_eq!(expand_ulaw(code), sample, "{code:#x}");
        }
        for (code, sample) in [(0xd5, 8), (0x55, -8), (0xaa, 32256), (0x2a, -32256), (0xc5, 264)] {
            assert_eq!(expand_alaw(code), sample, "{code:#x}");
        }
    }

    #[test]
    fn what_a_code_stands_for_becomes_that_code() {
        for code in 0..=255 {
            // Zero has two codes in µ-law.
            if code != 0x7f {
                assert_eq!(compress_ulaw(expand_ulaw(code)), code, "{code:#x}");
            }
            assert_eq!(compress_alaw(expand_alaw(code)), code, "{code:#x}");
        }
    }

    #[test]
    fn every_sample_becomes_a_code_near_it() {
        for sample in i16::MIN..=i16::MAX {
            let near = (i32::from(sample).abs() / 16).max(16);
            for heard in [expand_ulaw(compress_ulaw(sample)), expand_alaw(compress_alaw(sample))] {
                assert!((i32::from(heard) - i32::from(sample)).abs() <= near, "{sample} is heard as {heard}");
            }
        }
    }
}
