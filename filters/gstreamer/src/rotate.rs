//! The element `kaigirotate`: turns and mirrors the picture. Quarters of a turn exchange width and height.

use gstreamer as gst;
use gstreamer::glib;

glib::wrapper! {
    /// See the module. Its properties are those of [`kaigi_filters::Rotate`]; both may be set while it works.
    pub struct Rotate(ObjectSubclass<imp::Rotate>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element, gst::Object;
}

impl Rotate {
    /// Name of the element.
    pub const NAME: &'static str = "kaigirotate";
}

/// What is mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "KaigiRotateFlip")]
pub enum Mirror {
    /// Nothing.
    #[default]
    #[enum_value(name = "Nothing is mirrored", nick = "none")]
    None,
    /// Left and right.
    #[enum_value(name = "Left and right change places", nick = "horizontal")]
    Horizontal,
    /// Top and bottom.
    #[enum_value(name = "Top and bottom change places", nick = "vertical")]
    Vertical,
}

mod imp {
    use std::sync::LazyLock;

    use gstreamer as gst;
    use gstreamer::{glib, prelude::*, subclass::prelude::*};
    use gstreamer_base::{prelude::BaseTransformExt, subclass::prelude::*};
    use gstreamer_video::{VideoFormat, VideoFrameExt, VideoFrameRef, subclass::prelude::*};
    use kaigi_filters::{
        Flip, Plane, Rotate as Parameters, Rotation,
        luma::{BLACK, GREY},
    };
    use parking_lot::Mutex;

    use super::Mirror;
    use crate::element::{self, number};

    #[derive(Default)]
    pub struct Rotate(Mutex<Rotation>);

    #[glib::object_subclass]
    impl ObjectSubclass for Rotate {
        const NAME: &'static str = "KaigiRotate";
        type Type = super::Rotate;
        type ParentType = gstreamer_video::VideoFilter;
    }

    impl ObjectImpl for Rotate {
        fn properties() -> &'static [glib::ParamSpec] {
            static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                vec![
                    number(
                        "angle",
                        "Angle",
                        "Degrees, clockwise. 90 and 270 exchange width and height; others but 0 and 180 cut what stands over and leave black corners",
                        0..=Parameters::MAX_ANGLE,
                        0,
                    ),
                    glib::ParamSpecEnum::builder_with_default("flip", Mirror::None)
                        .nick("Flip")
                        .blurb("What is mirrored before the picture is turned")
                        .mutable_playing()
                        .build(),
                ]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
            let mut rotation = self.0.lock();
            let before = *rotation;
            match spec.name() {
                "angle" => rotation.angle = value.get().unwrap_or_default(),
                "flip" => {
                    rotation.flip = match value.get().unwrap_or_default() {
                        Mirror::None => Flip::None,
                        Mirror::Horizontal => Flip::Horizontal,
                        Mirror::Vertical => Flip::Vertical,
                    }
                }
                _ => {}
            }
            let after = *rotation;
            drop(rotation);
            if before.swaps_sides() != after.swaps_sides() {
                self.obj().reconfigure_src();
            }
        }

        fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
            let rotation = self.0.lock();
            match spec.name() {
                "angle" => rotation.angle.to_value(),
                _ => match rotation.flip {
                    Flip::None => Mirror::None,
                    Flip::Horizontal => Mirror::Horizontal,
                    Flip::Vertical => Mirror::Vertical,
                }
                .to_value(),
            }
        }
    }

    impl GstObjectImpl for Rotate {}

    impl ElementImpl for Rotate {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> =
                LazyLock::new(|| element::metadata("Rotation", "Turns and mirrors the picture"));
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(element::pad_templates);
            &TEMPLATES
        }
    }

    impl BaseTransformImpl for Rotate {
        const MODE: gstreamer_base::subclass::BaseTransformMode =
            gstreamer_base::subclass::BaseTransformMode::NeverInPlace;
        const PASSTHROUGH_ON_SAME_CAPS: bool = false;
        const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

        fn transform_caps(
            &self,
            _direction: gst::PadDirection,
            caps: &gst::Caps,
            filter: Option<&gst::Caps>,
        ) -> Option<gst::Caps> {
            let mut other = caps.clone();
            if self.0.lock().swaps_sides() {
                other.make_mut().iter_mut().for_each(swap_sides);
            }
            Some(match filter {
                Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
                None => other,
            })
        }
    }

    fn swap_sides(caps: &mut gst::StructureRef) {
        let side = |name| caps.value(name).ok().map(|value| value.to_send_value());
        for (name, value) in [("width", side("height")), ("height", side("width"))] {
            match value {
                Some(value) => caps.set_value(name, value),
                None => caps.remove_field(name),
            }
        }
        if let Ok(ratio) = caps.get::<gst::Fraction>("pixel-aspect-ratio")
            && ratio.numer() > 0
        {
            caps.set("pixel-aspect-ratio", gst::Fraction::new(ratio.denom(), ratio.numer()));
        }
    }

    impl VideoFilterImpl for Rotate {
        fn transform_frame(
            &self,
            from: &VideoFrameRef<&gst::BufferRef>,
            to: &mut VideoFrameRef<&mut gst::BufferRef>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let rotation = *self.0.lock();
            let size = |width: u32, height: u32| {
                if rotation.swaps_sides() { (height, width) } else { (width, height) }
            };
            if size(from.width(), from.height()) != (to.width(), to.height()) {
                // Set while a frame of the old size was on its way.
                return Ok(gstreamer_base::BASE_TRANSFORM_FLOW_DROPPED);
            }
            turn(rotation, from, to, 0, [BLACK])?;
            if from.format() == VideoFormat::Nv12 {
                turn(rotation, from, to, 1, [GREY; 2])?;
            } else {
                turn(rotation, from, to, 1, [GREY])?;
                turn(rotation, from, to, 2, [GREY])?;
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }

    fn turn<const N: usize>(
        rotation: Rotation,
        from: &VideoFrameRef<&gst::BufferRef>,
        to: &mut VideoFrameRef<&mut gst::BufferRef>,
        plane: u32,
        background: [u8; N],
    ) -> Result<(), gst::FlowError> {
        let half = |side: u32| if plane == 0 { side } else { side.div_ceil(2) } as usize;
        let (width, height) = (half(from.width()), half(from.height()));
        let (from_stride, to_stride) = (element::stride(from, plane)?, element::stride(to, plane)?);
        let data = from.plane_data(plane).map_err(|_| gst::FlowError::Error)?;
        let pixels = Plane::new(data, from_stride, width * N, height).ok_or(gst::FlowError::Error)?;
        let data = to.plane_data_mut(plane).map_err(|_| gst::FlowError::Error)?;
        rotation.turn(pixels, data, to_stride, background);
        Ok(())
    }
}
