//! Logs, metrics and the health endpoints that every process has.

mod health;
mod logs;

pub use health::{Health, HealthServer, health_routes};
pub use logs::{LogArgs, LogFormat, init_logs};
