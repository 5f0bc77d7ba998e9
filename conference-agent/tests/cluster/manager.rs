//! The cluster-manager and its store.

use super::*;

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Everything {
    type WatchStream = Events<v1::ClusterEvent>;

    async fn register(&self, request: Request<v1::RegisterRequest>) -> Answer<v1::RegisterReply> {
        self.know(|known| {
            known.registered = request.into_inner().worker;
            let worker = known.registered.clone().unwrap();
            known.agents.insert(worker.worker_id.clone(), worker);
        });
        Ok(Response::new(v1::RegisterReply { lease_ms: 300 }))
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatReply> {
        self.know(|known| known.tasks = request.into_inner().tasks);
        Ok(Response::new(v1::HeartbeatReply::default()))
    }

    async fn can_fit(&self, _: Request<v1::CanFitRequest>) -> Answer<v1::CanFitReply> {
        Err(Status::unimplemented("not asked"))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Answer<v1::DrainReply> {
        Err(Status::unimplemented("not used"))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveReply> {
        self.know(|known| {
            known.agents.remove(&request.get_ref().worker_id);
            known.registered = None;
        });
        Ok(Response::new(v1::LeaveReply {}))
    }

    async fn schedule(&self, request: Request<v1::ScheduleRequest>) -> Answer<v1::ScheduleReply> {
        let worker = self.know(|known| match request.into_inner().purpose() {
            v1::Purpose::Access => known.access_node.clone(),
            v1::Purpose::Mixer => known.mixer_node.clone(),
            v1::Purpose::Conference => known.agents.values().find(|agent| !agent.draining).cloned(),
            _ => None,
        });
        worker
            .map(|w| Response::new(v1::ScheduleReply { worker: Some(w) }))
            .ok_or(Status::unavailable("none"))
    }

    async fn lookup(&self, _: Request<v1::LookupRequest>) -> Answer<v1::LookupReply> {
        Ok(Response::new(v1::LookupReply { worker: None }))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<v1::ReleaseReply> {
        let request = request.into_inner();
        self.know(|known| known.released.push(format!("{:?} {}", request.purpose(), request.task)));
        Ok(Response::new(v1::ReleaseReply {}))
    }

    async fn list_workers(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersReply> {
        let workers = self.know(|known| known.agents.values().cloned().collect());
        Ok(Response::new(v1::ListWorkersReply { workers }))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let events = tokio_stream::wrappers::BroadcastStream::new(self.cluster_events.subscribe());
        let events = events.map(|event| event.map_err(|_| Status::internal("lagged")));
        Ok(Response::new(Box::pin(events)))
    }
}

#[tonic::async_trait]
impl v1::store_server::Store for Everything {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetReply> {
        let request = request.into_inner();
        let config = kaigi_room_config::RoomConfig::new(ROOM, "room", "service");
        let config = kaigi_room_config::RoomConfig { auto_mix: true, ..config };
        let known = request.collection() == v1::Collection::Rooms && request.key == ROOM;
        Ok(Response::new(v1::GetReply { value: known.then(|| serde_json::to_vec(&config).unwrap()) }))
    }

    async fn acquire_room(&self, request: Request<v1::AcquireRoomRequest>) -> Answer<v1::AcquireRoomReply> {
        let epoch = self.know(|known| {
            known.leases.push(request.into_inner().room_id);
            known.epoch += 1;
            known.epoch
        });
        Ok(Response::new(v1::AcquireRoomReply { epoch }))
    }

    async fn release_room(&self, request: Request<v1::ReleaseRoomRequest>) -> Answer<v1::ReleaseRoomReply> {
        self.know(|known| {
            if request.get_ref().hand_over {
                known.epoch += 1;
                known.handed_over.push(request.get_ref().worker_id.clone());
                return;
            }
            known.leases.retain(|room| *room != request.get_ref().room_id);
            known.snapshot.clear();
        });
        Ok(Response::new(v1::ReleaseRoomReply {}))
    }

    async fn write_snapshot(&self, r: Request<v1::WriteSnapshotRequest>) -> Answer<v1::WriteSnapshotReply> {
        let write = r.into_inner();
        self.know(|known| {
            if known.store_is_away {
                return Err(Status::unavailable("away"));
            }
            if write.epoch != known.epoch {
                return Err(Status::failed_precondition("fenced"));
            }
            if write.whole {
                known.snapshot.clear();
            } else if write.version != known.version + 1 {
                return Err(Status::aborted("another version"));
            }
            known.version = write.version;
            known.snapshot.extend(write.parts.into_iter().map(|part| (part.key, part.value)));
            write.removed.iter().for_each(|gone| drop(known.snapshot.remove(gone)));
            Ok(Response::new(v1::WriteSnapshotReply {}))
        })
    }

    type ReadSnapshotStream = Events<v1::SnapshotPage>;

    async fn read_snapshot(&self, _: Request<v1::ReadSnapshotRequest>) -> Answer<Self::ReadSnapshotStream> {
        let parts = self.know(|known| known.snapshot.clone()).into_iter();
        let parts = parts.map(|(key, value)| v1::SnapshotPart { key, value }).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(v1::SnapshotPage { parts })]))))
    }

    async fn list_orphans(&self, _: Request<v1::ListOrphansRequest>) -> Answer<v1::ListOrphansReply> {
        Ok(Response::new(v1::ListOrphansReply::default()))
    }

    async fn put(&self, _: Request<v1::PutRequest>) -> Answer<v1::PutReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn list(&self, _: Request<v1::ListRequest>) -> Answer<v1::ListReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Answer<v1::DeleteReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn take(&self, _: Request<v1::TakeRequest>) -> Answer<v1::TakeReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn secret(&self, _: Request<v1::SecretRequest>) -> Answer<v1::SecretReply> {
        Err(Status::unimplemented("not used"))
    }
}
