//! Where the inputs of a view are shown: fractions of the picture, templates of regions, and which input has which region.

mod assignment;
mod fraction;
mod templates;

pub(crate) use assignment::Assignment;
pub(crate) use templates::templates;
