//! The same with AVX2, row by row: two rows become one, of which sixteen pixels are picked and weighed at once.
//!
//! One of the places with unsafe code: whether the processor has what a function is compiled for is known when it runs.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm256_add_epi16, _mm256_castsi256_si128, _mm256_maddubs_epi16, _mm256_packus_epi16,
    _mm256_permute4x64_epi64, _mm256_set_m128i, _mm256_set1_epi16, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use super::{Axis, PARTS, Plane, Rect, SHIFT, blend};

/// Pixels that are made at a time, half of them in each half of a register.
const PIXELS: usize = 16;
const HALF: usize = PIXELS / 2;
/// Bytes that half of a register is loaded with; pixels are picked from these.
const REACH: usize = 16;
/// Bytes of a register.
const BYTES: usize = 32;
/// Half of the last place.
const ROUND: i16 = (PARTS / 2) as i16;

/// Where sixteen pixels come from, and how their two parts are weighed.
struct Block {
    from: [u32; 2],
    picked: [u8; BYTES],
    weights: [i8; BYTES],
}

/// Those of a line.
pub(super) struct Taps(Vec<Block>);

impl Taps {
    pub(super) fn new(taps: &[(u32, u32)]) -> Self {
        let half = |block: usize, half: usize| {
            let at = block * PIXELS + half * HALF;
            // Behind the end the last pixel is made again.
            let pixel = move |i: usize| *taps.get(at + i).or(taps.last()).unwrap_or(&(0, 0));
            (pixel(0).0, pixel)
        };
        let block = |number: usize| {
            let mut block = Block { from: [0; 2], picked: [0; BYTES], weights: [0; BYTES] };
            for side in 0..2 {
                let (from, pixel) = half(number, side);
                block.from[side] = from;
                for i in 0..HALF {
                    let ((first, weight), at) = (pixel(i), 2 * (side * HALF + i));
                    // Of lines that are at most halved eight pixels are made of no more than sixteen.
                    let offset = first.saturating_sub(from).min(REACH as u32 - 2) as u8;
                    (block.picked[at], block.picked[at + 1]) = (offset, offset + 1);
                    (block.weights[at], block.weights[at + 1]) = ((PARTS - weight) as i8, weight as i8);
                }
            }
            block
        };
        Self((0..taps.len().div_ceil(PIXELS)).map(block).collect())
    }
}

/// Whether this processor has it.
pub(super) fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// As [`super::Stretch::scale`]; only to be called where it [is available](is_available). `None` also if a row is too short.
pub(super) fn scale(
    plane: &Plane<'_>,
    part: Rect,
    target: &mut [u8],
    stride: usize,
    axes: (&Axis, &Axis),
    blended: &mut Vec<u8>,
) -> Option<()> {
    assert!(is_available());
    // SAFETY: the processor has AVX2, by the line above.
    unsafe { rows(plane, part, target, stride, axes, blended) }
}

#[target_feature(enable = "avx2")]
fn rows(
    plane: &Plane<'_>,
    part: Rect,
    target: &mut [u8],
    stride: usize,
    (x, y): (&Axis, &Axis),
    blended: &mut Vec<u8>,
) -> Option<()> {
    let width = part.size.width;
    blended.resize((width as usize).max(2) + REACH, 0);
    for ((first, weight), row) in y.taps.iter().zip(target.chunks_mut(stride)) {
        let above = plane.row(part.x, part.y + first, width);
        let below = plane.row(part.x, part.y + first + 1, width);
        between(above, below, *weight, blended.get_mut(..width as usize)?)?;
        across(blended, &x.wide, row.get_mut(..x.taps.len())?)?;
    }
    Some(())
}

/// A row between two.
#[target_feature(enable = "avx2")]
fn between(above: &[u8], below: &[u8], weight: u32, out: &mut [u8]) -> Option<()> {
    if above.len() != out.len() || below.len() != out.len() {
        return None;
    }
    let pair = i16::from_le_bytes([(PARTS - weight) as u8, weight as u8]);
    let weights = _mm256_set1_epi16(pair);
    let (above, above_rest) = above.as_chunks::<BYTES>();
    let (below, below_rest) = below.as_chunks::<BYTES>();
    let (out, out_rest) = out.as_chunks_mut::<BYTES>();
    for ((above, below), out) in above.iter().zip(below).zip(out) {
        let (above, below): (__m256i, __m256i) = (bytemuck::cast(*above), bytemuck::cast(*below));
        let low = weighed(_mm256_unpacklo_epi8(above, below), weights);
        let high = weighed(_mm256_unpackhi_epi8(above, below), weights);
        // Both unpacking and packing go by halves of the register, so the pixels stay in order.
        *out = bytemuck::cast(_mm256_packus_epi16(low, high));
    }
    blend(above_rest, below_rest, weight, out_rest)
}

/// Pixels between those of a row, which is followed by [`REACH`] bytes of anything.
#[target_feature(enable = "avx2")]
fn across(row: &[u8], taps: &Taps, out: &mut [u8]) -> Option<()> {
    for (block, out) in taps.0.iter().zip(out.chunks_mut(PIXELS)) {
        let load = |from: u32| -> Option<__m128i> {
            Some(bytemuck::cast(*row.get(from as usize..)?.first_chunk::<REACH>()?))
        };
        let pixels = _mm256_set_m128i(load(block.from[1])?, load(block.from[0])?);
        let pairs = _mm256_shuffle_epi8(pixels, bytemuck::cast(block.picked));
        let sums = weighed(pairs, bytemuck::cast(block.weights));
        let packed = _mm256_packus_epi16(sums, sums);
        // The lower quarters of both halves.
        let joined = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b10_00>(packed));
        let made: [u8; PIXELS] = bytemuck::cast(joined);
        match out.as_mut_array() {
            Some(whole) => *whole = made,
            None => out.copy_from_slice(made.get(..out.len())?),
        }
    }
    Some(())
}

/// The weighed means of pairs.
#[target_feature(enable = "avx2")]
fn weighed(pairs: __m256i, weights: __m256i) -> __m256i {
    let sums = _mm256_add_epi16(_mm256_maddubs_epi16(pairs, weights), _mm256_set1_epi16(ROUND));
    _mm256_srli_epi16::<{ SHIFT as i32 }>(sums)
}
