//! Updates of subscriptions: another source, size, rate or bitrate under the same id, in the codec that was negotiated. The old source
//! flows until the new one is there; if that fails, it stays. Updates of one subscription are done one after the other.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, StreamId, SubscriptionId},
    v1,
};

use super::{
    Room,
    calls::{Pending, node_refusal},
    decisions::{By, Why},
    feeds::Tap,
    input::{CallError, RequestId, SubscriptionUpdate, TrackUpdate},
    media::{Feed, Kind},
    output::{CallRequest, Callee, Reply},
    refusal::{Refusal, Unsatisfied},
    sessions::SessionKey,
    state::{Choice, Origin, SubscribedTrack, Subscription},
    wish,
};

/// Most updates of one subscription that wait for the one before.
const MAX_WAITING: usize = 16;

/// How long what a subscription took before an update is still made for it. Access nodes go on with it until the new source's first key
/// frame; longer costs an encoder nobody watches, shorter a picture that stands still.
const LINGER: Duration = Duration::from_secs(2);

/// What a subscription took until its last update.
#[derive(Debug)]
pub(super) struct Lingering {
    until: Instant,
    former: BTreeMap<Kind, Choice>,
}

impl Lingering {
    pub(super) fn choice(&self, kind: Kind) -> Option<&Choice> {
        self.former.get(&kind)
    }
}

/// An update under way, and those that wait for it.
#[derive(Debug)]
pub(super) struct Update {
    request: RequestId,
    stage: Stage,
    waiting: VecDeque<(RequestId, Wanted)>,
}

/// What is asked for, and by whom.
#[derive(Debug)]
struct Wanted {
    by: By,
    update: SubscriptionUpdate,
}

#[derive(Debug)]
enum Stage {
    /// Until a mixer has made what is wanted. The subscription is as it was.
    Making { next: BTreeMap<Kind, Choice> },
    /// Until the access node has answered. The subscription is as it is to be.
    Moving {
        former: BTreeMap<Kind, Choice>,
        /// What the access node was told and has not answered.
        left: BTreeMap<Kind, Feed>,
    },
}

impl Update {
    /// What is taken besides what the subscription says.
    pub(super) fn choice(&self, kind: Kind) -> Option<&Choice> {
        match &self.stage {
            Stage::Making { next } => next.get(&kind),
            Stage::Moving { former, .. } => former.get(&kind),
        }
    }
}

impl Room {
    /// By its owner, an admin, or (`None`) the management.
    pub(super) fn update_subscription(
        &mut self,
        request: RequestId,
        by: Option<&ParticipantId>,
        id: &SubscriptionId,
        update: SubscriptionUpdate,
    ) -> Result<Option<Reply>, Refusal> {
        let wanted = Wanted { by: Self::by(by, &self.controllable(by, id)?.owner), update };
        match self.updates.get_mut(id) {
            Some(before) if before.waiting.len() >= MAX_WAITING => Err(Refusal::UpdateFailed),
            Some(before) => {
                before.waiting.push_back((request, wanted));
                Ok(None)
            }
            None => self.start_update(request, id, &wanted, VecDeque::new()),
        }
    }

    /// The subscription, if it may be controlled so.
    pub(super) fn controllable(
        &self,
        by: Option<&ParticipantId>,
        id: &SubscriptionId,
    ) -> Result<&Subscription, Refusal> {
        let by = by.map(|by| self.participant(by).map(|participant| (by, participant))).transpose()?;
        let subscription = self.state.subscriptions.get(id).ok_or(Refusal::UnknownSubscription)?;
        match by {
            Some((by, participant)) if subscription.owner != *by && !participant.is_admin() => {
                Err(Refusal::Unauthorized)
            }
            Some(_) | None => Ok(subscription),
        }
    }

