//! The filter on a view's composed picture: `appsrc ! kaigiedgedetect ! appsink`, a picture in and a picture out.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use super::{
    EdgeDetect, Frame, PipelineError, Size,
    decode::{Decoded, watch_errors},
    sheet::{Press, i420},
    vitals::stop,
};

/// Longest wait for a filtered picture. The filter takes some milliseconds; on a machine that gives it no time at all, the
/// picture is left out.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Filters pictures of one size until dropped.
pub struct EdgeFilter {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: AppSink,
    press: Press,
    size: Size,
}

impl EdgeFilter {
    /// Builds and starts the pipeline.
    ///
    /// # Errors
    /// If an element is missing or the pipeline does not start.
    pub fn start(size: Size) -> Result<Self, PipelineError> {
        let caps = i420(size, None)?.to_caps()?;
        let source = AppSrc::builder().caps(&caps).format(gst::Format::Time).max_buffers(1).build();
        let filter = gst::ElementFactory::make(EdgeDetect::NAME).build()?;
        let sink = AppSink::builder().caps(&caps).sync(false).async_(false).max_buffers(1).build();
        let pipeline = gst::Pipeline::new();
        let chain = [source.upcast_ref::<gst::Element>(), &filter, sink.upcast_ref()];
        pipeline.add_many(chain)?;
        gst::Element::link_many(chain)?;
        watch_errors(&pipeline, |signal| tracing::warn!(?signal, "filter failed"));
        let this = Self { pipeline, source, sink, press: Press::new(size)?, size };
        this.pipeline.set_state(gst::State::Playing)?;
        Ok(this)
    }

    /// Of its pictures.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The picture's edges. None if the filter is broken, or the picture has another size.
    pub fn apply(&self, picture: &super::Picture<'_>) -> Option<impl Frame + use<>> {
        self.source.push_buffer(self.press.print(picture)?).ok()?;
        Decoded::of(&self.sink.try_pull_sample(PATIENCE)?)
    }
}

impl Drop for EdgeFilter {
    fn drop(&mut self) {
        stop(&self.pipeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{Canvas, Colour, Rect};

    #[test]
    fn edges_of_the_picture_given_come_out() {
        crate::init_gstreamer().unwrap();
        let size = Size { width: 64, height: 48 };
        let filter = EdgeFilter::start(size).unwrap();
        for x in [16, 32] {
            let mut canvas = Canvas::new(size, Colour([16, 128, 128]));
            canvas.fill(Rect { x, y: 0, size: Size { width: 64 - x, height: 48 } }, Colour([235, 90, 200]));
            let edges = filter.apply(&canvas.picture().unwrap()).unwrap();
            let picture = edges.picture().unwrap();
            let bright: Vec<usize> =
                (0..64).filter(|i| picture.planes[0].row(0, 24, 64)[*i] == 235).collect();
            assert_eq!(bright.len(), 1, "{bright:?}");
            assert!(bright[0].abs_diff(x as usize) <= 1, "{bright:?}");
            assert!(picture.planes[1].row(0, 12, 32).iter().all(|value| *value == 128));
        }
        let other = Canvas::new(Size { width: 32, height: 32 }, Colour([16, 128, 128]));
        assert!(filter.apply(&other.picture().unwrap()).is_none());
    }
}
