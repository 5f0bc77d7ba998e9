//! When to stop, and when to hand over what there is before that.

use std::{io::Read, sync::OnceLock, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Name of the environment variable that, set to 1, ties this process to whoever holds the other end of its standard input: a launcher
/// that is killed takes its children with it.
const EXIT_WITH_STDIN: &str = "KAIGI_EXIT_WITH_STDIN";
/// Time for a clean end after the launcher is gone; nobody else would end a process that hangs.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a process that drains looks whether it has nothing left.
const LOOK: Duration = Duration::from_millis(50);

/// How a process is to end. It drains first: takes nothing new and hands over what it has. It may be stopped at any time, then it ends at once.
/// Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Shutdown {
    /// Drains at SIGTERM; stops at SIGINT, at a second SIGTERM, and when the launcher is gone (see [`stop_on_signal`]).
    #[must_use]
    pub fn on_signal() -> Self {
        let shutdown = Self::default();
        let ours = shutdown.clone();
        tokio::spawn(async move {
            let at_once = async {
                tokio::select! {
                    () = received(SignalKind::interrupt()) => {}
                    () = launcher_gone() => {}
                }
            };
            let drains = async {
                received(SignalKind::terminate()).await;
                ours.drain();
                received(SignalKind::terminate()).await;
            };
            tokio::select! {
                () = at_once => {}
                () = drains => {}
            }
            tracing::info!("stopping");
            ours.stop.cancel();
        });
        shutdown
    }

    /// Begins to drain.
    pub fn drain(&self) {
        if !self.drain.is_cancelled() {
            tracing::info!("draining");
            self.drain.cancel();
        }
    }

    /// Whether it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Returns when it drains.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Cancelled when the process is to end at once.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns when the process is to end, be it after it has drained.
    pub async fn begun(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Returns when the process is to end now: it was stopped, or has drained and has nothing left, or has drained for `limit`. After
    /// that it counts as stopped.
    pub async fn drained(&self, limit: Duration, is_idle: impl Fn() -> bool) {
        self.begun().await;
        let idle = async {
            let mut look = tokio::time::interval(LOOK);
            loop {
                look.tick().await;
                if is_idle() {
                    break;
                }
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = idle => tracing::info!("drained"),
            () = tokio::time::sleep(limit) => tracing::warn!("not all was handed over in time"),
        }
        self.stop.cancel();
    }
}

/// A process that is only stopped, unless the cluster has it drain.
impl From<CancellationToken> for Shutdown {
    fn from(stop: CancellationToken) -> Self {
        Self { drain: CancellationToken::new(), stop }
    }
}

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
    tokio::select! {
        () = received(SignalKind::terminate()) => {}
        () = received(SignalKind::interrupt()) => {}
        () = launcher_gone() => {}
    }
}

/// Never returns if signals can't be listened for.
async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
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

    #[tokio::test]
    async fn who_drains_ends_when_nothing_is_left_or_the_time_is_over_or_it_is_stopped() {
        const NEVER: Duration = Duration::from_secs(3600);
        let idle = Shutdown::default();
        idle.drain();
        let looks = std::cell::Cell::new(0);
        idle.drained(NEVER, || looks.replace(looks.get() + 1) == 3).await;
        assert!(idle.stop().is_cancelled());

        let busy = Shutdown::default();
        busy.drain();
        busy.drained(Duration::from_millis(1), || false).await;

        let stopped = Shutdown::default();
        stopped.stop().cancel();
        stopped.drained(NEVER, || false).await;
        assert!(!stopped.is_draining());
    }

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
