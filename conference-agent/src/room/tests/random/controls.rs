//! What participants and the management change: pauses, permissions, regions, layouts.

use kaigi_proto::{ids::StreamId, v1};
use rand::{Rng, seq::IndexedRandom};

use super::{Play, VIEWS};
use crate::room::{
    Command, Kinds, LayoutAssignment, PermissionChange, RequestedLayout, StreamOperation,
    tests::world::{MIXED, participant},
};

impl Play {
    pub(super) fn control(&mut self) {
        let Some(stream) = self.pick(self.streams()) else { return };
        let view = || ["common", "other", "none"];
        let view = view().choose(&mut self.rng).unwrap().to_string();
        let kinds = Kinds { audio: self.rng.random(), video: self.rng.random() };
        let operation = match self.rng.random_range(0..3) {
            0 => StreamOperation::Mix(view),
            1 => StreamOperation::Unmix(view),
            _ => StreamOperation::Status { kinds, active: self.rng.random(), repeat: self.rng.random() },
        };
        self.ask(Command::UpdateStream { stream, operations: vec![operation] });
    }

    pub(super) fn control_subscription(&mut self) {
        let all: Vec<_> = self.world.room.state.subscriptions.iter().map(|(id, s)| (id, &s.owner)).collect();
        let all: Vec<_> = all.into_iter().map(|(id, owner)| (id.clone(), owner.clone())).collect();
        let Some((subscription, participant)) = self.pick(all) else { return };
        let kinds = Kinds { audio: self.rng.random(), video: self.rng.random() };
        let active = self.rng.random();
        self.ask(Command::ControlSubscription { participant, subscription, kinds, active });
    }

    /// Mostly grants, so that there is something to withdraw.
    pub(super) fn permit(&mut self) {
        let mut flag = || self.rng.random_bool(0.4).then(|| self.rng.random_bool(0.7));
        let change = PermissionChange {
            publish_audio: flag(),
            publish_video: flag(),
            subscribe_audio: flag(),
            subscribe_video: flag(),
        };
        let participant = participant(self.name());
        self.ask(Command::UpdateParticipant { participant, change });
    }

    pub(super) fn move_stream(&mut self) {
        let Some(stream) = self.pick(self.streams()) else { return };
        let view = VIEWS.choose(&mut self.rng).unwrap().to_string();
        let region = self.rng.random_range(0..5);
        let operation = if self.rng.random_bool(0.5) {
            StreamOperation::SetRegion { view, region: region.to_string() }
        } else {
            let assignment = LayoutAssignment { index: region, stream: stream.clone() };
            let mixed = MIXED.replace("common", &view);
            let operations = vec![StreamOperation::Assignment(assignment)];
            self.ask(Command::UpdateStream { stream: StreamId::new(mixed).unwrap(), operations });
            return;
        };
        self.ask(Command::UpdateStream { stream, operations: vec![operation] });
    }

    /// A view gets another layout, with some stream first, if that is in the view.
    pub(super) fn lay_out(&mut self) {
        let view = *VIEWS.choose(&mut self.rng).unwrap();
        let first = self.pick(self.streams()).filter(|_| self.rng.random_bool(0.5));
        let count = self.rng.random_range(1..6);
        let regions = (0..count).map(|i| v1::LayoutRegion {
            stream_id: first.as_ref().filter(|_| i == 0).map(ToString::to_string).unwrap_or_default(),
            region_id: (i + 1).to_string(),
            left: format!("{i}/{count}"),
            top: "0".into(),
            width: format!("1/{count}"),
            height: "1/1".into(),
        });
        let layout = RequestedLayout::from_wire(v1::Layout { regions: regions.collect() }).unwrap();
        let (capacity, stream) = (layout.capacity(), StreamId::new(MIXED.replace("common", view)).unwrap());
        let request =
            self.ask(Command::UpdateStream { stream, operations: vec![StreamOperation::Layout(layout)] });
        if self.world.replies[&request].is_ok() {
            self.capacity.insert(view, capacity);
        }
    }
}
