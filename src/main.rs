//! The `kaigi` program.

use std::{
    io::{ErrorKind, IsTerminal, Write},
    os::unix::process::CommandExt,
    process::ExitCode,
};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use kaigi::{
    bench::{Bench, bench},
    certificates::{self, Certificates},
    chaos::{Trial, chaos},
    cli::{Cli, Command, Configured},
    doctor,
    limits::raise_open_files,
    manage::{self, Given, ManageError, Task},
    output::Output,
    run::Run,
    settings::Settings,
    up::up,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kaigi: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(configured) => run_up(&settings(configured)?).await,
        Command::Run(given) => become_process(given).await,
        Command::Doctor(configured) => run_doctor(&settings(configured)?).await,
        Command::Manage(manage) => {
            let (task, given) = manage.task();
            // A blocking client: there is nothing else to do meanwhile.
            Ok(tokio::task::block_in_place(|| run_manage(task, &given)))
        }
        Command::Certificates(wanted) => make_certificates(&wanted),
        Command::Bench(given) => run_bench(&given).await,
        Command::Chaos(given) => run_chaos(&given).await,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kaigi", &mut text);
            std::io::stdout().write_all(&text)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The process takes this program's place, and so gets its signals. Returns only if it can't be started.
async fn become_process(given: Run) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().ok();
    let program_dir = program.as_deref().and_then(std::path::Path::parent);
    let process = given.prepare(|name| std::env::var_os(name), program_dir).await?;
    if let Err(error) = raise_open_files() {
        eprintln!("kaigi: the limit of open files can't be raised: {error}");
    }
    let mut command = std::process::Command::new(&process.program);
    let error = command.args(&process.args).envs(process.env).exec();
    Err(anyhow::Error::new(error).context(format!("{} can't be run", process.program.display())))
}

fn make_certificates(wanted: &Certificates) -> anyhow::Result<ExitCode> {
    for dir in certificates::make(wanted)? {
        writeln!(std::io::stdout(), "{}", dir.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run_manage(task: Task, given: &Given) -> ExitCode {
    match manage::run(task, given, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has seen enough, as `head` does.
        Err(ManageError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kaigi: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn settings(configured: Configured) -> anyhow::Result<Settings> {
    let program = std::env::current_exe().ok();
    let program_dir = program.as_deref().and_then(std::path::Path::parent);
    Ok(Settings::new(configured.merged()?, program_dir)?)
}

async fn run_up(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut signals = stop_signals().context("signals can't be listened for")?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let output =
        Output::start(std::io::stderr(), colours, std::io::stdout()).context("no thread for output")?;
    if let Err(error) = raise_open_files() {
        output.say(format!("the limit of open files can't be raised: {error}"));
    }
    let ended = up(settings, &output, &mut signals).await;
    output.flush();
    ended?;
    Ok(ExitCode::SUCCESS)
}

async fn run_bench(given: &Bench) -> anyhow::Result<ExitCode> {
    let good = bench(given, &mut ready_for_clients()?, &mut std::io::stdout()).await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_chaos(given: &Trial) -> anyhow::Result<ExitCode> {
    let good = chaos(given, &mut ready_for_clients()?, &mut std::io::stdout()).await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sockets for many clients are allowed, and signals are heard.
fn ready_for_clients() -> anyhow::Result<mpsc::Receiver<()>> {
    if let Err(error) = raise_open_files() {
        eprintln!("kaigi: the limit of open files can't be raised: {error}");
    }
    stop_signals().context("signals can't be listened for")
}

/// SIGTERM, Ctrl-C and the end of the terminal; a second one is passed on too.
fn stop_signals() -> std::io::Result<mpsc::Receiver<()>> {
    let (sender, signals) = mpsc::channel(2);
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut caught: Signal = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                // Full: a third signal says nothing that two have not said.
                let _ = sender.try_send(());
            }
        });
    }
    Ok(signals)
}

async fn run_doctor(settings: &Settings) -> anyhow::Result<ExitCode> {
    let checks = doctor::examine(settings).await;
    for check in &checks {
        say(check)?;
    }
    Ok(if doctor::is_sound(&checks) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(line: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{line}")
}
