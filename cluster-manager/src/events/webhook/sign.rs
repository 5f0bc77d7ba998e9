//! Signatures as Standard Webhooks has them ("Signature scheme", symmetric): HMAC-SHA256 of `id.timestamp.body`, in base64 after `v1,`.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use kaigi_proto::events::{WebhookDocument, WebhookSecret};
use sha2::Sha256;

use super::super::event::UnixMillis;

/// The header `webhook-signature` of a message: one signature, or two, divided by a blank, while a replaced secret still signs.
pub(crate) fn signatures(webhook: &WebhookDocument, id: &str, time: UnixMillis, body: &str) -> String {
    let seconds = time.0 / 1000;
    let retired = webhook.retired.as_ref().filter(|retired| retired.until > time.0);
    let secrets = std::iter::once(&webhook.secret).chain(retired.map(|retired| &retired.secret));
    secrets.map(|secret| signature(secret, id, seconds, body)).collect::<Vec<_>>().join(" ")
}

fn signature(secret: &WebhookSecret, id: &str, seconds: u64, body: &str) -> String {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
    hmac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(hmac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> WebhookSecret {
        WebhookSecret::try_from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()).unwrap()
    }

    /// The vector that the reference libraries of Standard Webhooks are tested with.
    #[test]
    fn the_vector_of_the_reference_libraries() {
        let signature =
            signature(&secret(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_replaced_secret_signs_for_a_while() {
        let old = WebhookSecret::from_bytes([1; 24]).unwrap();
        let webhook = WebhookDocument {
            retired: Some(kaigi_proto::events::RetiredSecret { secret: old.clone(), until: 10_000 }),
            ..super::super::super::tests::document("s", "w", "http://x/", &[])
        };
        let both = signatures(&webhook, "1", UnixMillis(9_999), "{}");
        let [new, second] = both.split(' ').collect::<Vec<_>>()[..] else { panic!("{both}") };
        assert_eq!(
            (new, second),
            (&*signature(&webhook.secret, "1", 9, "{}"), &*signature(&old, "1", 9, "{}"))
        );
        assert_eq!(signatures(&webhook, "1", UnixMillis(10_000), "{}").split(' ').count(), 1);
    }
}
