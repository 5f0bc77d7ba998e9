//! Recordings that belong together: one manifest tells what each is of, and when each of its files began on one clock.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde_json::{Value, json};

/// Relates the monotonic clock to Unix time, once for all recordings of a process, so that a clock that is set meanwhile does not part them.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    instant: Instant,
    wall: SystemTime,
}

impl Default for WallClock {
    fn default() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

impl WallClock {
    /// Unix time of an instant, in milliseconds.
    #[must_use]
    pub fn unix_ms(&self, at: Instant) -> u64 {
        let wall = match at.checked_duration_since(self.instant) {
            Some(later) => self.wall + later,
            None => self.wall - self.instant.saturating_duration_since(at),
        };
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a recording of a collection is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Stream id.
    pub stream: String,
    /// Id of the participant whose it is.
    pub participant: String,
    /// JSON text of its user; may be empty.
    pub user: String,
}

/// One manifest of several recordings; replaced as a whole whenever one of them changes.
#[derive(Debug)]
pub struct Collection {
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Unix ms; what offsets count from.
    begun: u64,
    recordings: Vec<(String, Value)>,
}

impl Collection {
    /// Goes on from what a manifest of that name says, if there is one.
    fn open(file: PathBuf, now: u64) -> Self {
        let known = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let begun = known.as_ref().and_then(|known| known["begun"].as_u64()).unwrap_or(now);
        let recordings = known.as_ref().and_then(|known| known["recordings"].as_array()).cloned();
        let recordings = recordings
            .unwrap_or_default()
            .into_iter()
            .map(|recording| (recording["id"].as_str().unwrap_or_default().to_owned(), recording));
        Self { file, state: Mutex::new(State { begun, recordings: recordings.collect() }) }
    }

    /// Its manifest.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Takes over what a recording's own manifest lists.
    ///
    /// # Errors
    /// If the manifest can't be written.
    pub fn update(&self, id: &str, subject: &Subject, segments: &[Value]) -> io::Result<()> {
        let mut state = self.state.lock();
        let begun = state.begun;
        let placed = segments.iter().map(|segment| {
            let mut segment = segment.clone();
            let at = segment["at"].as_u64().unwrap_or(begun);
            let length =
                segment["end"].as_f64().unwrap_or_default() - segment["begin"].as_f64().unwrap_or_default();
            let since = at.abs_diff(begun) as f64 / 1000.0;
            let offset = if at < begun { -since } else { since };
            segment["begin"] = offset.into();
            segment["end"] = (offset + length).into();
            segment
        });
        let user = serde_json::from_str(&subject.user).unwrap_or(Value::Null);
        let recording = json!({
            "id": id, "stream": subject.stream, "participant": subject.participant, "user": user,
            "segments": placed.collect::<Vec<_>>(),
        });
        match state.recordings.iter_mut().find(|(known, _)| known == id) {
            Some((_, known)) => *known = recording,
            None => state.recordings.push((id.to_owned(), recording)),
        }
        let recordings: Vec<&Value> = state.recordings.iter().map(|(_, recording)| recording).collect();
        replace(&self.file, &json!({ "begun": begun, "recordings": recordings }))
    }
}

/// Replaces a manifest as a whole, so that it is never half written.
pub(crate) fn replace(file: &Path, manifest: &Value) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, serde_json::to_vec_pretty(manifest).map_err(io::Error::from)?)?;
    std::fs::rename(new, file)
}

/// The collections of a node that somebody records into.
#[derive(Debug, Default)]
pub struct Collections(Mutex<HashMap<PathBuf, Weak<Collection>>>);

impl Collections {
    /// The collection of that manifest.
    #[must_use]
    pub fn open(&self, file: &Path, now: u64) -> Arc<Collection> {
        let mut all = self.0.lock();
        all.retain(|_, collection| collection.strong_count() > 0);
        if let Some(known) = all.get(file).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Collection::open(file.to_owned(), now));
        all.insert(file.to_owned(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn subject(stream: &str) -> Subject {
        Subject { stream: stream.into(), participant: "p".into(), user: r#"{"name":"Ann"}"#.into() }
    }

    #[test]
    fn one_clock_counts_for_all() {
        let clock = WallClock::default();
        let later = clock.instant + Duration::from_secs(3);
        assert_eq!(clock.unix_ms(later) - clock.unix_ms(clock.instant), 3000);
    }

    #[test]
    fn offsets_count_from_the_collections_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.json");
        let collections = Collections::default();
        let collection = collections.open(&file, 10_000);
        let segment =
            |at: u64, begin: f64| json!({"file": "a.mkv", "at": at, "begin": begin, "end": begin + 2.0});
        collection.update("1", &subject("a"), &[segment(10_500, 0.2)]).unwrap();
        collection.update("2", &subject("b"), &[segment(12_000, 7.0), segment(14_500, 9.0)]).unwrap();
        assert!(Arc::ptr_eq(&collection, &collections.open(&file, 99_000)), "opened twice");
        let shown: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(shown["begun"], 10_000);
        let all = shown["recordings"].as_array().unwrap();
        assert_eq!((&all[0]["stream"], &all[0]["user"]["name"]), (&json!("a"), &json!("Ann")));
        assert_eq!(all[0]["segments"][0]["begin"], 0.5);
        assert_eq!(
            (&all[1]["segments"][1]["begin"], &all[1]["segments"][1]["end"]),
            (&json!(4.5), &json!(6.5))
        );
    }

    #[test]
    fn a_process_that_takes_over_goes_on_with_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.json");
        let segments = [json!({"file": "a.mkv", "at": 5000, "begin": 0.0, "end": 1.0})];
        Collections::default().open(&file, 4_000).update("1", &subject("a"), &segments).unwrap();
        let segments = [json!({"file": "b.mkv", "at": 9000, "begin": 0.0, "end": 1.0})];
        Collections::default().open(&file, 9_000).update("2", &subject("b"), &segments).unwrap();
        let shown: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!((&shown["begun"], shown["recordings"].as_array().unwrap().len()), (&json!(4000), 2));
        assert_eq!(shown["recordings"][1]["segments"][0]["begin"], 5.0);
    }
}
