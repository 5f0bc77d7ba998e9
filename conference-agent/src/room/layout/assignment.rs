//! Which input of a view has which region.

use std::collections::{BTreeMap, VecDeque};

use kaigi_proto::{ids::StreamId, v1};
use serde::{Deserialize, Serialize};

use super::{requested::RequestedLayout, templates::Template};

/// The video inputs of a view in their order, and the template in force. Region i shows input i.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    templates: Vec<Template>,
    /// Most inputs in the picture; later ones wait.
    max_input: usize,
    /// Index into `templates`; meaningless while there are none.
    current: usize,
    shown: Vec<StreamId>,
    pending: VecDeque<StreamId>,
    /// How often each shown input became the primary one.
    primary_count: BTreeMap<StreamId, u32>,
}

impl Assignment {
    /// No inputs: the smallest template. `templates` are ordered by number of regions.
    pub(crate) fn new(templates: Vec<Template>, max_input: usize) -> Self {
        Self {
            templates,
            max_input,
            current: 0,
            shown: Vec::new(),
            pending: VecDeque::new(),
            primary_count: BTreeMap::new(),
        }
    }

    /// Adds an input at the end, or to those who wait if the view is full. Returns whether the picture's layout changed.
    pub(crate) fn add(&mut self, stream: StreamId) -> bool {
        if self.shown.contains(&stream) || self.pending.contains(&stream) {
            return false;
        }
        if self.shown.len() < self.max_input {
            self.shown.push(stream);
            self.fit();
            true
        } else {
            self.pending.push_back(stream);
            false
        }
    }

    /// Takes an input out; the first that waits takes its place. Returns whether the layout changed.
    pub(crate) fn remove(&mut self, stream: &StreamId) -> bool {
        self.pending.retain(|waiting| waiting != stream);
        self.primary_count.remove(stream);
        let Some(place) = self.shown.iter().position(|shown| shown == stream) else { return false };
        match self.pending.pop_front() {
            Some(next) => self.shown[place] = next,
            None => {
                self.shown.remove(place);
            }
        }
        self.fit();
        true
    }

    /// Swaps an input into the first region; if it was waiting, the input that was primary least often waits instead.
    /// Returns whether the layout changed.
    pub(crate) fn set_primary(&mut self, stream: &StreamId) -> bool {
        let waiting = self.pending.iter().position(|waiting| waiting == stream);
        let place = match self.shown.iter().position(|shown| shown == stream) {
            Some(0) => return false,
            Some(place) => place,
            None => {
                let (Some(waiting), Some(place)) = (waiting, self.least_primary()) else { return false };
                self.pending.remove(waiting);
                let out = std::mem::replace(&mut self.shown[place], stream.clone());
                self.pending.push_back(out);
                place
            }
        };
        self.shown.swap(0, place);
        *self.primary_count.entry(stream.clone()).or_default() += 1;
        true
    }

    /// The place of the shown input that was primary least often.
    fn least_primary(&self) -> Option<usize> {
        let count = |stream| self.primary_count.get(stream).copied().unwrap_or(0);
        (0..self.shown.len()).min_by_key(|&place| count(&self.shown[place]))
    }

    /// Whether a stream is among the inputs, shown or waiting.
    pub(crate) fn has(&self, stream: &StreamId) -> bool {
        self.shown.contains(stream) || self.pending.contains(stream)
    }

    /// How many regions there are now.
    pub(crate) fn regions(&self) -> usize {
        self.templates.get(self.current).map_or(0, |template| template.regions.len())
    }

    /// The id of the region that shows a stream.
    pub(crate) fn region_of(&self, stream: &StreamId) -> Option<&str> {
        let place = self.shown.iter().position(|shown| shown == stream)?;
        self.templates.get(self.current)?.regions.get(place).map(|region| region.id.as_str())
    }

    /// The place of the region of that id, if it shows an input.
    pub(crate) fn place_of(&self, region: &str) -> Option<usize> {
        let place = self.templates.get(self.current)?.regions.iter().position(|r| r.id == region)?;
        self.is_filled(place).then_some(place)
    }

    /// Whether an input is at a place.
    pub(crate) fn is_filled(&self, place: usize) -> bool {
        place < self.shown.len()
    }

