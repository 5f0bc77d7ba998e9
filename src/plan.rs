//! How each process is started: its arguments and environment.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::{
    ports::{self, NoFreePorts},
    process::{Process, Replica},
    settings::{SealKey, Settings, Tls},
    turn::{self, Encrypted, Turn, TurnSecret},
};

/// Bytes of the cluster secret.
const SECRET_BYTES: usize = 32;

/// Variables of the launcher's own environment that only the cluster-manager is to see.
const CREDENTIALS: [&str; 3] = ["KAIGI_REDIS", "KAIGI_SEAL_KEY", TURN_SECRET];
/// The one that only portals, the TURN server and the RTP gateway are to see.
const TURN_SECRET: &str = "KAIGI_TURN_SECRET";

/// One process, ready to be started any number of times with the same addresses.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which.
    pub replica: Replica,
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Left out of the launcher's environment.
    pub without_env: &'static [&'static str],
    /// Added to the launcher's environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it answers /health, /ready and /metrics.
    pub health: SocketAddr,
}

/// All of them, with internal ports that are free now and a new cluster secret. `turn` makes credentials for TURN servers.
///
/// # Errors
/// If there are no free ports.
pub fn plan(settings: &Settings, turn: Option<&TurnSecret>) -> Result<Vec<Spec>, NoFreePorts> {
    let reserved = settings.ports();
    let reserved: Vec<u16> = reserved.into_iter().map(|(_, port)| port).collect();
    let replicas: Vec<Replica> = settings.replicas().collect();
    let count = replicas.len();
    let shared_port = settings.turn.as_ref().and_then(Turn::shared_port);
    let is_door = |replica: &&Replica| shared_port.is_some() && replica.process == Process::Portal;
    let doors: Vec<Replica> = replicas.iter().filter(is_door).copied().collect();
    // What is free on one loopback address is on all, but for what somebody has put on one of them alone.
    let mut ports = ports::free(2 * count + doors.len(), &reserved)?;
    let inside = ports.split_off(2 * count);
    let shared = Shared {
        port: shared_port.unwrap_or_default(),
        portals: (doors.iter().zip(inside))
            .map(|(portal, free)| (*portal, SocketAddr::new(settings.inside_of(*portal), free.port())))
            .collect(),
    };
    let addresses: Vec<SocketAddr> = ports
        .iter()
        .zip(replicas.iter().cycle())
        .map(|(free, replica)| SocketAddr::new(settings.inside_of(*replica), free.port()))
        .collect();
    let (listens, healths) = addresses.split_at(count);
    let secret = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
    // The cluster-managers are the first of all.
    let managers = listens.iter().take(settings.count(Process::ClusterManager).into());
    let cluster = managers.map(|listen| format!("http://{listen}")).collect::<Vec<_>>().join(",");
    let specs = replicas.into_iter().zip(listens).zip(healths);
    Ok(specs
        .map(|((replica, listen), health)| {
            let mut spec = spec(settings, replica, (*listen, *health), &cluster, &shared, &secret);
            let knows =
                matches!(replica.process, Process::Portal | Process::TurnServer | Process::RtpGateway);
            let turn = turn.filter(|_| knows);
            // Before what was given for the process.
            spec.env.splice(0..0, turn.map(|turn| (TURN_SECRET.into(), turn.text().into())));
            spec
        })
        .collect())
}

