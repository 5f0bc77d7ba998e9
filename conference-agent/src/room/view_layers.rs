//! The sizes that a view's picture is offered in. Access nodes choose among them, as among the layers of a publication, what the way to each
//! subscriber carries; mixers make those that somebody is sent.

use kaigi_room_config::Resolution;

use super::{
    Room,
    feeds::of_view,
    media::{Kind, LayerWish, Source},
    outputs::{OutputSpec, OutputSpecs},
    wish::Conversion,
};

/// What the sides of the smaller ones are divided by. An encoder of a quarter of the pixels costs about a third.
const DIVISORS: [u32; 2] = [2, 4];
/// A picture whose shorter side is less shows nobody.
const LEAST: u32 = 90;

impl Room {
    /// Beside the view's own picture, by their ids; none of a view that has no picture, or a small one.
    pub(super) fn view_layers(&self, label: &str) -> OutputSpecs {
        let layers = || {
            let spec = self.config.views.iter().find(|view| view.label == label)?.video.as_ref()?;
            let (format, own) = self.view(label)?.track(&self.config, Kind::Video)?;
            let layers = sizes(spec.parameters.resolution).map(|size| {
                let smaller = Conversion { resolution: Some(size), ..Conversion::default() };
                let output = OutputSpec::Video(of_view(spec, &own, &smaller, &format));
                (output.id(), output)
            });
            Some(layers.collect())
        };
        layers().unwrap_or_default()
    }

    /// Where a view's picture and its layers are, as far as a mixer has made them.
    pub(super) fn view_layer_sources(&self, label: &str) -> Option<Vec<Source>> {
        let made = self.view(label)?.outputs.as_ref()?;
        Some(made.video.iter().chain(&made.layers).cloned().collect())
    }
}

/// Of a subscription that takes the view as it is.
pub(super) fn as_it_is(conversion: &Conversion) -> LayerWish {
    LayerWish { priority: conversion.priority, ..LayerWish::default() }
}

fn sizes(whole: Resolution) -> impl Iterator<Item = Resolution> {
    let part = move |divisor: u32| Resolution {
        width: (whole.width / divisor) & !1,
        height: (whole.height / divisor) & !1,
    };
    DIVISORS.into_iter().map(part).filter(|size| size.width.min(size.height) >= LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: u32, height: u32) -> Vec<(u32, u32)> {
        sizes(Resolution { width, height }).map(|size| (size.width, size.height)).collect()
    }

    #[test]
    fn sides_are_halves_and_quarters_and_even() {
        assert_eq!(of(1280, 720), [(640, 360), (320, 180)]);
        assert_eq!(of(1366, 768), [(682, 384), (340, 192)]);
    }

    #[test]
    fn what_would_show_nobody_is_left_out() {
        assert_eq!(of(640, 480), [(320, 240), (160, 120)]);
        assert_eq!(of(320, 240), [(160, 120)]);
        assert!(of(176, 144).is_empty());
    }
}
