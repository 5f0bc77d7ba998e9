//! What algorithms the operator has configured.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use kaigi_filters::Filter;
use kaigi_proto::ids::TrackId;
use parking_lot::Mutex;
use serde::Deserialize;

/// Algorithms of one node at most: as many names as the cluster-manager takes.
const MAX_ALGORITHMS: usize = 64;
/// Bytes of a name; the name of a stream is made of it and of another stream's.
const MAX_NAME: usize = 64;
/// Bytes of a description.
const MAX_PIPELINE: usize = 16 * 1024;
const STALLS: RangeInclusive<u64> = 1..=300;
const STARTS: RangeInclusive<u64> = 1..=600;
const MEMORIES: RangeInclusive<u64> = 64..=1 << 20;
const INSTANCES: RangeInclusive<usize> = 1..=100;
const RATES: RangeInclusive<u32> = 1..=120;

/// Why the file of algorithms can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AlgorithmsError {
    /// It can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// It is no list of algorithms.
    #[error("{path}: {source}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// More than a node takes.
    #[error("more than {MAX_ALGORITHMS} algorithms")]
    TooMany,
    /// Twice the same name.
    #[error("algorithm {0:?} is there twice")]
    Twice(String),
    /// Not of the characters that names have, too long, or a filter's.
    #[error("{0:?} can't be an algorithm's id: {1}")]
    Id(String, String),
    /// A description without marked ends.
    #[error("the pipeline of {id} has no element with name={end}")]
    End {
        /// The algorithm.
        id: String,
        /// `input` or `output`.
        end: &'static str,
    },
    /// A number beyond its range, or a description that is too long.
    #[error("{what} of {id} is not within {from}..={to}")]
    Range {
        /// The algorithm.
        id: String,
        /// Of what.
        what: &'static str,
        /// Least.
        from: u64,
        /// Most.
        to: u64,
    },
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    algorithm: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    pipeline: String,
    #[serde(default = "stall")]
    stall_seconds: u64,
    #[serde(default = "start")]
    start_seconds: u64,
    #[serde(default = "memory")]
    memory_mib: u64,
    #[serde(default = "instances")]
    instances: usize,
    max_framerate: Option<u32>,
}

fn stall() -> u64 {
    5
}
fn start() -> u64 {
    30
}
fn memory() -> u64 {
    1024
}
fn instances() -> usize {
    4
}

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Algorithm {
    /// Its name.
    pub id: String,
    /// As for `gst-launch-1.0`, with an `appsrc name=input` and an `appsink name=output`.
    pub pipeline: String,
    /// It has failed when it neither takes nor gives a picture for so long.
    pub stall: Duration,
    /// Longest time until it takes the first.
    pub start: Duration,
    /// What a process may have for its data.
    pub memory_mib: u64,
    /// Processes at once.
    pub instances: usize,
    /// Pictures a second; the others are left out.
    pub max_framerate: Option<u32>,
}

impl TryFrom<Entry> for Algorithm {
    type Error = AlgorithmsError;

    fn try_from(entry: Entry) -> Result<Self, AlgorithmsError> {
        let Entry { id, pipeline, stall_seconds, start_seconds, memory_mib, instances, max_framerate } =
            entry;
        let bad = |why: &str| AlgorithmsError::Id(id.clone(), why.to_owned());
        if Filter::NAMES.contains(&id.as_str()) {
            return Err(bad("it is a filter's"));
        }
        if id.len() > MAX_NAME {
            return Err(bad("it is too long"));
        }
        TrackId::new(&id).map_err(|error| bad(&error.to_string()))?;
        for (end, marks) in
            [("input", ["name=input", "name=\"input\""]), ("output", ["name=output", "name=\"output\""])]
        {
            if !pipeline.split_whitespace().any(|word| marks.contains(&word)) {
                return Err(AlgorithmsError::End { id, end });
            }
        }
        let check = |what, value: u64, from: u64, to: u64| {
            if (from..=to).contains(&value) {
                Ok(())
            } else {
                Err(AlgorithmsError::Range { id: id.clone(), what, from, to })
            }
        };
        check("length of the pipeline", pipeline.len() as u64, 1, MAX_PIPELINE as u64)?;
        check("stall_seconds", stall_seconds, *STALLS.start(), *STALLS.end())?;
        check("start_seconds", start_seconds, *STARTS.start(), *STARTS.end())?;
        check("memory_mib", memory_mib, *MEMORIES.start(), *MEMORIES.end())?;
        check("instances", instances as u64, *INSTANCES.start() as u64, *INSTANCES.end() as u64)?;
        if let Some(rate) = max_framerate {
            check("max_framerate", rate.into(), (*RATES.start()).into(), (*RATES.end()).into())?;
        }
        Ok(Self {
            id,
            pipeline,
            stall: Duration::from_secs(stall_seconds),
            start: Duration::from_secs(start_seconds),
            memory_mib,
            instances,
            max_framerate,
        })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Algorithms {
    known: BTreeMap<String, Arc<Algorithm>>,
    /// Each use of one, by its name.
    used: Mutex<Vec<(String, Weak<()>)>>,
    /// The program of the processes, if it is not this one.
    worker: Option<PathBuf>,
}

impl Algorithms {
    /// Reads a file of `[[algorithm]]` tables.
    ///
    /// # Errors
    /// See [`AlgorithmsError`].
    pub fn read(path: &Path) -> Result<Self, AlgorithmsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| AlgorithmsError::Read { path: path.to_owned(), source })?;
        let syntax = |source| AlgorithmsError::Syntax { path: path.to_owned(), source };
        Self::new(toml::from_str(&text).map_err(syntax)?)
    }

