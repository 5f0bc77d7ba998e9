//! A filter in a pipeline of its own: `appsrc ! kaigiedgedetect ! appsink`, a picture in and a picture out.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};
use kaigi_filters::Filter;

use super::{
    Frame, PipelineError, Size,
    decode::{Decoded, watch_errors},
    sheet::{Press, i420},
    vitals::stop,
};

/// Longest wait for a filtered picture. The filter takes some milliseconds; on a machine that gives it no time at all, the
/// picture is left out.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_mseconds(500);

/// Filters pictures of one size until dropped.
pub struct PictureFilter {
    pipeline: gst::Pipeline,
    source: AppSrc,
    sink: AppSink,
    press: Press,
    filter: Filter,
    size: Size,
}

impl PictureFilter {
    /// Builds and starts the pipeline.
    ///
    /// # Errors
    /// If an element is missing or the pipeline does not start.
    pub fn start(filter: &Filter, size: Size) -> Result<Self, PipelineError> {
        let caps = i420(size, None)?.to_caps()?;
        let source = AppSrc::builder().caps(&caps).format(gst::Format::Time).max_buffers(1).build();
        let element = gstkaigi::element(filter)?;
        // Some filters make pictures of another size.
        let sink = AppSink::builder().caps(&any_size()).sync(false).async_(false).max_buffers(1).build();
        let pipeline = gst::Pipeline::new();
        let chain = [source.upcast_ref::<gst::Element>(), &element, sink.upcast_ref()];
        pipeline.add_many(chain)?;
        gst::Element::link_many(chain)?;
        watch_errors(&pipeline, |signal| tracing::warn!(?signal, "filter failed"));
        let this = Self { pipeline, source, sink, press: Press::new(size)?, filter: filter.clone(), size };
        this.pipeline.set_state(gst::State::Playing)?;
        Ok(this)
    }

    /// Whether it is that filter for pictures of that size.
    #[must_use]
    pub fn is(&self, filter: &Filter, size: Size) -> bool {
        (&self.filter, self.size) == (filter, size)
    }

    /// The filtered picture. None if the filter is broken, or the picture has another size.
    pub fn apply(&self, picture: &super::Picture<'_>) -> Option<impl Frame + use<>> {
        self.source.push_buffer(self.press.print(picture)?).ok()?;
        Decoded::of(&self.sink.try_pull_sample(PATIENCE)?)
    }
}

fn any_size() -> gst::Caps {
    gstreamer_video::VideoCapsBuilder::new().format(gstreamer_video::VideoFormat::I420).build()
}

impl Drop for PictureFilter {
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
        let filter = PictureFilter::start(&Filter::parse("edgedetect", "").unwrap(), size).unwrap();
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

    #[test]
    fn a_picture_that_is_turned_comes_out_in_its_new_size() {
        crate::init_gstreamer().unwrap();
        let size = Size { width: 64, height: 48 };
        let filter =
            PictureFilter::start(&Filter::parse("rotate", r#"{"angle": 90}"#).unwrap(), size).unwrap();
        let mut canvas = Canvas::new(size, Colour([16, 128, 128]));
        let half = Size { width: 32, height: 48 };
        canvas.fill(Rect { x: 32, y: 0, size: half }, Colour([235, 90, 200]));
        let turned = filter.apply(&canvas.picture().unwrap()).unwrap();
        let picture = turned.picture().unwrap();
        assert_eq!(picture.size(), Size { width: 48, height: 64 });
        assert_eq!(
            (picture.planes[0].row(20, 10, 1), picture.planes[0].row(20, 50, 1)),
            (&[16][..], &[235][..])
        );
    }
}
