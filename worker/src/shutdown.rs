//! When to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Completes at SIGTERM or SIGINT. If signals can't be listened for, never.
pub async fn shutdown_signal() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}
