//! The cluster-manager and its store.

use super::*;

#[tonic::async_trait]
impl ClusterService for Cluster {
    type WatchStream = BoxFlow<ClusterEvent>;

    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterReply>, Status> {
        let worker = request.into_inner().worker.unwrap();
        self.state().workers.push(worker);
        Ok(Response::new(RegisterReply { lease_ms: 3000 }))
    }
    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        Ok(Response::new(HeartbeatReply::default()))
    }
    async fn can_fit(&self, request: Request<CanFitRequest>) -> Result<Response<CanFitReply>, Status> {
        let CanFitRequest { purpose, isp, region } = request.into_inner();
        self.asked("can_fit", json!([isp, region]))?;
        let there = self.state().workers.iter().filter(|worker| worker.purpose == purpose).count();
        Ok(Response::new(CanFitReply { workers: there.try_into().unwrap() }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let id = request.into_inner().worker_id;
        let mut state = self.state();
        let worker = state.workers.iter_mut().find(|worker| worker.worker_id == id);
        worker.ok_or_else(|| Status::not_found("this worker is not registered"))?.draining = true;
        Ok(Response::new(DrainReply {}))
    }
    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        let id = request.into_inner().worker_id;
        self.state().workers.retain(|w| w.worker_id != id);
        Ok(Response::new(LeaveReply {}))
    }
    async fn schedule(&self, _: Request<ScheduleRequest>) -> Result<Response<ScheduleReply>, Status> {
        self.asked("schedule", Value::Null)?;
        let worker = self.agent().ok_or_else(|| Status::unavailable("No conference agent is alive"))?;
        Ok(Response::new(ScheduleReply { worker: Some(worker) }))
    }
    async fn lookup(&self, _: Request<LookupRequest>) -> Result<Response<LookupReply>, Status> {
        let worker = if self.state().live { self.agent() } else { None };
        Ok(Response::new(LookupReply { worker }))
    }
    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        Ok(Response::new(ReleaseReply {}))
    }
    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersReply>, Status> {
        Ok(Response::new(ListWorkersReply { workers: self.state().workers.clone() }))
    }
    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::pending())))
    }
}

#[tonic::async_trait]
impl Store for Cluster {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let PutRequest { collection, key, value, create_only, expected, .. } = request.into_inner();
        {
            let mut state = self.state();
            let kept = state.documents.get(&(collection, key.clone()));
            if create_only && kept.is_some() {
                return Err(Status::already_exists("exists"));
            }
            if expected.is_some() && kept != expected.as_ref() {
                state.aborted += 1;
                return Err(Status::aborted("changed"));
            }
            if state.restless.contains(&collection) {
                return Err(Status::aborted("somebody is always faster"));
            }
            state.history.push(value.clone());
            state.documents.insert((collection, key), value);
        }
        Ok(Response::new(PutReply {}))
    }
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let GetRequest { collection, key } = request.into_inner();
        Ok(Response::new(GetReply { value: self.state().documents.get(&(collection, key)).cloned() }))
    }
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let ListRequest { collection: wanted, after, prefix, limit } = request.into_inner();
        let mut state = self.state();
        state.pages += 1;
        let limit = if limit == 0 { 1_000 } else { limit as usize };
        let of_it = state.documents.iter().filter(|((collection, key), _)| {
            *collection == wanted && *key > after && key.starts_with(&prefix)
        });
        let mut entries: Vec<_> = of_it
            .map(|((_, key), value)| list_reply::Entry { key: key.clone(), value: value.clone() })
            .collect();
        let mut bytes = 0;
        let fits = entries.iter().take(limit).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += entry.value.len();
            is_first || bytes <= 2 << 20
        });
        let count = fits.count();
        let more = entries.len() > count;
        entries.truncate(count);
        Ok(Response::new(ListReply { entries, more }))
    }
    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        let DeleteRequest { collection, key } = request.into_inner();
        Ok(Response::new(DeleteReply {
            existed: self.state().documents.remove(&(collection, key)).is_some(),
        }))
    }
    async fn take(&self, request: Request<TakeRequest>) -> Result<Response<TakeReply>, Status> {
        let TakeRequest { collection, key } = request.into_inner();
        Ok(Response::new(TakeReply { value: self.state().documents.remove(&(collection, key)) }))
    }
    async fn secret(&self, request: Request<SecretRequest>) -> Result<Response<SecretReply>, Status> {
        Ok(Response::new(SecretReply { value: request.into_inner().name.into_bytes() }))
    }
    async fn acquire_room(
        &self,
        _: Request<AcquireRoomRequest>,
    ) -> Result<Response<AcquireRoomReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn release_room(
        &self,
        _: Request<ReleaseRoomRequest>,
    ) -> Result<Response<ReleaseRoomReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn write_snapshot(
        &self,
        _: Request<WriteSnapshotRequest>,
    ) -> Result<Response<WriteSnapshotReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    type ReadSnapshotStream = BoxFlow<SnapshotPage>;
    async fn read_snapshot(
        &self,
        _: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn list_orphans(
        &self,
        _: Request<ListOrphansRequest>,
    ) -> Result<Response<ListOrphansReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
}
