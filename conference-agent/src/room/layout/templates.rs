//! The layouts that a view chooses from, one per number of regions.

use std::collections::BTreeMap;

use kaigi_room_config as config;
use serde::{Deserialize, Serialize};

use super::fraction::Fraction;

/// One place of a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Region {
    pub(crate) id: String,
    pub(crate) left: Fraction,
    pub(crate) top: Fraction,
    pub(crate) width: Fraction,
    pub(crate) height: Fraction,
}

impl Region {
    /// Reads left, top, width and height. `None` if they are no part of the picture.
    pub(super) fn parse(id: &str, [left, top, width, height]: [&str; 4]) -> Option<Self> {
        Some(Self {
            id: id.to_owned(),
            left: Fraction::parse(left)?,
            top: Fraction::parse(top)?,
            width: Fraction::parse(width).filter(|side| side.is_positive())?,
            height: Fraction::parse(height).filter(|side| side.is_positive())?,
        })
    }
}

/// Regions in drawing order; the first is the primary one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Template {
    pub(crate) regions: Vec<Region>,
}

impl Template {
    /// Squares given by (left, top, size), each in `parts` of the picture; ids "1", "2"….
    fn of(parts: u32, squares: impl IntoIterator<Item = (u32, u32, u32)>) -> Self {
        let at = |n| Fraction::new(n, parts);
        let regions = squares
            .into_iter()
            .enumerate()
            .map(|(i, (left, top, size))| Region {
                id: (i + 1).to_string(),
                left: at(left),
                top: at(top),
                width: at(size),
                height: at(size),
            })
            .collect();
        Self { regions }
    }

    /// Zero as "0/1" whatever the grid, as lectures have it.
    fn with_plain_zeros(mut self) -> Self {
        for side in self.regions.iter_mut().flat_map(|r| [&mut r.left, &mut r.top]) {
            if !side.is_positive() {
                *side = Fraction::ZERO;
            }
        }
        self
    }

    /// `None` if a region is no part of the picture or an id is used twice.
    fn custom(template: &config::Template) -> Option<Self> {
        let mut regions: Vec<Region> = Vec::new();
        for region in &template.region {
            let area = &region.area;
            let parsed = Region::parse(&region.id, [&area.left, &area.top, &area.width, &area.height])?;
            if region.shape != "rectangle" || regions.iter().any(|r| r.id == parsed.id) {
                return None;
            }
            regions.push(parsed);
        }
        (!regions.is_empty()).then_some(Self { regions })
    }
}

/// All templates of a view by rising number of regions, and how many custom ones were unreadable and left out.
pub(crate) fn templates(spec: &config::Templates, max_input: u32) -> (Vec<Template>, usize) {
    let built_in = match spec.base.as_str() {
        "void" => Vec::new(),
        "lecture" => lecture(max_input),
        _ => fluid(max_input),
    };
    let custom: Vec<_> = spec.custom.iter().map(Template::custom).collect();
    let unreadable = custom.iter().filter(|t| t.is_none()).count();
    let by_size: BTreeMap<usize, Template> = built_in
        .into_iter()
        .chain(custom.into_iter().flatten())
        .map(|template| (template.regions.len(), template))
        .collect();
    (by_size.into_values().collect(), unreadable)
}

/// The built-in layouts that a view with these templates chooses from: for each the left and upper edges, widths and heights of its regions
/// as fractions of the picture (`1/3`), in drawing order, the primary one first.
#[must_use]
pub fn built_in_layouts(base: &str, max_input: u32) -> Vec<Vec<[String; 4]>> {
    let spec = config::Templates { base: base.to_owned(), custom: Vec::new() };
    let area = |r: &Region| [r.left, r.top, r.width, r.height].map(|side| side.to_string());
    let all = templates(&spec, max_input).0;
    all.iter().map(|template| template.regions.iter().map(area).collect()).collect()
}

