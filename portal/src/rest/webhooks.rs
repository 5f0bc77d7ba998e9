//! Webhooks: where a service is told what happens in its rooms. They are delivered by the cluster-manager. Kaigi's own.
//!
//! A secret is told once, when it is made.

mod documents;

use axum::http::Method;
use kaigi_proto::{
    events::{RetiredSecret, WebhookDocument},
    ids::{ServiceId, WebhookId},
};

use super::{
    call::Call,
    error::RestError,
    operation::{Answered, Operation, empty_response, json_response, service},
    services::{visible, visible_id},
};
use crate::clock::UnixMillis;
use documents::{NewSecret, NewWebhook, Webhook, WebhookChange, WebhookWithSecret, WebhookWithStatus};

const TAG: &str = "events";
/// Most webhooks of a service.
const MAX_WEBHOOKS: usize = 16;
/// How long a replaced secret signs beside the new one, in milliseconds: a day to change receivers over.
const RETIRED_FOR_MS: u64 = 24 * 3600 * 1000;

/// What can be asked of webhooks.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        service(Method::POST, "/services/{service}/webhooks", "createWebhook", create)
            .doc(TAG, "Have events sent to a URL")
            .more("The answer tells the secret that messages are signed with, which is told this once. A service has 16 webhooks at most.")
            .takes::<NewWebhook>()
            .gives::<WebhookWithSecret>()
            .makes("webhook")
            .can(429),
        service(Method::GET, "/services/{service}/webhooks", "listWebhooks", list)
            .doc(TAG, "List a service's webhooks, oldest first")
            .gives::<Vec<Webhook>>(),
        service(Method::GET, "/services/{service}/webhooks/{webhook}", "getWebhook", get)
            .doc(TAG, "Get a webhook, and how its deliveries go")
            .gives::<WebhookWithStatus>(),
        service(Method::PUT, "/services/{service}/webhooks/{webhook}", "updateWebhook", update)
            .doc(TAG, "Change a webhook")
            .more("What waits for it goes to the new URL. Of one that is not active nothing waits.")
            .takes::<WebhookChange>()
            .gives::<Webhook>(),
        service(Method::DELETE, "/services/{service}/webhooks/{webhook}", "deleteWebhook", delete)
            .doc(TAG, "Delete a webhook; what waits for it is lost"),
        service(Method::POST, "/services/{service}/webhooks/{webhook}/secret", "renewWebhookSecret", renew)
            .doc(TAG, "Give a webhook another secret")
            .more("It is told this once. For a day, messages are signed with the one before, too.")
            .may_take::<NewSecret>()
            .gives::<WebhookWithSecret>(),
        service(Method::POST, "/services/{service}/webhooks/{webhook}/ping", "pingWebhook", ping)
            .doc(TAG, "Send a `ping` event to a webhook"),
    ]
}

async fn create(call: Call) -> Answered {
    let new: NewWebhook = call.read(RestError::BadRequest)?;
    let (url, events, secret) = (new.url()?, new.events()?, new.secret()?);
    let service = visible(&call).await?;
    let of = visible_id(&call)?;
    if call.api.backend.webhooks(&of).await?.len() >= MAX_WEBHOOKS {
        return Err(RestError::TooMany("A service has 16 webhooks at most"));
    }
    let now = UnixMillis::now();
    let webhook = WebhookDocument {
        id: WebhookId::new(call.api.ids.next(now)).map_err(|e| RestError::Other(e.to_string()))?,
        service: of,
        all_services: service.is_super,
        url,
        events,
        secret,
        retired: None,
        active: true,
        deactivated: None,
        created: now.0,
    };
    call.api.backend.create_webhook(&webhook).await?;
    tracing::info!(service = %webhook.service, webhook = %webhook.id, "webhook created");
    Ok(json_response(WebhookWithSecret::of(&webhook)))
}

async fn list(call: Call) -> Answered {
    visible(&call).await?;
    let webhooks = call.api.backend.webhooks(&visible_id(&call)?).await?;
    Ok(json_response(webhooks.iter().map(Webhook::of).collect::<Vec<_>>()))
}

async fn get(call: Call) -> Answered {
    let (service, id) = ids(&call).await?;
    let webhook = call.api.backend.webhook(&service, &id).await?.ok_or(RestError::WebhookNotFound)?;
    let all = call.api.backend.webhook_status(&service).await?;
    let status = all.into_iter().find(|status| status.webhook_id == id.as_str());
    Ok(json_response(WebhookWithStatus::of(&webhook, status.unwrap_or_default())))
}

async fn update(call: Call) -> Answered {
    let change: WebhookChange = call.read(RestError::BadRequest)?;
    let (url, events, active) = (change.url()?, change.events()?, change.active);
    let (service, id) = ids(&call).await?;
    let change = |mut webhook: WebhookDocument| {
        if let Some(url) = &url {
            webhook.url.clone_from(url);
        }
        if let Some(events) = &events {
            webhook.events.clone_from(events);
        }
        if let Some(active) = active {
            webhook.active = active;
            webhook.deactivated = None;
        }
        Ok::<_, RestError>(webhook)
    };
    let webhook = call.api.backend.update_webhook(&service, &id, change).await?;
    let webhook = webhook.ok_or(RestError::WebhookNotFound)?;
    tracing::info!(%service, webhook = %id, "webhook updated");
    Ok(json_response(Webhook::of(&webhook)))
}

async fn delete(call: Call) -> Answered {
    let (service, id) = ids(&call).await?;
    if !call.api.backend.delete_webhook(&service, &id).await? {
        return Err(RestError::WebhookNotFound);
    }
    tracing::info!(%service, webhook = %id, "webhook deleted");
    Ok(empty_response())
}

async fn renew(call: Call) -> Answered {
    let new: NewSecret = call.read(RestError::BadRequest)?;
    let secret = new.secret()?;
    let (service, id) = ids(&call).await?;
    let until = UnixMillis::now().0 + RETIRED_FOR_MS;
    let change = |webhook: WebhookDocument| {
        let retired = Some(RetiredSecret { secret: webhook.secret, until });
        Ok::<_, RestError>(WebhookDocument { secret: secret.clone(), retired, ..webhook })
    };
    let webhook = call.api.backend.update_webhook(&service, &id, change).await?;
    tracing::info!(%service, webhook = %id, "the webhook has another secret");
    Ok(json_response(WebhookWithSecret::of(&webhook.ok_or(RestError::WebhookNotFound)?)))
}

async fn ping(call: Call) -> Answered {
    let (service, id) = ids(&call).await?;
    let webhook = call.api.backend.webhook(&service, &id).await?.ok_or(RestError::WebhookNotFound)?;
    if !webhook.active {
        return Err(RestError::BadRequest("The webhook is not active".to_owned()));
    }
    call.api.backend.ping(&service, &id);
    Ok(empty_response())
}

/// The ids in the path, if the caller may see the service.
async fn ids(call: &Call) -> Result<(ServiceId, WebhookId), RestError> {
    visible(call).await?;
    Ok((visible_id(call)?, call.id("webhook")?))
}
