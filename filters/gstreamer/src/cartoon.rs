//! The element `kaigicartoon`: shows the picture as if it were drawn. It works in place.

use gstreamer as gst;
use gstreamer::glib;

glib::wrapper! {
    /// See the module. Its properties are those of [`kaigi_filters::Cartoon`]; all may be set while it works.
    pub struct Cartoon(ObjectSubclass<imp::Cartoon>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element, gst::Object;
}

impl Cartoon {
    /// Name of the element.
    pub const NAME: &'static str = "kaigicartoon";
}

mod imp {
    use std::sync::LazyLock;

    use gstreamer as gst;
    use gstreamer::{glib, prelude::*, subclass::prelude::*};
    use gstreamer_base::subclass::prelude::*;
    use gstreamer_video::{VideoFrameExt, VideoFrameRef, subclass::prelude::*};
    use kaigi_filters::{Cartoon as Parameters, Cartoonist, cartoon::saturate};
    use parking_lot::Mutex;

    use crate::element::{self, number};

    #[derive(Default)]
    pub struct Cartoon {
        parameters: Mutex<Parameters>,
        cartoonist: Mutex<Cartoonist>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Cartoon {
        const NAME: &'static str = "KaigiCartoon";
        type Type = super::Cartoon;
        type ParentType = gstreamer_video::VideoFilter;
    }

    impl ObjectImpl for Cartoon {
        fn properties() -> &'static [glib::ParamSpec] {
            static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                let default = Parameters::default();
                vec![
                    number(
                        "levels",
                        "Levels",
                        "Tones from black to white",
                        Parameters::LEVELS,
                        default.levels,
                    ),
                    number(
                        "outline",
                        "Outline",
                        "Gradients (Sobel 3×3, |dx| + |dy|) above it are drawn black; 2040 = none",
                        0..=Parameters::MAX_OUTLINE,
                        default.outline,
                    ),
                    number(
                        "saturation",
                        "Saturation",
                        "Strength of the colours, in percent of what it was",
                        0..=Parameters::MAX_SATURATION,
                        default.saturation,
                    ),
                ]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
            let mut parameters = self.parameters.lock();
            let Ok(value) = value.get() else { return };
            match spec.name() {
                "levels" => parameters.levels = value,
                "outline" => parameters.outline = value,
                "saturation" => parameters.saturation = value,
                _ => {}
            }
        }

        fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
            let parameters = self.parameters.lock();
            match spec.name() {
                "levels" => parameters.levels,
                "outline" => parameters.outline,
                _ => parameters.saturation,
            }
            .to_value()
        }
    }

    impl GstObjectImpl for Cartoon {}

    impl ElementImpl for Cartoon {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                element::metadata(
                    "Cartoon",
                    "Shows the picture in few tones with dark outlines and strong colours",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(element::pad_templates);
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for Cartoon {
        const MODE: gstreamer_base::subclass::BaseTransformMode =
            gstreamer_base::subclass::BaseTransformMode::AlwaysInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;
    }

    impl VideoFilterImpl for Cartoon {
        fn transform_frame_ip(
            &self,
            frame: &mut VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let Parameters { levels, outline, saturation } = self.parameters.lock().clone();
            let (size, format) = ((frame.width(), frame.height()), frame.format());
            let stride = element::stride(frame, 0)?;
            let data = frame.plane_data_mut(0).map_err(|_| gst::FlowError::Error)?;
            let mut cartoonist = self.cartoonist.lock();
            cartoonist.look(element::luma(data, stride, size)?);
            for (y, row) in data.chunks_mut(stride).take(size.1 as usize).enumerate() {
                cartoonist.draw(y, levels, outline, row);
            }
            for plane in element::chroma_planes(format) {
                saturate(saturation, frame.plane_data_mut(plane).map_err(|_| gst::FlowError::Error)?);
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }
}
