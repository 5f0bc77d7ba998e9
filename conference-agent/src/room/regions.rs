//! Who is shown where: the regions of a view's picture, and the layout that the management gives it.

use kaigi_proto::ids::{ParticipantId, StreamId};

use super::{
    Room,
    input::LayoutAssignment,
    layout::{Assignment, RequestedLayout},
    output::Reply,
    refusal::Refusal,
    views::View,
};

impl Room {
    /// The region that a stream has in a view; empty if it waits for one.
    pub(super) fn get_region(
        &self,
        participant: &ParticipantId,
        stream: &StreamId,
        label: &str,
    ) -> Result<Reply, Refusal> {
        self.may_control(participant, stream)?;
        let view = self.view(label).ok_or(Refusal::InvalidView)?;
        let picture = view.picture.as_ref().filter(|picture| picture.has(stream));
        let picture = picture.ok_or(Refusal::InvalidInput)?;
        Ok(Reply::Region(picture.region_of(stream).unwrap_or_default().to_owned()))
    }

    /// Shows a stream in a region of a view; whoever was there takes its place, or waits.
    pub(super) fn set_region(&mut self, stream: &StreamId, label: &str, region: &str) -> Result<(), Refusal> {
        let view = self.view_mut(label).ok_or(Refusal::InvalidView)?;
        let picture = view.picture.as_mut().filter(|picture| picture.has(stream));
        let picture = picture.ok_or(Refusal::InvalidInput)?;
        let place = picture.place_of(region).ok_or(Refusal::InvalidRegionId)?;
        if picture.set_place(stream, place) {
            self.tell_layout(label);
        }
        Ok(())
    }

    /// Gives a mixed stream a layout of its own until the room ends.
    pub(super) fn set_layout(&mut self, mixed: &StreamId, layout: RequestedLayout) -> Result<(), Refusal> {
        let (label, picture) = self.picture_mut(mixed).ok_or(Refusal::NotMixed)?;
        if layout.streams().iter().any(|stream| !picture.has(stream)) {
            return Err(Refusal::InvalidInput);
        }
        picture.set_layout(layout);
        self.tell_layout(&label);
        Ok(())
    }

    /// Shows a stream in the region of that number of a mixed stream's layout.
    pub(super) fn assign_region(
        &mut self,
        mixed: &StreamId,
        assignment: &LayoutAssignment,
    ) -> Result<(), Refusal> {
        let (label, picture) = self.picture_mut(mixed).ok_or(Refusal::NoSuchRegion)?;
        if assignment.index >= picture.regions() {
            return Err(Refusal::NoSuchRegion);
        }
        if !picture.has(&assignment.stream) {
            return Err(Refusal::InvalidInput);
        }
        if !picture.is_filled(assignment.index) {
            return Err(Refusal::InvalidRegionId);
        }
        if picture.set_place(&assignment.stream, assignment.index) {
            self.tell_layout(&label);
        }
        Ok(())
    }

    fn picture_mut(&mut self, mixed: &StreamId) -> Option<(String, &mut Assignment)> {
        let view = self.state.views.iter_mut().find(|view| view.stream == *mixed)?;
        let View { label, picture, .. } = view;
        picture.as_mut().map(|picture| (label.clone(), picture))
    }
}