/// Square grids up to the first that holds `max_input`.
fn fluid(max_input: u32) -> Vec<Template> {
    let mut grids = Vec::new();
    for n in 1.. {
        grids.push(Template::of(n, (0..n * n).map(|i| (i % n, i / n, 1))));
        if n * n >= max_input {
            break;
        }
    }
    grids
}

/// One large region with small ones to its right and below.
fn lecture(max_input: u32) -> Vec<Template> {
    let mut all = vec![Template::of(1, [(0, 0, 1)]), corner(3)];
    if max_input > 6 {
        all.extend((4..=7).filter(|n| *n <= max_input.div_ceil(2)).map(corner));
    }
    if max_input > 14 {
        all.extend((4..=7).filter(|n| *n <= (max_input + 3).div_ceil(4)).map(double_corner));
    }
    all
}

/// 2n regions: the main one of n-1 parts, one column right of it, one row below it.
fn corner(n: u32) -> Template {
    let right = (0..n).map(|i| (n - 1, i, 1));
    let below = (0..n - 1).rev().map(|i| (i, n - 1, 1));
    Template::of(n, [(0, 0, n - 1)].into_iter().chain(right).chain(below)).with_plain_zeros()
}

/// 4n-3 regions: the main one of n-2 parts, two columns right of it, two rows below it.
fn double_corner(n: u32) -> Template {
    let inner_right = (0..n - 1).map(|i| (n - 2, i, 1));
    let inner_below = (0..n - 2).rev().map(|i| (i, n - 2, 1));
    let outer_right = (0..n).map(|i| (n - 1, i, 1));
    let outer_below = (0..n - 1).rev().map(|i| (i, n - 1, 1));
    let small = inner_right.chain(inner_below).chain(outer_right).chain(outer_below);
    Template::of(n, [(0, 0, n - 2)].into_iter().chain(small)).with_plain_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(base: &str, max_input: u32) -> Vec<usize> {
        let spec = config::Templates { base: base.into(), custom: Vec::new() };
        templates(&spec, max_input).0.iter().map(|t| t.regions.len()).collect()
    }

    fn shown(template: &Template) -> Vec<[String; 5]> {
        let text = |r: &Region| {
            [r.id.clone(), r.left.to_string(), r.top.to_string(), r.width.to_string(), r.height.to_string()]
        };
        template.regions.iter().map(text).collect()
    }

    fn row(id: &str, left: &str, top: &str, size: &str) -> [String; 5] {
        [id, left, top, size, size].map(str::to_owned)
    }

    fn custom(regions: &[(&str, [&str; 4])]) -> config::Template {
        let region = |&(id, [left, top, width, height]): &(&str, [&str; 4])| config::Region {
            id: id.into(),
            shape: "rectangle".into(),
            area: config::RegionArea {
                left: left.into(),
                top: top.into(),
                width: width.into(),
                height: height.into(),
            },
        };
        config::Template { primary: None, region: regions.iter().map(region).collect() }
    }

    #[test]
    fn the_number_of_regions_follows_the_most_inputs() {
        assert_eq!(sizes("fluid", 1), [1]);
        assert_eq!(sizes("fluid", 2), [1, 4]);
        assert_eq!(sizes("fluid", 16), [1, 4, 9, 16]);
        assert_eq!(sizes("fluid", 17), [1, 4, 9, 16, 25]);
        assert_eq!(sizes("no such base", 4), [1, 4]);
        assert_eq!(sizes("lecture", 6), [1, 6]);
        assert_eq!(sizes("lecture", 7), [1, 6, 8]);
        assert_eq!(sizes("lecture", 14), [1, 6, 8, 10, 12, 14]);
        assert_eq!(sizes("lecture", 16), [1, 6, 8, 10, 12, 13, 14, 17]);
        assert_eq!(sizes("lecture", 25), [1, 6, 8, 10, 12, 13, 14, 17, 21, 25]);
        assert!(sizes("void", 16).is_empty());
    }

    #[test]
    fn fluid_grids_go_row_by_row_and_are_not_reduced() {
        let all = templates(&config::Templates::default(), 4).0;
        assert_eq!(shown(&all[0]), [row("1", "0/1", "0/1", "1/1")]);
        assert_eq!(
            shown(&all[1]),
            [
                row("1", "0/2", "0/2", "1/2"),
                row("2", "1/2", "0/2", "1/2"),
                row("3", "0/2", "1/2", "1/2"),
                row("4", "1/2", "1/2", "1/2"),
            ]
        );
    }

    #[test]
    fn lecture_with_six_regions() {
        assert_eq!(
            shown(&corner(3)),
            [
                row("1", "0/1", "0/1", "2/3"),
                row("2", "2/3", "0/1", "1/3"),
                row("3", "2/3", "1/3", "1/3"),
                row("4", "2/3", "2/3", "1/3"),
                row("5", "1/3", "2/3", "1/3"),
                row("6", "0/1", "2/3", "1/3"),
            ]
        );
    }

    #[test]
    fn lecture_with_thirteen_regions() {
        let template = double_corner(4);
        let shown = shown(&template);
        assert_eq!(shown[0], row("1", "0/1", "0/1", "2/4"));
        assert_eq!(shown[1], row("2", "2/4", "0/1", "1/4"));
        assert_eq!(shown[3], row("4", "2/4", "2/4", "1/4"));
        assert_eq!(shown[4], row("5", "1/4", "2/4", "1/4"));
        assert_eq!(shown[5], row("6", "0/1", "2/4", "1/4"));
        assert_eq!(shown[6], row("7", "3/4", "0/1", "1/4"));
        assert_eq!(shown[9], row("10", "3/4", "3/4", "1/4"));
        assert_eq!(shown[10], row("11", "2/4", "3/4", "1/4"));
        assert_eq!(shown[12], row("13", "0/1", "3/4", "1/4"));
    }

    #[test]
    fn built_in_regions_cover_the_picture_once() {
        for base in ["fluid", "lecture"] {
            let spec = config::Templates { base: base.into(), custom: Vec::new() };
            for template in templates(&spec, 25).0 {
                let area: f64 = template.regions.iter().map(|r| r.width.value() * r.height.value()).sum();
                assert!((area - 1.0).abs() < 1e-9, "{base} {}: {area}", template.regions.len());
                let inside = |r: &Region| {
                    r.left.value() + r.width.value() < 1.0 + 1e-9
                        && r.top.value() + r.height.value() < 1.0 + 1e-9
                };
                assert!(template.regions.iter().all(inside));
            }
        }
    }

    #[test]
    fn a_custom_template_replaces_the_one_of_its_size() {
        let halves = custom(&[("left", ["0", "0", "1/2", "1"]), ("right", ["2/4", "0", "0.5", "1"])]);
        let whole = custom(&[("a", ["0", "0", "1", "1"])]);
        let spec = config::Templates { base: "fluid".into(), custom: vec![halves.clone(), whole] };
        let (all, unreadable) = templates(&spec, 4);
        assert_eq!(unreadable, 0);
        assert_eq!(all.iter().map(|t| t.regions.len()).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(all[0].regions[0].id, "a");
        assert_eq!(shown(&all[1])[1], ["right", "1/2", "0/1", "1/2", "1/1"].map(str::to_owned));
        let only = config::Templates { base: "void".into(), custom: vec![halves] };
        assert_eq!(templates(&only, 16).0.len(), 1);
    }

    #[test]
    fn an_unreadable_custom_template_is_left_out() {
        let bad = [
            custom(&[("a", ["0", "0", "3/2", "1"])]),
            custom(&[("a", ["0", "0", "0", "1"])]),
            custom(&[("a", ["0", "0", "1", "1"]), ("a", ["0", "0", "1", "1"])]),
            custom(&[]),
        ];
        let spec = config::Templates { base: "void".into(), custom: bad.to_vec() };
        assert_eq!(templates(&spec, 4), (Vec::new(), 4));
    }
}