    fn start_update(
        &mut self,
        request: RequestId,
        id: &SubscriptionId,
        wanted: &Wanted,
        waiting: VecDeque<(RequestId, Wanted)>,
    ) -> Result<Option<Reply>, Refusal> {
        let next = self.plan_update(id, &wanted.update)?;
        if next.is_empty() {
            return Ok(Some(Reply::Done));
        }
        self.decided_update(id, wanted.by, &next);
        self.decided_making(id, &next);
        self.updates.insert(id.clone(), Update { request, stage: Stage::Making { next }, waiting });
        self.views_changed = true;
        self.advance_update(id);
        Ok(None)
    }

    /// The choices that change, each checked as for a new subscription.
    fn plan_update(
        &self,
        id: &SubscriptionId,
        update: &SubscriptionUpdate,
    ) -> Result<BTreeMap<Kind, Choice>, Refusal> {
        let subscription = self.state.subscriptions.get(id).ok_or(Refusal::UnknownSubscription)?;
        let mut next = BTreeMap::new();
        for kind in Kind::ALL {
            let Some(change) = update.of(kind) else { continue };
            let track = subscription.tracks.iter().find(|track| track.kind == kind);
            let track = track.ok_or(Refusal::SubscriptionLacks(kind))?;
            let owner = self.participant(&subscription.owner)?;
            if !owner.subscribe.has(kind) {
                return Err(Refusal::Unauthorized);
            }
            if let Some(choice) = self.plan_track(&subscription.owner, track, change)? {
                next.insert(kind, choice);
            }
        }
        Ok(next)
    }

    fn plan_track(
        &self,
        owner: &ParticipantId,
        track: &SubscribedTrack,
        change: &TrackUpdate,
    ) -> Result<Option<Choice>, Refusal> {
        let kind = track.kind;
        let from = match &change.from {
            Some(from) => {
                let named = self.named_origin(from, kind, None).ok_or(Refusal::NoSuchSource(kind))?;
                if named.has_layers_of(&track.from) { track.from.clone() } else { named }
            }
            None => track.from.clone(),
        };
        let moved = from != track.from;
        let mut wish = if moved { wish::Wish::default() } else { track.wish.clone() };
        wish.change(change);
        if !moved && wish == track.wish {
            return Ok(None);
        }
        let conversion = self.conversion(&from, kind, &wish)?;
        // Before, it is not known what the client receives, and there is nothing to keep.
        let negotiated = track.negotiated.as_ref().ok_or(Refusal::UpdateFailed)?;
        let formats = self.formats(&from, kind, &wish::Wish::default());
        if !formats.iter().any(|format| format.is_within(negotiated)) {
            return Err(Refusal::Unsatisfied(kind, Unsatisfied::Format));
        }
        let tap = self.tap(owner, kind, &from, &conversion, Some(negotiated));
        let fits = match &tap {
            Some(Tap::Output(spec)) => self.has_room_for(&from, spec),
            Some(Tap::Plain | Tap::Layers(_)) | None => true,
        };
        let there = tap.and_then(|tap| self.feed_of_tap(owner, kind, &from, &tap));
        let waits_in_vain = self.is_mixer_failing(&from) || !fits;
        if there.is_none() && waits_in_vain {
            return Err(Refusal::UpdateFailed);
        }
        Ok(Some(Choice { from, wish, conversion }))
    }

    /// Updates that wait for a mixer go on if it has made what they want.
    pub(super) fn advance_updates(&mut self) {
        let all: Vec<SubscriptionId> = self.updates.keys().cloned().collect();
        for id in all {
            self.advance_update(&id);
        }
    }

