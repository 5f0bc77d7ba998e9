//! Subscriptions: from the request to their end.

use std::{collections::BTreeMap, time::Instant};

use kaigi_proto::{
    ids::{ParticipantId, StreamId, SubscriptionId, TrackId},
    v1::{self, progress::Progress},
};

use super::{
    Room,
    calls::{Pending, node_refusal},
    decisions::{Flowing, Why},
    feeds::Tap,
    input::{CallError, Negotiated, RequestId, Subscribe, SubscribeTrack},
    media::{Feed, FeedOnWire, Format, Kind, Kinds, Source},
    output::{CallRequest, Callee, Note, Output, Reply},
    refusal::{Refusal, Unsatisfied},
    sessions::{NewSession, SessionKey},
    state::{Origin, Participant, Phase, Publication, SubscribedTrack, Subscription, Track},
    wish::{self, Conversion},
};

impl Room {
    pub(super) fn subscribe(
        &mut self,
        request: RequestId,
        subscribe: Subscribe,
    ) -> Result<Option<Reply>, Refusal> {
        let participant = self.participant(&subscribe.participant)?;
        if subscribe.tracks.iter().any(|track| !participant.subscribe.has(track.kind)) {
            return Err(Refusal::Unauthorized);
        }
        let origin = |track| match self.coming_origin(&subscribe, track) {
            Some(coming) => Ok((coming, Conversion::default())),
            None => self.origin(track),
        };
        let origins: Vec<(Origin, Conversion)> =
            subscribe.tracks.iter().map(origin).collect::<Result<_, _>>()?;
        let owner = subscribe.participant;
        let data = subscribe.data_from.map(|from| self.data_origin(&owner, &from)).transpose()?;
        let mut sources = subscribe.tracks.iter().zip(&origins);
        if sources.any(|(track, (origin, _))| {
            self.source(&owner, track.kind, origin).is_none() && self.is_mixer_failing(origin)
        }) {
            return Err(self.no_mixer());
        }
        let mids = subscribe.tracks.iter().map(|track| track.mid.as_str()).collect();
        let new = NewSession {
            owner: &owner,
            transport: subscribe.transport.as_ref(),
            own_transport: subscribe.own_transport,
            mids,
        };
        let (session, transport) = self.admit_session(&new)?;
        let id = SubscriptionId::new(&session).expect("hex characters are allowed");
        let tracks =
            subscribe.tracks.into_iter().zip(origins).map(|(track, (from, conversion))| SubscribedTrack {
                kind: track.kind,
                mid: track.mid,
                from,
                wish: track.wish,
                conversion,
                negotiated: None,
                feed: None,
                active: true,
            });
        let subscription = Subscription {
            owner: owner.clone(),
            transport,
            phase: Phase::Placing,
            tracks: tracks.collect(),
            data,
            withheld: Kinds::default(),
            early: None,
            asked: self.asking.clone(),
        };
        let asked =
            subscription.tracks.iter().map(|track| (track.kind, self.origin_id(&track.from, track.kind)));
        let asked: Vec<(Kind, String)> = asked.collect();
        self.state.subscriptions.insert(id.clone(), subscription);
        for (kind, from) in asked {
            self.decided(&id, kind, Why::Subscribed(from));
        }
        self.opening.insert(session.try_into().expect("hex characters are allowed"), request);
        // A participant's own mix may have to be made first.
        self.views_changed = true;
        self.advance_sessions(&owner);
        Ok(None)
    }

    /// What a subscriber names, if it has what the subscriber wants of it, and what of that has to be made.
    fn origin(&self, track: &SubscribeTrack) -> Result<(Origin, Conversion), Refusal> {
        let kind = track.kind;
        let origin = self.named_origin(&track.from, kind, track.rid.as_deref());
        let origin = origin.ok_or(Refusal::NoSuchSource(kind))?;
        let conversion = self.conversion(&origin, kind, &track.wish)?;
        Ok((origin, conversion))
    }

