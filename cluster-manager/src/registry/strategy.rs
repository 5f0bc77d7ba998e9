//! Which of several suitable workers gets a task (OWT's strategies, under OWT's names).

use std::{collections::HashMap, str::FromStr};

use rand::{Rng, rngs::StdRng};

use super::worker::Purpose;

/// Loads are measured and noisy: differences within one step of this size say nothing, so the number of tasks decides there.
const LOAD_STEP: f64 = 0.05;

/// A way to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The same worker as before while it is suitable, else the first: fills one machine after the other.
    LastUsed,
    /// The lowest load; of about equally loaded ones the one with fewest tasks.
    #[default]
    LeastUsed,
    /// The highest load; of about equally loaded ones the one with most tasks.
    MostUsed,
    /// One after the other, in order of registration.
    RoundRobin,
    /// Any.
    RandomlyPick,
}

impl Strategy {
    const NAMES: [(&'static str, Self); 5] = [
        ("last-used", Self::LastUsed),
        ("least-used", Self::LeastUsed),
        ("most-used", Self::MostUsed),
        ("round-robin", Self::RoundRobin),
        ("randomly-pick", Self::RandomlyPick),
    ];
}

/// A text names no strategy.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum StrategyError {
    /// The name of the strategy.
    #[error("{0} is no strategy: last-used, least-used, most-used, round-robin or randomly-pick")]
    Strategy(String),
    /// The purpose before the equals sign.
    #[error("{0} is no purpose: portal, conference, access, mixer, streaming or gateway")]
    Purpose(String),
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        let known = Self::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|&(_, strategy)| strategy).ok_or_else(|| StrategyError::Strategy(text.to_owned()))
    }
}

/// One `--strategy` option: `least-used` for all purposes, or `mixer=most-used` for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrategyOption {
    purpose: Option<Purpose>,
    strategy: Strategy,
}

impl FromStr for StrategyOption {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        let Some((name, strategy)) = text.split_once('=') else {
            return Ok(Self { purpose: None, strategy: text.parse()? });
        };
        let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == name);
        let purpose = purpose.ok_or_else(|| StrategyError::Purpose(name.to_owned()))?;
        Ok(Self { purpose: Some(purpose), strategy: strategy.parse()? })
    }
}

/// The strategy of each purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategies {
    general: Strategy,
    special: HashMap<Purpose, Strategy>,
}

impl Strategies {
    /// The strategy for that purpose.
    #[must_use]
    pub fn of(&self, purpose: Purpose) -> Strategy {
        self.special.get(&purpose).copied().unwrap_or(self.general)
    }
}

impl FromIterator<StrategyOption> for Strategies {
    /// Of several options for the same thing the last one counts.
    fn from_iter<I: IntoIterator<Item = StrategyOption>>(options: I) -> Self {
        let mut strategies = Self::default();
        for option in options {
            match option.purpose {
                None => strategies.general = option.strategy,
                Some(purpose) => {
                    strategies.special.insert(purpose, option.strategy);
                }
            }
        }
        strategies
    }
}

/// What is weighed of a suitable worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Rises with each registration; never given twice.
    pub(super) joined: u64,
    /// Measured or expected, whichever is more; may be above 1.
    pub(super) load: f64,
    pub(super) tasks: usize,
}

impl Candidate {
    /// Load in steps, then tasks, then age.
    fn use_order(&self) -> (u64, usize, u64) {
        ((self.load / LOAD_STEP).round() as u64, self.tasks, self.joined)
    }
}

/// Picks one of `candidates` (in order of registration), given the `joined` of the one picked before. `None` if there is none.
pub(super) fn pick(
    strategy: Strategy,
    candidates: &[Candidate],
    last: Option<u64>,
    random: &mut StdRng,
) -> Option<Candidate> {
    let first = candidates.first().copied()?;
    let picked = match strategy {
        Strategy::LastUsed => candidates.iter().find(|c| Some(c.joined) == last),
        Strategy::LeastUsed => candidates.iter().min_by_key(|c| c.use_order()),
        Strategy::MostUsed => candidates.iter().max_by_key(|c| c.use_order()),
        Strategy::RoundRobin => candidates.iter().find(|c| Some(c.joined) > last),
        Strategy::RandomlyPick => candidates.get(random.random_range(0..candidates.len())),
    };
    Some(picked.copied().unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn candidates(all: &[(u64, f64, usize)]) -> Vec<Candidate> {
        all.iter().map(|&(joined, load, tasks)| Candidate { joined, load, tasks }).collect()
    }

    fn picked(strategy: Strategy, all: &[(u64, f64, usize)], last: Option<u64>) -> Option<u64> {
        pick(strategy, &candidates(all), last, &mut StdRng::seed_from_u64(1)).map(|c| c.joined)
    }

    #[test]
    fn of_nobody_nobody_is_picked() {
        for (_, strategy) in Strategy::NAMES {
            assert_eq!(picked(strategy, &[], Some(1)), None);
        }
    }

    #[test]
    fn last_used_stays_while_it_can() {
        let all = [(1, 0.1, 0), (2, 0.5, 9)];
        assert_eq!(picked(Strategy::LastUsed, &all, None), Some(1));
        assert_eq!(picked(Strategy::LastUsed, &all, Some(2)), Some(2));
        assert_eq!(picked(Strategy::LastUsed, &all, Some(3)), Some(1));
    }

    #[test]
    fn least_used_looks_at_load_then_tasks() {
        assert_eq!(picked(Strategy::LeastUsed, &[(1, 0.5, 0), (2, 0.1, 9)], None), Some(2));
        assert_eq!(picked(Strategy::LeastUsed, &[(1, 0.11, 3), (2, 0.12, 2)], None), Some(2));
        assert_eq!(picked(Strategy::LeastUsed, &[(1, 0.1, 2), (2, 0.1, 2)], None), Some(1));
    }

    #[test]
    fn most_used_is_the_opposite() {
        assert_eq!(picked(Strategy::MostUsed, &[(1, 0.5, 0), (2, 0.1, 9)], None), Some(1));
        assert_eq!(picked(Strategy::MostUsed, &[(1, 0.1, 1), (2, 0.1, 2)], None), Some(2));
    }

    #[test]
    fn round_robin_goes_on_after_a_worker_left() {
        let all = [(1, 0.0, 0), (3, 0.0, 0), (4, 0.0, 0)];
        assert_eq!(picked(Strategy::RoundRobin, &all, None), Some(1));
        assert_eq!(picked(Strategy::RoundRobin, &all, Some(2)), Some(3));
        assert_eq!(picked(Strategy::RoundRobin, &all, Some(4)), Some(1));
    }

    #[test]
    fn random_picks_reach_all() {
        let all = candidates(&[(1, 0.0, 0), (2, 0.0, 0), (3, 0.0, 0)]);
        let mut random = StdRng::seed_from_u64(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.extend(pick(Strategy::RandomlyPick, &all, None, &mut random).map(|c| c.joined));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn options_name_all_purposes_or_one() {
        let options: Result<Strategies, _> =
            ["most-used", "mixer=round-robin", "mixer=last-used"].iter().map(|text| text.parse()).collect();
        let strategies = options.unwrap();
        assert_eq!(strategies.of(Purpose::Access), Strategy::MostUsed);
        assert_eq!(strategies.of(Purpose::Mixer), Strategy::LastUsed);
        assert_eq!(Strategies::default().of(Purpose::Portal), Strategy::LeastUsed);
        assert!("best".parse::<StrategyOption>().is_err());
        assert!("sip=least-used".parse::<StrategyOption>().is_err());
    }
}
