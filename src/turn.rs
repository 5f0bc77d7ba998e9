//! The TURN server of this Kaigi: where clients find it, whom it may reach, and what credentials for it are made by.

use std::{
    fmt, fs, io,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use crate::{
    process::Process,
    settings::{Settings, SettingsError},
};

/// File in the data directory with the secret that is made at the first start.
pub const SECRET_FILE: &str = "turn.secret";
/// Bytes of that secret.
const SECRET_BYTES: usize = 32;

/// Its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// UDP and TCP.
    pub port: u16,
    /// TLS.
    pub encrypted: Option<Encrypted>,
    /// What clients are told, if it is given.
    pub host: Option<String>,
}

/// TURN over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// TCP.
    pub port: u16,
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Whether HTTPS comes by it, too.
    pub is_shared: bool,
}

impl Turn {
    /// Its TCP ports, by their flags.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (&'static str, u16)> {
        let encrypted = self.encrypted.iter().map(|encrypted| ("--turns-port", encrypted.port));
        [("--turn-port", self.port)].into_iter().chain(encrypted)
    }

    /// The port by which HTTPS comes, too.
    pub(crate) fn shared_port(&self) -> Option<u16> {
        self.encrypted.as_ref().filter(|encrypted| encrypted.is_shared).map(|encrypted| encrypted.port)
    }

    /// Where clients look for it.
    #[must_use]
    pub fn host(&self, settings: &Settings) -> String {
        let announced = || settings.announce.first().map(IpAddr::to_string);
        let public = || settings.public_host.as_deref().map(|host| without_port(host).to_owned());
        let bound = || (!settings.bind.is_unspecified()).then(|| settings.bind.to_string());
        let given = self.host.clone().or_else(announced).or_else(public).or_else(bound);
        given.unwrap_or_else(|| outgoing().to_string())
    }

    /// What clients are told.
    #[must_use]
    pub fn urls(&self, settings: &Settings) -> Vec<String> {
        let host = match self.host(settings) {
            host if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]"),
            host => host,
        };
        let port = self.port;
        let mut urls = vec![
            format!("stun:{host}:{port}"),
            format!("turn:{host}:{port}?transport=udp"),
            format!("turn:{host}:{port}?transport=tcp"),
        ];
        urls.extend(
            self.encrypted.iter().map(|encrypted| format!("turns:{host}:{}?transport=tcp", encrypted.port)),
        );
        urls
    }
}

impl Turn {
    /// Where processes on this machine reach it, by UDP: many routers bring nothing back that goes to their own public address from within.
    pub(crate) fn near_url(&self, settings: &Settings) -> String {
        let port = self.port;
        match settings.bind {
            IpAddr::V6(bind) if !bind.is_unspecified() => format!("turn:[{bind}]:{port}?transport=udp"),
            IpAddr::V4(bind) if !bind.is_unspecified() => format!("turn:{bind}:{port}?transport=udp"),
            IpAddr::V4(_) | IpAddr::V6(_) => format!("turn:127.0.0.1:{port}?transport=udp"),
        }
    }
}

fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.split_once(':') {
        // More colons than one: an address.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

/// The address from which this machine reaches others; nothing is sent.
fn outgoing() -> IpAddr {
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    own.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |own| own.ip())
}

/// Whom it may reach beside the public internet: the access-nodes' media ports, where clients are told that they are.
pub(crate) fn own_peers(settings: &Settings) -> Vec<String> {
    let last = settings.media_ports().last().unwrap_or(settings.media_port);
    let ports = format!("{}-{last}", settings.media_port);
    let at = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => format!("{ip}:{ports}"),
        IpAddr::V6(ip) => format!("[{ip}]:{ports}"),
    };
    match settings.announce.is_empty() {
        false => settings.announce.iter().map(at).collect(),
        true if settings.bind.is_unspecified() => vec![format!("local:{ports}")],
        true => vec![at(&settings.bind)],
    }
}

/// Where the access-nodes are that clients know by their announced addresses: many routers bring nothing back that was sent to their own
/// public address from within.
pub(crate) fn near_peers(settings: &Settings) -> Vec<String> {
    let local = |announced: &IpAddr| match (announced, settings.bind) {
        (IpAddr::V4(_), IpAddr::V4(bind)) if !bind.is_unspecified() => Some(IpAddr::V4(bind)),
        (IpAddr::V6(_), IpAddr::V6(bind)) if !bind.is_unspecified() => Some(IpAddr::V6(bind)),
        (IpAddr::V4(_), bind) if bind.is_unspecified() => Some(Ipv4Addr::LOCALHOST.into()),
        (IpAddr::V6(_), IpAddr::V6(_)) => Some(Ipv6Addr::LOCALHOST.into()),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
    };
    let near = settings.announce.iter().filter_map(|announced| Some((announced, local(announced)?)));
    near.map(|(announced, local)| format!("{announced}={local}")).collect()
}

