//! The serving end of RTMP (Adobe's Real-Time Messaging Protocol, 1.0), as far as taking one published stream needs it. Written here
//! because whoever can reach the port can send anything: all that is read is bounded before it is kept, nothing is read by recursion,
//! and no memory is asked for by numbers that a peer names.

mod amf;
mod chunk;
mod flv;
mod session;

pub use amf::AmfError;
pub use chunk::ChunkError;
pub use flv::{HEADER, Tag};
pub use session::{Event, Session, SessionError};
