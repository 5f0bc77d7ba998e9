//! What services are told of: webhooks, and events as they come.

use kaigi_proto::{
    events::{EventType, WebhookDocument},
    ids::{ServiceId, WebhookId},
    v1::{
        Collection, EventDelivery, WatchEventsRequest, WebhookChangedRequest, WebhookStatus,
        WebhookStatusRequest,
    },
};
use kaigi_room_config::RoomConfig;
use serde_json::json;
use tonic::Streaming;

use super::{Backend, CLUSTER_TIMEOUT, CallError, request, within};

impl Backend {
    /// Tells a room's service what was done with the room. Never waits.
    pub(crate) fn tell(&self, kind: EventType, room: &RoomConfig) {
        let data = json!({ "room": { "id": room.id, "name": room.name } });
        self.told.push(kind, &room.service, &room.id, data.to_string());
    }

    /// Has a `ping` sent to a webhook.
    pub(crate) fn ping(&self, service: &ServiceId, webhook: &WebhookId) {
        let data = json!({ "webhook": webhook.as_str() });
        self.told.push(EventType::Ping, service.as_str(), "", data.to_string());
    }

    /// A service's webhooks, oldest first.
    pub(crate) async fn webhooks(&self, service: &ServiceId) -> Result<Vec<WebhookDocument>, CallError> {
        self.all(Collection::Webhooks, &format!("{service}:")).await
    }

    /// One of them.
    pub(crate) async fn webhook(
        &self,
        service: &ServiceId,
        id: &WebhookId,
    ) -> Result<Option<WebhookDocument>, CallError> {
        self.get(Collection::Webhooks, &WebhookDocument::key(service, id)).await
    }

    /// Stores a new webhook.
    pub(crate) async fn create_webhook(&self, webhook: &WebhookDocument) -> Result<(), CallError> {
        let (service, id) = (&webhook.service, &webhook.id);
        self.create(Collection::Webhooks, &WebhookDocument::key(service, id), webhook).await?;
        self.webhook_changed(service, id).await;
        Ok(())
    }

    /// Changes a webhook as it is when it is written, as [`Self::update_service`] does.
    pub(crate) async fn update_webhook<E: From<CallError>>(
        &self,
        service: &ServiceId,
        id: &WebhookId,
        change: impl FnMut(WebhookDocument) -> Result<WebhookDocument, E>,
    ) -> Result<Option<WebhookDocument>, E> {
        let key = WebhookDocument::key(service, id);
        let stored = self.update(Collection::Webhooks, &key, change).await?;
        self.webhook_changed(service, id).await;
        Ok(stored)
    }

    /// Whether there was such a webhook to delete.
    pub(crate) async fn delete_webhook(
        &self,
        service: &ServiceId,
        id: &WebhookId,
    ) -> Result<bool, CallError> {
        let existed = self.delete(Collection::Webhooks, &WebhookDocument::key(service, id)).await?;
        self.webhook_changed(service, id).await;
        Ok(existed)
    }

    /// The document is stored; the hub reads all of them from time to time, should it not hear of this one.
    async fn webhook_changed(&self, service: &ServiceId, id: &WebhookId) {
        let message = WebhookChangedRequest { service_id: service.to_string(), webhook_id: id.to_string() };
        let call = async { self.hub.clone().webhook_changed(request(message, CLUSTER_TIMEOUT)).await };
        if let Err(error) = within(CLUSTER_TIMEOUT, "events.webhookChanged", call).await {
            tracing::warn!(%service, webhook = %id, %error, "the hub of events does not know of a change yet");
        }
    }

    /// How the deliveries of a service's webhooks go.
    pub(crate) async fn webhook_status(&self, service: &ServiceId) -> Result<Vec<WebhookStatus>, CallError> {
        let message = WebhookStatusRequest { service_id: service.to_string() };
        let call = async { self.hub.clone().webhook_status(request(message, CLUSTER_TIMEOUT)).await };
        Ok(within(CLUSTER_TIMEOUT, "events.webhookStatus", call).await?.webhooks)
    }

    /// Events as they come, of one service or of all; `after`: what is kept after that one first, 0 = only what follows.
    pub(crate) async fn watch_events(
        &self,
        service: Option<&str>,
        after: u64,
    ) -> Result<Streaming<EventDelivery>, CallError> {
        let message = WatchEventsRequest { service_id: service.unwrap_or_default().to_owned(), after };
        // Without a deadline of its own, which would be the stream's.
        let call = async { self.hub.clone().watch(message).await };
        within(CLUSTER_TIMEOUT, "events.watch", call).await
    }
}
