//! Clients that come and go.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use super::{ChurnReport, RunError, SETTLING, Setup, crowd::Crowd};
use crate::{
    media::{Media, Stream},
    scenario::Churn,
    server::{Server, ServerError, Way},
};

impl Setup {
    /// Many come, see something and leave; with what failed.
    pub(super) async fn churn(
        &self,
        crowd: &Crowd<'_>,
        churn: Churn,
        say: &impl Fn(&str),
    ) -> Result<(ChurnReport, Vec<String>), RunError> {
        let Some((room, stream)) = crowd.first() else {
            return Err(ServerError::Media("nobody publishes".to_owned()).into());
        };
        let visit = Visit { server: self.server.clone(), media: crowd.media.clone(), room, stream };
        say(&format!("{} come and leave to warm up", churn.warm_up));
        let mut failures = visits(&visit, churn.warm_up, churn.parallel).await;
        tokio::time::sleep(SETTLING).await;
        let before = self.sample();
        let cycles = churn.cycles - churn.warm_up;
        say(&format!("{cycles} come and leave"));
        failures.extend(visits(&visit, cycles, churn.parallel).await);
        let seconds = before.at.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLING).await;
        let after = self.sample();
        let resident = self.processes.iter().zip(before.server.iter().zip(&after.server));
        let report = ChurnReport {
            cycles: churn.cycles,
            per_second: cycles as f64 / seconds,
            resident: resident
                .map(|(p, (one, other))| (p.name.clone(), one.resident, other.resident))
                .collect(),
        };
        Ok((report, failures))
    }
}

#[derive(Clone)]
struct Visit {
    server: Server,
    media: Arc<Media>,
    room: String,
    stream: Stream,
}

async fn visits(visit: &Visit, count: usize, parallel: usize) -> Vec<String> {
    let begun = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..parallel {
        let (visit, begun) = (visit.clone(), begun.clone());
        workers.spawn(async move {
            let mut failures = Vec::new();
            loop {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return failures;
                }
                if let Err(error) = visit.once(number).await {
                    failures.push(format!("visitor: {error}"));
                }
            }
        });
    }
    workers.join_all().await.into_iter().flatten().collect()
}

impl Visit {
    async fn once(&self, number: usize) -> Result<(), ServerError> {
        let user = format!("visitor {number}");
        let mut visitor = self.server.join(&self.room, &user, Way::default(), number as u64).await?;
        visitor.publish(self.media.publication(true)).await?;
        visitor.subscribe(vec![self.stream.wish(None)]).await?;
        visitor.leave().await
    }
}