    fn new(file: File) -> Result<Self, AlgorithmsError> {
        if file.algorithm.len() > MAX_ALGORITHMS {
            return Err(AlgorithmsError::TooMany);
        }
        let mut known = BTreeMap::new();
        for entry in file.algorithm {
            let algorithm = Algorithm::try_from(entry)?;
            if known.contains_key(&algorithm.id) {
                return Err(AlgorithmsError::Twice(algorithm.id));
            }
            known.insert(algorithm.id.clone(), Arc::new(algorithm));
        }
        Ok(Self { known, ..Self::default() })
    }

    /// With that program as the processes' own, which [`run`](super::run)s when it is given [`WORKER`](Self::WORKER).
    #[must_use]
    pub fn with_worker(self, worker: PathBuf) -> Self {
        Self { worker: Some(worker), ..self }
    }

    /// The flag that makes this program such a process.
    pub const WORKER: &str = "--pipeline-worker";

    /// The processes' program.
    ///
    /// # Errors
    /// If the system does not tell which one this is.
    pub fn worker(&self) -> std::io::Result<PathBuf> {
        self.worker.clone().map_or_else(std::env::current_exe, Ok)
    }

    /// Of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// The one of that name.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Algorithm>> {
        self.known.get(id)
    }

    /// A use of one, which lasts until it is dropped. `None` if there are as many as there may be.
    #[must_use]
    pub fn enter(&self, algorithm: &Algorithm) -> Option<Arc<()>> {
        let mut used = self.used.lock();
        used.retain(|(_, use_of)| use_of.strong_count() > 0);
        if used.iter().filter(|(id, _)| *id == algorithm.id).count() >= algorithm.instances {
            return None;
        }
        let entered = Arc::new(());
        used.push((algorithm.id.clone(), Arc::downgrade(&entered)));
        Some(entered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "appsrc name=input ! appsink name=output";

    fn of(text: &str) -> Result<Algorithms, AlgorithmsError> {
        Algorithms::new(toml::from_str(text).unwrap())
    }
    fn one(more: &str) -> Result<Algorithms, AlgorithmsError> {
        of(&format!("[[algorithm]]\nid = \"own\"\npipeline = \"{PIPELINE}\"\n{more}"))
    }

    #[test]
    fn what_is_not_given_has_its_default() {
        let algorithms = one("").unwrap();
        assert_eq!(algorithms.names().collect::<Vec<_>>(), ["own"]);
        let own = algorithms.get("own").unwrap();
        assert_eq!((own.stall, own.start), (Duration::from_secs(5), Duration::from_secs(30)));
        assert_eq!((own.memory_mib, own.instances, own.max_framerate), (1024, 4, None));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (more, what) in [
            ("stall_seconds = 0", "stall_seconds"),
            ("start_seconds = 601", "start_seconds"),
            ("memory_mib = 1", "memory_mib"),
            ("instances = 0", "instances"),
            ("max_framerate = 1000", "max_framerate"),
        ] {
            let error = one(more).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("own"), "{error}");
        }
        let entry =
            |id: &str, pipeline: &str| of(&format!("[[algorithm]]\nid = \"{id}\"\npipeline = '{pipeline}'"));
        assert!(matches!(entry("edgedetect", PIPELINE), Err(AlgorithmsError::Id(..))));
        assert!(matches!(entry("a b", PIPELINE), Err(AlgorithmsError::Id(..))));
        assert!(matches!(
            entry("a", "appsrc ! appsink name=output"),
            Err(AlgorithmsError::End { end: "input", .. })
        ));
        assert!(matches!(
            entry("a", "appsrc name=input ! fakesink"),
            Err(AlgorithmsError::End { end: "output", .. })
        ));
        assert!(entry("a", "appsrc name=\"input\" ! appsink name=\"output\"").is_ok());
        let twice = format!("[[algorithm]]\nid = 'a'\npipeline = '{PIPELINE}'\n").repeat(2);
        assert!(matches!(of(&twice), Err(AlgorithmsError::Twice(_))));
        assert!(toml::from_str::<File>("[[algorithm]]\nid = 'a'\npipeline = ''\ncommand = 'x'").is_err());
        assert!(matches!(Algorithms::read(Path::new("/nowhere")), Err(AlgorithmsError::Read { .. })));
    }

    #[test]
    fn uses_are_bounded() {
        let algorithms = one("instances = 2").unwrap();
        let own = algorithms.get("own").unwrap();
        let first = algorithms.enter(own).unwrap();
        let _second = algorithms.enter(own).unwrap();
        assert!(algorithms.enter(own).is_none());
        drop(first);
        assert!(algorithms.enter(own).is_some());
    }
}
