//! The inputs of a view or transcoder, and who is told when they fail.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use kaigi_proto::{ids::StreamId, v1};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    events::Subject,
    link::{AudioSource, Failure, LayeredTrack, Showing},
    view::MixerContext,
};

/// Inputs by stream, with the source that each was made for and the task that reports its failure.
pub type Inputs<S> = BTreeMap<StreamId, Input<S>>;

/// What an input is made of.
pub trait Source {
    /// Where it comes from.
    type Track: Clone;

    /// Whether nothing has to be attached anew for the other track.
    fn is_same(one: &Self::Track, other: &Self::Track) -> bool;
}

impl Source for AudioSource {
    type Track = v1::TrackSource;

    fn is_same(one: &Self::Track, other: &Self::Track) -> bool {
        one == other
    }
}

impl Source for Showing {
    type Track = LayeredTrack;

    fn is_same(one: &Self::Track, other: &Self::Track) -> bool {
        one.is_same(other)
    }
}

/// One input.
pub struct Input<S: Source> {
    track: S::Track,
    /// What is decoded.
    pub source: S,
    _watch: AbortOnDropHandle<()>,
}

impl<S: Source> Input<S> {
    /// An input from that track.
    #[must_use]
    pub fn new(track: &S::Track, source: S, watch: AbortOnDropHandle<()>) -> Self {
        Self { track: track.clone(), source, _watch: watch }
    }

    /// Whether it comes from there.
    #[must_use]
    pub fn is_from(&self, track: &S::Track) -> bool {
        S::is_same(&self.track, track)
    }
}

/// Makes `inputs` those that are `wanted`; those whose track is still the same are not touched.
pub fn follow<'a, S: Source>(
    inputs: &mut Inputs<S>,
    wanted: impl Iterator<Item = (&'a StreamId, &'a S::Track)>,
    start: impl Fn(&StreamId, &S::Track) -> (S, AbortOnDropHandle<()>),
) where
    S::Track: 'a,
{
    let mut old = std::mem::take(inputs);
    for (stream, track) in wanted {
        let present = old.remove(stream).filter(|input| input.is_from(track));
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
