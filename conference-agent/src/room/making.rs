//! What the mixer is to make, and what it made: descriptions of views and transcoders follow what subscriptions want, and subscriptions
//! follow where it is made.

use std::{collections::BTreeMap, time::Instant};

use kaigi_proto::{
    ids::{StreamId, SubscriptionId, WorkerId},
    v1,
};

use super::{
    Room,
    calls::unexpected,
    feeds::{Demand, Tap},
    input::{CallError, CallReply},
    mixer::{Description, Part},
    outputs::{MadeOutputs, OutputSpecs, audio_outputs_to_wire, video_outputs_to_wire},
    sessions::SessionKey,
    state::{Choice, Phase, SubscribedTrack, Subscription, Transcoder},
    transcoded::Transcoded,
};

impl Room {
    /// Describes views and transcoders anew if something they are made of has changed.
    pub(super) fn refresh_views(&mut self) {
        if !std::mem::take(&mut self.views_changed) {
            return;
        }
        let mut demand = self.demand();
        for index in 0..self.state.views.len() {
            self.refresh_view(index, &demand);
        }
        let tracks = std::mem::take(&mut demand.tracks);
        let links = &mut self.mixer.parts;
        self.state.transcoders.retain(|of, _| {
            let wanted = tracks.contains_key(of);
            if let Some(link) = links.get_mut(&Part::Transcoder(of.clone())).filter(|_| !wanted) {
                link.wanted = None;
            }
            wanted
        });
        for (of, (stream, specs)) in tracks {
            self.refresh_transcoder(&of, stream, &specs);
        }
        self.refresh_analytics();
    }

    fn refresh_view(&mut self, index: usize, demand: &Demand) {
        let view = &self.state.views[index];
        let Some(mut description) = self.describe_view(view, demand) else { return };
        let Some(link) = self.mixer.parts.get_mut(&Part::View(view.label.clone())) else { return };
        let view = &mut self.state.views[index];
        let wanted = demand.views.get(&view.label);
        if let Some(made) = &mut view.outputs {
            let is_wanted = |id: &str| wanted.is_some_and(|view| view.outputs.contains_key(id));
            made.others.sources.retain(|id, _| is_wanted(id));
        }
        if !matches!(&link.wanted, Some(Description::View(known)) if **known == description) {
            view.revision += 1;
            description.revision = view.revision;
            link.wanted = Some(Description::View(Box::new(description)));
        }
    }

    fn refresh_transcoder(&mut self, of: &Transcoded, stream: StreamId, specs: &OutputSpecs) {
        let known = self.state.transcoders.get(of).map_or(0, |transcoder| transcoder.revision);
        let Some(mut description) = self.describe_transcoder(of, &stream, specs, known) else { return };
        let fresh = Transcoder { stream: stream.clone(), revision: 0, outputs: MadeOutputs::default() };
        let transcoder = self.state.transcoders.get_or_insert(of.clone(), fresh);
        transcoder.stream = stream;
        transcoder.outputs.sources.retain(|id, _| specs.contains_key(id));
        let link = self.mixer.parts.entry(Part::Transcoder(of.clone())).or_default();
        if !matches!(&link.wanted, Some(Description::Transcoder(known)) if **known == description) {
            self.state.transcoder_revision += 1;
            transcoder.revision = self.state.transcoder_revision;
            description.revision = transcoder.revision;
            link.wanted = Some(Description::Transcoder(Box::new(description)));
        }
    }

    /// The transcoder as it is to be.
    pub(super) fn describe_transcoder(
        &self,
        of: &Transcoded,
        stream: &StreamId,
        specs: &OutputSpecs,
        revision: u64,
    ) -> Option<v1::TranscoderDescription> {
        Some(v1::TranscoderDescription {
            agent_id: self.settings.agent.to_string(),
            room_id: self.id.to_string(),
            id: of.id(),
            epoch: self.settings.epoch,
            revision,
            source: Some(self.track_source(stream, &of.track)?.to_wire()),
            video_outputs: video_outputs_to_wire(specs),
            audio_outputs: audio_outputs_to_wire(specs),
            layers: if of.layered { self.layers_to_wire(stream, &of.track) } else { Vec::new() },
            analysis: None,
            screen: self.shows_screen(stream, &of.track),
        })
    }

