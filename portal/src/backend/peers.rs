//! The hub of peers, which is the cluster-manager's.

use kaigi_proto::v1::{
    EnterPeerRoomRequest, ListPeerRoomsRequest, ListPeersRequest, PeerEvent, PeerRoom, SendToPeerRequest,
};
use tonic::Streaming;

use super::{Backend, CLUSTER_TIMEOUT, CallError, request, within};

/// Rooms that are listed at most.
const MAX_ROOMS: usize = 10_000;

impl Backend {
    /// Takes a seat among peers; what is told in it comes by the stream, whose end gives the seat up.
    pub(crate) async fn enter_peer_room(
        &self,
        seat: EnterPeerRoomRequest,
    ) -> Result<Streaming<PeerEvent>, CallError> {
        // Without a deadline of its own, which would be the stream's.
        let call = async { self.peers.clone().enter(seat).await };
        within(CLUSTER_TIMEOUT, "peers.enter", call).await
    }

    /// Passes a message to a peer.
    pub(crate) async fn send_to_peer(&self, message: SendToPeerRequest) -> Result<(), CallError> {
        let call = async { self.peers.clone().send(request(message, CLUSTER_TIMEOUT)).await };
        within(CLUSTER_TIMEOUT, "peers.send", call).await.map(|_| ())
    }

    /// The rooms in which peers are.
    pub(crate) async fn peer_rooms(&self) -> Result<Vec<PeerRoom>, CallError> {
        let mut rooms: Vec<PeerRoom> = Vec::new();
        loop {
            let after = rooms.last().map(|room| room.room.clone()).unwrap_or_default();
            let message = request(ListPeerRoomsRequest { after }, CLUSTER_TIMEOUT);
            let call = async { self.peers.clone().list_rooms(message).await };
            let page = within(CLUSTER_TIMEOUT, "peers.listRooms", call).await?;
            let is_last = !page.more || page.rooms.is_empty();
            rooms.extend(page.rooms);
            if is_last || rooms.len() >= MAX_ROOMS {
                return Ok(rooms);
            }
        }
    }

    /// Who is in one.
    pub(crate) async fn peers_in(&self, room: &str) -> Result<Vec<String>, CallError> {
        let message = request(ListPeersRequest { room: room.to_owned() }, CLUSTER_TIMEOUT);
        let call = async { self.peers.clone().list_peers(message).await };
        Ok(within(CLUSTER_TIMEOUT, "peers.listPeers", call).await?.peers)
    }
}
