//! The gRPC service Events.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use kaigi_proto::{
    events::{MAX_BATCH, MAX_EVENTS},
    ids::{ServiceId, WebhookId},
    v1::{self, event_delivery::Delivery, events_server::Events},
};
use tonic::{Request, Response, Status};

use super::{
    event::{Draft, EventId},
    hub::{Hub, Stopped},
    watchers::{End, Watch},
};
use crate::cluster_service::worker_id;

/// See the module's description.
#[derive(Clone)]
pub(crate) struct EventsService {
    hub: Hub,
}

impl EventsService {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub }
    }
}

impl From<Stopped> for Status {
    fn from(error: Stopped) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<End> for Status {
    fn from(end: End) -> Self {
        match end {
            End::TooSlow => Self::resource_exhausted("the watcher does not read"),
            End::Stopped => Self::unavailable("the watch has ended; open a new one"),
        }
    }
}

fn service_id(text: &str) -> Result<ServiceId, Status> {
    ServiceId::new(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn draft(event: v1::Event) -> Option<Draft> {
    let kind = event.r#type.clone();
    let draft = Draft::try_from(event);
    draft
        .inspect_err(|error| {
            metrics::counter!("kaigi_events_invalid_total").increment(1);
            tracing::warn!(kind, %error, "an event is left out");
        })
        .ok()
}

#[tonic::async_trait]
impl Events for EventsService {
    async fn publish(
        &self,
        request: Request<v1::PublishEventsRequest>,
    ) -> Result<Response<v1::PublishEventsReply>, Status> {
        let v1::PublishEventsRequest { publisher, first_seq, events } = request.into_inner();
        let publisher = worker_id(&publisher)?;
        let bytes: usize = events.iter().map(|event| event.data.len()).sum();
        if first_seq == 0 || events.is_empty() || events.len() > MAX_EVENTS || bytes > MAX_BATCH {
            return Err(Status::invalid_argument(format!(
                "1 to {MAX_EVENTS} events of {MAX_BATCH} bytes together, numbered from 1"
            )));
        }
        self.hub.publish(publisher, first_seq, events.into_iter().map(draft).collect()).await?;
        Ok(Response::new(v1::PublishEventsReply {}))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::EventDelivery, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let v1::WatchEventsRequest { service_id: service, after } = request.into_inner();
        let service = if service.is_empty() { None } else { Some(service_id(&service)?) };
        let after = (after > 0).then_some(EventId(after));
        let watch =
            self.hub.watch(service, after).map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let gap = watch.gap.then_some(Delivery::Gap(v1::EventGap {}));
        let gap = stream::iter(gap).map(|gap| Ok(v1::EventDelivery { delivery: Some(gap) }));
        Ok(Response::new(Box::pin(gap.chain(deliveries(watch)))))
    }

    async fn webhook_status(
        &self,
        request: Request<v1::WebhookStatusRequest>,
    ) -> Result<Response<v1::WebhookStatusReply>, Status> {
        let webhooks = self.hub.status(service_id(&request.into_inner().service_id)?).await?;
        Ok(Response::new(v1::WebhookStatusReply { webhooks }))
    }

    async fn webhook_changed(
        &self,
        request: Request<v1::WebhookChangedRequest>,
    ) -> Result<Response<v1::WebhookChangedReply>, Status> {
        let v1::WebhookChangedRequest { service_id: service, webhook_id } = request.into_inner();
        let webhook = WebhookId::new(webhook_id).map_err(|e| Status::invalid_argument(e.to_string()))?;
        self.hub.changed((service_id(&service)?, webhook)).await??;
        Ok(Response::new(v1::WebhookChangedReply {}))
    }
}

/// The events of a watch, then why it has ended.
fn deliveries(watch: Watch) -> impl Stream<Item = Result<v1::EventDelivery, Status>> + Send {
    stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        Some(match watch.next().await {
            Ok(event) => {
                let delivery = Delivery::Event(event.wire().clone());
                (Ok(v1::EventDelivery { delivery: Some(delivery) }), Some(watch))
            }
            Err(end) => (Err(end.into()), None),
        })
    })
}
