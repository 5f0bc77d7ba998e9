//! How a peer is connected: ICE, DTLS and what SRTP makes of its keys.

use std::{net::SocketAddr, time::Instant};

use kaigi_access_node::{
    sdp::{DtlsRole, Fingerprint, Offer},
    transport::{Certificate, Dtls, DtlsError, Srtp, SrtpError},
};

use super::{
    Event, Outbox,
    ice::{Checked, Credentials, Ice},
    sdp::Description,
};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The server's description.
    #[error("the server's description can't be used")]
    Description,
    /// DTLS.
    #[error(transparent)]
    Dtls(#[from] DtlsError),
    /// SRTP.
    #[error(transparent)]
    Srtp(#[from] SrtpError),
}

/// The way to the server.
pub(super) struct Connection {
    certificate: Certificate,
    ice: Ice,
    dtls: Option<Dtls>,
    remote: Option<SocketAddr>,
    /// Once the keys are there.
    pub(super) srtp: Option<Srtp>,
    failed: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("remote", &self.remote)
            .field("srtp", &self.srtp)
            .finish_non_exhaustive()
    }
}

fn random(length: usize) -> String {
    use rand::{Rng, distr::Alphanumeric};
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// As the access-node reads it.
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:{value}\r\nm=audio 9 X 0\r\na=mid:0\r\n"
    );
    Some(Offer::parse(&text).ok()?.fingerprint().clone())
}

impl Connection {
    pub(super) fn new(certificate: Certificate) -> Self {
        let local = Credentials { ufrag: random(8), password: random(24) };
        let ice = Ice::new(local, certificate.provider().clone());
        Self { certificate, ice, dtls: None, remote: None, srtp: None, failed: false }
    }

    pub(super) fn fingerprint(&self) -> String {
        self.certificate.fingerprint()
    }

    pub(super) fn credentials(&self) -> &Credentials {
        self.ice.local()
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Begins; changes nothing if it is begun with the same already.
    pub(super) fn start(&mut self, now: Instant, description: &Description) -> Result<(), ConnectionError> {
        if self.dtls.is_none() {
            let expected = fingerprint(&description.fingerprint).ok_or(ConnectionError::Description)?;
            let role = if description.begins { DtlsRole::Server } else { DtlsRole::Client };
            self.dtls = Some(Dtls::new(self.certificate.clone(), role, expected)?);
        }
        let remote = description.candidates.iter().find(|candidate| candidate.is_ipv4());
        self.remote = self.remote.or(remote.copied());
        if self.remote.is_none() {
            return Err(ConnectionError::Description);
        }
        self.ice.start(now, description.credentials.clone());
        Ok(())
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(Dtls::next_timeout);
        [self.ice.next_timeout(), dtls].into_iter().flatten().min().filter(|_| !self.failed)
    }

    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8], outbox: &mut Outbox) -> Option<Event> {
        let remote = self.remote?;
        let dtls = self.dtls.as_mut()?;
        let event = if datagram.first().is_some_and(|first| *first < 4) {
            match self.ice.receive(now, remote, datagram) {
                Checked::Connected => dtls.start(now).err().map(|error| Event::Failed(error.to_string())),
                Checked::Answer(answer) => {
                    outbox.push(&answer);
                    None
                }
                Checked::Nothing => None,
            }
        } else {
            match dtls.read(now, datagram) {
                Ok(None) => None,
                Ok(Some(keys)) => match Srtp::new(&keys, self.certificate.provider().crypto()) {
                    Ok(srtp) => {
                        self.srtp = Some(srtp);
                        Some(Event::Connected)
                    }
                    Err(error) => Some(Event::Failed(error.to_string())),
                },
                Err(DtlsError::Closed) => Some(Event::Closed),
                Err(error) => Some(Event::Failed(error.to_string())),
            }
        };
        self.flush(outbox);
        event
    }

    fn flush(&mut self, outbox: &mut Outbox) {
        while let Some(datagram) = self.dtls.as_mut().and_then(Dtls::poll_transmit) {
            outbox.push(&datagram);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) -> Option<Event> {
        if self.failed {
            return None;
        }
        if let Some(check) = self.ice.check(now) {
            outbox.push(&check);
        }
        let dtls = self.dtls.as_mut().and_then(|dtls| dtls.handle_timeout(now).err());
        self.flush(outbox);
        let failed = match dtls {
            Some(error) => Some(error.to_string()),
            None => self.ice.is_lost(now).then(|| "the server does not answer checks any more".to_owned()),
        };
        self.failed = failed.is_some();
        failed.map(Event::Failed)
    }

    pub(super) fn close(&mut self, now: Instant, outbox: &mut Outbox) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.flush(outbox);
    }
}
