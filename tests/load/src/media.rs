//! What clients publish, and what others know of it.

use std::{path::PathBuf, sync::Arc, time::Instant};

use crate::{
    peer::Content,
    recording::{Cache, MakeError, Recording},
    scenario,
    server::{Publication, Wish},
    track::Track,
};

/// Names of simulcast layers, from the smallest.
const RIDS: [&str; 3] = ["q", "h", "f"];
/// Level of sound that is no silence, and of silence (RFC 6464).
const VOICE: u8 = 20;
/// See [`VOICE`].
const SILENCE: u8 = 127;

/// The recordings that are played.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) picture: Option<Arc<Recording>>,
    pub(crate) sound: Option<Arc<Recording>>,
    pub(crate) epoch: Instant,
}

impl Media {
    /// Reads them from the cache, into which they are made if they are not there.
    pub(crate) async fn read(cache: PathBuf, wanted: scenario::Media) -> Result<Self, MakeError> {
        let made = tokio::task::spawn_blocking(move || {
            let cache = Cache::new(cache);
            let picture = match &wanted.layers[..] {
                [] => None,
                layers => Some(Arc::new(cache.picture(wanted.codec, wanted.framerate, layers)?)),
            };
            let sound = wanted.audio.then(|| cache.sound().map(Arc::new)).transpose()?;
            Ok(Self { picture, sound, epoch: Instant::now() })
        });
        made.await.unwrap_or_else(|error| Err(MakeError::Encoder(error.to_string())))
    }

    fn track(&self, recording: &Option<Arc<Recording>>) -> Option<Arc<Track>> {
        recording.clone().map(|recording| Arc::new(Track::new(recording, self.epoch)))
    }

    /// Tracks of a new publisher.
    pub(crate) fn publication(&self, speaks: bool) -> Publication {
        let layers = self.picture.as_ref().map_or(0, |picture| picture.layers.len());
        let rids = RIDS[..layers].iter().map(|rid| (*rid).to_owned());
        let rids: Vec<_> = if layers > 1 { rids.collect() } else { Vec::new() };
        Publication {
            video: self.track(&self.picture).map(|track| (track, rids)),
            audio: self.track(&self.sound).map(|track| (track, if speaks { VOICE } else { SILENCE })),
        }
    }
}

/// A published stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) id: String,
    video: Option<Arc<Track>>,
    audio: Option<Arc<Track>>,
}

impl Stream {
    pub(crate) fn new(id: String, publication: &Publication) -> Self {
        let video = publication.video.as_ref().map(|(track, _)| track.clone());
        Self { id, video, audio: publication.audio.as_ref().map(|(track, _)| track.clone()) }
    }

    pub(crate) fn wish(&self, size: Option<(u32, u32)>) -> Wish {
        let video = self.video.clone().map(|track| (Content::Track(track), size));
        Wish { stream: self.id.clone(), video, audio: self.audio.clone().map(Content::Track) }
    }
}
