//! The GStreamer element `kaigiedgedetect`: shows the edges of the picture, white on black.
//!
//! It works in place on I420. Its name has a prefix, because gst-plugins-bad has an element `edgedetect` of its own
//! (which needs OpenCV and RGB).

use gstreamer as gst;
use gstreamer::glib;

glib::wrapper! {
    /// See the module.
    ///
    /// Properties: `enabled` (false: the picture passes untouched; may be switched while playing), `low-threshold` and
    /// `high-threshold` (of the gradient's magnitude, 0..=2040).
    pub struct EdgeDetect(ObjectSubclass<imp::EdgeDetect>)
        @extends gstreamer_video::VideoFilter, gstreamer_base::BaseTransform, gst::Element, gst::Object;
}

impl EdgeDetect {
    /// Name of the element.
    pub const NAME: &'static str = "kaigiedgedetect";

    /// Makes the element known to this process's GStreamer.
    ///
    /// # Errors
    /// If GStreamer refuses it.
    pub fn register() -> Result<(), glib::BoolError> {
        use glib::types::StaticType;
        gst::Element::register(None, Self::NAME, gst::Rank::NONE, Self::static_type())
    }
}

mod imp {
    use std::sync::LazyLock;

    use gstreamer as gst;
    use gstreamer::{glib, prelude::*, subclass::prelude::*};
    use gstreamer_base::{prelude::BaseTransformExt, subclass::prelude::*};
    use gstreamer_video::{VideoFormat, VideoFrameExt, VideoFrameRef, subclass::prelude::*};
    use parking_lot::Mutex;

    use crate::video::Canny;

    /// Luma of an edge and of everything else (BT.601 limited range), and chroma without colour.
    const WHITE: u8 = 235;
    const BLACK: u8 = 16;
    const GREY: u8 = 128;
    /// Largest gradient magnitude: both Sobel sums at their largest.
    const MAX_MAGNITUDE: u32 = 2040;

    struct Settings {
        enabled: bool,
        low: u16,
        high: u16,
    }

    pub struct EdgeDetect {
        settings: Mutex<Settings>,
        canny: Mutex<Canny>,
    }

    impl Default for EdgeDetect {
        fn default() -> Self {
            let settings = Settings { enabled: true, low: 100, high: 200 };
            Self { settings: Mutex::new(settings), canny: Mutex::default() }
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
                let threshold = |name, nick, default| {
                    glib::ParamSpecUInt::builder(name)
                        .nick(nick)
                        .maximum(MAX_MAGNITUDE)
                        .default_value(default)
                        .mutable_playing()
                        .build()
                };
                vec![
                    glib::ParamSpecBoolean::builder("enabled")
                        .nick("Whether edges are shown instead of the picture")
                        .default_value(true)
                        .mutable_playing()
                        .build(),
                    threshold("low-threshold", "Weak edges count from here when they touch strong ones", 100),
                    threshold("high-threshold", "Strong edges count from here", 200),
                ]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
            let threshold = || value.get::<u32>().ok().and_then(|value| u16::try_from(value).ok());
            match spec.name() {
                "enabled" => {
                    let enabled = value.get().unwrap_or(true);
                    self.settings.lock().enabled = enabled;
                    self.obj().set_passthrough(!enabled);
                }
                "low-threshold" => self.settings.lock().low = threshold().unwrap_or(100),
                "high-threshold" => self.settings.lock().high = threshold().unwrap_or(200),
                _ => {}
            }
        }

        fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
            let settings = self.settings.lock();
            match spec.name() {
                "low-threshold" => u32::from(settings.low).to_value(),
                "high-threshold" => u32::from(settings.high).to_value(),
                _ => settings.enabled.to_value(),
            }
        }
    }

    impl GstObjectImpl for EdgeDetect {}

    impl ElementImpl for EdgeDetect {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Edge detector",
                    "Filter/Effect/Video",
                    "Shows the edges of the picture (Canny), white on black",
                    "Kaigi",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let caps = gstreamer_video::VideoCapsBuilder::new().format(VideoFormat::I420).build();
                [("src", gst::PadDirection::Src), ("sink", gst::PadDirection::Sink)]
                    .into_iter()
                    .filter_map(|(name, direction)| {
                        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                    })
                    .collect()
            });
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
            let (low, high) = {
                let settings = self.settings.lock();
                (settings.low, settings.high)
            };
            let (width, height) = (frame.width() as usize, frame.height() as usize);
            let stride =
                usize::try_from(frame.plane_stride()[0]).map_err(|_| gst::FlowError::NotNegotiated)?;
            let mut canny = self.canny.lock();
            let luma = frame.plane_data_mut(0).map_err(|_| gst::FlowError::Error)?;
            canny.detect(luma, stride, width, height, low, high);
            for (y, row) in luma.chunks_mut(stride).take(height).enumerate() {
                for (pixel, edge) in row.iter_mut().zip(canny.row(y)) {
                    *pixel = if edge { WHITE } else { BLACK };
                }
            }
            for plane in [1, 2] {
                frame.plane_data_mut(plane).map_err(|_| gst::FlowError::Error)?.fill(GREY);
            }
            Ok(gst::FlowSuccess::Ok)
        }
    }
}

#[cfg(test)]
mod tests {
    use gstreamer::prelude::*;

    use super::*;

    /// Luma of the last of some frames of a white square on black, 64×64, and whether its chroma is grey.
    fn filtered(settings: &str) -> (Vec<u8>, bool) {
        gst::init().unwrap();
        EdgeDetect::register().unwrap();
        let launch = format!(
            "videotestsrc num-buffers=3 pattern=red ! video/x-raw,format=I420,width=64,height=64,framerate=30/1 \
             ! videobox border-alpha=1 left=-16 right=-16 top=-16 bottom=-16 ! video/x-raw,format=I420,width=96,height=96 \
             ! kaigiedgedetect name=filter {settings} ! appsink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut last = None;
        while let Ok(sample) = sink.pull_sample() {
            last = Some(sample);
        }
        pipeline.set_state(gst::State::Null).unwrap();
        let sample = last.expect("no frame came through");
        let data = sample.buffer().unwrap().map_readable().unwrap();
        let (luma, chroma) = data.split_at(96 * 96);
        (luma.to_vec(), chroma.iter().all(|value| *value == 128))
    }

    #[test]
    fn shows_the_outline_white_on_black_without_colour() {
        let (luma, grey) = filtered("low-threshold=50 high-threshold=100");
        assert!(grey);
        assert!(luma.iter().all(|value| [16, 235].contains(value)));
        let row: Vec<usize> = (0..96).filter(|x| luma[48 * 96 + x] == 235).collect();
        assert_eq!(row.len(), 2, "{row:?}");
        assert!((15..=16).contains(&row[0]) && (79..=80).contains(&row[1]), "{row:?}");
    }

    #[test]
    fn thresholds_decide_what_is_an_edge() {
        let (luma, _) = filtered("low-threshold=2039 high-threshold=2040");
        assert!(luma.iter().all(|value| *value == 16));
    }

    #[test]
    fn passes_pictures_untouched_when_it_is_off() {
        let (luma, grey) = filtered("enabled=false");
        assert!(!grey);
        assert_eq!((luma[0], luma[48 * 96 + 48]), (16, 81));
    }
}