    fn advance_update(&mut self, id: &SubscriptionId) {
        let Some(Update { stage: Stage::Making { next }, .. }) = self.updates.get(id) else { return };
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let mut sources = BTreeMap::new();
        for track in &subscription.tracks {
            let Some(choice) = next.get(&track.kind) else { continue };
            let (owner, kind) = (&subscription.owner, track.kind);
            let tap = self.tap(owner, kind, &choice.from, &choice.conversion, track.negotiated.as_ref());
            match tap.and_then(|tap| self.feed_of_tap(owner, kind, &choice.from, &tap)) {
                Some(source) => sources.insert(kind, source),
                None => return,
            };
        }
        let mut next = next.clone();
        let Some(subscription) = self.state.subscriptions.get_mut(id) else { return };
        let mut former = BTreeMap::new();
        for track in &mut subscription.tracks {
            if let Some(choice) = next.remove(&track.kind) {
                former.insert(track.kind, track.choose(choice));
                if track.feed == sources.get(&track.kind).cloned() {
                    sources.remove(&track.kind);
                }
            }
        }
        let done = sources.is_empty();
        if let Some(update) = self.updates.get_mut(id) {
            update.stage = Stage::Moving { former, left: sources };
        }
        self.repoint(id);
        if done {
            self.end_update(id, Ok(Reply::Done));
        }
    }

    /// The access node has answered where a track comes from.
    pub(super) fn update_moved(
        &mut self,
        id: &SubscriptionId,
        kind: Kind,
        feed: &Feed,
        moved: bool,
        now: Instant,
    ) {
        let Some(Update { stage: Stage::Moving { former, left }, .. }) = self.updates.get_mut(id) else {
            return;
        };
        if left.get(&kind) != Some(feed) {
            return;
        }
        if !moved {
            return self.revert_update(id);
        }
        left.remove(&kind);
        if left.is_empty() {
            let lingering = Lingering { until: now + LINGER, former: std::mem::take(former) };
            self.lingering.insert(id.clone(), lingering);
            self.end_update(id, Ok(Reply::Done));
        }
    }

    /// The subscription becomes what it was, if that is still there.
    fn revert_update(&mut self, id: &SubscriptionId) {
        self.decided_not_to_change(id);
        if let Some(Update { stage: Stage::Moving { former, .. }, .. }) = self.updates.get_mut(id)
            && let Some(subscription) = self.state.subscriptions.get_mut(id)
        {
            let mut former = std::mem::take(former);
            for track in &mut subscription.tracks {
                if let Some(choice) = former.remove(&track.kind) {
                    track.choose(choice);
                }
            }
        }
        let gone = |track: &SubscribedTrack| self.original(&track.from, track.kind).is_none();
        if self.state.subscriptions.get(id).is_some_and(|s| s.tracks.iter().any(gone)) {
            self.end_session(&SessionKey::Subscription(id.clone()), Some("Source stream loss"), true);
        } else {
            self.repoint(id);
            self.end_update(id, Err(Refusal::UpdateFailed));
        }
    }

    /// When something need not be made any longer.
    pub(super) fn linger_deadline(&self) -> Option<Instant> {
        self.lingering.values().map(|lingering| lingering.until).min()
    }

    pub(super) fn linger_timeout(&mut self, now: Instant) {
        let before = self.lingering.len();
        self.lingering.retain(|_, lingering| lingering.until > now);
        self.views_changed |= self.lingering.len() < before;
    }

    /// Replies, and starts the next one.
    fn end_update(&mut self, id: &SubscriptionId, result: Result<Reply, Refusal>) {
        let Some(Update { request, mut waiting, .. }) = self.updates.remove(id) else { return };
        self.views_changed = true;
        self.reply(request, result);
        while let Some((request, wanted)) = waiting.pop_front() {
            match self.start_update(request, id, &wanted, VecDeque::new()) {
                Ok(Some(reply)) => self.reply(request, Ok(reply)),
                Err(refusal) => self.refuse(request, refusal),
                Ok(None) => {
                    // Unless it is done already, in which case the others have not waited for it.
                    if let Some(update) = self.updates.get_mut(id) {
                        update.waiting = waiting;
                        return;
                    }
                }
            }
        }
    }

    /// Updates that wait for a mixer, with what they want.
    pub(super) fn making(
        &self,
    ) -> impl Iterator<Item = (&SubscriptionId, &Subscription, &SubscribedTrack, &Choice)> {
        self.updates.iter().flat_map(|(id, update)| {
            let subscription = self.state.subscriptions.get(id);
            let tracks = subscription.into_iter().flat_map(|s| s.tracks.iter().map(move |track| (s, track)));
            tracks.filter_map(move |(subscription, track)| match &update.stage {
                Stage::Making { next } => {
                    next.get(&track.kind).map(|choice| (id, subscription, track, choice))
                }
                Stage::Moving { .. } => None,
            })
        })
    }

