//! Where the inputs of a view are shown: fractions of the picture, templates of regions, and which input has which region.

mod assignment;
mod fraction;
mod requested;
mod templates;

pub(crate) use assignment::Assignment;
pub(crate) use requested::RequestedLayout;
pub use templates::built_in_layouts;
pub(crate) use templates::templates;
