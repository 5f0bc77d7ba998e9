//! The inputs of a view or transcoder, and who is told when they fail.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use kaigi_proto::{ids::StreamId, v1};
use tokio_util::task::AbortOnDropHandle;

use crate::{events::Subject, link::Failure, view::MixerContext};

/// Inputs by stream, with the source that each was made for and the task that reports its failure.
pub type Inputs<S> = BTreeMap<StreamId, Input<S>>;

/// One input.
pub struct Input<S> {
    track: v1::TrackSource,
    /// What is decoded.
    pub source: S,
    _watch: AbortOnDropHandle<()>,
}

impl<S> Input<S> {
    /// An input from that track.
    #[must_use]
    pub fn new(track: &v1::TrackSource, source: S, watch: AbortOnDropHandle<()>) -> Self {
        Self { track: track.clone(), source, _watch: watch }
    }

    /// Where it comes from.
    #[must_use]
    pub fn track(&self) -> &v1::TrackSource {
        &self.track
    }
}

/// Makes `inputs` those that are `wanted`; those whose track is still the same are not touched.
pub fn follow<'a, S>(
    inputs: &mut Inputs<S>,
    wanted: impl Iterator<Item = (&'a StreamId, &'a v1::TrackSource)>,
    start: impl Fn(&StreamId, &v1::TrackSource) -> (S, AbortOnDropHandle<()>),
) {
    let mut old = std::mem::take(inputs);
    for (stream, track) in wanted {
        let present = old.remove(stream).filter(|input| input.track == *track);
        let input = present.unwrap_or_else(|| {
            let (source, watch) = start(stream, track);
            Input::new(track, source, watch)
        });
        inputs.insert(stream.clone(), input);
    }
}

/// Passes an input's failures on to the agent whose view (with the input's stream) or transcoder (without) it is.
pub fn watch(
    context: &Arc<MixerContext>,
    subject: &Subject,
    stream: Option<&StreamId>,
    kind: v1::MediaKind,
    mut failure: Failure,
) -> AbortOnDropHandle<()> {
    let (context, subject, stream) = (Arc::clone(context), subject.clone(), stream.cloned());
    failure.mark_changed();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while failure.changed().await.is_ok() {
            let reason = failure.borrow_and_update().clone();
            match reason {
                Some(reason) => {
                    context.events.failed(&subject, stream.as_ref(), kind, &reason, Instant::now());
                }
                None => context.events.recovered(&subject, stream.as_ref(), kind),
            }
        }
    }))
}
