//! The certificate, read anew when its file changes: it is renewed every few weeks, and a relay does not end for that.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// Why there is no TLS at the moment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file can't be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A file is no PEM of what it should be.
    #[error("{path}: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// They don't belong together.
    #[error("{cert}: {source}")]
    Pair {
        /// Of the certificate.
        cert: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

/// The files, and what was read of them.
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    /// What clients may say that they will speak; empty: it is not looked at.
    protocols: &'static [&'static [u8]],
    read: Mutex<Option<(SystemTime, TlsAcceptor)>>,
}

impl Certificate {
    pub(crate) fn new(cert: PathBuf, key: PathBuf, protocols: &'static [&'static [u8]]) -> Self {
        Self { cert, key, protocols, read: Mutex::new(None) }
    }

    /// Accepts connections by the certificate that there is now; by the last good one while a new one can't be read.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, CertificateError> {
        let file = |source| CertificateError::File { path: self.cert.clone(), source };
        let changed = fs::metadata(&self.cert).and_then(|file| file.modified()).map_err(file);
        let mut read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (&*read, changed) {
            (Some((of, acceptor)), Ok(changed)) if *of == changed => Ok(acceptor.clone()),
            (None, Err(error)) => Err(error),
            (Some((_, acceptor)), Err(error)) => {
                tracing::warn!(%error, "the certificate can't be read; the last one is used");
                Ok(acceptor.clone())
            }
            (last, Ok(changed)) => match (self.load(), last) {
                (Ok(acceptor), _) => {
                    *read = Some((changed, acceptor.clone()));
                    Ok(acceptor)
                }
                (Err(error), Some((_, acceptor))) => {
                    tracing::warn!(%error, "the new certificate can't be used; the last one is");
                    Ok(acceptor.clone())
                }
                (Err(error), None) => Err(error),
            },
        }
    }

    fn load(&self) -> Result<TlsAcceptor, CertificateError> {
        let pem = |path: &PathBuf| {
            let path = path.clone();
            move |source| match source {
                rustls::pki_types::pem::Error::Io(source) => CertificateError::File { path, source },
                source => CertificateError::Pem { path, source },
            }
        };
        let chain = CertificateDer::pem_file_iter(&self.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(pem(&self.cert))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(pem(&self.key))?;
        let pair = |source| CertificateError::Pair { cert: self.cert.clone(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_is_read_anew_when_it_changes_and_the_last_good_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let certificate = Certificate::new(cert.clone(), key.clone(), &[]);
        assert!(matches!(certificate.acceptor(), Err(CertificateError::File { .. })));
        let mut age = 100;
        let mut write = |cert_text: &str, key_text: &str| {
            fs::write(&cert, cert_text).unwrap();
            fs::write(&key, key_text).unwrap();
            age -= 10;
            let time = SystemTime::now() - Duration::from_secs(age);
            fs::File::options().write(true).open(&cert).unwrap().set_modified(time).unwrap();
        };
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        write("none", "none");
        assert!(certificate.acceptor().is_err());
        let (first, second) = (made(), made());
        write(&first.cert.pem(), &second.signing_key.serialize_pem());
        assert!(matches!(certificate.acceptor(), Err(CertificateError::Pair { .. })));
        write(&first.cert.pem(), &first.signing_key.serialize_pem());
        let config = |acceptor: &TlsAcceptor| Arc::as_ptr(acceptor.config());
        let one = config(&certificate.acceptor().unwrap());
        assert_eq!(config(&certificate.acceptor().unwrap()), one);
        write(&second.cert.pem(), &second.signing_key.serialize_pem());
        let two = config(&certificate.acceptor().unwrap());
        assert_ne!(one, two);
        write("none", "none");
        assert_eq!(config(&certificate.acceptor().unwrap()), two);
        fs::remove_file(&cert).unwrap();
        assert_eq!(config(&certificate.acceptor().unwrap()), two);
    }
}
