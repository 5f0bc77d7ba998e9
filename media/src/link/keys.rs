//! Keys of one attachment.

use std::net::SocketAddr;

use kaigi_proto::v1::AttachRequest;
use rand::RngCore;
use rtc_srtp::{
    context::Context,
    crypto,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::LinkError;

/// Bytes of an AES-128 master key.
const KEY: usize = 16;
/// Bytes of a GCM master salt.
const SALT: usize = 12;
/// Packets that may arrive out of order before they count as replayed. Retransmissions of a publisher's packets arrive
/// as late as a round trip; 1,024 packets are about a second of 10 Mbit/s video. Costs 128 bytes an attachment.
const REPLAY_WINDOW: usize = 1024;

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

    pub(super) fn producer_context(&self) -> Result<Context, LinkError> {
        context(&self.producer)
    }

    pub(super) fn consumer_context(&self) -> Result<Context, LinkError> {
        context(&self.consumer)
    }
}

fn context((key, salt): &([u8; KEY], [u8; SALT])) -> Result<Context, LinkError> {
    let provider =
        crypto::default_provider().map_err(|_| LinkError::BadRequest("no crypto provider is built in"))?;
    Ok(Context::new(
        key,
        salt,
        ProtectionProfile::AeadAes128Gcm,
        Some(srtp_replay_protection(REPLAY_WINDOW)),
        Some(srtcp_replay_protection(REPLAY_WINDOW)),
        provider.crypto(),
    )?)
}
