//! Certificates for the ports for clients.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::{
    args::{Args, TlsMode},
    public_host::machine_addresses,
};

const CERTIFICATE: &str = "portal-cert.pem";
const KEY: &str = "portal-key.pem";
/// The names that the certificate is for, one a line.
const NAMES: &str = "portal-cert.names";
/// Browsers refuse certificates that are good for more than 398 days.
const LIFE: Duration = Duration::from_secs(397 * 24 * 3600);
/// A certificate older than this is replaced at the next start.
const RENEWAL: Duration = Duration::from_secs(300 * 24 * 3600);

/// What the arguments ask for; `None` for plain HTTP.
///
/// # Errors
/// If files can't be read or written, or hold no certificate.
pub(crate) async fn config(args: &Args) -> anyhow::Result<Option<RustlsConfig>> {
    let config = match args.tls {
        TlsMode::Off => return Ok(None),
        TlsMode::Files => {
            let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
                anyhow::bail!("--tls files needs --tls-cert and --tls-key");
            };
            RustlsConfig::from_pem_file(certificate, key)
                .await
                .with_context(|| format!("reading {} and {}", certificate.display(), key.display()))?
        }
        TlsMode::SelfSigned => {
            let (certificate, key) = kept(&args.data_dir, &names(args.public_host.as_deref()))
                .with_context(|| format!("keeping a certificate in {}", args.data_dir.display()))?;
            RustlsConfig::from_pem(certificate, key).await?
        }
    };
    Ok(Some(config))
}

/// The names under which this machine is reached.
fn names(public_host: Option<&str>) -> BTreeSet<String> {
    let mut names = BTreeSet::from(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(machine_addresses().into_iter().map(|address| address.to_string()));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    names.extend([host.trim().to_owned()].into_iter().filter(|h| !h.is_empty()));
    if let Some(public) = public_host {
        let without_port = match public.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
            _ => public,
        };
        names.insert(without_port.to_owned());
    }
    names
}

/// The certificate and key kept in `directory` (PEM), made anew if there is none, if it is old, or if it lacks one of `names`.
fn kept(directory: &Path, names: &BTreeSet<String>) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let paths = [CERTIFICATE, KEY, NAMES].map(|name| directory.join(name));
    let covered: BTreeSet<String> =
        fs::read_to_string(&paths[2]).unwrap_or_default().lines().map(str::to_owned).collect();
    let age = fs::metadata(&paths[0]).and_then(|m| m.modified()).ok().and_then(|made| made.elapsed().ok());
    if let (Ok(certificate), Ok(key)) = (fs::read(&paths[0]), fs::read(&paths[1]))
        && covered.is_superset(names)
        && age.is_some_and(|age| age < RENEWAL)
    {
        return Ok((certificate, key));
    }
    let (certificate, key) = generate(names)?;
    fs::create_dir_all(directory)?;
    write_private(&paths[1], key.as_bytes())?;
    fs::write(&paths[0], &certificate)?;
    fs::write(&paths[2], names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    tracing::info!(directory = %directory.display(), ?names, "made a self-signed certificate");
    Ok((certificate.into_bytes(), key.into_bytes()))
}

fn generate(names: &BTreeSet<String>) -> anyhow::Result<(String, String)> {
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Kaigi");
    params.distinguished_name = subject;
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(24 * 3600)).into();
    params.not_after = (now + LIFE - Duration::from_secs(24 * 3600)).into();
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    // An older file keeps its mode when it is opened, so it goes first.
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_kept_until_it_lacks_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let named = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let first = kept(directory.path(), &named(&["localhost", "10.0.0.1"])).unwrap();
        assert_eq!(kept(directory.path(), &named(&["localhost"])).unwrap(), first);
        assert_ne!(kept(directory.path(), &named(&["localhost", "other"])).unwrap(), first);
        let mode = fs::metadata(directory.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_names_this_machine() {
        let names = names(Some("kaigi.example:443"));
        assert!(
            names.contains("localhost") && names.contains("127.0.0.1") && names.contains("kaigi.example")
        );
    }
}
