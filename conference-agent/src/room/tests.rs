//! The room as a specification, on virtual time.

mod controls;
mod mixing;
mod participants;
mod permissions;
mod publishing;
mod random;
mod subscribing;
mod trouble;
mod world;
