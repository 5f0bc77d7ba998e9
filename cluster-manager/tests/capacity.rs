//! What workers say that they can take, and how a burst is divided by it: a real cluster-manager, and workers that register and send heartbeats as
//! the real ones do.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use std::{collections::BTreeMap, time::Instant};

use kaigi_proto::{
    auth::ClusterSecret,
    v1::{self, Purpose, Resource, cluster_client::ClusterClient},
};
use kaigi_worker::{Capacity, Channel, Channels, Registration, Shutdown, Tasks};
use tokio_util::sync::CancellationToken;

use support::{DEADLINE, Manager, SECRET};

fn cluster(manager: &Manager) -> ClusterClient<Channel> {
    ClusterClient::new(Channels::new(ClusterSecret::new(SECRET)).to(&manager.endpoint).unwrap())
}

/// A streaming-node that bears so many pipelines.
fn streaming_node(manager: &Manager, id: &str, pipelines: f64) -> (Capacity, CancellationToken) {
    let capacity = Capacity::default().with(Resource::Pipelines, pipelines, 1.0);
    let purpose = Purpose::Streaming.into();
    let registration = Registration {
        cluster: cluster(manager),
        worker: v1::Worker { worker_id: id.into(), purpose, ..v1::Worker::default() },
        capacity: capacity.clone(),
        tasks: Tasks::default(),
        shutdown: Shutdown::default(),
    };
    let stop = CancellationToken::new();
    tokio::spawn(registration.run(stop.clone(), || {}));
    (capacity, stop)
}

async fn schedule(cluster: &mut ClusterClient<Channel>, task: String) -> Result<String, tonic::Status> {
    let ask =
        v1::ScheduleRequest { purpose: Purpose::Streaming.into(), task, ..v1::ScheduleRequest::default() };
    Ok(cluster.schedule(ask).await?.into_inner().worker.unwrap().worker_id)
}

/// What is told of each worker.
async fn told(cluster: &mut ClusterClient<Channel>) -> BTreeMap<String, v1::Worker> {
    let workers = cluster.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
    workers.into_iter().map(|worker| (worker.worker_id.clone(), worker)).collect()
}

/// Waits until that is told.
async fn until(cluster: &mut ClusterClient<Channel>, is_so: impl Fn(&BTreeMap<String, v1::Worker>) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so(&told(cluster).await) {
        assert!(Instant::now() < deadline, "{:?}", told(cluster).await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn ten_at_once_all_begin_and_are_divided_before_anything_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), &[]).await;
    let mut cluster = cluster(&manager);
    let nodes = [streaming_node(&manager, "small", 4.0), streaming_node(&manager, "large", 16.0)];
    until(&mut cluster, |workers| workers.len() == 2).await;

    let all = (0..10).map(|i| {
        let mut cluster = cluster.clone();
        async move { schedule(&mut cluster, format!("room-{i}")).await }
    });
    let picked: Result<Vec<String>, _> = futures::future::join_all(all).await.into_iter().collect();
    let small = picked.unwrap().iter().filter(|id| *id == "small").count();
    assert_eq!(small, 2, "by what each bears");
    drop(nodes);
}

#[tokio::test]
async fn a_node_whose_capacity_is_used_up_gets_nothing_more_until_some_of_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), &[]).await;
    let mut cluster = cluster(&manager);
    let (capacity, _stop) = streaming_node(&manager, "node", 4.0);
    capacity.set(Resource::Pipelines, 4.0);
    until(&mut cluster, |workers| workers.get("node").is_some_and(|node| node.load == 1.0)).await;
    let node = told(&mut cluster).await.remove("node").unwrap();
    let used = v1::ResourceUse { resource: Resource::Pipelines.into(), used: 4.0, capacity: 4.0 };
    assert_eq!((node.resources, node.task_share), (vec![used], 0.25));
    let refused = schedule(&mut cluster, "room".into()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::ResourceExhausted, "No worker available, all in full load.")
    );
    capacity.set(Resource::Pipelines, 3.0);
    until(&mut cluster, |workers| workers.get("node").is_some_and(|node| node.load == 0.75)).await;
    assert_eq!(schedule(&mut cluster, "room".into()).await.unwrap(), "node");
}
