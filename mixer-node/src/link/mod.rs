//! The media link's two ends at this node: tracks that it consumes ([`VideoSources`], [`AudioSource`]) and tracks that it produces
//! ([`Outputs`], [`OutputTrack`]).

mod audience;
mod audio;
mod clock;
mod decoding;
mod layers;
mod outputs;
mod track;
mod video;

use kaigi_intake::IntakeError;

pub use audience::{Attendance, Audience};
pub use audio::AudioSource;
pub use clock::MediaClock;
pub use kaigi_intake::{Backoff, Failure, LinkContext, Receiver, Throttle};
pub use layers::{Layers, Wish};
pub use outputs::{AttachError, Outputs};
pub use track::{OutputTrack, TrackDescription};
pub use video::{LayeredTrack, Showing, VideoSources};

fn no_decoder(codec: &str) -> IntakeError {
    IntakeError::Consumer(format!("codec {codec} can't be mixed"))
}
