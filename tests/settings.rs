//! What counts when a thing is set in several places.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Parser;
use kaigi::{
    cli::{Cli, Command, Configured},
    options::{LogFormat, Options, TlsMode},
    process::Process,
    settings::{SealKey, Settings, SettingsError, Tls},
};
use tempfile::NamedTempFile;

fn file(toml: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    file
}

fn parse(args: &[&str]) -> Configured {
    let Command::Up(configured) = Cli::try_parse_from([&["kaigi", "up"], args].concat()).unwrap().command
    else {
        panic!("not up")
    };
    configured
}

fn settings(args: &[&str]) -> Result<Settings, SettingsError> {
    Settings::new(parse(args).merged().unwrap(), Some(Path::new("/programs")))
}

#[test]
fn with_nothing_given_the_defaults_count() {
    let settings = settings(&[]).unwrap();
    assert_eq!(
        settings.ports()[..3],
        [("--http-port", 8080), ("--management-port", 3000), ("--media-port", 10_000)]
    );
    let cores = std::thread::available_parallelism().unwrap().get().min(16);
    assert_eq!(settings.ports().len(), 2 + cores, "a media port for each core");
    assert_eq!(
        (settings.data_dir.clone(), settings.bind.to_string()),
        (PathBuf::from("./data"), "0.0.0.0".into())
    );
    assert_eq!((settings.tls.clone(), settings.sample, settings.log.as_str()), (Tls::Off, true, "info"));
    assert_eq!(settings.seal_key, SealKey::InDataDir);
    assert_eq!(settings.program(Process::Portal), PathBuf::from("/programs/kaigi-portal"));
    assert_eq!(settings.url(), "http://localhost:8080/");
}

#[test]
fn a_gateway_runs_where_its_port_is_given() {
    let without = settings(&[]).unwrap();
    assert!(without.replicas().all(|replica| replica.process != Process::RtpGateway));
    let with = settings(&["--gateway-port", "8000", "--replicas", "2"]).unwrap();
    assert_eq!(with.count(Process::RtpGateway), 1);
    assert_eq!(with.ports().last(), Some(&("--gateway-port", 8000)));
    let refused = settings(&["--gateway-port", "8080"]).unwrap_err();
    assert_eq!(refused, SettingsError::SamePort("--http-port", "--gateway-port", 8080));
}

#[test]
fn flags_win_over_the_file() {
    let file = file("http-port = 8081\nmedia-port = 10001\nannounce = [\"192.0.2.1\"]\nsample = false");
    let path = file.path().to_str().unwrap();
    let settings = settings(&[
        "--config",
        path,
        "--http-port",
        "8082",
        "--announce",
        "192.0.2.2,192.0.2.3",
        "--media-workers",
        "2",
    ])
    .unwrap();
    let ports: Vec<_> = settings.ports().iter().map(|(_, port)| *port).collect();
    assert_eq!(ports, [8082, 3000, 10_001, 10_002]);
    assert_eq!(settings.announce.len(), 2);
    assert!(!settings.sample);
}

/// The environment is that of a process, so this runs the program: each port is refused with the value that counts.
#[test]
fn the_environment_stands_between_flags_and_file() {
    let file = file("http-port = 8081\nmanagement-port = 8081");
    let complaint = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kaigi"));
        command.arg("up").arg("--config").arg(file.path()).args(args).env_remove("KAIGI_HTTP_PORT");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(complaint(&[], &[]).contains("both 8081"));
    let by_environment = [("KAIGI_HTTP_PORT", "8082"), ("KAIGI_MANAGEMENT_PORT", "8082")];
    assert!(complaint(&[], &by_environment).contains("both 8082"));
    let flags = ["--http-port", "8083", "--management-port", "8083"];
    assert!(complaint(&flags, &by_environment).contains("both 8083"));
}

