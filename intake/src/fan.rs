//! One attachment for all of this node who take the same track, so that it crosses once however many they are: two views that are heard, ten broadcasts
//! of one mix. To whoever keeps the track attached they are one consumer, the [`Fan`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use futures::future::{BoxFuture, FutureExt};
use kaigi_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Arrival, Consumer, IntakeError, Wants};

/// One of those who take the track.
pub(crate) struct Member {
    id: u64,
    consumer: Arc<dyn Consumer>,
    /// Raised when it can't use what comes, or broke: it goes on by itself, so that the others are not touched.
    pub(crate) fails: Notify,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Fan {
    state: Mutex<State>,
    /// Held while somebody is told what there is, so that each is told once.
    telling: tokio::sync::Mutex<()>,
    /// Raised when somebody wants something at once.
    pub(crate) urgent: Arc<Notify>,
}

#[derive(Default)]
struct State {
    born: u64,
    /// Replaced when it changes, so that nobody is called under the lock.
    members: Arc<HashMap<u64, Arc<Member>>>,
    /// Those who were told what there is.
    told: BTreeSet<u64>,
    /// What there is, while it is attached.
    attached: Option<v1::AttachReply>,
    /// The last one of it: whoever comes later needs it to know the time.
    report: Option<Arrival>,
}

impl Fan {
    /// Adds one more, to whom packets come from now on. It is to be [told](Self::tell) what there is.
    pub(crate) fn add(&self, consumer: Arc<dyn Consumer>) -> Arc<Member> {
        let mut state = self.state.lock();
        state.born += 1;
        let member = Arc::new(Member { id: state.born, consumer, fails: Notify::new() });
        Arc::make_mut(&mut state.members).insert(member.id, Arc::clone(&member));
        member
    }

    /// Tells a member what there is, if there is anything and it was not told yet.
    pub(crate) async fn tell(&self, member: &Member) {
        let _telling = self.telling.lock().await;
        let attached = {
            let state = self.state.lock();
            state.attached.clone().filter(|_| !state.told.contains(&member.id))
        };
        if let Some(reply) = attached {
            self.tell_of(member, reply).await;
        }
    }

    async fn tell_of(&self, member: &Member, reply: v1::AttachReply) {
        if let Err(error) = member.consumer.attached(reply).await {
            tracing::debug!(%error, "one of several can't use a track");
            return member.fails.notify_one();
        }
        let report = {
            let mut state = self.state.lock();
            state.told.insert(member.id);
            state.report.clone()
        };
        if let Some(report) = report {
            member.consumer.take(report, Instant::now());
        }
    }

    /// A member wants it no more, or goes on by itself.
    pub(crate) fn remove(&self, member: &Member) {
        let mut state = self.state.lock();
        state.told.remove(&member.id);
        if Arc::make_mut(&mut state.members).remove(&member.id).is_some() {
            drop(state);
            member.consumer.detached();
        }
    }

    fn members(&self) -> Arc<HashMap<u64, Arc<Member>>> {
        Arc::clone(&self.state.lock().members)
    }
}

impl std::fmt::Debug for Fan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fan").finish_non_exhaustive()
    }
}

