//! Open files: each client is some sockets.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises this process's limit, which the processes that it starts inherit, as far as the system lets it; the limit then.
///
/// # Errors
/// If the limit can't be read or set.
pub fn raise_open_files() -> Result<u64, nix::Error> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