fn spec(
    settings: &Settings,
    replica: Replica,
    (listen, health): (SocketAddr, SocketAddr),
    cluster: &str,
    shared: &Shared,
    secret: &str,
) -> Spec {
    let process = replica.process;
    let own = settings.process(process);
    let mut args = Args::default();
    if process != Process::TurnServer {
        args.put("--listen", listen.to_string());
    }
    args.put("--health-listen", health.to_string());
    // The TURN server knows none of the others.
    if !matches!(process, Process::ClusterManager | Process::TurnServer) {
        args.put("--cluster", cluster);
    }
    match process {
        Process::ClusterManager => {
            args.put("--data-dir", &settings.data_dir);
            if let SealKey::File(file) = &settings.seal_key {
                args.put("--seal-key-file", file);
            }
        }
        Process::ConferenceAgent => {}
        Process::MixerNode => link(settings, replica, &mut args),
        Process::StreamingNode => {
            link(settings, replica, &mut args);
            args.put("--recordings", &settings.recordings);
        }
        Process::AccessNode => {
            link(settings, replica, &mut args);
            args.put("--bind", settings.bind_of(replica).to_string())
                .put("--media-port", settings.media_port_of(replica).to_string());
            if !settings.announce.is_empty() {
                let announce: Vec<String> = settings.announce.iter().map(IpAddr::to_string).collect();
                args.put("--announce", announce.join(","));
            }
        }
        Process::TurnServer => {
            turn_server(settings, &mut args);
            shared.tell_server(&mut args);
        }
        Process::Portal => {
            portal(settings, replica, &mut args);
            shared.tell_portal(replica, &mut args);
        }
        Process::RtpGateway => {
            let port = settings.gateway_port.unwrap_or_default();
            args.put("--api-listen", SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string())
                .put("--webrtc-address", settings.bind.to_string());
        }
    }
    args.0.extend(own.args.iter().map(OsString::from));
    // By environment, not by argument: other users of the machine see arguments.
    let mut env: Vec<(OsString, OsString)> = vec![
        ("KAIGI_CLUSTER_SECRET".into(), secret.into()),
        ("KAIGI_EXIT_WITH_STDIN".into(), "1".into()),
        ("KAIGI_LOG".into(), own.log.as_ref().unwrap_or(&settings.log).into()),
        ("KAIGI_LOG_FORMAT".into(), settings.log_format.name().into()),
    ];
    let without_env: &[_] = if process == Process::ClusterManager { &[TURN_SECRET] } else { &CREDENTIALS };
    if process == Process::ClusterManager {
        env.extend(settings.redis.as_ref().map(|redis| ("KAIGI_REDIS".into(), redis.into())));
        if let SealKey::Given(key) = &settings.seal_key {
            env.push(("KAIGI_SEAL_KEY".into(), key.into()));
        }
    }
    // By environment, so that an argument given for the process counts before it.
    if process == Process::AccessNode {
        env.push(("KAIGI_MEDIA_WORKERS".into(), settings.media_workers.to_string().into()));
    }
    // Likewise.
    if let (Process::Portal, Some(turn)) = (process, &settings.turn) {
        env.push(("KAIGI_OWN_ICE_SERVERS".into(), turn.urls(settings).join(",").into()));
    }
    // Likewise; it is on the same machine.
    if let (Process::RtpGateway, Some(turn)) = (process, &settings.turn) {
        env.push(("KAIGI_GATEWAY_OWN_ICE_SERVERS".into(), turn.near_url(settings).into()));
    }
    env.extend(own.env.iter().map(|(name, value)| (name.into(), value.into())));
    Spec { replica, program: settings.program(process), args: args.0, without_env, env, health }
}

/// The port of the TURN server by which HTTPS comes, and where the portals have it passed on to.
struct Shared {
    port: u16,
    /// None where it is not shared.
    portals: Vec<(Replica, SocketAddr)>,
}

impl Shared {
    fn tell_server(&self, args: &mut Args) {
        let portals: Vec<_> = self.portals.iter().map(|(_, address)| address.to_string()).collect();
        if !portals.is_empty() {
            args.put("--https-to", portals.join(","));
        }
    }

    fn tell_portal(&self, replica: Replica, args: &mut Args) {
        if let Some((_, address)) = self.portals.iter().find(|(portal, _)| *portal == replica) {
            args.put("--proxy-listen", address.to_string()).put("--proxy-port", self.port.to_string());
        }
    }
}

/// Where media of other nodes come in, if that is not where they come in anyway.
fn link(settings: &Settings, replica: Replica, args: &mut Args) {
    if settings.apart {
        args.put("--link-address", settings.inside_of(replica).to_string());
    }
}