#[test]
fn a_wrong_file_is_refused_with_the_place() {
    for (toml, told) in [
        ("http-prot = 8080", "http-prot"),
        ("[portal]\nport = 1", "port"),
        ("http-port = 70000", "70000"),
        ("tls = \"maybe\"", "maybe"),
        ("[sip-portal]", "sip-portal"),
        ("http-port", "line 1"),
    ] {
        let file = file(toml);
        let error = parse(&["--config", file.path().to_str().unwrap()]).merged().unwrap_err().to_string();
        assert!(error.contains(told), "{toml}: {error}");
    }
    assert!(
        parse(&["--config", "/nowhere.toml"]).merged().unwrap_err().to_string().contains("/nowhere.toml")
    );
}

#[test]
fn what_can_not_work_is_refused() {
    let refused = |args: &[&str]| settings(args).unwrap_err();
    assert_eq!(refused(&["--http-port", "0"]), SettingsError::PortZero("--http-port"));
    assert_eq!(
        refused(&["--media-port", "3000"]),
        SettingsError::SamePort("--management-port", "--media-port", 3000)
    );
    assert_eq!(
        refused(&["--media-port", "2990", "--media-workers", "11"]),
        SettingsError::SamePort("--management-port", "--media-port", 3000)
    );
    assert_eq!(
        refused(&["--media-port", "65530", "--media-workers", "7"]),
        SettingsError::TooFewMediaPorts(7, 65_530)
    );
    assert_eq!(
        refused(&["--media-port", "65530", "--media-workers", "4", "--access-nodes", "2"]),
        SettingsError::TooFewMediaPorts(4, 65_530)
    );
    assert_eq!(
        refused(&["--portals", "3", "--http-port", "3001"]),
        SettingsError::SamePort("--http-port", "--management-port", 3001)
    );
    assert_eq!(
        refused(&["--apart", "true", "--bind", "0.0.0.0"]),
        SettingsError::ApartAndBound("0.0.0.0".parse().unwrap())
    );
    assert_eq!(
        refused(&["--portals", "3", "--http-port", "65534"]),
        SettingsError::TooFewPorts(3, "--http-port")
    );
    assert_eq!(refused(&["--cluster-managers", "2"]), SettingsError::ManagersWithoutRedis);
    assert_eq!(refused(&["--tls", "files", "--tls-key", "k"]), SettingsError::TlsFilesMissing);
    assert_eq!(refused(&["--tls-cert", "c"]), SettingsError::TlsFilesUnused);
    assert_eq!(refused(&["--seal-key", "k", "--seal-key-file", "f"]), SettingsError::TwoSealKeys);
    assert_eq!(refused(&["--turns-port", "443"]), SettingsError::NoTurnServer("--turns-port"));
    assert_eq!(refused(&["--turn-host", "turn.example"]), SettingsError::NoTurnServer("--turn-host"));
    assert_eq!(
        refused(&["--turn-port", "3478", "--turns-port", "443"]),
        SettingsError::TurnsWithoutCertificate
    );
    assert_eq!(refused(&["--turn-port", "1", "--share-turns-port", "true"]), SettingsError::NoTurnsPort);
    assert_eq!(refused(&["--turn-secret", ""]), SettingsError::EmptyTurnSecret);
    assert_eq!(refused(&["--turn-port", "0"]), SettingsError::PortZero("--turn-port"));
    assert_eq!(
        refused(&["--turn-port", "3000"]),
        SettingsError::SamePort("--management-port", "--turn-port", 3000)
    );
    assert_eq!(
        refused(&["--turn-port", "1", "--tls-cert", "c", "--tls-key", "k"]),
        SettingsError::TlsFilesUnused
    );
    let tls =
        settings(&["--tls", "files", "--tls-key", "k", "--tls-cert", "c", "--bind", "192.0.2.1"]).unwrap();
    assert_eq!(tls.tls, Tls::Files { cert: "c".into(), key: "k".into() });
    assert_eq!(tls.url(), "https://192.0.2.1:8080/");
}

