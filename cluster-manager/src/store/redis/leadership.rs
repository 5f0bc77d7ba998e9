//! Which of several cluster-managers leads: a lease in Redis, and a fence beside all that is written.
//!
//! Whoever takes the lease gets a term higher than all before, and raises the fences to it before he reads anything. Every script that
//! writes looks at its fence first, so that a leader who was paused, or cut off, writes nothing once another one leads.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::try_join_all;
use redis::{Script, ScriptInvocation};

use super::{COLLECTIONS, RedisStore, documents};
use crate::{
    group::{Answer, Claim, Leader, Lease, MemberId, Term},
    store::StoreError,
};

/// Longest wait for an answer about the lease; a leader has several attempts in one lease.
const CALL_TIMEOUT: Duration = Duration::from_millis(800);

struct Scripts {
    claim: Script,
    renew: Script,
    resign: Script,
    raise: Script,
}

/// See the module's description.
pub struct RedisLease {
    store: Arc<RedisStore>,
    scripts: Scripts,
    member: MemberId,
    endpoint: String,
    lasts: Duration,
}

impl std::fmt::Debug for RedisLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLease").field("member", &self.member).finish_non_exhaustive()
    }
}

impl RedisLease {
    /// The lease beside what `store` keeps, for a process that is called at `endpoint` (empty = not known to the others).
    #[must_use]
    pub fn new(store: Arc<RedisStore>, member: MemberId, endpoint: String, lasts: Duration) -> Self {
        let scripts = Scripts {
            claim: Script::new(include_str!("claim.lua")),
            renew: Script::new(include_str!("renew.lua")),
            resign: Script::new(include_str!("resign.lua")),
            raise: Script::new(concat!(include_str!("fence.lua"), "return 1")),
        };
        Self { store, scripts, member, endpoint, lasts }
    }

    fn itself(&self, term: Term) -> Leader {
        Leader { term, member: self.member.clone(), endpoint: self.endpoint.clone() }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX)
    }

    /// Who leads by the script's reply.
    async fn leader(&self, call: ScriptInvocation<'_>) -> Result<Option<Leader>, StoreError> {
        let reply = tokio::time::timeout(CALL_TIMEOUT, self.store.run::<String>(call)).await;
        match reply.unwrap_or_else(|_| Err(StoreError::Failed("Redis: no answer in time".into())))?.as_str() {
            "" => Ok(None),
            text => read(text).map(Some),
        }
    }

    async fn raise_fences(&self, term: Term) -> Result<(), StoreError> {
        let collections = COLLECTIONS.map(documents);
        let groups = collections.iter().map(String::as_str).chain(["secrets", "leases"]);
        let raise = async |group: &str| {
            let mut call = self.scripts.raise.prepare_invoke();
            call.key(self.store.fence(group)).arg(term.0);
            self.store.run::<u8>(call).await.map(drop)
        };
        let raised = try_join_all(groups.map(raise));
        let late = |_| Err(StoreError::Failed("Redis: no answer in time".into()));
        tokio::time::timeout(CALL_TIMEOUT, raised).await.unwrap_or_else(late).map(drop)
    }
}

#[async_trait]
impl Lease for RedisLease {
    async fn claim(&self, claim: &Claim) -> Answer {
        let over = claim.over.as_ref().map(write).unwrap_or_default();
        let mut call = self.scripts.claim.prepare_invoke();
        call.key(self.store.key("leader", "lease")).key(self.store.key("leader", "term"));
        call.arg(self.member.as_str()).arg(endpoint(&self.endpoint));
        call.arg(self.milliseconds()).arg(claim.known.0).arg(over);
        match self.leader(call).await {
            Ok(Some(leader)) if leader.member == self.member => match self.raise_fences(leader.term).await {
                Ok(()) => {
                    self.store.term.store(leader.term.0, Ordering::Release);
                    Answer::Leads(leader)
                }
                Err(error) => Answer::Away(error),
            },
            Ok(Some(other)) => Answer::Leads(other),
            Ok(None) => Answer::Nobody,
            Err(error) => Answer::Away(error),
        }
    }

    async fn renew(&self, term: Term) -> Answer {
        let mut call = self.scripts.renew.prepare_invoke();
        call.key(self.store.key("leader", "lease")).key(self.store.key("leader", "term"));
        call.arg(write(&self.itself(term))).arg(term.0).arg(self.milliseconds());
        match self.leader(call).await {
            Ok(Some(leader)) => Answer::Leads(leader),
            Ok(None) => Answer::Nobody,
            Err(error) => Answer::Away(error),
        }
    }

    async fn resign(&self, term: Term) {
        let mut call = self.scripts.resign.prepare_invoke();
        call.key(self.store.key("leader", "lease")).arg(write(&self.itself(term)));
        // If it is not reached, the lease runs out.
        let _ = tokio::time::timeout(CALL_TIMEOUT, self.store.run::<u8>(call)).await;
    }

    async fn doubted(&self) {
        self.store.fenced.notified().await;
    }
}

fn endpoint(endpoint: &str) -> &str {
    if endpoint.is_empty() { "-" } else { endpoint }
}

/// "TERM MEMBER ENDPOINT".
fn write(leader: &Leader) -> String {
    format!("{} {} {}", leader.term.0, leader.member.as_str(), endpoint(&leader.endpoint))
}

fn read(text: &str) -> Result<Leader, StoreError> {
    let read = || {
        let mut words = text.splitn(3, ' ');
        let term = Term(words.next()?.parse().ok()?);
        let member = MemberId::new(words.next()?);
        let endpoint = words.next().filter(|endpoint| *endpoint != "-").unwrap_or_default().to_owned();
        Some(Leader { term, member, endpoint })
    };
    read().ok_or_else(|| StoreError::Failed(format!("Redis: {text:?} is no leader")))
}
