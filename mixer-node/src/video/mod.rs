//! Pictures: decoding of inputs, composing of views, filters, encoding of outputs.

mod booth;
mod cadence;
mod codec;
mod composer;
mod decode;
mod decoration;
mod encode;
mod fault;
mod filter;
mod filtering;
mod fitting;
mod geometry;
mod glide;
mod lettering;
mod libvpx;
mod picture;
mod pictures;
mod reorder;
mod scale;
mod sheet;
mod slot;
mod sprite;
mod stretch;
mod studio;
mod vitals;

pub use booth::{PlannedPicture, TargetBitrate};
pub use cadence::Cadence;
pub use codec::{H264Profile, VideoCodec, VideoEncoding};
pub use composer::{Composer, Region, Scene};
pub(crate) use decode::Decoded;
pub use decode::{DecoderSignal, Fresh, VideoDecoder};
pub use decoration::{ActiveInput, Badge, Corner, Decoration, Logo};
pub use encode::{Content, Continuity, EncoderSettings, PacketSink, VideoEncoder, encoders};
pub use filter::PictureFilter;
pub use filtering::{Filtering, FilteringPlan};
pub use fitting::Fitting;
pub use geometry::{Area, Fit, Fraction, GeometryError, Rect, Size};
pub use picture::{Canvas, Colour, Frame, Picture, Plane};
pub use pictures::{Pictures, PicturesError, Still};
pub use scale::Letterbox;
pub use sheet::Sheets;
pub use slot::{FrameSlot, Stamped};
pub use studio::{Programme, Studio, StudioPlan};

/// Why a pipeline could not be built or started.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// An element is missing or refuses its settings.
    #[error("{0}")]
    Element(#[from] gstreamer::glib::BoolError),
    /// The pipeline does not start.
    #[error("pipeline does not start: {0}")]
    State(#[from] gstreamer::StateChangeError),
    /// An element has no such pad; an installation of GStreamer that this was not made for.
    #[error("element {0} lacks its {1} pad")]
    Pad(&'static str, &'static str),
    /// The system gives no thread.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Too many pipelines of this process do not end.
    #[error("too many pipelines before this one do not end")]
    Stuck,
}
