//! The DTLS handshake that makes a transport's SRTP keys (RFC 5764), and the SCTP packets that go over the association (RFC 8261).

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::BytesMut;
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType},
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::{TransportProtocol, error::Error as RtcError};
use rtc_srtp::{
    config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP},
    crypto::RTCCryptoProvider,
    protection_profile::ProtectionProfile,
};

use crate::sdp::{DtlsRole, Fingerprint};

/// The endpoint knows associations by address, but a client's address may change during the handshake; so each transport has an
/// endpoint of its own and all datagrams seem to come from here (RFC 5737).
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
/// Most bytes taken from a client; a handshake is about 4 kB, and nothing but data and a farewell follows it. Data do not count.
const MAX_HANDSHAKE: usize = 128 * 1024;
/// Packets of one datagram that are kept until they are taken; more are dropped.
const MAX_PACKETS: usize = 64;
/// The content type of data (RFC 6347 §4.1), and where a record says its length, before which its header ends.
const APPLICATION_DATA: u8 = 23;
/// See [`APPLICATION_DATA`].
const RECORD_HEADER: usize = 13;
/// Most first datagrams kept for a second try; a hello is one or two.
const MAX_HELLO: usize = 8;

/// Profiles by preference. AEAD costs a quarter of AES-CM with SHA-1; browsers name it last, and the DTLS endpoint follows the
/// browser's order, so it is offered alone first.
const PROFILES: [&[SrtpProtectionProfile]; 2] =
    [&[SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm], &[SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80]];

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum DtlsError {
    /// By the protocol.
    #[error("DTLS: {0}")]
    Protocol(#[from] RtcError),
    /// The certificate is not the one that the offer names.
    #[error("the certificate does not have the offer's fingerprint")]
    WrongCertificate,
    /// No SRTP profile that both have.
    #[error("no common SRTP profile")]
    NoProfile,
    /// The client sent more than a handshake takes.
    #[error("handshake larger than {MAX_HANDSHAKE} bytes")]
    TooLarge,
    /// The client ended the association.
    #[error("closed by the client")]
    Closed,
}

/// The node's certificate, one per process, self-signed.
#[derive(Clone)]
pub struct Certificate {
    certificate: rtc_dtls::crypto::Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Certificate {
    /// A new one (ECDSA P-256).
    ///
    /// # Errors
    /// If the crypto provider can't.
    pub fn generate() -> Result<Self, DtlsError> {
        let provider = rtc_srtp::crypto::default_provider().map_err(|e| RtcError::Crypto(e.to_string()))?;
        let certificate =
            rtc_dtls::crypto::Certificate::generate_self_signed(vec!["kaigi".to_owned()], provider.crypto())?;
        Ok(Self { certificate, provider })
    }

    /// What the cryptography is done with.
    #[must_use]
    pub fn provider(&self) -> &Arc<dyn RTCCryptoProvider> {
        &self.provider
    }

    /// "sha-256 AB:CD:…", for SDP.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let der: &[u8] = self.certificate.certificate.first().map_or(&[], |c| c.as_ref());
        let hex: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
        format!("sha-256 {}", hex.join(":"))
    }

    fn config(
        &self,
        role: DtlsRole,
        profiles: &[SrtpProtectionProfile],
    ) -> Result<Arc<rtc_dtls::config::HandshakeConfig>, DtlsError> {
        let config = ConfigBuilder::default()
            .with_crypto_provider(self.provider.clone())
            .with_certificates(vec![self.certificate.clone()])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Request)
            // Certificates are self-signed: the fingerprint is what is compared.
            .with_insecure_skip_verify(true)
            .build(role == DtlsRole::Client, None)?;
        Ok(Arc::new(config))
    }
}

/// Keys and salts that the handshake gave.
#[derive(Clone)]
pub struct SrtpKeys {
    /// What was agreed on.
    pub profile: ProtectionProfile,
    /// For what this side sends.
    pub local: (Vec<u8>, Vec<u8>),
    /// For what the other side sends.
    pub remote: (Vec<u8>, Vec<u8>),
}

impl std::fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// One transport's DTLS association.
pub struct Dtls {
    certificate: Certificate,
    endpoint: Endpoint,
    role: DtlsRole,
    expected: Fingerprint,
    /// Index into [`PROFILES`] of what a server offers.
    attempt: usize,
    hello: Vec<BytesMut>,
    received: usize,
    complete: bool,
    packets: VecDeque<BytesMut>,
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dtls")
            .field("role", &self.role)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

impl Dtls {
    /// A handshake with the client whose certificate has that fingerprint.
    ///
    /// # Errors
    /// If the configuration is refused by the crypto provider.
    pub fn new(certificate: Certificate, role: DtlsRole, expected: Fingerprint) -> Result<Self, DtlsError> {
        let endpoint = Self::endpoint(&certificate, role, 0)?;
        Ok(Self {
            certificate,
            endpoint,
            role,
            expected,
            attempt: 0,
            hello: Vec::new(),
            received: 0,
            complete: false,
            packets: VecDeque::new(),
        })
    }