impl Consumer for Fan {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        async move {
            let _telling = self.telling.lock().await;
            let members = {
                let mut state = self.state.lock();
                state.attached = Some(reply.clone());
                Arc::clone(&state.members)
            };
            for member in members.values() {
                self.tell_of(member, reply.clone()).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn take(&self, arrival: Arrival, now: Instant) {
        let members = {
            let mut state = self.state.lock();
            if let Arrival::SenderReport { .. } = &arrival {
                state.report = Some(arrival.clone());
            }
            Arc::clone(&state.members)
        };
        for member in members.values() {
            member.consumer.take(arrival.clone(), now);
        }
    }

    fn wants(&self, now: Instant) -> Result<Wants, IntakeError> {
        let told = self.state.lock().told.clone();
        let (mut key_frame, mut packets) = (false, BTreeSet::new());
        for member in self.members().values().filter(|member| told.contains(&member.id)) {
            match member.consumer.wants(now) {
                Ok(wants) => {
                    key_frame |= wants.key_frame;
                    packets.extend(wants.packets);
                }
                Err(error) => {
                    tracing::debug!(%error, "one of several breaks");
                    member.fails.notify_one();
                }
            }
        }
        Ok(Wants { key_frame, packets: packets.into_iter().collect() })
    }

    fn detached(&self) {
        let members = {
            let mut state = self.state.lock();
            (state.attached, state.report) = (None, None);
            state.told.clear();
            Arc::clone(&state.members)
        };
        members.values().for_each(|member| member.consumer.detached());
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Notes what it is told.
    #[derive(Default)]
    struct Taker {
        log: Mutex<Vec<&'static str>>,
        wanted: Wants,
        refuses: bool,
        breaks: bool,
    }

    impl Taker {
        fn said(&self) -> Vec<&'static str> {
            std::mem::take(&mut *self.log.lock())
        }
    }

    impl Consumer for Taker {
        fn attached(&self, _: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
            self.log.lock().push("attached");
            let result = if self.refuses { Err(IntakeError::Answer("sense")) } else { Ok(()) };
            futures::future::ready(result).boxed()
        }

        fn take(&self, arrival: Arrival, _: Instant) {
            self.log.lock().push(match arrival {
                Arrival::Packet(_) => "packet",
                Arrival::SenderReport { .. } => "report",
            });
        }

        fn wants(&self, _: Instant) -> Result<Wants, IntakeError> {
            if self.breaks { Err(IntakeError::Panic) } else { Ok(self.wanted.clone()) }
        }

        fn detached(&self) {
            self.log.lock().push("detached");
        }
    }

    fn packet() -> Arrival {
        Arrival::Packet(BytesMut::from(&b"packet"[..]))
    }

    /// Adds it, and tells it what there is.
    async fn join(fan: &Fan, taker: Taker) -> (Arc<Taker>, Arc<Member>) {
        let taker = Arc::new(taker);
        let member = fan.add(Arc::clone(&taker) as Arc<dyn Consumer>);
        fan.tell(&member).await;
        (taker, member)
    }

    fn fails(member: &Member) -> bool {
        member.fails.notified().now_or_never().is_some()
    }

    #[tokio::test]
    async fn all_get_what_comes_and_who_comes_later_is_told_what_the_others_were() {
        let (fan, now) = (Fan::default(), Instant::now());
        let (first, member) = join(&fan, Taker::default()).await;
        assert_eq!(first.said(), [""; 0], "there is nothing yet");
        fan.attached(v1::AttachReply::default()).await.unwrap();
        fan.take(Arrival::SenderReport { ntp: 1, rtp: 2 }, now);
        let (second, _) = join(&fan, Taker::default()).await;
        fan.take(packet(), now);
        assert_eq!(
            (first.said(), second.said()),
            (vec!["attached", "report", "packet"], vec!["attached", "report", "packet"])
        );

        fan.remove(&member);
        fan.take(packet(), now);
        fan.detached();
        assert_eq!((first.said(), second.said()), (vec!["detached"], vec!["packet", "detached"]));
        fan.attached(v1::AttachReply::default()).await.unwrap();
        assert_eq!(
            (first.said(), second.said()),
            (vec![], vec!["attached"]),
            "attached anew, and its time is not known"
        );
    }

    #[tokio::test]
    async fn what_they_want_is_asked_for_once() {
        let (fan, now) = (Fan::default(), Instant::now());
        fan.attached(v1::AttachReply::default()).await.unwrap();
        let wanting = |key_frame, packets: &[u16]| Taker {
            wanted: Wants { key_frame, packets: packets.to_vec() },
            ..Taker::default()
        };
        let _first = join(&fan, wanting(false, &[3, 5])).await;
        assert_eq!(fan.wants(now).unwrap(), Wants { key_frame: false, packets: vec![3, 5] });
        let _second = join(&fan, wanting(true, &[1, 5])).await;
        assert_eq!(fan.wants(now).unwrap(), Wants { key_frame: true, packets: vec![1, 3, 5] });
    }

    #[tokio::test]
    async fn who_can_not_use_it_or_breaks_does_not_touch_the_others() {
        let (fan, now) = (Fan::default(), Instant::now());
        let (well, alright) = join(&fan, Taker::default()).await;
        let (_refusing, refuses) = join(&fan, Taker { refuses: true, ..Taker::default() }).await;
        let (_breaking, breaks) = join(&fan, Taker { breaks: true, ..Taker::default() }).await;
        fan.attached(v1::AttachReply::default()).await.unwrap();
        assert_eq!([fails(&alright), fails(&refuses), fails(&breaks)], [false, true, false]);
        assert_eq!(fan.wants(now).unwrap(), Wants::default());
        assert_eq!([fails(&alright), fails(&refuses), fails(&breaks)], [false, false, true]);
        assert_eq!(well.said(), ["attached"]);
    }
}
