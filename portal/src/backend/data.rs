//! Data of a participant, exchanged with the access-node that has them.

use kaigi_proto::v1::{DataExchangeReply, DataExchangeRequest, DataSource, data_link_client::DataLinkClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Backend, CLUSTER_TIMEOUT, CallError, within};

/// Messages that may wait for the access-node; who finds no place is told so.
const MAX_WAITING: usize = 64;

impl Backend {
    /// What is sent goes to the channels of that publication, what they say and how many they are comes back.
    pub(crate) async fn exchange_data(
        &self,
        source: &DataSource,
    ) -> Result<(mpsc::Sender<DataExchangeRequest>, Streaming<DataExchangeReply>), CallError> {
        let channel =
            self.channels.to(&source.endpoint).map_err(|_| CallError::unreachable("access-node"))?;
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let first = DataExchangeRequest { stream_id: source.stream_id.clone(), message: None };
        // The channel is new: there is a place.
        let _: Result<_, _> = sender.try_send(first);
        // Without a deadline of its own, which would be the stream's.
        let call = async { DataLinkClient::new(channel).exchange(ReceiverStream::new(requests)).await };
        Ok((sender, within(CLUSTER_TIMEOUT, "access.exchange", call).await?))
    }
}