    /// The updates that wait for something of an origin fail.
    pub(super) fn fail_updates(&mut self, of: impl Fn(&Origin) -> bool) {
        for id in self.waiting_updates(of) {
            self.fail_update(&id);
        }
    }

    pub(super) fn waiting_updates(&self, of: impl Fn(&Origin) -> bool) -> Vec<SubscriptionId> {
        let waiting = |(id, subscription, track, choice): (_, &Subscription, &SubscribedTrack, &Choice)| {
            let (owner, kind) = (&subscription.owner, track.kind);
            let tap = self.tap(owner, kind, &choice.from, &choice.conversion, track.negotiated.as_ref());
            let there = tap.and_then(|tap| self.feed_of_tap(owner, kind, &choice.from, &tap));
            (of(&choice.from) && there.is_none()).then(|| SubscriptionId::clone(id))
        };
        self.making().filter_map(waiting).collect()
    }

    /// An update that waits for a mixer fails. One that is done is left alone.
    pub(super) fn fail_update(&mut self, id: &SubscriptionId) {
        if matches!(self.updates.get(id), Some(Update { stage: Stage::Making { .. }, .. })) {
            self.decided_not_to_change(id);
            self.end_update(id, Err(Refusal::UpdateFailed));
        }
    }

    fn decided_not_to_change(&mut self, id: &SubscriptionId) {
        for kind in Kind::ALL {
            if self.updates.get(id).is_some_and(|update| update.choice(kind).is_some()) {
                self.decided(id, kind, Why::NotChanged);
            }
        }
    }

    /// A stream is gone: nobody can be moved to it.
    pub(super) fn fail_updates_to(&mut self, stream: &StreamId) {
        let to_it = |(id, _, _, choice): (&SubscriptionId, _, _, &Choice)| {
            choice.from.is_of(stream).then(|| id.clone())
        };
        let failed: Vec<SubscriptionId> = self.making().filter_map(to_it).collect();
        for id in failed {
            self.fail_update(&id);
        }
    }

    /// A subscription is gone.
    pub(super) fn refuse_updates(&mut self, id: &SubscriptionId) {
        self.views_changed |= self.lingering.remove(id).is_some();
        let Some(Update { request, waiting, .. }) = self.updates.remove(id) else { return };
        self.refuse(request, Refusal::UpdateFailed);
        for (request, _) in waiting {
            self.refuse(request, Refusal::UnknownSubscription);
        }
    }

    /// The requests of all updates, which end.
    pub(super) fn take_updates(&mut self) -> impl Iterator<Item = RequestId> + use<> {
        let updates = std::mem::take(&mut self.updates).into_values();
        updates
            .flat_map(|u| std::iter::once(u.request).chain(u.waiting.into_iter().map(|(request, _)| request)))
    }

    /// What the way to the subscriber is estimated to carry.
    pub(super) fn query_bandwidth(
        &mut self,
        request: RequestId,
        by: &ParticipantId,
        id: &SubscriptionId,
    ) -> Result<Option<Reply>, Refusal> {
        let transport = self.controllable(Some(by), id)?.transport.clone();
        let node = self.node_of(&transport).ok_or(Refusal::StreamNotReady)?;
        let call = v1::EstimateBandwidthRequest { transport_id: transport.to_string() };
        let pending = Pending::Bandwidth { request, transport };
        self.call(Callee::Access(node), CallRequest::EstimateBandwidth(call), pending);
        Ok(None)
    }

    pub(super) fn bandwidth_estimated(
        &mut self,
        request: RequestId,
        transport: &kaigi_proto::ids::TransportId,
        result: Result<u64, CallError>,
    ) {
        let result = result.map(Reply::Bandwidth).map_err(|error| node_refusal(error, transport));
        self.reply(request, result);
    }
}
