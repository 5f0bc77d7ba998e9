//! The element `kaigiedgedetect`: shows the edges of the picture, white on black. It works in place.

use gstreamer as gst;
use gstreamer::glib;

glib::wrapper! {
    /// See the module. Its properties are those of [`kaigi_filters::EdgeDetect`], and `enabled` (false: the picture passes untouched); all may be
    /// set while it works.
    pub struct EdgeDetect(ObjectSubclass<imp::EdgeDetect>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element, gst::Object;
}

impl EdgeDetect {
    /// Name of the element.
    pub const NAME: &'static str = "kaigiedgedetect";
}

/// How edges are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "KaigiEdgeDetectMethod")]
pub enum Method {
    /// Canny's.
    #[default]
    #[enum_value(name = "Lines of one pixel, white on black", nick = "canny")]
    Canny,
    /// Sobel's.
    #[enum_value(name = "Strength of the gradient, in grey", nick = "sobel")]
    Sobel,
}

mod imp {
    use std::sync::LazyLock;

    use gstreamer as gst;
    use gstreamer::{glib, prelude::*, subclass::prelude::*};
    use gstreamer_base::{prelude::BaseTransformExt, subclass::prelude::*};
    use gstreamer_video::{VideoFrameExt, VideoFrameRef, subclass::prelude::*};
    use kaigi_filters::{Canny, EdgeDetect as Parameters, EdgeMethod, luma, sobel::Sobel};
    use parking_lot::Mutex;

    use super::Method;
    use crate::element::{self, number};

    struct Settings {
        enabled: bool,
        parameters: Parameters,
    }

    #[derive(Default)]
    struct Cores {
        canny: Canny,
        sobel: Sobel,
    }

    pub struct EdgeDetect {
        settings: Mutex<Settings>,
        cores: Mutex<Cores>,
    }

    impl Default for EdgeDetect {
        fn default() -> Self {
            let settings = Settings { enabled: true, parameters: Parameters::default() };
            Self { settings: Mutex::new(settings), cores: Mutex::default() }
        }
    }

    #[glib::object_subclass]
    impl ObjectSubclass for EdgeDetect {
        const NAME: &'static str = "KaigiEdgeDetect";
        type Type = super::EdgeDetect;
        type ParentType = gstreamer_video::VideoFilter;
    }

    impl ObjectImpl for EdgeDetect {
        fn properties() -> &'static [glib::ParamSpec] {
            static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                let default = Parameters::default();
                let flag = |name, nick, blurb, default| {
                    glib::ParamSpecBoolean::builder(name)
                        .nick(nick)
                        .blurb(blurb)
                        .default_value(default)
                        .mutable_playing()
                        .build()
                };
                let thresholds = 0..=Parameters::MAX_THRESHOLD;
                vec![
                    flag("enabled", "Enabled", "Whether edges are shown instead of the picture", true),
                    glib::ParamSpecEnum::builder_with_default("method", Method::Canny)
                        .nick("Method")
                        .blurb("How edges are shown")
                        .mutable_playing()
                        .build(),
                    number(
                        "low-threshold",
                        "Low threshold",
                        "Of the gradient's magnitude. Canny: edges above it count where they touch strong ones; Sobel: black up to it",
                        thresholds.clone(),
                        default.low_threshold,
                    ),
                    number(
                        "high-threshold",
                        "High threshold",
                        "Of the gradient's magnitude, at most 2040, 24480 or 326400 with aperture 3, 5 or 7. Canny: edges above it are strong; Sobel: white from it on",
                        thresholds,
                        default.high_threshold,
                    ),
                    number(
                        "aperture",
                        "Aperture",
                        "Pixels along a side of Sobel's operator: 3, 5 or 7 (4 counts as 3, 6 as 5)",
                        3..=7,
                        default.aperture,
                    ),
                    flag(
                        "l2-gradient",
                        "L2 gradient",
                        "Whether the magnitude is the root of dx² + dy², and not |dx| + |dy|",
                        default.l2_gradient,
                    ),
                ]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
            let mut settings = self.settings.lock();
            let parameters = &mut settings.parameters;
            // Values of another type, or beyond the range, don't come here.
            match spec.name() {
                "enabled" => {
                    let enabled = value.get().unwrap_or(true);
                    settings.enabled = enabled;
                    drop(settings);
                    self.obj().set_passthrough(!enabled);
                }
                "method" => {
                    parameters.method = match value.get().unwrap_or_default() {
                        Method::Canny => EdgeMethod::Canny,
                        Method::Sobel => EdgeMethod::Sobel,
                    }
                }
                "low-threshold" => parameters.low_threshold = value.get().unwrap_or_default(),
                "high-threshold" => parameters.high_threshold = value.get().unwrap_or_default(),
                "aperture" => parameters.aperture = (value.get().unwrap_or(3u32) - 1) / 2 * 2 + 1,
                "l2-gradient" => parameters.l2_gradient = value.get().unwrap_or_default(),
                _ => {}
            }
        }

        fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
            let settings = self.settings.lock();
            let parameters = &settings.parameters;
            match spec.name() {
                "method" => match parameters.method {
                    EdgeMethod::Canny => Method::Canny,
                    EdgeMethod::Sobel => Method::Sobel,
                }
                .to_value(),
                "low-threshold" => parameters.low_threshold.to_value(),
                "high-threshold" => parameters.high_threshold.to_value(),
                "aperture" => parameters.aperture.to_value(),
                "l2-gradient" => parameters.l2_gradient.to_value(),
                _ => settings.enabled.to_value(),
            }
        }
    }

    impl GstObjectImpl for EdgeDetect {}

    impl ElementImpl for EdgeDetect {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                element::metadata("Edge detector", "Shows the edges of the picture, white on black")
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(element::pad_templates);
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for EdgeDetect {
        const MODE: gstreamer_base::subclass::BaseTransformMode =
            gstreamer_base::subclass::BaseTransformMode::AlwaysInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;
    }

    impl VideoFilterImpl for EdgeDetect {
        fn transform_frame_ip(
            &self,
            frame: &mut VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let parameters = self.settings.lock().parameters.clone();
            let (aperture, norm, thresholds) =
                (parameters.aperture(), parameters.norm(), parameters.thresholds());
            let (size, format) = ((frame.width(), frame.height()), frame.format());
            let stride = element::stride(frame, 0)?;
            let data = frame.plane_data_mut(0).map_err(|_| gst::FlowError::Error)?;
            let mut cores = self.cores.lock();
            let plane = element::luma(data, stride, size)?;
            match parameters.method {
                EdgeMethod::Canny => {
                    cores.canny.detect(plane, aperture, norm, thresholds);
                    for (y, row) in data.chunks_mut(stride).take(size.1 as usize).enumerate() {
                        for (pixel, edge) in row.iter_mut().zip(cores.canny.row(y)) {
                            *pixel = if edge { luma::WHITE } else { luma::BLACK };
                        }
                    }
                }
                EdgeMethod::Sobel => {
                    cores.sobel.detect(plane, aperture);
                    for (y, row) in data.chunks_mut(stride).take(size.1 as usize).enumerate() {
                        cores.sobel.paint(y, aperture, norm, thresholds, row);
                    }
                }
            }
            for plane in element::chroma_planes(format) {
                frame.plane_data_mut(plane).map_err(|_| gst::FlowError::Error)?.fill(luma::GREY);
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }
}
