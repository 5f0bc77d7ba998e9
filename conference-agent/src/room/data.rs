//! Data streams: what publishers send on data channels, beside media or without any.

use kaigi_proto::{
    ids::{ParticipantId, SessionId, StreamId},
    v1,
};

use super::{
    Room,
    refusal::Refusal,
    state::{Phase, Publication},
};

impl Publication {
    /// Whether it has data and no media.
    pub(super) fn is_data_only(&self) -> bool {
        self.data && self.phase == Phase::Established && self.tracks.is_empty()
    }
}

impl Room {
    /// The stream whose data a subscriber names, if it may have it.
    pub(super) fn data_origin(&self, subscriber: &ParticipantId, from: &str) -> Result<StreamId, Refusal> {
        if !self.participant(subscriber)?.subscribe.any() {
            return Err(Refusal::Unauthorized);
        }
        let stream = self.state.publications.get_key_value(from);
        let stream =
            stream.filter(|(_, publication)| publication.data && publication.phase == Phase::Established);
        stream.map(|(id, _)| id.clone()).ok_or(Refusal::NoSuchData)
    }

    /// Where the data of a session are exchanged, if it is a publication with data.
    pub(super) fn own_data(&self, session: &SessionId) -> Option<v1::DataSource> {
        let stream = StreamId::new(session.as_str()).ok()?;
        self.state.publications.get(&stream).filter(|publication| publication.data)?;
        self.data_source(&stream)
    }

    /// Where an access node finds the data of a stream.
    pub(super) fn data_source(&self, stream: &StreamId) -> Option<v1::DataSource> {
        let node = self.node_of_publication(self.state.publications.get(stream)?)?;
        let (stream_id, worker_id) = (stream.to_string(), node.worker.to_string());
        Some(v1::DataSource { stream_id, worker_id, endpoint: node.endpoint })
    }
}