#[test]
fn a_turn_server_runs_if_it_has_a_port_and_encrypts_with_what_there_is() {
    assert_eq!(settings(&[]).unwrap().count(Process::TurnServer), 0);
    let encrypted = |args: &[&str]| {
        let args =
            [&["--turn-port", "3478", "--turns-port", "443", "--data-dir", "/d", "--replicas", "3"], args]
                .concat();
        let settings = settings(&args).unwrap();
        assert_eq!(settings.count(Process::TurnServer), 1);
        assert!(settings.ports().ends_with(&[("--turn-port", 3478), ("--turns-port", 443)]));
        let by_udp = settings.datagram_doors().last().map(|(flag, door)| (flag, door.port()));
        assert_eq!(by_udp, Some(("--turn-port", 3478)));
        let encrypted = settings.turn.unwrap().encrypted.unwrap();
        (settings.tls, encrypted.cert, encrypted.key)
    };
    let files = ["--tls-cert", "c", "--tls-key", "k"];
    let (cert, key) = (PathBuf::from("c"), PathBuf::from("k"));
    assert_eq!(encrypted(&files), (Tls::Off, cert.clone(), key.clone()));
    let both = Tls::Files { cert: cert.clone(), key: key.clone() };
    assert_eq!(encrypted(&[&["--tls", "files"][..], &files].concat()), (both, cert, key));
    assert_eq!(
        encrypted(&["--tls", "self-signed"]),
        (Tls::SelfSigned, "/d/portal-cert.pem".into(), "/d/portal-key.pem".into())
    );
}

#[test]
fn the_example_file_holds_the_defaults_and_names_every_setting() {
    let text = include_str!("../deploy/kaigi.example.toml");
    let example: Options = toml::from_str(text).unwrap();
    let (options, defaults) = (example.clone(), Options::default());
    let processes = Process::ALL.map(|process| (process, example.of(process).clone()));
    let general = Options {
        cluster_manager: defaults.cluster_manager.clone(),
        conference_agent: defaults.conference_agent.clone(),
        access_node: defaults.access_node.clone(),
        mixer_node: defaults.mixer_node.clone(),
        turn_server: defaults.turn_server.clone(),
        portal: defaults.portal.clone(),
        ..options
    };
    let programs = Some(Path::new("/programs"));
    let by_file = Settings::new(general, programs).unwrap();
    let by_default = Settings::new(defaults, programs).unwrap();
    assert_eq!(
        (by_file.data_dir, by_file.bind, by_file.http_port, by_file.management_port, by_file.media_port),
        (
            by_default.data_dir,
            by_default.bind,
            by_default.http_port,
            by_default.management_port,
            by_default.media_port
        )
    );
    assert_eq!(
        (by_file.tls, by_file.sample, by_file.log, by_file.log_format),
        (by_default.tls, by_default.sample, by_default.log, by_default.log_format)
    );
    assert_eq!((example.tls, example.log_format), (Some(TlsMode::Off), Some(LogFormat::Text)));
    for (process, _) in &processes {
        assert!(text.contains(&format!("[{}]", process.name())));
    }

    // What is commented out is valid too, and with it every setting has a place in the file.
    let setting = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let (name, _) = rest.split_once(" = ")?;
        name.chars().all(|c| c.is_ascii_lowercase() || c == '-').then(|| rest.to_owned())
    };
    let lines = text.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned()));
    let uncommented = lines.collect::<Vec<_>>().join("\n");
    let whole: Options = toml::from_str(&uncommented).unwrap();
    let all = format!("{whole:?}");
    let (general, _) = all.split_once("cluster_manager:").unwrap();
    assert!(!general.contains("None"), "not in the example: {general}");
    assert!(whole.mixer_node.env.contains_key("GST_DEBUG") && whole.portal.log.is_some());
}
