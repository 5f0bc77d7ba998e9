//! Filters of pictures: on a view's composed picture, and on what views show of an input.

use kaigi_filters::FilterError;
use kaigi_proto::{ids::StreamId, v1};
use serde::{Deserialize, Serialize};

use super::{Room, media::Kind, refusal::Refusal};

/// What nobody has named otherwise.
const NONE: &str = "none";

/// What is done to a picture, if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Named", into = "Named")]
pub(crate) struct Filter(Option<kaigi_filters::Filter>);

/// As it is written down.
#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    parameters: String,
}

impl Filter {
    /// Takes its name and its parameters (a JSON object, or nothing for the defaults).
    ///
    /// # Errors
    /// If there is no such filter, or it takes others.
    pub(crate) fn new(name: &str, parameters: &str) -> Result<Self, FilterError> {
        if name == NONE {
            Ok(Self(None))
        } else {
            kaigi_filters::Filter::parse(name, parameters).map(|filter| Self(Some(filter)))
        }
    }

    /// As the protocol names it.
    pub(crate) fn name(&self) -> &'static str {
        self.0.as_ref().map_or(NONE, kaigi_filters::Filter::name)
    }

    /// All of them, as a JSON object; empty if it is none.
    pub(crate) fn parameters(&self) -> String {
        self.0.as_ref().map(|filter| filter.parameters().to_string()).unwrap_or_default()
    }

    fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl From<Filter> for Named {
    fn from(filter: Filter) -> Self {
        Self { name: filter.name().to_owned(), parameters: filter.parameters() }
    }
}

impl TryFrom<Named> for Filter {
    type Error = FilterError;

    fn try_from(named: Named) -> Result<Self, FilterError> {
        Self::new(&named.name, &named.parameters)
    }
}

impl Room {
    /// Puts a filter on the picture of a mixed stream, or on what views show of a forward stream.
    pub(super) fn set_filter(&mut self, stream: &StreamId, filter: Filter) -> Result<(), Refusal> {
        let changed = match self.state.views.iter_mut().find(|view| view.stream == *stream) {
            Some(view) => {
                view.picture.as_ref().ok_or(Refusal::InvalidStream)?;
                std::mem::replace(&mut view.filter, filter.clone()) != filter
            }
            None => {
                let publication = self.state.publications.get(stream).ok_or(Refusal::InvalidStream)?;
                publication.first_track(Kind::Video).ok_or(Refusal::InvalidStream)?;
                if publication.is_encrypted() {
                    return Err(Refusal::StreamIsEncrypted);
                }
                let filters = &mut self.state.input_filters;
                let before = if filter.is_none() {
                    filters.remove(stream)
                } else {
                    filters.insert(stream.clone(), filter.clone())
                };
                before.unwrap_or_default() != filter
            }
        };
        if changed {
            self.views_changed = true;
            self.tell_replaced(stream);
        }
        Ok(())
    }

    /// Name and parameters of the filter on an input; both empty if there is none.
    pub(super) fn input_filter(&self, stream: &StreamId) -> (String, String) {
        let filter = self.state.input_filters.get(stream);
        filter.map(|filter| (filter.name().to_owned(), filter.parameters())).unwrap_or_default()
    }

    /// A forward stream as it is told, with the filter on it.
    pub(super) fn with_filter(&self, stream: v1::Stream, id: &StreamId) -> v1::Stream {
        let (filter, filter_parameters) = self.input_filter(id);
        v1::Stream { filter, filter_parameters, ..stream }
    }
}
