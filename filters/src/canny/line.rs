//! Thinning of a line of magnitudes by the sum of both gradients, sixteen pixels at a time: plain loops over arrays in 16 bits, which the
//! compiler vectorises. All apertures' magnitudes fit.

use super::{EDGE, NONE, TAN_22_5, WEAK};

const PIXELS: usize = 16;

/// Three lines of magnitudes, each with a pixel more at both ends.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) above: &'a [i16],
    pub(super) here: &'a [i16],
    pub(super) below: &'a [i16],
}

/// Tells of each pixel of the middle line whether it is a maximum across the edge, and whether it is strong.
pub(super) fn thin(lines: Lines<'_>, dx: &[i16], dy: &[i16], (low, high): (i16, i16), state: &mut [u8]) {
    for (block, state) in state.chunks_mut(PIXELS).enumerate() {
        let at = block * PIXELS;
        // Most of most pictures.
        let here = lines.here.get(at + 1..).unwrap_or_default();
        if here.iter().take(PIXELS).fold(0, |most, magnitude| most.max(*magnitude)) <= low {
            state.fill(NONE);
            continue;
        }
        let line = |line: &[i16]| padded::<{ PIXELS + 2 }>(line.get(at..).unwrap_or_default());
        let gradient = |line: &[i16]| padded::<PIXELS>(line.get(at..).unwrap_or_default());
        let thinned = block_of(
            [line(lines.above), line(lines.here), line(lines.below)],
            (gradient(dx), gradient(dy)),
            (low, high),
        );
        state.copy_from_slice(&thinned[..state.len()]);
    }
}

/// The first `N`, or as many as there are.
fn padded<const N: usize>(values: &[i16]) -> [i16; N] {
    values.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; N];
        padded[..values.len()].copy_from_slice(values);
        padded
    })
}

fn block_of(
    [above, here, below]: [[i16; PIXELS + 2]; 3],
    (dx, dy): ([i16; PIXELS], [i16; PIXELS]),
    (low, high): (i16, i16),
) -> [u8; PIXELS] {
    let mut state = [NONE; PIXELS];
    for i in 0..PIXELS {
        let (x, y, magnitude) = (dx[i].unsigned_abs(), dy[i].unsigned_abs(), here[i + 1]);
        // x · tan(22.5°), rounded down. It is whole for x = 0 only, so that y is below it if it is not above what it is rounded to.
        let flat = ((u32::from(2 * x) * TAN_22_5 as u32) >> 16) as i16;
        let (x, y) = (x as i16, y as i16);
        // tan(67.5°) = tan(22.5°) + 2
        let (is_flat, is_steep) = (y <= flat, y > flat + 2 * x);
        let is_falling = (dx[i] ^ dy[i]) < 0;
        let beside = (magnitude > here[i]) & (magnitude >= here[i + 2]);
        let upright = (magnitude > above[i + 1]) & (magnitude >= below[i + 1]);
        let rising = (magnitude > above[i + 2]) & (magnitude > below[i]);
        let falling = (magnitude > above[i]) & (magnitude > below[i + 2]);
        let slanted = (is_falling & rising) | (!is_falling & falling);
        let across = (is_flat & beside) | (!is_flat & ((is_steep & upright) | (!is_steep & slanted)));
        let is_kept = (magnitude > low) & across;
        state[i] = u8::from(is_kept) * (WEAK + u8::from(magnitude > high) * (EDGE - WEAK));
    }
    state
}
