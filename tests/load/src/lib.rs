//! The load generator: clients without browsers, thousands on a machine, that publish recorded media to a conference server and check
//! all that they are sent.
//!
//! A [`peer`] is a client without I/O, which plays a [`recording`] as a [`track`] and checks what it receives; a [`driver`] runs many of
//! them on few threads; [`signaling`] gets them into conferences; [`run`] carries out a [`scenario`] and tells what was measured
//! ([`meter`]); [`chaos`] kills processes and tells what clients notice of it.

pub mod chaos;
pub mod driver;
mod media;
pub mod meter;
mod payload;
pub mod peer;
pub mod recording;
pub mod run;
pub mod scenario;
pub mod server;
pub mod signaling;
pub mod track;
