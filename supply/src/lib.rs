//! The producing end of the media link: tracks that a node makes ([`OutputTrack`]) are attached by others through one UDP socket
//! ([`Outputs`]), on which their feedback comes back.

mod audience;
mod clock;
mod outputs;
mod service;
mod track;

pub use audience::{Attendance, Audience};
pub use clock::MediaClock;
pub use outputs::{AttachError, Outputs};
pub use service::LinkService;
pub use track::{Captured, OutputTrack, TrackDescription};
