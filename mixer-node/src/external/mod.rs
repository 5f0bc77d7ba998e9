//! Algorithms that the operator configures: GStreamer pipelines, each in a process of its own for each stream that is analysed. What it does there,
//! crash, hang or grow, ends that process and nothing else; another takes its place.

mod algorithms;
mod child;
mod message;
mod supervisor;
mod worker;

pub use algorithms::{Algorithm, Algorithms, AlgorithmsError};
pub use supervisor::{Pipeline, PipelinePlan};
pub use worker::run;
