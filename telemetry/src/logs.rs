//! Structured logs on standard error.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The options that every process has for its logs.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// What to log, as tracing's filter directives: a level, or `module=level` separated by commas
    #[arg(long, env = "KAIGI_LOG", default_value = "info", global = true)]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "KAIGI_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

/// Quiet unless asked for: the DTLS library warns of every extension of a newer TLS that a browser offers, the SCTP library of every
/// packet that a client makes up.
const QUIET: &str = "rtc_dtls=error,rtc_sctp=off";

/// Starts logging for this process. A filter that can't be read is replaced by `info`, with a warning.
pub fn init_logs(args: &LogArgs) {
    let parsed = EnvFilter::try_new(format!("{QUIET},{}", args.log));
    let problem = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},info")));
    // Without internal errors: they are told by eprintln!, which panics when standard error is gone (a launcher that was killed).
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    if let Some(problem) = problem {
        tracing::warn!(filter = args.log, problem, "log filter not understood, using info");
    }
}
