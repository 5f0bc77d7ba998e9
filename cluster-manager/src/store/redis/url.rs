//! Where Redis is: one server, a server that Sentinels name, or a cluster.

use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// Port of a Sentinel for which none is given.
const SENTINEL_PORT: u16 = 26_379;
/// Most hosts in one URL.
const MAX_HOSTS: usize = 64;

/// Where Redis is. The text forms:
///
/// - `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS: one server;
/// - `redis-sentinel://[user:password@]host[:port][,host[:port]…]/master-name[/database]`, `rediss-sentinel://…`: the server that
///   these Sentinels name; user and password are the server's;
/// - `redis-cluster://[user:password@]host[:port][,host[:port]…]`, `rediss-cluster://…`: a cluster, of which these nodes are known.
#[derive(Clone)]
pub struct RedisUrl(pub(super) Place);

/// See [`RedisUrl`].
#[derive(Clone)]
pub(super) enum Place {
    Server(ConnectionInfo),
    Sentinel { sentinels: Vec<ConnectionAddr>, master: String, access: Access },
    Cluster { nodes: Vec<ConnectionInfo>, access: Access },
}

/// How the servers behind the named hosts are spoken to.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
}

/// Why a text does not say where Redis is.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum RedisUrlError {
    /// None of the schemes.
    #[error(
        "the URL of Redis starts with redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster:// or rediss-cluster://"
    )]
    Scheme,
    /// No host, too many, or one that can't be read.
    #[error("{0:?} is no list of hosts")]
    Hosts(String),
    /// A Sentinel URL without the master's name.
    #[error("a Sentinel's URL ends with the name of the master: redis-sentinel://host/name")]
    NoMaster,
    /// A path where there can be none, or a database that is no number.
    #[error("{0:?} is no database")]
    Database(String),
    /// Something else in the URL of one server.
    #[error("{0}")]
    Other(String),
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (tls, kind) = match scheme {
            "redis" | "rediss" => {
                let server = text.into_connection_info().map_err(|e| RedisUrlError::Other(e.to_string()))?;
                return Ok(Self(Place::Server(server)));
            }
            _ => match scheme.split_once('-') {
                Some(("redis", kind)) => (false, kind),
                Some(("rediss", kind)) => (true, kind),
                _ => return Err(RedisUrlError::Scheme),
            },
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut access = Access { tls, ..Access::default() };
        if let Some(user) = user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            access.username = (!name.is_empty()).then(|| decoded(name)).transpose()?;
            access.password = (!password.is_empty()).then(|| decoded(password)).transpose()?;
        }
        match kind {
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(RedisUrlError::NoMaster);
                }
                if !database.is_empty() {
                    access.database =
                        database.parse().map_err(|_| RedisUrlError::Database(database.to_owned()))?;
                }
                // Sentinels themselves are spoken to in the clear unless the whole URL says TLS.
                let sentinels = addresses(hosts, SENTINEL_PORT, tls)?;
                Ok(Self(Place::Sentinel { sentinels, master: decoded(master)?, access }))
            }
            "cluster" if path.is_empty() => {
                let nodes = addresses(hosts, 6379, tls)?;
                let nodes = nodes
                    .into_iter()
                    .map(|addr| addr.into_connection_info().map_err(|e| RedisUrlError::Other(e.to_string())));
                Ok(Self(Place::Cluster { nodes: nodes.collect::<Result<_, _>>()?, access }))
            }
            "cluster" => Err(RedisUrlError::Database(path.to_owned())),
            _ => Err(RedisUrlError::Scheme),
        }
    }
}

fn addresses(hosts: &str, port: u16, tls: bool) -> Result<Vec<ConnectionAddr>, RedisUrlError> {
    let refused = || RedisUrlError::Hosts(hosts.to_owned());
    let each = hosts.split(',').map(|host| {
        let (name, port) = match host.rsplit_once(':') {
            // The last colon of a bare IPv6 address stands within its brackets.
            Some((name, given)) if !given.ends_with(']') => (name, given.parse().map_err(|_| refused())?),
            _ => (host, port),
        };
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if name.is_empty() {
            return Err(refused());
        }
        let host = name.to_owned();
        Ok(match tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        })
    });
    let all: Vec<_> = each.collect::<Result<_, _>>()?;
    if all.len() > MAX_HOSTS { Err(refused()) } else { Ok(all) }
}

/// Undoes percent-encoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Result<String, RedisUrlError> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(String::from)
        .map_err(|e| RedisUrlError::Other(e.to_string()))
}

/// Without user and password.
impl std::fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(",");
        match &self.0 {
            Place::Server(server) => write!(f, "{}", server.addr()),
            Place::Sentinel { sentinels, master, .. } => {
                write!(f, "{master} as named by {}", list(&mut sentinels.iter().map(ToString::to_string)))
            }
            Place::Cluster { nodes, .. } => {
                write!(f, "the cluster of {}", list(&mut nodes.iter().map(|node| node.addr().to_string())))
            }
        }
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> RedisUrl {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> RedisUrlError {
        text.parse::<RedisUrl>().unwrap_err()
    }

    #[test]
    fn one_server() {
        assert_eq!(parsed("redis://db.example:7000/2").to_string(), "db.example:7000");
        assert_eq!(parsed("rediss://:secret@db.example").to_string(), "db.example:6379");
    }

    #[test]
    fn a_server_named_by_sentinels() {
        let url = parsed("rediss-sentinel://kaigi:p%40ss@a,b:27000,[::1]:7/main/3");
        let Place::Sentinel { sentinels, master, access } = &url.0 else { panic!("{url}") };
        let addresses: Vec<String> = sentinels.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["a:26379", "b:27000", "::1:7"]);
        assert_eq!((master.as_str(), access.database, access.tls), ("main", 3, true));
        assert_eq!((access.username.as_deref(), access.password.as_deref()), (Some("kaigi"), Some("p@ss")));
    }

    #[test]
    fn a_cluster() {
        let url = parsed("redis-cluster://:secret@a,b:7001");
        let Place::Cluster { nodes, access } = &url.0 else { panic!("{url}") };
        assert_eq!(nodes.len(), 2);
        assert_eq!((access.username.as_deref(), access.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(refused("localhost:6379"), RedisUrlError::Scheme);
        assert_eq!(refused("http://localhost"), RedisUrlError::Scheme);
        assert_eq!(refused("redis-ring://a"), RedisUrlError::Scheme);
        assert_eq!(refused("redis-sentinel://a,b"), RedisUrlError::NoMaster);
        assert_eq!(refused("redis-sentinel://a/main/x"), RedisUrlError::Database("x".into()));
        assert_eq!(refused("redis-cluster://a/1"), RedisUrlError::Database("1".into()));
        assert_eq!(refused("redis-cluster://"), RedisUrlError::Hosts(String::new()));
        assert_eq!(refused("redis-cluster://a,:7"), RedisUrlError::Hosts("a,:7".into()));
        assert_eq!(refused("redis-cluster://a:port"), RedisUrlError::Hosts("a:port".into()));
        assert!(matches!(refused("redis://"), RedisUrlError::Other(_)));
    }

    #[test]
    fn passwords_are_not_shown() {
        for text in ["redis://u:hidden@a", "redis-sentinel://u:hidden@a/m", "redis-cluster://u:hidden@a"] {
            let url = parsed(text);
            assert!(!format!("{url} {url:?}").contains("hidden"));
        }
    }
}
