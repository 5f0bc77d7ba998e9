//! One log of many processes: each line with the name of its process in front.

use std::{
    borrow::Cow,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::process::{Process, Replica};

/// Lines that may wait to be written. Beyond it lines are left out and counted: a terminal that stands still must not stop servers.
const WAITING: usize = 8192;
/// Longest line in bytes; a longer one is cut into several.
const LONGEST_LINE: usize = 16 * 1024;
/// Longest wait for waiting lines to be written at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The launcher's own lines.
const LAUNCHER: &str = "kaigi";
/// Columns for names.
const WIDTH: usize = 16;

enum Message {
    Log { name: Cow<'static, str>, colour: u8, line: String },
    Result(String),
    Flush(SyncSender<()>),
}

/// Where lines go. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub struct Output {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Output {
    /// Writes log lines to `log` and results to `result`, by a thread of its own.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn start(
        log: impl Write + Send + 'static,
        colours: bool,
        result: impl Write + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, messages) = sync_channel(WAITING);
        let dropped = Arc::<AtomicU64>::default();
        let theirs = dropped.clone();
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || write(&messages, &theirs, log, colours, result))?;
        Ok(Self { sender, dropped })
    }

    /// A line of a process.
    pub fn line(&self, of: impl Into<Replica>, line: String) {
        let of = of.into();
        self.send(Message::Log { name: of.name(), colour: colour(of.process), line });
    }

    /// A line of the launcher.
    pub fn say(&self, line: impl Into<String>) {
        self.send(Message::Log { name: LAUNCHER.into(), colour: 1, line: line.into() });
    }

    /// What the user waits for.
    pub fn result(&self, line: impl Into<String>) {
        self.send(Message::Result(line.into()));
    }

    /// Waits until all that was given so far is written, or a second has passed.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let (done, wait) = sync_channel(1);
        let mut end = Message::Flush(done);
        while let Err(TrySendError::Full(message)) = self.sender.try_send(end) {
            if Instant::now() > deadline {
                return;
            }
            end = message;
            std::thread::sleep(Duration::from_millis(5));
        }
        // If nobody takes the lines there is nothing more to be done.
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    fn send(&self, message: Message) {
        match self.sender.try_send(message) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// An ANSI colour number.
fn colour(process: Process) -> u8 {
    match process {
        Process::ClusterManager => 35,
        Process::ConferenceAgent => 36,
        Process::AccessNode => 32,
        Process::MixerNode => 33,
        Process::StreamingNode => 31,
        Process::TurnServer => 96,
        Process::Portal => 34,
        Process::RtpGateway => 94,
    }
}

fn write(
    messages: &Receiver<Message>,
    dropped: &AtomicU64,
    mut log: impl Write,
    colours: bool,
    mut result: impl Write,
) {
    let mut put = |name: &str, colour: u8, line: &str| {
        // A log that nobody takes any more is no reason to end.
        let _ = if colours {
            writeln!(log, "\x1b[{colour}m{name:<WIDTH$} |\x1b[0m {line}")
        } else {
            writeln!(log, "{name:<WIDTH$} | {line}")
        };
        let _ = log.flush();
    };
    for message in messages {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            put(LAUNCHER, 31, &format!("{lost} lines left out: the log is not read fast enough"));
        }
        match message {
            Message::Log { name, colour, line } => put(&name, colour, &line),
            Message::Result(line) => {
                let _ = writeln!(result, "{line}");
                let _ = result.flush();
            }
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// Passes the lines of `input` on until it ends.
pub async fn pump(output: Output, of: impl Into<Replica>, mut input: impl AsyncBufRead + Unpin) {
    let of = of.into();
    let mut line = Vec::new();
    let tell = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line);
        output.line(of, text.trim_end_matches('\r').to_owned());
        line.clear();
    };
    loop {
        let available = match input.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(available) => available,
        };
        let end = available.iter().position(|&b| b == b'\n');
        let wanted = end.unwrap_or(available.len()).min(LONGEST_LINE - line.len());
        line.extend_from_slice(&available[..wanted]);
        let is_whole = end == Some(wanted);
        input.consume(wanted + usize::from(is_whole));
        if is_whole || line.len() == LONGEST_LINE {
            tell(&mut line);
        }
    }
    if !line.is_empty() {
        tell(&mut line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Memory that is written like a file.
    #[derive(Clone, Debug, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    async fn pumped(input: &[u8]) -> String {
        let log = Captured::default();
        let output = Output::start(log.clone(), false, std::io::sink()).unwrap();
        pump(output.clone(), Process::Portal, tokio::io::BufReader::with_capacity(7, input)).await;
        output.flush();
        log.text()
    }

    #[tokio::test]
    async fn each_line_has_its_process_in_front() {
        let text = pumped(b"one\r\n\ntwo \xff\nno end").await;
        let expected = "portal           | one\nportal           | \nportal           | two \u{fffd}\nportal           | no end\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_line_without_end_takes_bounded_memory() {
        let text = pumped(&vec![b'x'; 3 * LONGEST_LINE + 5]).await;
        assert_eq!(
            text.lines().map(str::len).collect::<Vec<_>>(),
            [LONGEST_LINE + 19; 3].into_iter().chain([24]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn colours_are_for_terminals_and_results_stand_alone() {
        let (log, result) = (Captured::default(), Captured::default());
        let output = Output::start(log.clone(), true, result.clone()).unwrap();
        output.line(Process::MixerNode, "hello".into());
        output.result("ready");
        output.flush();
        assert_eq!(log.text(), "\x1b[33mmixer-node       |\x1b[0m hello\n");
        assert_eq!(result.text(), "ready\n");
    }

    #[test]
    fn a_log_that_stands_still_stops_nobody() {
        let (open, gate) = sync_channel::<()>(1);
        struct Gated(Receiver<()>, Captured, bool);
        impl Write for Gated {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                if !self.2 {
                    self.2 = self.0.recv().is_ok();
                }
                self.1.write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Captured::default();
        let output = Output::start(Gated(gate, log.clone(), false), false, std::io::sink()).unwrap();
        for i in 0..WAITING + 100 {
            output.say(format!("{i}"));
        }
        open.send(()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !log.text().contains("lines left out") {
            assert!(Instant::now() < deadline, "nobody is told");
            std::thread::yield_now();
        }
    }
}