fn portal(settings: &Settings, replica: Replica, args: &mut Args) {
    // Each makes a certificate of its own, if it makes one.
    let data_dir = match replica.index() {
        0 => settings.data_dir.clone(),
        _ => settings.data_dir.join(&*replica.name()),
    };
    let port = |first: u16| first.saturating_add(replica.index()).to_string();
    args.put("--bind", settings.bind_of(replica).to_string())
        .put("--http-port", port(settings.http_port))
        .put("--management-port", port(settings.management_port))
        .put("--data-dir", data_dir)
        .put("--sample", settings.sample.to_string())
        .put("--tls", settings.tls.mode().name());
    if let Tls::Files { cert, key } = &settings.tls {
        args.put("--tls-cert", cert).put("--tls-key", key);
    }
    if let Some(host) = &settings.public_host {
        args.put("--public-host", host);
    }
    if let Some(web_root) = &settings.web_root {
        args.put("--web-root", web_root);
    }
}

fn turn_server(settings: &Settings, args: &mut Args) {
    let Some(turn) = &settings.turn else { return };
    args.put("--bind", settings.bind.to_string()).put("--port", turn.port.to_string());
    if let Some(Encrypted { port, cert, key, .. }) = &turn.encrypted {
        args.put("--tls-port", port.to_string()).put("--tls-cert", cert).put("--tls-key", key);
    }
    if !settings.announce.is_empty() {
        let announce: Vec<String> = settings.announce.iter().map(IpAddr::to_string).collect();
        args.put("--announce", announce.join(","));
    }
    args.put("--allow-peers", turn::own_peers(settings).join(","));
    let near = turn::near_peers(settings);
    if !near.is_empty() {
        args.put("--near-peers", near.join(","));
    }
}

#[derive(Default)]
struct Args(Vec<OsString>);