    fn endpoint(certificate: &Certificate, role: DtlsRole, attempt: usize) -> Result<Endpoint, DtlsError> {
        let server = match role {
            DtlsRole::Client => None,
            DtlsRole::Server => Some(certificate.config(role, PROFILES[attempt])?),
        };
        Ok(Endpoint::new(PEER, TransportProtocol::UDP, server))
    }

    /// There is a way to the client: if it is this side's part to begin, it begins. May be called again.
    ///
    /// # Errors
    /// If the configuration is refused by the crypto provider.
    pub fn start(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.role == DtlsRole::Client {
            let config = self.certificate.config(self.role, &PROFILES.concat())?;
            self.endpoint.connect(now, PEER, config, None)?;
        }
        Ok(())
    }

    /// Whether the keys were made.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes a datagram; gives the keys once, when the handshake is through.
    ///
    /// # Errors
    /// If the handshake has failed, or the client has ended the association.
    pub fn read(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<SrtpKeys>, DtlsError> {
        self.packets.clear();
        let counted = if self.complete { without_data(datagram) } else { datagram.len() };
        self.received = self.received.saturating_add(counted);
        if counted > 0 && self.received > MAX_HANDSHAKE {
            // The endpoint remembers handshake messages even when it is through. What comes so late and so much is nobody's
            // farewell, and may be forged.
            return if self.complete { Ok(None) } else { Err(DtlsError::TooLarge) };
        }
        if !self.complete && self.role == DtlsRole::Server && self.hello.len() < MAX_HELLO {
            self.hello.push(BytesMut::from(datagram));
        }
        let events = match self.endpoint.read(now, PEER, None, BytesMut::from(datagram)) {
            Err(RtcError::ErrServerNoMatchingSrtpProfile) if self.attempt + 1 < PROFILES.len() => {
                self.attempt += 1;
                self.endpoint = Self::endpoint(&self.certificate, self.role, self.attempt)?;
                for datagram in self.hello.clone() {
                    self.endpoint.read(now, PEER, None, datagram)?;
                }
                return Ok(None);
            }
            other => other?,
        };
        let mut keys = None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => {
                    self.complete = true;
                    self.hello = Vec::new();
                    keys = Some(self.keys()?);
                }
                EndpointEvent::PeerClosed => return Err(DtlsError::Closed),
                EndpointEvent::ApplicationData(packet) if self.packets.len() < MAX_PACKETS => {
                    self.packets.push_back(packet);
                }
                _ => {}
            }
        }
        Ok(keys)
    }

    /// Whether there was a packet in the datagram that was read last: one that only the peer can have made, and that was not read before.
    #[must_use]
    pub fn has_packet(&self) -> bool {
        !self.packets.is_empty()
    }

    /// The next packet in the datagram that was read last.
    pub fn poll_packet(&mut self) -> Option<BytesMut> {
        self.packets.pop_front()
    }

    /// Sends a packet; the datagram comes from [`Self::poll_transmit`].
    ///
    /// # Errors
    /// If the handshake is not through, or the association has ended.
    pub fn write(&mut self, now: Instant, packet: &[u8]) -> Result<(), DtlsError> {
        if !self.complete {
            return Err(DtlsError::Closed);
        }
        Ok(self.endpoint.write(now, PEER, packet)?)
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&PEER)
    }

    /// Repeats what was lost.
    ///
    /// # Errors
    /// If it was repeated often enough.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.next_timeout().is_some_and(|due| due <= now) {
            self.endpoint.handle_timeout(PEER, now)?;
        }
        Ok(())
    }

    /// Tells the client that it is over; the datagrams come from [`Self::poll_transmit`].
    pub fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
    }

    fn keys(&self) -> Result<SrtpKeys, DtlsError> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(DtlsError::Closed)?;
        let genuine = state.peer_certificates.first().is_some_and(|der| self.expected.is_of(der));
        if !genuine {
            return Err(DtlsError::WrongCertificate);
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            _ => return Err(DtlsError::NoProfile),
        };
        let mut config = SrtpConfig { profile, ..SrtpConfig::default() };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length)?;
        config.set_session_keys_from_keying_material(material.as_ref(), state.is_client())?;
        let keys = config.keys;
        Ok(SrtpKeys {
            profile,
            local: (keys.local_master_key, keys.local_master_salt),
            remote: (keys.remote_master_key, keys.remote_master_salt),
        })
    }
}