    /// Swaps an input into a place that is filled; if it was waiting, the input that was there waits instead. Returns whether the
    /// layout changed.
    pub(crate) fn set_place(&mut self, stream: &StreamId, place: usize) -> bool {
        if !self.is_filled(place) {
            return false;
        }
        if let Some(now) = self.shown.iter().position(|shown| shown == stream) {
            self.shown.swap(now, place);
            return now != place;
        }
        let Some(waiting) = self.pending.iter().position(|waiting| waiting == stream) else { return false };
        self.pending.remove(waiting);
        let out = std::mem::replace(&mut self.shown[place], stream.clone());
        self.pending.push_back(out);
        true
    }

    /// Takes a layout in place of all templates: as many inputs are shown as it has regions, those that it names first. Names that
    /// are no inputs are left out.
    pub(crate) fn set_layout(&mut self, layout: RequestedLayout) {
        let named: Vec<StreamId> = layout.streams.into_iter().filter(|stream| self.has(stream)).collect();
        let others = self.shown.iter().chain(&self.pending).filter(|stream| !named.contains(stream));
        let mut inputs: Vec<StreamId> = named.iter().chain(others).cloned().collect();
        self.max_input = layout.template.regions.len();
        self.pending = inputs.split_off(inputs.len().min(self.max_input)).into();
        self.shown = inputs;
        self.templates = vec![layout.template];
        self.current = 0;
        self.primary_count.clear();
    }

    /// The layout as clients and mixers are told it.
    pub(crate) fn layout(&self) -> v1::Layout {
        let regions = self.templates.get(self.current).map(|t| t.regions.as_slice()).unwrap_or_default();
        let regions = regions.iter().enumerate().map(|(i, region)| v1::LayoutRegion {
            stream_id: self.shown.get(i).map(ToString::to_string).unwrap_or_default(),
            region_id: region.id.clone(),
            left: region.left.to_string(),
            top: region.top.to_string(),
            width: region.width.to_string(),
            height: region.height.to_string(),
        });
        v1::Layout { regions: regions.collect() }
    }

    /// The smallest template that holds all shown inputs; if none does, the one in force stays.
    fn fit(&mut self) {
        if let Some(fitting) = self.templates.iter().position(|t| t.regions.len() >= self.shown.len()) {
            self.current = fitting;
        }
    }
}

#[cfg(test)]
mod tests {
    use kaigi_room_config::Templates;

    use super::{super::templates, *};

    fn id(name: &str) -> StreamId {
        StreamId::new(name).unwrap()
    }

    fn view(base: &str, max_input: u32) -> Assignment {
        let spec = Templates { base: base.into(), custom: Vec::new() };
        Assignment::new(templates(&spec, max_input).0, max_input as usize)
    }

    fn streams(view: &Assignment) -> Vec<String> {
        view.layout().regions.into_iter().map(|r| r.stream_id).collect()
    }

    #[test]
    fn without_inputs_the_smallest_template_is_empty() {
        assert_eq!(streams(&view("fluid", 16)), [""]);
    }

    #[test]
    fn the_smallest_template_that_fits_is_taken() {
        let mut view = view("lecture", 16);
        assert!(view.add(id("a")));
        assert_eq!(streams(&view), ["a"]);
        assert!(view.add(id("b")));
        assert_eq!(streams(&view), ["a", "b", "", "", "", ""]);
        assert!(view.remove(&id("a")));
        assert_eq!(streams(&view), ["b"]);
    }

    #[test]
    fn adding_twice_and_removing_what_is_not_there_change_nothing() {
        let mut view = view("fluid", 4);
        view.add(id("a"));
        assert!(!view.add(id("a")));
        assert!(!view.remove(&id("b")));
        assert_eq!(streams(&view), ["a"]);
    }

    #[test]
    fn inputs_beyond_the_most_wait_and_take_the_place_of_one_that_leaves() {
        let mut view = view("fluid", 2);
        view.add(id("a"));
        view.add(id("b"));
        assert!(!view.add(id("c")));
        assert!(!view.add(id("d")));
        assert!(view.remove(&id("a")));
        assert_eq!(streams(&view), ["c", "b", "", ""]);
        assert!(!view.remove(&id("d")));
        assert!(view.remove(&id("c")));
        assert_eq!(streams(&view), ["b"]);
    }

