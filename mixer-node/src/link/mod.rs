//! The media link's two ends at this node: tracks that it consumes ([`VideoSources`], [`AudioSource`]) and tracks that it produces
//! ([`Outputs`], [`OutputTrack`]).

mod audio;
mod captured;
mod decoding;
mod layers;
mod video;

use kaigi_intake::IntakeError;

pub use audio::AudioSource;
pub use captured::CaptureTime;
pub use kaigi_intake::{Backoff, Failure, LinkContext, Receiver, Throttle};
pub use kaigi_supply::{
    AttachError, Attendance, Audience, Captured, LinkService, MediaClock, OutputTrack, Outputs,
    TrackDescription,
};
pub use layers::{Layers, Wish};
pub use video::{LayeredTrack, Showing, VideoSources};

fn no_decoder(codec: &str) -> IntakeError {
    IntakeError::Consumer(format!("codec {codec} can't be mixed"))
}
