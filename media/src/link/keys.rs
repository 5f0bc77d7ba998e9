//! Keys of one attachment.

use std::{net::SocketAddr, sync::Arc};

use kaigi_proto::v1::AttachRequest;
use rand::RngCore;
use rtc_srtp::{
    context::Context,
    crypto::{self, RTCCryptoProvider},
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::LinkError;
use crate::srtp::{REPLAY_WINDOW, RtpProtector, RtpUnprotector};

/// Bytes of an AES-128 master key.
const KEY: usize = 16;
/// Bytes of a GCM master salt.
const SALT: usize = 12;

/// The master keys and salts of both directions.
#[derive(Clone)]
pub struct LinkKeys {
    producer: ([u8; KEY], [u8; SALT]),
    consumer: ([u8; KEY], [u8; SALT]),
}

impl std::fmt::Debug for LinkKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKeys(…)")
    }
}

impl LinkKeys {
    /// New random keys.
    #[must_use]
    pub fn random() -> Self {
        let side = || {
            let mut side = ([0; KEY], [0; SALT]);
            rand::rng().fill_bytes(&mut side.0);
            rand::rng().fill_bytes(&mut side.1);
            side
        };
        Self { producer: side(), consumer: side() }
    }

    /// The request that hands them over.
    #[must_use]
    pub fn attach_request(
        &self,
        attachment_id: &str,
        track_id: &str,
        consumer_address: SocketAddr,
        ssrc: u32,
    ) -> AttachRequest {
        AttachRequest {
            attachment_id: attachment_id.to_owned(),
            track_id: track_id.to_owned(),
            consumer_address: consumer_address.to_string(),
            ssrc,
            producer_key: self.producer.0.to_vec(),
            producer_salt: self.producer.1.to_vec(),
            consumer_key: self.consumer.0.to_vec(),
            consumer_salt: self.consumer.1.to_vec(),
        }
    }

    /// The keys that a request hands over.
    ///
    /// # Errors
    /// If a length is wrong.
    pub fn from_request(request: &AttachRequest) -> Result<Self, LinkError> {
        let side = |key: &[u8], salt: &[u8]| match (key.try_into(), salt.try_into()) {
            (Ok(key), Ok(salt)) => Ok((key, salt)),
            _ => Err(LinkError::BadRequest("key is not 16 or salt not 12 bytes")),
        };
        Ok(Self {
            producer: side(&request.producer_key, &request.producer_salt)?,
            consumer: side(&request.consumer_key, &request.consumer_salt)?,
        })
    }

    pub(super) fn producer_protector(&self) -> Result<RtpProtector, LinkError> {
        let (provider, (key, salt)) = (provider()?, &self.producer);
        Ok(RtpProtector::new(ProtectionProfile::AeadAes128Gcm, key, salt, provider.crypto())?)
    }

    pub(super) fn producer_unprotector(&self) -> Result<RtpUnprotector, LinkError> {
        let (provider, (key, salt)) = (provider()?, &self.producer);
        Ok(RtpUnprotector::new(ProtectionProfile::AeadAes128Gcm, key, salt, provider.crypto())?)
    }

    pub(super) fn producer_context(&self) -> Result<Context, LinkError> {
        context(&self.producer)
    }

    pub(super) fn consumer_context(&self) -> Result<Context, LinkError> {
        context(&self.consumer)
    }
}

fn provider() -> Result<Arc<dyn RTCCryptoProvider>, LinkError> {
    crypto::default_provider().map_err(|_| LinkError::BadRequest("no crypto provider is built in"))
}

fn context((key, salt): &([u8; KEY], [u8; SALT])) -> Result<Context, LinkError> {
    let provider = provider()?;
    Ok(Context::new(
        key,
        salt,
        ProtectionProfile::AeadAes128Gcm,
        Some(srtp_replay_protection(REPLAY_WINDOW)),
        Some(srtcp_replay_protection(REPLAY_WINDOW)),
        provider.crypto(),
    )?)
}