/// Bytes of the records in a datagram that are no data.
fn without_data(datagram: &[u8]) -> usize {
    let (mut rest, mut others) = (datagram, 0);
    while let Some(header) = rest.get(..RECORD_HEADER) {
        let length = RECORD_HEADER + usize::from(u16::from_be_bytes([header[11], header[12]]));
        if header[0] != APPLICATION_DATA {
            others += length.min(rest.len());
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    others + rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Offer;

    fn fingerprint(certificate: &Certificate) -> Fingerprint {
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:{}\r\nm=audio 9 X 0\r\na=mid:0\r\n",
            certificate.fingerprint()
        );
        Offer::parse(&sdp).unwrap().fingerprint().clone()
    }

    type Keys = Option<SrtpKeys>;

    fn shake(client: &mut Dtls, server: &mut Dtls) -> Result<(Keys, Keys), DtlsError> {
        let now = Instant::now();
        client.start(now)?;
        let mut keys = (None, None);
        for _ in 0..20 {
            while let Some(datagram) = client.poll_transmit() {
                keys.1 = server.read(now, &datagram)?.or(keys.1);
            }
            while let Some(datagram) = server.poll_transmit() {
                keys.0 = client.read(now, &datagram)?.or(keys.0);
            }
        }
        Ok(keys)
    }

    fn pair(client_expects: Option<&Certificate>) -> (Dtls, Dtls) {
        let (a, b) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let server = Dtls::new(b.clone(), DtlsRole::Server, fingerprint(&a)).unwrap();
        let client = Dtls::new(a, DtlsRole::Client, fingerprint(client_expects.unwrap_or(&b))).unwrap();
        (client, server)
    }

    #[test]
    fn both_sides_get_the_same_keys_and_aead_is_preferred() {
        let (mut client, mut server) = pair(None);
        let (client, server) = shake(&mut client, &mut server).unwrap();
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!((&client.local, &client.remote), (&server.remote, &server.local));
        assert!(matches!(server.profile, ProtectionProfile::AeadAes128Gcm));
    }

    #[test]
    fn a_client_without_aead_is_served_too() {
        let (mut client, mut server) = pair(None);
        let config = client.certificate.config(DtlsRole::Client, PROFILES[1]).unwrap();
        client.endpoint.connect(Instant::now(), PEER, config, None).unwrap();
        let (_, server) = shake(&mut client, &mut server).unwrap();
        assert!(matches!(server.unwrap().profile, ProtectionProfile::Aes128CmHmacSha1_80));
    }

    #[test]
    fn another_certificate_is_refused() {
        let stranger = Certificate::generate().unwrap();
        let (mut client, mut server) = pair(Some(&stranger));
        assert!(matches!(shake(&mut client, &mut server), Err(DtlsError::WrongCertificate)));
    }

    #[test]
    fn no_handshake_is_too_strange() {
        let mut state = 5u32;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        let (a, b) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        let (of_a, of_b) = (fingerprint(&a), fingerprint(&b));
        for _ in 0..400 {
            let now = Instant::now();
            let mut server = Dtls::new(b.clone(), DtlsRole::Server, of_a.clone()).unwrap();
            let mut client = Dtls::new(a.clone(), DtlsRole::Client, of_b.clone()).unwrap();
            client.start(now).unwrap();
            let (broken_flight, in_both) = (random(3), random(2) == 0);
            for flight in 0..4 {
                let mut datagrams: Vec<_> = std::iter::from_fn(|| client.poll_transmit()).collect();
                for datagram in datagrams.iter_mut().filter(|_| flight == broken_flight) {
                    for _ in 0..=random(3) {
                        let at = random(datagram.len());
                        match random(4) {
                            0 => datagram.truncate(at.max(1)),
                            1 => datagram[at] = random(256) as u8,
                            2 => datagram[at] ^= 1 << random(8),
                            _ => datagram[at] = [0, 0xff][random(2)],
                        }
                    }
                }
                for datagram in datagrams {
                    if server.read(now, &datagram).is_err() {
                        break;
                    }
                }
                let mut replies: Vec<_> = std::iter::from_fn(|| server.poll_transmit()).collect();
                for reply in replies.iter_mut().filter(|_| in_both) {
                    let at = random(reply.len());
                    reply[at] ^= 1 << random(8);
                }
                for reply in replies {
                    if client.read(now, &reply).is_err() {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_flood_before_the_handshake_ends_it() {
        let (_, mut server) = pair(None);
        let record = [&[22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0][..], &[0; 1024]].concat();
        let ended = (0..200).any(|_| server.read(Instant::now(), &record).is_err());
        assert!(ended);
    }
}