    /// The mixer's reply to a description.
    pub(super) fn part_set(
        &mut self,
        part: &Part,
        revision: u64,
        mixer: &WorkerId,
        result: Result<CallReply, CallError>,
        now: Instant,
    ) {
        if self.state.mixer.as_ref().is_none_or(|node| node.worker != *mixer) {
            return;
        }
        let Some(link) = self.mixer.parts.get_mut(part) else { return };
        link.in_flight = false;
        if link.wanted.is_none() {
            return;
        }
        let made = match result.and_then(|reply| self.take_made(part, reply)) {
            Ok(made) => made,
            Err(error) => return self.mixer_failed(Some(part), error, now),
        };
        self.mixer.is_well();
        let Some(link) = self.mixer.parts.get_mut(part) else { return };
        link.acked = link.acked.max(revision);
        link.failing = false;
        let latest = link.wanted.as_ref().filter(|wanted| wanted.revision() <= revision);
        let mut failures = made.failures;
        for id in latest.into_iter().flat_map(Description::outputs) {
            if !made.sources.contains_key(id) && !failures.contains_key(id) {
                failures.insert(id.to_owned(), "Output is not available".to_owned());
            }
        }
        let is_latest = latest.is_some();
        let in_vain = if is_latest { self.waiting_updates(|origin| part.is_of(origin)) } else { Vec::new() };
        self.resume_subscriptions(part);
        self.advance_updates();
        for id in in_vain {
            self.fail_update(&id);
        }
        if is_latest && let Part::View(_) = part {
            // What the mixer did not make of this description it will not make later.
            self.refuse_waiting(|origin| part.is_of(origin));
        }
        if !failures.is_empty() {
            self.outputs_failed(part, &failures);
        }
    }

    /// Keeps what a mixer made; gives the outputs of it.
    fn take_made(&mut self, part: &Part, reply: CallReply) -> Result<MadeOutputs, CallError> {
        match (part, reply) {
            (Part::View(label), CallReply::View(outputs)) => {
                let others = outputs.others.clone();
                if let Some(view) = self.view_mut(label) {
                    view.outputs = Some(*outputs);
                }
                self.views_changed |= self.is_view_analysed(label);
                Ok(others)
            }
            (Part::Transcoder(of), CallReply::Outputs(made)) => {
                if let Some(transcoder) = self.state.transcoders.get_mut(of) {
                    transcoder.outputs = made.clone();
                }
                Ok(made)
            }
            (Part::Analysis(id), CallReply::Outputs(made)) => {
                self.analysis_made(id, &made);
                Ok(made)
            }
            (Part::View(_), CallReply::Outputs(_))
            | (Part::Transcoder(_) | Part::Analysis(_), CallReply::View(_))
            | (
                _,
                CallReply::Done
                | CallReply::Scheduled(_)
                | CallReply::Adopted(_)
                | CallReply::Missing(_)
                | CallReply::Bandwidth(_)
                | CallReply::Egress { .. }
                | CallReply::Ingest { .. },
            ) => Err(unexpected()),
        }
    }

    /// Subscriptions that waited for a part are opened, others are pointed at where it is now.
    fn resume_subscriptions(&mut self, part: &Part) {
        let of_it =
            self.state.subscriptions.iter().filter(|(_, s)| s.tracks.iter().any(|t| part.is_of(&t.from)));
        let all: Vec<(SubscriptionId, Phase)> = of_it.map(|(id, s)| (id.clone(), s.phase.clone())).collect();
        for (id, phase) in all {
            match phase {
                Phase::Placing => self.open_subscription(&id),
                Phase::Opening | Phase::Connecting | Phase::Established => self.repoint(&id),
            }
        }
    }

    /// Outputs that can't be: updates that want them fail, subscriptions that live by them end.
    fn outputs_failed(&mut self, part: &Part, failures: &BTreeMap<String, String>) {
        let reason = |tap: Option<Tap>| match tap {
            Some(Tap::Output(spec)) => failures.get(&spec.id()).cloned(),
            Some(Tap::Plain | Tap::Layers(_)) | None => None,
        };
        let failed = |(id, subscription, track, choice): (_, &Subscription, &SubscribedTrack, &Choice)| {
            let negotiated = track.negotiated.as_ref();
            let tap = self.tap(&subscription.owner, track.kind, &choice.from, &choice.conversion, negotiated);
            (part.is_of(&choice.from) && reason(tap).is_some()).then(|| SubscriptionId::clone(id))
        };
        let updates: Vec<SubscriptionId> = self.making().filter_map(failed).collect();
        for id in updates {
            self.fail_update(&id);
        }
        let mut ended: Vec<(SubscriptionId, String)> = Vec::new();
        for (id, subscription) in &self.state.subscriptions {
            let tracks = subscription.tracks.iter().filter(|track| part.is_of(&track.from));
            let failed = tracks.filter_map(|track| reason(self.tap_of(subscription, track))).next();
            ended.extend(failed.map(|reason| (id.clone(), reason)));
        }
        self.egress_lacks(|kind, from, tap| match tap {
            Tap::Output(spec) if part.is_of(from) && spec.kind() == kind => failures.get(&spec.id()).cloned(),
            Tap::Output(_) | Tap::Layers(_) | Tap::Plain => None,
        });
        for (id, reason) in ended {
            self.end_session(&SessionKey::Subscription(id), Some(&reason), true);
        }
    }

    /// No mixer makes anything of it.
    pub(super) fn give_up(&mut self, part: &Part, reason: &str) {
        let wanted = self.mixer.parts.get(part).and_then(|link| link.wanted.as_ref());
        let outputs = wanted.into_iter().flat_map(Description::outputs);
        let failures = outputs.map(|id| (id.to_owned(), reason.to_owned())).collect();
        self.outputs_failed(part, &failures);
    }
}
