//! Which events somebody wants to hear of.

use serde::{Deserialize, Serialize};

use super::EventType;

/// Most entries; there are fewer types.
const MAX_ENTRIES: usize = 32;

/// Why a list is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// An entry that no event has as its type.
    #[error("Unknown event type {0}")]
    Unknown(String),
    /// More entries than there can be use for.
    #[error("More than {MAX_ENTRIES} event types")]
    TooMany,
}

/// A list of event types (`participant.joined`) and families of them (`participant.*`). An empty one lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventFilter(Vec<String>);

impl EventFilter {
    /// Takes a list for a filter.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, FilterError> {
        let mut list: Vec<String> = Vec::new();
        for entry in entries {
            let entry = entry.as_ref();
            let known = match entry.strip_suffix('*') {
                // With the full stop, so that `part*` is none.
                Some(family) => {
                    family.ends_with('.') && EventType::ALL.iter().any(|t| t.as_str().starts_with(family))
                }
                None => EventType::named(entry).is_some(),
            };
            if !known {
                return Err(FilterError::Unknown(entry.chars().take(64).collect()));
            }
            if list.len() == MAX_ENTRIES {
                return Err(FilterError::TooMany);
            }
            list.push(entry.to_owned());
        }
        Ok(Self(list))
    }

    /// Whether an event of this type is let through.
    #[must_use]
    pub fn lets_through(&self, kind: &str) -> bool {
        let fits = |entry: &String| match entry.strip_suffix('*') {
            Some(family) => kind.starts_with(family),
            None => kind == entry,
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }

    /// The entries as they were given.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_families_are_let_through() {
        let filter = EventFilter::new(["participant.*", "room.ended"]).unwrap();
        for (kind, through) in [
            ("participant.joined", true),
            ("participant.left", true),
            ("room.ended", true),
            ("room.started", false),
            ("stream.added", false),
        ] {
            assert_eq!(filter.lets_through(kind), through, "{kind}");
        }
        assert!(EventFilter::default().lets_through("stream.added"));
    }

    #[test]
    fn a_misspelt_entry_is_refused() {
        for bad in ["participants.*", "room", "room.", "*", ".*", "part*", "ping", ""] {
            assert_eq!(EventFilter::new([bad]), Err(FilterError::Unknown(bad.into())), "{bad}");
        }
        assert_eq!(EventFilter::new(vec!["room.*"; 33]), Err(FilterError::TooMany));
    }
}
