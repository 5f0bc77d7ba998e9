//! Sound: jitter buffers, decoding, mixing so that everyone hears all but himself, encoding.
//!
//! All of it works on frames of [`FRAME`] samples at [`SAMPLE_RATE`], interleaved stereo, as `f32` from −1 to 1.

mod activity;
mod codec;
mod decimate;
mod encode;
mod feed;
mod floor;
mod g711;
mod g722;
mod input;
mod jitter;
mod limiter;
mod loudness;
mod mixer;
mod output;
#[cfg(test)]
mod testing;
mod thread;

use std::time::Duration;

pub use activity::VoiceActivity;
pub use codec::AudioCodec;
pub use encode::{AudioEncoding, AudioFormatError};
pub use feed::{Attached, AudioFeed};
pub use input::AudioInput;
pub use jitter::{JitterBuffer, Next};
pub use limiter::Limiter;
pub use mixer::{AudioMixer, Mix, PlannedMix};
pub use output::{AudioOutput, AudioStart};
pub use thread::{AudioPlan, AudioThread, PlannedInput, PlannedOutput};

/// Hz.
pub const SAMPLE_RATE: u32 = 48_000;
/// Interleaved.
pub const CHANNELS: usize = 2;
/// What one tick mixes.
pub const TICK: Duration = Duration::from_millis(20);
/// How old the first sample of a tick is when it is mixed: it was sent when the last of its packet was there, waited in the jitter buffer, and
/// for half a tick.
pub const AGE: Duration = Duration::from_millis(20 + jitter::TARGET.as_millis() as u64 + 10);
/// Samples of a tick, per channel.
pub const FRAME: usize = 960;
/// Values of a tick, all channels.
pub const FRAME_VALUES: usize = FRAME * CHANNELS;
