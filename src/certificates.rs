//! The certificates by which the processes of a cluster know each other: an authority of the cluster's own, and what it signs.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kaigi_worker::{CLUSTER_NAME, TLS_FILES};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// The authority's certificate and its key.
const AUTHORITY: [&str; 2] = ["ca.crt", "ca.key"];
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the authority is good for.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What to make, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Certificates {
    /// Directory of the authority (ca.crt, ca.key), which is made at the first time and used again from then on
    pub dir: PathBuf,
    /// What the certificates are for: a directory of this name for each, with ca.crt, tls.crt and tls.key, as `--cluster-tls` takes it.
    /// One is enough for a whole cluster; those that are there already are renewed
    #[arg(default_value = "cluster", value_parser = name)]
    pub names: Vec<String>,
    /// Days that they are good for
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub days: u64,
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with('.') || text.len() > 64 || !text.chars().all(allowed) {
        return Err("a name has 1 to 64 letters, digits, dots, hyphens and underscores, and does not begin with a dot".into());
    }
    Ok(text.to_owned())
}

/// Why certificates can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// One of the authority's two files is missing, so that what it signed can't be told from what another one signs.
    #[error("{} is there, but {} is not", there.display(), missing.display())]
    Half {
        /// What is there.
        there: PathBuf,
        /// What is missing.
        missing: PathBuf,
    },
    /// The authority is none.
    #[error("{}: {reason}", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A certificate can't be signed.
    #[error("signing: {0}")]
    Sign(#[from] rcgen::Error),
}

/// Makes what is asked for; returns the directories that were written.
///
/// # Errors
/// See [`CertificatesError`].
pub fn make(wanted: &Certificates) -> Result<Vec<PathBuf>, CertificatesError> {
    make_dir(&wanted.dir)?;
    let (authority, issuer) = authority(&wanted.dir)?;
    let mut made = Vec::new();
    for name in &wanted.names {
        let (certificate, key) = signed(name, wanted.days, &issuer)?;
        let dir = wanted.dir.join(name);
        make_dir(&dir)?;
        let [ca, tls, private] = TLS_FILES.map(|file| dir.join(file));
        write(&private, &key, 0o600)?;
        write(&tls, &certificate, 0o644)?;
        write(&ca, &authority, 0o644)?;
        made.push(dir);
    }
    Ok(made)
}

/// The authority in `dir`, made if there is none: its certificate, and what signs in its name.
fn authority(dir: &Path) -> Result<(String, Issuer<'static, KeyPair>), CertificatesError> {
    let [certificate, key] = AUTHORITY.map(|file| dir.join(file));
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |error: rcgen::Error| CertificatesError::Authority { path, reason: error.to_string() }
    };
    match (read(&certificate)?, read(&key)?) {
        (Some(text), Some(private)) => {
            let private = KeyPair::from_pem(&private).map_err(wrong(&key))?;
            let issuer = Issuer::from_ca_cert_pem(&text, private).map_err(wrong(&certificate))?;
            Ok((text, issuer))
        }
        (None, None) => {
            let mut params = CertificateParams::default();
            params.distinguished_name = called("Kaigi cluster");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            for_so_long(&mut params, AUTHORITY_LIFE);
            let private = KeyPair::generate()?;
            let text = params.self_signed(&private)?.pem();
            write(&key, &private.serialize_pem(), 0o600)?;
            write(&certificate, &text, 0o644)?;
            Ok((text, Issuer::new(params, private)))
        }
        (Some(_), None) => Err(CertificatesError::Half { there: certificate, missing: key }),
        (None, Some(_)) => Err(CertificatesError::Half { there: key, missing: certificate }),
    }
}

/// A certificate for processes of the cluster and its key, in PEM.
fn signed(
    name: &str,
    days: u64,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), CertificatesError> {
    let mut params = CertificateParams::new(vec![CLUSTER_NAME.to_owned()])?;
    params.distinguished_name = called(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Each process calls others and is called.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    for_so_long(&mut params, DAY * u32::try_from(days).unwrap_or(u32::MAX));
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn called(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// From an hour ago, as clocks differ.
fn for_so_long(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + life).into();
}

fn make_dir(path: &Path) -> Result<(), CertificatesError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|source| CertificatesError::File { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<String>, CertificatesError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificatesError::File { path: path.to_owned(), source }),
    }
}

/// A process that starts meanwhile reads the old file or the new one, and not a part.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), CertificatesError> {
    let beside = path.with_extension("new");
    let written = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|source| CertificatesError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kaigi_worker::TrustArgs;

    use super::*;

    fn wanted(dir: &Path, names: &[&str]) -> Certificates {
        Certificates {
            dir: dir.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            days: 30,
        }
    }

    fn trusted(dir: &Path) -> Result<kaigi_worker::Trust, kaigi_worker::TlsError> {
        TrustArgs { cluster_secret: String::new(), cluster_tls: Some(dir.to_owned()) }.read()
    }

    #[test]
    fn what_is_made_is_what_processes_take() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(&wanted(dir.path(), &["cluster", "portal"])).unwrap();
        assert_eq!(made, [dir.path().join("cluster"), dir.path().join("portal")]);
        for dir in &made {
            assert_eq!(trusted(dir).unwrap().scheme(), "https");
        }
    }

    #[test]
    fn the_authority_stays_and_its_certificates_are_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let [authority, renewed] = ["ca.crt", "cluster/tls.crt"].map(|file| dir.path().join(file));
        make(&wanted(dir.path(), &["cluster"])).unwrap();
        let before = (fs::read(&authority).unwrap(), fs::read(&renewed).unwrap());
        make(&wanted(dir.path(), &["cluster"])).unwrap();
        assert_eq!(fs::read(&authority).unwrap(), before.0);
        assert_ne!(fs::read(&renewed).unwrap(), before.1);
        trusted(&dir.path().join("cluster")).unwrap();
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        make(&wanted(dir.path(), &["cluster"])).unwrap();
        for key in ["ca.key", "cluster/tls.key"] {
            assert_eq!(
                fs::metadata(dir.path().join(key)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{key}"
            );
        }
    }

    #[test]
    fn half_an_authority_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        make(&wanted(dir.path(), &["cluster"])).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = make(&wanted(dir.path(), &["cluster"])).unwrap_err();
        assert!(matches!(error, CertificatesError::Half { .. }), "{error}");
        fs::write(dir.path().join("ca.key"), "no key").unwrap();
        let error = make(&wanted(dir.path(), &["cluster"])).unwrap_err();
        assert!(matches!(error, CertificatesError::Authority { .. }), "{error}");
    }

    #[test]
    fn names_stay_in_the_directory() {
        for wrong in ["", "..", "a/b", ".hidden", "ä"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name("access-node.1").as_deref(), Ok("access-node.1"));
    }
}
