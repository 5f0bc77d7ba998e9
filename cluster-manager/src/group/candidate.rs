//! The shell of an [election](super::election): asks the lease, and notices the death of the leader's process.

use std::{sync::Arc, time::Instant};

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Answer, Leader, Lease, MemberId, Standing, Timing,
    election::{Ask, Election, Heard},
};
use crate::probe;

/// A member that leads when it can.
pub(crate) struct Candidate {
    pub(crate) lease: Arc<dyn Lease>,
    pub(crate) member: MemberId,
    /// Where this process is called; empty = not known.
    pub(crate) endpoint: String,
    pub(crate) timing: Timing,
    pub(crate) standing: Standing,
    /// Asked to give up leading, after a failure.
    pub(crate) give_up: tokio::sync::mpsc::Receiver<()>,
}

/// Watches the process of a leader.
struct Guard {
    leader: Leader,
    dead: AbortOnDropHandle<()>,
}

impl Candidate {
    /// Takes part until `stop`, then gives the lease back.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut election = Election::new(self.timing, self.member.clone(), Instant::now());
        let mut guard: Option<Guard> = None;
        let (mut is_first, mut is_away) = (true, false);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(election.deadline().into()) => {
                    let asked = Instant::now();
                    let answer = match election.ask() {
                        Ask::Claim(claim) => self.lease.claim(&claim).await,
                        Ask::Renew(term) => self.lease.renew(term).await,
                    };
                    let away = match &answer {
                        Answer::Away(error) => Some(error.to_string()),
                        Answer::Leads(_) | Answer::Nobody => None,
                    };
                    if let Some(error) = away.as_ref().filter(|_| !is_away) {
                        tracing::warn!(error, "who leads can't be asked");
                    }
                    is_away = away.is_some();
                    let heard = match answer {
                        Answer::Leads(leader) => Heard::Leads(leader),
                        Answer::Nobody => Heard::Nobody,
                        Answer::Away(_) => Heard::Away,
                    };
                    election.heard(asked, Instant::now(), heard);
                    // Who led at this address was another process, which is gone: now this one listens there.
                    if std::mem::take(&mut is_first)
                        && let Some(before) = election.follows().filter(|led| self.is_here(led)).cloned()
                    {
                        election.died(before, Instant::now());
                    }
                }
                () = self.lease.doubted() => election.doubt(Instant::now()),
                () = died(&mut guard) => {
                    if let Some(guard) = guard.take() {
                        tracing::warn!(leader = guard.leader.endpoint, "the leading cluster-manager is dead");
                        election.died(guard.leader, Instant::now());
                    }
                }
                Some(()) = self.give_up.recv() => {
                    if let Some((term, _)) = election.leads() {
                        self.standing.follows(None, election.known());
                        self.lease.resign(term).await;
                        election.resigned(Instant::now());
                    }
                }
                () = stop.cancelled() => break,
            }
            self.tell(&election);
            if guard.as_ref().map(|guard| &guard.leader) != election.follows() {
                guard = election.follows().and_then(|leader| watch(leader.clone()));
            }
        }
        let led = election.leads();
        self.standing.follows(None, election.known());
        if let Some((term, _)) = led {
            self.lease.resign(term).await;
        }
    }

    fn is_here(&self, leader: &Leader) -> bool {
        !self.endpoint.is_empty() && leader.endpoint == self.endpoint
    }

    fn tell(&self, election: &Election) {
        match election.leads() {
            Some((term, until)) => self.standing.leads(term, until),
            None => self.standing.follows(election.follows().cloned(), election.known()),
        }
        metrics::gauge!("kaigi_cluster_leads").set(if election.leads().is_some() { 1.0 } else { 0.0 });
    }
}

fn watch(leader: Leader) -> Option<Guard> {
    let address = probe::address(&leader.endpoint)?;
    let dead = AbortOnDropHandle::new(tokio::spawn(async move { probe::until_dead(&address).await }));
    Some(Guard { leader, dead })
}

/// Ready when the leader's process is dead.
async fn died(guard: &mut Option<Guard>) {
    match guard {
        Some(guard) => {
            let _ = (&mut guard.dead).await;
        }
        None => std::future::pending().await,
    }
}