    #[test]
    fn when_no_template_is_large_enough_the_one_in_force_stays() {
        let spec = Templates { base: "fluid".into(), custom: Vec::new() };
        let mut view = Assignment::new(templates(&spec, 1).0, 3);
        for name in ["a", "b", "c"] {
            view.add(id(name));
        }
        assert_eq!(streams(&view), ["a"]);
    }

    #[test]
    fn a_view_without_templates_shows_nothing() {
        let mut view = view("void", 4);
        view.add(id("a"));
        assert!(view.layout().regions.is_empty());
    }

    fn filled(inputs: &[&str], max_input: u32) -> Assignment {
        let mut view = view("fluid", max_input);
        for name in inputs {
            view.add(id(name));
        }
        view
    }

    #[test]
    fn inputs_swap_their_regions() {
        let mut view = filled(&["a", "b"], 4);
        assert_eq!((view.region_of(&id("a")), view.region_of(&id("b"))), (Some("1"), Some("2")));
        assert!(view.set_place(&id("b"), view.place_of("1").unwrap()));
        assert_eq!(streams(&view), ["b", "a", "", ""]);
        assert!(!view.set_place(&id("b"), 0), "it is there");
        assert_eq!(view.place_of("3"), None, "it shows nobody");
        assert_eq!(view.place_of("5"), None);
        assert!(!view.set_place(&id("b"), 2) && !view.set_place(&id("c"), 0));
    }

    #[test]
    fn an_input_that_waits_takes_the_place_of_one_that_waits_then() {
        let mut view = filled(&["a", "b", "c", "d"], 2);
        assert_eq!(view.region_of(&id("c")), None);
        assert!(view.has(&id("c")) && !view.has(&id("x")));
        assert!(view.set_place(&id("c"), 1));
        assert_eq!(streams(&view), ["a", "c", "", ""]);
        view.remove(&id("a"));
        view.remove(&id("c"));
        assert_eq!(streams(&view), ["d", "b", "", ""], "b waits behind d");
    }

    fn requested(regions: &[(&str, &str)]) -> RequestedLayout {
        let regions = regions.iter().map(|(region, stream)| v1::LayoutRegion {
            stream_id: (*stream).into(),
            region_id: (*region).into(),
            left: "0".into(),
            top: "0".into(),
            width: "1/3".into(),
            height: "1/3".into(),
        });
        RequestedLayout::from_wire(v1::Layout { regions: regions.collect() }).unwrap()
    }

    #[test]
    fn a_layout_shows_those_it_names_and_then_the_others_in_their_order() {
        let mut view = filled(&["a", "b", "c", "d"], 3);
        view.set_layout(requested(&[("x", "d"), ("y", "b"), ("z", "")]));
        assert_eq!(streams(&view), ["d", "b", "a"]);
        assert_eq!(view.region_of(&id("b")), Some("y"));
        assert_eq!(view.region_of(&id("c")), None);
        view.remove(&id("d"));
        assert_eq!(streams(&view), ["c", "b", "a"]);
        view.remove(&id("b"));
        assert_eq!(streams(&view), ["c", "a", ""], "there is no other template any more");
        view.set_layout(requested(&[("1", ""), ("2", ""), ("3", ""), ("4", "")]));
        for name in ["e", "f", "g"] {
            view.add(id(name));
        }
        assert_eq!(streams(&view), ["c", "a", "e", "f"], "as many are shown as there are regions");
    }

    #[test]
    fn the_primary_input_has_the_first_region() {
        let mut view = view("fluid", 2);
        for name in ["a", "b", "c"] {
            view.add(id(name));
        }
        assert!(view.set_primary(&id("b")));
        assert_eq!(streams(&view), ["b", "a", "", ""]);
        assert!(!view.set_primary(&id("b")));
        assert!(view.set_primary(&id("c")), "it waited");
        assert_eq!(streams(&view), ["c", "b", "", ""], "a was never primary and waits now");
        assert!(!view.set_primary(&id("x")));
    }
}
