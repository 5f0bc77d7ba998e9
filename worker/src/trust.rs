//! How the processes of a cluster know each other: a secret that all present, and certificates of an authority of their own (mutual TLS).

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use kaigi_proto::auth::{ClusterSecret, Require};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use x509_parser::{pem::Pem, prelude::X509Certificate};

/// The name in every certificate of a cluster. Processes are called by whatever address they have, which certificates need not know.
pub const CLUSTER_NAME: &str = "cluster.kaigi.internal";
/// The files of a directory with certificates, named as Kubernetes and cert-manager name them: the authority, this process's certificate, its key.
pub const TLS_FILES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// Longest TLS handshake. Who holds a connection without one (the cluster-manager, to see whether a process lives) is cut off then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Certificates that end sooner are warned of.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// The options by which the processes of a cluster know each other.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TrustArgs {
    /// Secret that the processes of this cluster share; empty = no check
    #[arg(long, env = "KAIGI_CLUSTER_SECRET", default_value = "", hide_env_values = true)]
    pub cluster_secret: String,
    /// Directory with ca.crt, tls.crt and tls.key (see `kaigi certificates`): the processes of this cluster encrypt their calls and accept no one without a certificate
    #[arg(long, env = "KAIGI_CLUSTER_TLS", value_name = "DIR")]
    pub cluster_tls: Option<PathBuf>,
}

impl TrustArgs {
    /// Reads the certificates, if there are to be any.
    ///
    /// # Errors
    /// If they can't be read, or are none.
    pub fn read(&self) -> Result<Trust, TlsError> {
        let secret = ClusterSecret::new(&self.cluster_secret);
        // An empty variable is one that is not set.
        let dir = self.cluster_tls.as_deref().filter(|dir| !dir.as_os_str().is_empty());
        let tls = dir.map(|dir| Tls::read(dir).map(Arc::new)).transpose()?;
        Ok(Trust { secret, tls })
    }
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is no certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// It is too late, or too early.
    #[error("{} is not valid at this time", .0.display())]
    NotValid(PathBuf),
    /// It is a certificate for something else.
    #[error("{} is not a certificate for {CLUSTER_NAME}", .0.display())]
    OtherName(PathBuf),
    /// The three files don't go together.
    #[error("the certificates in {} can't be used: {reason}", dir.display())]
    Unusable {
        /// Where they are.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A process's certificate, its key, and the authority that others have theirs from.
struct Tls {
    authority: Certificate,
    identity: Identity,
    expires: SystemTime,
}

impl Tls {
    fn read(dir: &Path) -> Result<Self, TlsError> {
        let [authority, certificate, key] = TLS_FILES.map(|name| {
            let path = dir.join(name);
            std::fs::read(&path)
                .map(|bytes| (path.clone(), bytes))
                .map_err(|source| TlsError::Read { path, source })
        });
        let (authority, certificate, (_, key)) = (authority?, certificate?, key?);
        let expires = valid_until(&authority, |_| true)?.min(valid_until(&certificate, is_for_cluster)?);
        let tls = Self {
            authority: Certificate::from_pem(authority.1),
            identity: Identity::from_pem(certificate.1, key),
            expires,
        };
        // What is wrong is told now, and not at the first call.
        let endpoint = Endpoint::from_static("https://localhost").tls_config(tls.client());
        let server = Server::builder().tls_config(tls.server());
        match endpoint.map(drop).and(server.map(drop)) {
            Ok(()) => Ok(tls),
            Err(error) => Err(TlsError::Unusable { dir: dir.to_owned(), reason: chain(&error) }),
        }
    }

    fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .domain_name(CLUSTER_NAME)
            .ca_certificate(self.authority.clone())
            .identity(self.identity.clone())
    }

    fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.authority.clone())
            .timeout(HANDSHAKE_TIMEOUT)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn valid_until(
    (path, bytes): &(PathBuf, Vec<u8>),
    accepts: impl Fn(&X509Certificate<'_>) -> bool,
) -> Result<SystemTime, TlsError> {
    let none = || TlsError::NoCertificate(path.clone());
    let pem = Pem::iter_from_buffer(bytes).next().and_then(Result::ok).ok_or_else(none)?;
    let certificate = pem.parse_x509().map_err(|_| none())?;
    if !certificate.validity().is_valid() {
        return Err(TlsError::NotValid(path.clone()));
    }
    if !accepts(&certificate) {
        return Err(TlsError::OtherName(path.clone()));
    }
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).map_err(|_| none())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

fn is_for_cluster(certificate: &X509Certificate<'_>) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| {
        let is = |name: &x509_parser::extensions::GeneralName<'_>| {
            matches!(name, x509_parser::extensions::GeneralName::DNSName(CLUSTER_NAME))
        };
        names.value.general_names.iter().any(is)
    })
}

/// By what a process knows the others of its cluster, and they it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Trust {
    secret: ClusterSecret,
    tls: Option<Arc<Tls>>,
}

impl From<ClusterSecret> for Trust {
    /// The secret alone.
    fn from(secret: ClusterSecret) -> Self {
        Self { secret, tls: None }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Trust {
    /// What each call presents.
    #[must_use]
    pub fn secret(&self) -> ClusterSecret {
        self.secret.clone()
    }

    /// What lets only calls of the cluster in, beside what [`server`](Self::server) asks for.
    #[must_use]
    pub fn require(&self) -> Require {
        Require(self.secret.clone())
    }

    /// The scheme of the cluster's endpoints: "https" with certificates, otherwise "http".
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A server that asks who connects for a certificate of the cluster, if there are such.
    ///
    /// # Errors
    /// If the certificates can't be used, which [`TrustArgs::read`] would have told.
    pub fn server(&self) -> Result<Server, tonic::transport::Error> {
        let server = Server::builder();
        match &self.tls {
            Some(tls) => server.tls_config(tls.server()),
            None => Ok(server),
        }
    }

    /// `endpoint` with what is presented there.
    pub(crate) fn connect(&self, endpoint: Endpoint) -> Result<Endpoint, tonic::transport::Error> {
        match &self.tls {
            Some(tls) => endpoint.tls_config(tls.client()),
            None => Ok(endpoint),
        }
    }

    /// Tells when the certificates end, in `kaigi_cluster_certificate_expiry_seconds` (Unix time), and warns in the log if it is soon.
    pub fn report(&self) {
        let Some(tls) = &self.tls else { return };
        let seconds = tls.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        metrics::gauge!("kaigi_cluster_certificate_expiry_seconds").set(seconds as f64);
        let left = tls.expires.duration_since(SystemTime::now()).unwrap_or_default();
        if left < WARN_BEFORE {
            tracing::warn!(days = left.as_secs() / 86_400, "the certificates of the cluster end soon");
        }
    }
}

#[cfg(test)]
mod tests;