    /// What of a wish an origin is not already.
    ///
    /// # Errors
    /// If the origin is gone, or the wish is not offered.
    pub(super) fn conversion(
        &self,
        origin: &Origin,
        kind: Kind,
        wished: &wish::Wish,
    ) -> Result<Conversion, Refusal> {
        let (format, parameters) = self.original(origin, kind).ok_or(Refusal::NoSuchSource(kind))?;
        let other = |wanted: &Format| !wanted.is_met_by(&format);
        if matches!(origin, Origin::Selected(_)) && wished.format.as_ref().is_some_and(other) {
            // Who is in a slot changes too often to be transcoded.
            return Err(Refusal::Unsatisfied(kind, Unsatisfied::Format));
        }
        let of = |layer: &Track| layer.layers.iter().copied().chain(layer.resolution).collect::<Vec<_>>();
        let sizes: Vec<_> = self.layers(origin).flat_map(of).collect();
        let conversion = wish::check(wished, kind, &self.config, &format, &parameters, &sizes)?;
        self.check_encrypted(origin, &conversion)?;
        Ok(conversion)
    }

    /// Whether an access node has something to choose from: the layers of a simulcast stream, or those of one track. Whether a track has some
    /// shows when it flows.
    pub(super) fn is_layered(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Track { layered: true, .. } => true,
            Origin::Track { stream, track, layered: false } => {
                let publication = self.state.publications.get(stream);
                let track = publication.and_then(|p| p.tracks.iter().find(|t| t.id == *track));
                track.is_some_and(|track| track.rid().is_empty() && track.is_scalable())
            }
            Origin::View(_) | Origin::Selected(_) => false,
        }
    }

    /// The layers that an origin stands for; none if it is a single track.
    pub(super) fn layers(&self, origin: &Origin) -> impl Iterator<Item = &Track> {
        let publication = match origin {
            Origin::Track { stream, track, .. } if self.is_layered(origin) => {
                self.state.publications.get(stream).map(|publication| (publication, track))
            }
            Origin::Track { .. } | Origin::View(_) | Origin::Selected(_) => None,
        };
        publication.into_iter().flat_map(|(publication, track)| publication.layers(track))
    }

    /// The mixed stream of that id, or the track of the kind of that forward stream, or of that id.
    pub(super) fn named_origin(&self, id: &str, kind: Kind, rid: Option<&str>) -> Option<Origin> {
        if let Some(view) = self.state.views.iter().find(|view| view.stream.as_str() == id) {
            return Some(Origin::View(view.label.clone()));
        }
        if let Some(slot) = self.selecting(id) {
            return (kind == Kind::Audio && rid.is_none()).then_some(Origin::Selected(slot));
        }
        let (stream, track) = self.forward_source(id, kind, rid)?;
        let is_stream = stream.as_str() == id && rid.is_none();
        let layers = |publication: &Publication| publication.layers(&track.id).count();
        let layered = is_stream
            && self.state.publications.get(stream).is_some_and(|publication| layers(publication) > 1);
        Some(Origin::Track { stream: stream.clone(), track: track.id.clone(), layered })
    }

    /// The first track of the kind of that stream (the one of the `rid`, if given), or the track of that id.
    fn forward_source(&self, id: &str, kind: Kind, rid: Option<&str>) -> Option<(&StreamId, &Track)> {
        if let Some((stream, publication)) = self.state.publications.get_key_value(id) {
            if let Some(rid) = rid {
                let layer = |track: &&Track| track.kind == kind && track.rid() == rid;
                return publication.tracks.iter().find(layer).map(|track| (stream, track));
            }
            return publication.first_track(kind).map(|track| (stream, track));
        }
        let track = TrackId::new(id).ok()?;
        self.publication_of(&track).filter(|(_, track)| track.kind == kind)
    }

    /// Where the own track of a stream is; `None` if that is not known yet, or changes with who speaks.
    pub(super) fn source(&self, owner: &ParticipantId, kind: Kind, origin: &Origin) -> Option<Source> {
        match origin {
            Origin::Track { stream, track, .. } => self.track_source(stream, track),
            Origin::View(label) => {
                let outputs = self.view(label)?.outputs.as_ref()?;
                match kind {
                    Kind::Video => outputs.video.clone(),
                    Kind::Audio if self.has_own_mix(owner) => outputs.minus.get(owner).cloned(),
                    Kind::Audio => outputs.audio.clone(),
                }
            }
            Origin::Selected(_) => None,
        }
    }

    pub(super) fn track_source(&self, stream: &StreamId, track: &TrackId) -> Option<Source> {
        let publication = self.state.publications.get(stream)?;
        let track = publication.tracks.iter().find(|t| t.id == *track)?;
        let node = self.node_of_publication(publication)?;
        Some(Source { track: track.id.clone(), node, kind: track.kind, format: track.format.clone() })
    }

    /// Whether a participant hears a mix without itself.
    pub(super) fn has_own_mix(&self, participant: &ParticipantId) -> bool {
        self.state.participants.get(participant).is_some_and(Participant::has_own_mix)
    }

    /// Opens a subscription at its access node once all streams that it is of are there. What has to be made of them depends on what
    /// the client then negotiates.
    pub(super) fn open_subscription(&mut self, id: &SubscriptionId) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let Some(node) = self.node_of(&subscription.transport) else { return };
        let (mut tracks, mut feeds) = (Vec::new(), Vec::new());
        for track in &subscription.tracks {
            let is_coming = self.is_coming(&track.from);
            let is_there = is_coming
                || matches!(track.from, Origin::Selected(_))
                || self.source(&subscription.owner, track.kind, &track.from).is_some();
            if !is_there {
                return;
            }
            let formats = if is_coming {
                self.accepted_formats(track.kind)
            } else {
                self.formats(&track.from, track.kind, &track.wish)
            };
            let feed = self.feed_of(subscription, track);
            let FeedOnWire { source, layers, wanted, selected } =
                feed.as_ref().map(Feed::to_wire).unwrap_or_default();
            tracks.push(v1::SubscriptionTrack {
                kind: track.kind.to_wire(),
                mid: track.mid.clone(),
                source,
                formats: formats.iter().map(Format::to_wire).collect(),
                client_order: is_coming || matches!(track.from, Origin::View(_)),
                layers,
                wanted,
                selected,
            });
            feeds.push(feed);
        }
        let data = subscription.data.as_ref().and_then(|stream| self.data_source(stream));
        let selection = self.selection_to_wire();
        let Some(subscription) = self.state.subscriptions.get_mut(id) else { return };
        subscription.phase = Phase::Opening;
        for (track, feed) in subscription.tracks.iter_mut().zip(&feeds) {
            track.feed.clone_from(feed);
        }
        let kinds: Vec<Kind> = subscription.tracks.iter().map(|track| track.kind).collect();
        let call = v1::OpenSubscriptionRequest {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            epoch: self.settings.epoch,
            participant_id: subscription.owner.to_string(),
            transport_id: subscription.transport.to_string(),
            session_id: id.to_string(),
            tracks,
            data,
            selection,
        };
        self.visit(&node);
        let pending = Pending::OpenSubscription(id.clone());
        self.call(Callee::Access(node), CallRequest::OpenSubscription(call), pending);
        for (kind, feed) in kinds.into_iter().zip(feeds) {
            if let Some(feed) = feed {
                self.decided_feed(id, kind, &feed, false);
            }
        }
        Kind::ALL.into_iter().for_each(|kind| self.order_flow(&SessionKey::Subscription(id.clone()), kind));
    }

    pub(super) fn subscription_opened(&mut self, id: &SubscriptionId, result: Result<(), CallError>) {
        let Some(subscription) = self.state.subscriptions.get_mut(id) else { return };
        if subscription.phase != Phase::Opening {
            return;
        }
        let transport = subscription.transport.clone();
        match result {
            Ok(()) => {
                subscription.phase = Phase::Connecting;
                let early = subscription.early.take();
                self.acknowledge(id.as_str(), &transport);
                self.repoint(id);
                if let Some(tracks) = early {
                    self.subscription_established(id, tracks);
                }
            }
            Err(error) => {
                let owner = subscription.owner.clone();
                self.unplace_after(&owner, &transport, &error);
                let session = SessionKey::Subscription(id.clone());
                self.fail_opening(&session, node_refusal(error, &transport));
            }
        }
    }

    /// The client receives what was negotiated: that is taken, or made, of its source.
    pub(super) fn subscription_established(&mut self, id: &SubscriptionId, negotiated: Vec<Negotiated>) {
        let Some(subscription) = self.state.subscriptions.get_mut(id) else { return };
        match subscription.phase {
            Phase::Placing | Phase::Established => {}
            Phase::Opening => subscription.early = Some(negotiated),
            Phase::Connecting => {
                subscription.phase = Phase::Established;
                for track in &mut subscription.tracks {
                    let same = |n: &&Negotiated| n.mid == track.mid && n.kind == track.kind;
                    track.negotiated = negotiated.iter().find(same).map(|n| n.format.clone());
                }
                let (owner, transport) = (subscription.owner.clone(), subscription.transport.clone());
                self.progress(&owner, &transport, Progress::SessionReady(id.to_string()));
                self.subscription_happened(id);
                self.mixing_may_change(id);
                self.decided_making(id, &BTreeMap::new());
                self.repoint(id);
                self.end_if_too_many(id);
            }
        }
    }

    /// Ends a subscription that wants an output which is one too many for a mixer.
    fn end_if_too_many(&mut self, id: &SubscriptionId) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let too_many = |track: &SubscribedTrack| match self.tap_of(subscription, track) {
            Some(Tap::Output(spec)) => !self.has_room_for(&track.from, &spec),
            Some(Tap::Plain | Tap::Layers(_)) | None => false,
        };
        if subscription.tracks.iter().any(too_many) {
            self.end_session(&SessionKey::Subscription(id.clone()), Some("Too many outputs"), true);
        }
    }

    /// What mixers are to make depends on this subscription, unless it takes forward tracks as they are.
    fn mixing_may_change(&mut self, id: &SubscriptionId) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        self.views_changed |= self.is_mixing_for(subscription);
    }

    fn is_mixing_for(&self, subscription: &Subscription) -> bool {
        let plain = |track: &SubscribedTrack| {
            matches!(track.from, Origin::Track { .. } | Origin::Selected(_))
                && matches!(self.tap_of(subscription, track), Some(Tap::Plain | Tap::Layers(_)))
        };
        !subscription.tracks.iter().all(plain)
    }

    pub(super) fn unsubscribe(
        &mut self,
        participant: &ParticipantId,
        id: &SubscriptionId,
    ) -> Result<Reply, Refusal> {
        self.participant(participant)?;
        let subscription = self.state.subscriptions.get(id).ok_or(Refusal::UnknownSubscription)?;
        if subscription.owner != *participant {
            return Err(Refusal::Unauthorized);
        }
        self.end_session(&SessionKey::Subscription(id.clone()), None, true);
        Ok(Reply::Done)
    }

    pub(super) fn remove_subscription(&mut self, id: &SubscriptionId, reason: Option<&str>, close: bool) {
        self.refuse_updates(id);
        let Some(subscription) = self.state.subscriptions.remove(id) else { return };
        self.subscription_gone(id, &subscription);
        self.decisions.forget(id);
        self.views_changed |= self.is_mixing_for(&subscription);
        let transport = &subscription.transport;
        if close && let Some(node) = self.node_of(transport).filter(|_| subscription.phase != Phase::Placing)
        {
            self.close_session(node, transport, id.as_str());
        }
        if let Some(reason) = reason {
            self.session_error(&subscription.owner, transport, id.as_str(), reason);
        }
    }

    pub(super) fn control_subscription(
        &mut self,
        request: RequestId,
        participant: &ParticipantId,
        id: &SubscriptionId,
        kinds: Kinds,
        active: bool,
    ) -> Result<Option<Reply>, Refusal> {
        let subscription = self.controllable(Some(participant), id)?;
        let has = |kind: Kind| subscription.tracks.iter().any(|track| track.kind == kind);
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| kinds.has(*kind)).collect();
        if let Some(lacking) = kinds.iter().find(|kind| !has(**kind))
            && !kinds.iter().any(|kind| has(*kind))
        {
            return Err(Refusal::SubscriptionLacks(*lacking));
        }
        let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| has(*kind)).collect();
        if kinds.is_empty() {
            return Ok(Some(Reply::Done));
        }
        let flowing = Flowing { active, by: Self::by(Some(participant), &subscription.owner) };
        self.may_flow(&SessionKey::Subscription(id.clone()), &kinds, active)?;
        self.activate_subscription(request, id, kinds, flowing);
        Ok(None)
    }

    /// Asks the access node for the first of `kinds`; the others follow its answer.
    fn activate_subscription(
        &mut self,
        request: RequestId,
        id: &SubscriptionId,
        kinds: Vec<Kind>,
        flowing: Flowing,
    ) {
        let Some(&kind) = kinds.first().filter(|_| self.state.subscriptions.contains_key(id)) else {
            return self.refuse(request, Refusal::UnknownSubscription);
        };
        let pending = Pending::SubscriptionActive { request, subscription: id.clone(), kinds, flowing };
        if let Err(refusal) =
            self.ask_flow(&SessionKey::Subscription(id.clone()), kind, flowing.active, pending)
        {
            self.refuse(request, refusal);
        }
    }

    pub(super) fn subscription_activated(
        &mut self,
        request: RequestId,
        id: &SubscriptionId,
        mut kinds: Vec<Kind>,
        flowing: Flowing,
        result: Result<(), CallError>,
        now: Instant,
    ) {
        let (session, done) = (SessionKey::Subscription(id.clone()), kinds.remove(0));
        let Flowing { active, by } = flowing;
        self.flow_answered(&session, done, &result, now);
        let permitted = self.may_flow(&session, &[done], active);
        let Some(subscription) = self.state.subscriptions.get_mut(id) else {
            return self.refuse(request, Refusal::UnknownSubscription);
        };
        let result = result.map_err(|error| node_refusal(error, &subscription.transport)).and(permitted);
        if result.is_ok() {
            subscription.set_active(done, active);
            subscription.withheld.set(done, false);
            self.decided(id, done, if active { Why::Resumed(by) } else { Why::Paused(by) });
        }
        self.settle_flow(&session, done);
        if let Err(refusal) = result {
            self.refuse(request, refusal);
        } else if kinds.is_empty() {
            self.reply(request, Ok(Reply::Done));
        } else {
            self.activate_subscription(request, id, kinds, flowing);
        }
    }

    /// The same for all that take something of a stream.
    pub(super) fn repoint_all_of(&mut self, stream: &StreamId) {
        let takes = |s: &Subscription| s.tracks.iter().any(|track| track.from.is_of(stream));
        let subscriptions = self.state.subscriptions.iter().filter(|(_, s)| takes(s));
        let ids: Vec<_> = subscriptions.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.repoint(&id);
        }
    }

    /// Tells the access node of sources that are elsewhere now than it was told.
    pub(super) fn repoint(&mut self, id: &SubscriptionId) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        match subscription.phase {
            Phase::Placing | Phase::Opening => return,
            Phase::Connecting | Phase::Established => {}
        }
        let Some(node) = self.node_of(&subscription.transport) else { return };
        let moved: Vec<(Kind, Feed)> = subscription
            .tracks
            .iter()
            .filter_map(|track| {
                let feed = self.feed_of(subscription, track)?;
                (track.feed.as_ref() != Some(&feed)).then_some((track.kind, feed))
            })
            .collect();
        let transport_id = subscription.transport.to_string();
        for (kind, feed) in moved {
            let before = self.subscribed_track(id, kind).and_then(|track| track.feed.replace(feed.clone()));
            self.decided_feed(id, kind, &feed, before.is_some());
            let FeedOnWire { source, layers, wanted, selected } = feed.to_wire();
            let call = v1::SetSourceRequest {
                transport_id: transport_id.clone(),
                session_id: id.to_string(),
                kind: kind.to_wire(),
                source,
                layers,
                wanted,
                selected,
            };
            let pending = Pending::SetSource { subscription: id.clone(), kind, feed };
            self.call(Callee::Access(node.clone()), CallRequest::SetSource(call), pending);
        }
    }

    pub(super) fn source_set(
        &mut self,
        id: &SubscriptionId,
        kind: Kind,
        feed: Feed,
        result: Result<(), CallError>,
        now: Instant,
    ) {
        self.update_moved(id, kind, &feed, result.is_ok(), now);
        let Err(error) = result else { return };
        if let Some(track) = self.subscribed_track(id, kind).filter(|t| t.feed.as_ref() == Some(&feed)) {
            track.feed = None;
            self.decided(id, kind, Why::NotTaken);
            self.mixer.repoint_later(now);
            let note = Note::SourceNotChanged { subscription: id.to_string(), reason: error.to_string() };
            self.output(Output::Log(note));
        }
    }

    pub(super) fn subscribed_track(
        &mut self,
        id: &SubscriptionId,
        kind: Kind,
    ) -> Option<&mut SubscribedTrack> {
        let subscription = self.state.subscriptions.get_mut(id)?;
        subscription.tracks.iter_mut().find(|track| track.kind == kind)
    }
}
