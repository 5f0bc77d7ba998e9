//! Streams as JSON: one shape for the management API and for what is told of them, made of [`parts`] that the client protocol shares.

pub mod parts;
mod stream;

pub use stream::{ApiVersion, stream_json};