/// What credentials are made by.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(String);

impl fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(…)")
    }
}

/// The secret can't be kept.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; give a secret by KAIGI_TURN_SECRET, or make the file readable")]
pub struct SecretError {
    /// Its file.
    path: PathBuf,
    /// What happened.
    source: io::Error,
}

impl TurnSecret {
    pub(crate) fn given(text: String) -> Result<Self, SettingsError> {
        if text.is_empty() { Err(SettingsError::EmptyTurnSecret) } else { Ok(Self(text)) }
    }

    /// Itself.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl Settings {
    /// The secret that is given, or kept in the data directory for the TURN server, where it is made if there is none.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn turn_secret(&self) -> Result<Option<TurnSecret>, SecretError> {
        if self.turn_secret.is_some() || self.count(Process::TurnServer) == 0 {
            return Ok(self.turn_secret.clone());
        }
        let path = self.data_dir.join(SECRET_FILE);
        let kept = match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_secret(&path),
            Err(error) => Err(error),
        };
        kept.map(|text| Some(TurnSecret(text))).map_err(|source| SecretError { path, source })
    }

    fn make_secret(&self, path: &std::path::Path) -> io::Result<String> {
        let text = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.data_dir)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::options::Options;

    fn settings(toml: &str) -> Settings {
        let mut options: Options = toml::from_str(toml).unwrap();
        options.bin_dir = Some("/bin".into());
        Settings::new(options, None).unwrap()
    }

    #[test]
    fn clients_are_told_where_it_is() {
        let host = |toml: &str| {
            let settings = settings(&format!("turn-port = 3478\n{toml}"));
            settings.turn.clone().unwrap().urls(&settings)[0].clone()
        };
        assert_eq!(
            host("turn-host = \"turn.example\"\nannounce = [\"203.0.113.7\"]"),
            "stun:turn.example:3478"
        );
        assert_eq!(
            host("public-host = \"meet.example:443\"\nannounce = [\"203.0.113.7\"]"),
            "stun:203.0.113.7:3478"
        );
        assert_eq!(host("public-host = \"meet.example:443\""), "stun:meet.example:3478");
        assert_eq!(host("public-host = \"[2001:db8::1]:443\""), "stun:[2001:db8::1]:3478");
        assert_eq!(host("bind = \"::1\""), "stun:[::1]:3478");
        assert!(!host("").contains("0.0.0.0"));
    }

    #[test]
    fn announced_addresses_are_near() {
        let near = |toml: &str| near_peers(&settings(toml));
        assert_eq!(near("announce = [\"203.0.113.7\"]"), ["203.0.113.7=127.0.0.1"]);
        assert_eq!(near("announce = [\"203.0.113.7\"]\nbind = \"192.168.1.2\""), ["203.0.113.7=192.168.1.2"]);
        assert_eq!(
            near("announce = [\"203.0.113.7\", \"2001:db8::7\"]\nbind = \"::\""),
            ["203.0.113.7=127.0.0.1", "2001:db8::7=::1"]
        );
        assert_eq!(near("announce = [\"2001:db8::7\"]"), [""; 0]);
    }

    #[test]
    fn the_secret_is_made_once_and_kept_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let with = |toml: &str| settings(&format!("data-dir = {:?}\n{toml}", data.to_str().unwrap()));
        assert_eq!(with("").turn_secret().unwrap(), None);
        assert!(!data.exists());
        let made = with("turn-port = 3478").turn_secret().unwrap().unwrap();
        assert_eq!((made.0.len(), format!("{made:?}")), (64, "TurnSecret(…)".into()));
        assert_eq!(with("turn-port = 3479").turn_secret().unwrap(), Some(made));
        let path = data.join(SECRET_FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(with("turn-port = 1\nturn-secret = \"given\"").turn_secret().unwrap().unwrap().0, "given");
        fs::write(&path, "\n").unwrap();
        assert!(with("turn-port = 3478").turn_secret().unwrap_err().to_string().contains("it is empty"));
    }
}
