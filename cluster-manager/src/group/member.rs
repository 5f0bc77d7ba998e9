//! One cluster-manager of several, for as long as its process runs: follows, or leads.

use std::{path::PathBuf, sync::Arc};

use kaigi_worker::Trust;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{Candidate, GroupService, Lease, MemberId, Standing, Term, Timing, Watched};
use crate::{
    BootstrapError, RunError, ServeConfig, ServeError, bootstrap,
    bootstrap::tell_when_made,
    server::{Lead, follow_on, lead_on},
    store::{Store, StoreError},
};

/// See the module's description.
pub(crate) struct Member {
    /// Where calls come in.
    pub(crate) listener: std::net::TcpListener,
    pub(crate) id: MemberId,
    pub(crate) lease: Arc<dyn Lease>,
    pub(crate) timing: Timing,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: ServeConfig,
    pub(crate) trust: Trust,
    /// Where this process is called; empty = not known.
    pub(crate) endpoint: String,
    pub(crate) data_dir: PathBuf,
}

/// Why a term ended.
enum Ended {
    /// Another leads, or the process stops.
    Over,
    /// The store failed at its beginning; another may do better.
    Failed(StoreError),
}

impl Member {
    /// Takes part until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let standing = Standing::new();
        let (gives_up, give_up) = mpsc::channel(1);
        let candidate = Candidate {
            lease: self.lease.clone(),
            member: self.id.clone(),
            endpoint: self.endpoint.clone(),
            timing: self.timing,
            standing: standing.clone(),
            give_up,
        };
        let resign = CancellationToken::new();
        let candidate = AbortOnDropHandle::new(tokio::spawn(candidate.run(resign.clone())));
        while !stop.is_cancelled() {
            let watched = standing.watch().borrow().clone();
            match watched {
                Watched::Leads(term) => match self.lead(&standing, term, &stop).await? {
                    Ended::Over => {}
                    Ended::Failed(error) => {
                        tracing::warn!(%error, "this cluster-manager gives up leading");
                        // Full means that it was told already.
                        let _ = gives_up.try_send(());
                        tokio::select! {
                            () = standing.over(term) => {}
                            () = stop.cancelled() => {}
                        }
                    }
                },
                Watched::Follows(..) => self.follow(&standing, &stop).await?,
            }
        }
        resign.cancel();
        // Whatever it died of, the lease runs out.
        let _ = candidate.await;
        Ok(())
    }

    fn listener(&self) -> Result<TcpListener, RunError> {
        let again = || TcpListener::from_std(self.listener.try_clone()?);
        again().map_err(|error| {
            let address = self.listener.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
            RunError::Listen { address, reason: error.to_string() }
        })
    }

    /// Until it leads.
    async fn follow(&self, standing: &Standing, stop: &CancellationToken) -> Result<(), RunError> {
        let ends = stop.child_token();
        let group = GroupService::new(standing.clone(), self.endpoint.clone());
        let mut watch = standing.watch();
        let told = async {
            tell_when_made(&*self.store, &self.data_dir).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = told => Ok(()),
            served = follow_on(self.listener()?, self.trust.clone(), group, ends) => Ok(served?),
            // The sender lives as long as this.
            _ = watch.wait_for(|watched| matches!(watched, Watched::Leads(_))) => Ok(()),
        }
    }

    /// As long as it leads.
    async fn lead(
        &self,
        standing: &Standing,
        term: Term,
        stop: &CancellationToken,
    ) -> Result<Ended, RunError> {
        tracing::info!(term = term.0, "this cluster-manager leads");
        let ends = stop.child_token();
        let over = {
            let (standing, ends) = (standing.clone(), ends.clone());
            async move {
                standing.over(term).await;
                ends.cancel();
            }
        };
        let _over = AbortOnDropHandle::new(tokio::spawn(over));
        match bootstrap(&*self.store, &self.data_dir).await {
            Ok(()) => {}
            Err(BootstrapError::Store(error)) => return Ok(Ended::Failed(error)),
            Err(error) => return Err(error.into()),
        }
        let lead = Lead { standing: standing.clone(), term, endpoint: self.endpoint.clone() };
        let served = lead_on(
            self.listener()?,
            self.store.clone(),
            self.config.clone(),
            self.trust.clone(),
            lead,
            ends,
        );
        match served.await {
            Ok(()) => {
                tracing::info!(term = term.0, "this cluster-manager leads no more");
                Ok(Ended::Over)
            }
            Err(ServeError::Store(error)) => Ok(Ended::Failed(error)),
            Err(error) => Err(error.into()),
        }
    }
}
