//! The media link's two ends at this node: tracks that it consumes ([`VideoSource`], [`AudioSource`]) and tracks that it produces
//! ([`Outputs`], [`OutputTrack`]).

mod clock;
mod outputs;
mod source;
mod track;

pub use clock::MediaClock;
pub use kaigi_intake::{Backoff, Failure, LinkContext, Receiver, Throttle};
pub use outputs::{AttachError, Outputs};
pub use source::{AudioSource, VideoSource, VideoSources};
pub use track::{OutputTrack, TrackDescription};
