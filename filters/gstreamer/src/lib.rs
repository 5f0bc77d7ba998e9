//! GStreamer elements of the filters: `kaigiedgedetect`, `kaigicartoon` and `kaigirotate`, on I420 and NV12.
//!
//! Programs [register](register) them; `gst-launch-1.0` and others load the plug-in `kaigi` from `libgstkaigi.so`, in a directory that
//! `GST_PLUGIN_PATH` names. The names have a prefix, because GStreamer's own plug-ins have elements `edgedetect` and `rotate`.

mod cartoon;
mod edgedetect;
mod element;
mod rotate;

use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use kaigi_filters::{EdgeMethod, Filter, Flip};

pub use cartoon::Cartoon;
pub use edgedetect::{EdgeDetect, Method};
pub use rotate::{Mirror, Rotate};

/// Makes the elements known to this process's GStreamer.
///
/// # Errors
/// If GStreamer refuses them.
pub fn register() -> Result<(), glib::BoolError> {
    add(None)
}

/// The filter's element with its parameters.
///
/// # Errors
/// If the elements are not [registered](register).
pub fn element(filter: &Filter) -> Result<gst::Element, glib::BoolError> {
    match filter {
        Filter::EdgeDetect(parameters) => gst::ElementFactory::make(EdgeDetect::NAME)
            .property(
                "method",
                match parameters.method {
                    EdgeMethod::Canny => Method::Canny,
                    EdgeMethod::Sobel => Method::Sobel,
                },
            )
            .property("low-threshold", parameters.low_threshold)
            .property("high-threshold", parameters.high_threshold)
            .property("aperture", parameters.aperture)
            .property("l2-gradient", parameters.l2_gradient)
            .build(),
        Filter::Cartoon(parameters) => gst::ElementFactory::make(Cartoon::NAME)
            .property("levels", parameters.levels)
            .property("outline", parameters.outline)
            .property("saturation", parameters.saturation)
            .build(),
        Filter::Rotate(parameters) => gst::ElementFactory::make(Rotate::NAME)
            .property("angle", parameters.angle)
            .property(
                "flip",
                match parameters.flip {
                    Flip::None => Mirror::None,
                    Flip::Horizontal => Mirror::Horizontal,
                    Flip::Vertical => Mirror::Vertical,
                },
            )
            .build(),
    }
}

fn add(plugin: Option<&gst::Plugin>) -> Result<(), glib::BoolError> {
    let rank = gst::Rank::NONE;
    gst::Element::register(plugin, EdgeDetect::NAME, rank, EdgeDetect::static_type())?;
    gst::Element::register(plugin, Cartoon::NAME, rank, Cartoon::static_type())?;
    gst::Element::register(plugin, Rotate::NAME, rank, Rotate::static_type())
}

/// The entry of the plug-in.
#[allow(missing_docs, reason = "the macro makes it")]
mod plugin {
    use super::{add, glib, gst};

    fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
        add(Some(plugin))
    }

    gst::plugin_define!(
        kaigi,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        env!("CARGO_PKG_VERSION"),
        "Proprietary",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        "kaigi",
        "2026-11-21"
    );
}
