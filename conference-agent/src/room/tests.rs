//! The room as a specification, on virtual time.

mod analytics;
mod controls;
mod data;
mod egress;
mod encodings;
mod encryption;
mod happenings;
mod ingest;
mod layers;
mod mixing;
mod moving;
mod participants;
mod permissions;
mod publishing;
mod random;
mod regions;
mod returned;
mod screens;
mod speakers;
mod stats;
mod subscribing;
mod takeover;
mod trouble;
mod updates;
mod view_layers;
mod world;
