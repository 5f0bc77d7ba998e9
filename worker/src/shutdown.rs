//! When to stop.

use std::{io::Read, sync::OnceLock, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Name of the environment variable that, set to 1, ties this process to whoever holds the other end of its standard input: a launcher
/// that is killed takes its children with it.
const EXIT_WITH_STDIN: &str = "KAIGI_EXIT_WITH_STDIN";
/// Time for a clean end after the launcher is gone; nobody else would end a process that hangs.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// Is cancelled when the process is to end: at SIGTERM or SIGINT (if signals can't be listened for, never), and, with `KAIGI_EXIT_WITH_STDIN=1`, at the end of
/// standard input; in that case the process is ended after five seconds if it has not ended by itself.
#[must_use]
pub fn stop_on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        asked_to_stop().await;
        tracing::info!("stopping");
        stopping.cancel();
    });
    stop
}

async fn asked_to_stop() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
        () = launcher_gone() => {}
    }
}

async fn launcher_gone() {
    static GONE: OnceLock<CancellationToken> = OnceLock::new();
    if std::env::var_os(EXIT_WITH_STDIN).is_none_or(|value| value != "1") {
        return std::future::pending().await;
    }
    // A thread of its own, because a blocking read on one of tokio's would hold up the end of the runtime.
    let gone = GONE.get_or_init(|| {
        let gone = CancellationToken::new();
        let theirs = gone.clone();
        let watching = std::thread::Builder::new().name("launcher-watch".into()).spawn(move || {
            wait_for_end(std::io::stdin().lock());
            theirs.cancel();
            tracing::warn!("the launcher is gone");
            std::thread::sleep(ORPHAN_TIMEOUT);
            std::process::exit(1);
        });
        if let Err(error) = watching {
            tracing::warn!(%error, "the launcher can't be watched");
        }
        gone
    });
    gone.cancelled().await;
}

/// Returns at the end of the input, whatever comes before.
fn wait_for_end(mut input: impl Read) {
    let mut ignored = [0; 64];
    loop {
        match input.read(&mut ignored) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_end_of_input_does_not_matter() {
        wait_for_end(&b"anything at all"[..]);
        let (reader, writer) = std::io::pipe().unwrap();
        let waiting = std::thread::spawn(move || wait_for_end(reader));
        assert!(!waiting.is_finished());
        drop(writer);
        waiting.join().unwrap();
    }
}