impl Args {
    fn put(&mut self, flag: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.extend([flag.into(), value.into()]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn planned(toml: &str) -> Vec<Spec> {
        let mut options: Options = toml::from_str(toml).unwrap();
        options.bin_dir = Some("/bin".into());
        let settings = Settings::new(options, None).unwrap();
        plan(&settings, settings.turn_secret.as_ref()).unwrap()
    }

    fn value(spec: &Spec, flag: &str) -> Option<String> {
        let at = spec.args.iter().position(|arg| arg == flag)?;
        Some(spec.args[at + 1].to_string_lossy().into_owned())
    }

    fn variable(spec: &Spec, name: &str) -> String {
        let found = spec.env.iter().rev().find(|(n, _)| n == name);
        found.unwrap().1.to_string_lossy().into_owned()
    }

    #[test]
    fn all_know_the_cluster_manager_and_the_secret_that_no_argument_shows() {
        let specs = planned("");
        let cluster = format!("http://{}", value(&specs[0], "--listen").unwrap());
        let secret = variable(&specs[0], "KAIGI_CLUSTER_SECRET");
        assert_eq!(secret.len(), 64);
        for spec in &specs[1..] {
            assert_eq!(value(spec, "--cluster"), Some(cluster.clone()));
            assert_eq!(variable(spec, "KAIGI_CLUSTER_SECRET"), secret);
        }
        for spec in &specs {
            assert_eq!(value(spec, "--health-listen"), Some(spec.health.to_string()));
            assert_eq!(variable(spec, "KAIGI_EXIT_WITH_STDIN"), "1");
            assert!(!spec.args.iter().any(|arg| arg.to_string_lossy().contains(&secret)));
        }
        assert_ne!(variable(&planned("")[0], "KAIGI_CLUSTER_SECRET"), secret);
    }

    #[test]
    fn several_of_a_kind_have_ports_of_their_own_and_know_all_cluster_managers() {
        let specs = planned(
            r#"
            redis = "redis://db"
            replicas = 2
            mixer-nodes = 1
            portals = 3
            media-workers = 2
            "#,
        );
        let names: Vec<_> = specs.iter().map(|spec| spec.replica.name()).collect();
        assert_eq!(
            names[..4],
            ["cluster-manager", "cluster-manager-2", "conference-agent", "conference-agent-2"]
        );
        assert_eq!(names[4..7], ["access-node", "access-node-2", "mixer-node"]);
        assert_eq!(names[9..], ["portal", "portal-2", "portal-3"]);
        let listens: Vec<_> = specs.iter().map(|spec| value(spec, "--listen").unwrap()).collect();
        let cluster = format!("http://{},http://{}", listens[0], listens[1]);
        assert!(specs[2..].iter().all(|spec| value(spec, "--cluster").as_ref() == Some(&cluster)));
        assert!(specs[..2].iter().all(|spec| variable(spec, "KAIGI_REDIS") == "redis://db"));
        assert_eq!(value(&specs[5], "--media-port").unwrap(), "10002");
        assert_eq!(value(&specs[10], "--http-port").unwrap(), "8081");
        assert_eq!(value(&specs[11], "--management-port").unwrap(), "3002");
        assert_ne!(value(&specs[10], "--data-dir"), value(&specs[9], "--data-dir"));
        assert_eq!(
            planned("replicas = 2").iter().filter(|s| s.replica.process == Process::ClusterManager).count(),
            1
        );
    }

    #[test]
    fn each_number_has_an_address_of_its_own_if_they_are_apart() {
        let specs = planned("redis = \"redis://db\"\nreplicas = 3\napart = true");
        assert_eq!(specs.len(), 18);
        for spec in &specs {
            let address = format!("127.0.0.{}", spec.replica.number);
            let on = |flag: &str| value(spec, flag).is_none_or(|on| on.starts_with(&address));
            assert!(
                ["--listen", "--health-listen", "--link-address", "--bind"].into_iter().all(on),
                "{spec:?}"
            );
            let has_media = matches!(
                spec.replica.process,
                Process::AccessNode | Process::MixerNode | Process::StreamingNode
            );
            assert_eq!(value(spec, "--link-address").is_some(), has_media, "{spec:?}");
        }
        let managers = value(&specs[17], "--cluster").unwrap();
        let hosts: Vec<_> = managers.split(',').map(|manager| manager.rsplit_once(':').unwrap().0).collect();
        assert_eq!(hosts, ["http://127.0.0.1", "http://127.0.0.2", "http://127.0.0.3"]);
        assert!(planned("replicas = 3").iter().all(|spec| spec.health.ip().to_string() == "127.0.0.1"));
    }

    #[test]
    fn a_turn_server_reaches_the_media_ports_and_shares_its_secret_with_the_portals() {
        assert!(!planned("").iter().any(|spec| spec.replica.process == Process::TurnServer));
        let specs = planned(
            r#"
            announce = ["203.0.113.7", "2001:db8::7"]
            media-port = 10000
            media-workers = 2
            access-nodes = 2
            turn-port = 3478
            turns-port = 443
            turn-host = "turn.example.org"
            turn-secret = "shared"
            gateway-port = 8000
            tls = "self-signed"
            data-dir = "/d"
            "#,
        );
        let of = |process| specs.iter().find(|spec| spec.replica.process == process).unwrap();
        let (turn, portal, access) = (of(Process::TurnServer), of(Process::Portal), of(Process::AccessNode));
        assert_eq!(value(turn, "--announce").unwrap(), "203.0.113.7,2001:db8::7");
        assert_eq!(
            value(turn, "--allow-peers").unwrap(),
            "203.0.113.7:10000-10003,[2001:db8::7]:10000-10003"
        );
        assert_eq!(value(turn, "--near-peers").unwrap(), "203.0.113.7=127.0.0.1");
        assert_eq!(
            (value(turn, "--tls-port").unwrap(), value(turn, "--tls-cert").unwrap()),
            ("443".into(), "/d/portal-cert.pem".into())
        );
        assert_eq!((value(turn, "--listen"), value(turn, "--cluster")), (None, None));
        assert_eq!(
            (variable(turn, "KAIGI_TURN_SECRET"), variable(portal, "KAIGI_TURN_SECRET")),
            ("shared".into(), "shared".into())
        );
        assert!(!access.env.iter().any(|(name, _)| name == "KAIGI_TURN_SECRET"));
        let gateway = of(Process::RtpGateway);
        assert_eq!(
            (variable(gateway, "KAIGI_TURN_SECRET"), variable(gateway, "KAIGI_GATEWAY_OWN_ICE_SERVERS")),
            ("shared".to_owned(), "turn:127.0.0.1:3478?transport=udp".to_owned())
        );
        assert_eq!(
            variable(portal, "KAIGI_OWN_ICE_SERVERS"),
            "stun:turn.example.org:3478,turn:turn.example.org:3478?transport=udp,turn:turn.example.org:3478?transport=tcp,turns:turn.example.org:443?transport=tcp"
        );
        let open = planned("turn-port = 3478\nmedia-workers = 1");
        let turn = open.iter().find(|spec| spec.replica.process == Process::TurnServer).unwrap();
        assert_eq!(
            (value(turn, "--allow-peers").unwrap(), value(turn, "--near-peers")),
            ("local:10000-10000".into(), None)
        );
    }

    #[test]
    fn portals_take_what_comes_by_a_port_that_is_shared() {
        let shared =
            "turn-port = 3478\nturns-port = 443\ntls = \"self-signed\"\nportals = 2\nshare-turns-port = ";
        let specs = planned(&format!("{shared}true"));
        let of = |process| specs.iter().filter(move |spec| spec.replica.process == process);
        let turn = of(Process::TurnServer).next().unwrap();
        let doors: Vec<_> = of(Process::Portal).map(|spec| value(spec, "--proxy-listen").unwrap()).collect();
        assert_eq!(value(turn, "--https-to").unwrap(), doors.join(","));
        assert_ne!(doors[0], doors[1]);
        assert!(of(Process::Portal).all(|spec| value(spec, "--proxy-port").as_deref() == Some("443")));
        let all = planned(&format!("{shared}false"));
        let told = ["--https-to", "--proxy-listen", "--proxy-port"];
        assert!(all.iter().all(|spec| told.iter().all(|flag| value(spec, flag).is_none())));
    }

    #[test]
    fn settings_reach_the_process_that_they_are_for() {
        let specs = planned(
            r#"
            bind = "192.0.2.1"
            redis = "redis://:hidden@db"
            seal-key = "hidden too"
            media-port = 10001
            announce = ["198.51.100.1", "198.51.100.2"]
            tls = "files"
            tls-cert = "c.pem"
            tls-key = "k.pem"
            public-host = "meet.example.org"
            sample = false
            log = "warn"
            [mixer-node]
            log = "debug"
            args = ["--threads", "1"]
            env = { GST_DEBUG = "2" }
            "#,
        );
        assert_eq!(variable(&specs[0], "KAIGI_REDIS"), "redis://:hidden@db");
        assert_eq!(variable(&specs[0], "KAIGI_SEAL_KEY"), "hidden too");
        assert!(!specs[0].args.iter().any(|arg| arg.to_string_lossy().contains("hidden")));
        for other in &specs[1..] {
            assert!(!other.env.iter().any(|(_, value)| value.to_string_lossy().contains("hidden")));
            assert_eq!(other.without_env, ["KAIGI_REDIS", "KAIGI_SEAL_KEY", "KAIGI_TURN_SECRET"]);
        }
        let by_file = planned("seal-key-file = \"/etc/kaigi/seal.key\"");
        assert_eq!(value(&by_file[0], "--seal-key-file").unwrap(), "/etc/kaigi/seal.key");
        assert_eq!(value(&by_file[4], "--seal-key-file"), None);
        let (access, mixer, portal) = (&specs[2], &specs[3], &specs[5]);
        assert_eq!(value(access, "--announce").unwrap(), "198.51.100.1,198.51.100.2");
        assert_eq!(value(access, "--media-port").unwrap(), "10001");
        assert_eq!(value(portal, "--tls-key").unwrap(), "k.pem");
        assert_eq!(value(portal, "--public-host").unwrap(), "meet.example.org");
        assert_eq!(value(portal, "--sample").unwrap(), "false");
        assert_eq!(value(portal, "--bind").unwrap(), "192.0.2.1");
        assert_eq!(
            (variable(mixer, "KAIGI_LOG"), variable(portal, "KAIGI_LOG")),
            ("debug".into(), "warn".into())
        );
        assert_eq!(
            (value(mixer, "--threads").unwrap(), variable(mixer, "GST_DEBUG")),
            ("1".into(), "2".into())
        );
    }
}
