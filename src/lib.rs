//! The launcher: starts, watches and inspects a whole Kaigi on one machine.
//!
//! [`cli`] is the command line, [`options`] what can be set and where, [`settings`] what counts of it; [`up`](mod@up) runs the
//! processes by a [`plan`](mod@plan), [`run`](mod@run) a single one, [`doctor`] looks at the machine, [`service`] shows credentials, [`manage`] asks a
//! running Kaigi, [`bench`](mod@bench) puts load on one, [`chaos`](mod@chaos) kills its processes, [`certificates`] makes what the processes of a cluster know each other by.

pub mod backoff;
pub mod bench;
pub mod certificates;
pub mod chaos;
mod child;
pub mod cli;
pub mod data_dir;
pub mod doctor;
pub mod limits;
pub mod manage;
pub mod options;
pub mod output;
pub mod place;
pub mod plan;
pub mod ports;
pub mod process;
pub mod readiness;
pub mod run;
pub mod service;
pub mod settings;
pub mod turn;
pub mod up;
