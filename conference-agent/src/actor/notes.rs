//! What the room's log is told.

use super::Actor;
use crate::room::Note;

impl Actor {
    pub(super) fn log(&self, note: &Note) {
        let room = &self.id;
        match note {
            Note::InputFailed { view, stream, reason } => {
                tracing::warn!(%room, view, stream, reason, "input of a view failed");
            }
            Note::MixerFailed { part, reason } => tracing::warn!(%room, part, reason, "mixer failed"),
            Note::TranscoderFailed { transcoder, reason } => {
                tracing::warn!(%room, transcoder, reason, "transcoder failed, goes on trying");
            }
            Note::AnalyticsEnded { analytics, reason } => {
                tracing::info!(%room, analytics, reason, "analytics ended");
            }
            Note::EgressFailed { egress, reason } => {
                tracing::warn!(%room, egress, reason, "recording or broadcast interrupted");
            }
            Note::UnreadableTemplates { view, count } => {
                tracing::warn!(%room, view, count, "custom layout templates left out: unreadable");
            }
            Note::SourceNotChanged { subscription, reason } => {
                tracing::warn!(%room, subscription, reason, "subscription not moved to its new source, trying again");
            }
            Note::SessionFailed { participant, session, reason } => {
                tracing::info!(%room, participant, stream = session, reason, "publication ended");
            }
        }
    }
}
