//! A layout that the management gives a view, in place of the view's templates.

use kaigi_proto::{ids::StreamId, v1};

use super::templates::{Region, Template};

/// Most regions of a layout; as many as a picture has inputs at most. Each is told to everybody with every change.
const MAX_REGIONS: usize = 256;
/// Longest region id, in bytes.
const MAX_REGION_ID: usize = 128;

/// Regions, and the streams that the first of them show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestedLayout {
    pub(super) template: Template,
    /// Different ones, not more than regions.
    pub(super) streams: Vec<StreamId>,
}

/// Why a layout makes no sense (OWT's words).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// There is none, one is no part of the picture, or two have the same id.
    #[error("Invalid region")]
    Region,
    #[error("Too many regions")]
    TooManyRegions,
    #[error("Invalid input stream id")]
    Stream,
    /// A region with a stream follows one without.
    #[error("Stream ID hole is not allowed")]
    Hole,
    #[error("Stream ID duplicates")]
    Duplicate,
}

impl RequestedLayout {
    /// Reads a layout. Whether its streams are in the view is not known here.
    pub(crate) fn from_wire(layout: v1::Layout) -> Result<Self, LayoutError> {
        if layout.regions.len() > MAX_REGIONS {
            return Err(LayoutError::TooManyRegions);
        }
        let mut regions: Vec<Region> = Vec::new();
        let mut streams: Vec<StreamId> = Vec::new();
        for wire in layout.regions {
            if !wire.stream_id.is_empty() {
                let stream = StreamId::new(wire.stream_id).map_err(|_| LayoutError::Stream)?;
                if streams.contains(&stream) {
                    return Err(LayoutError::Duplicate);
                }
                if streams.len() < regions.len() {
                    return Err(LayoutError::Hole);
                }
                streams.push(stream);
            }
            let named = !wire.region_id.is_empty() && wire.region_id.len() <= MAX_REGION_ID;
            if !named || regions.iter().any(|region| region.id == wire.region_id) {
                return Err(LayoutError::Region);
            }
            let sides = [&wire.left, &wire.top, &wire.width, &wire.height].map(String::as_str);
            regions.push(Region::parse(&wire.region_id, sides).ok_or(LayoutError::Region)?);
        }
        if regions.is_empty() {
            return Err(LayoutError::Region);
        }
        Ok(Self { template: Template { regions }, streams })
    }

    /// Those that have a region in it.
    pub(crate) fn streams(&self) -> &[StreamId] {
        &self.streams
    }

    /// How many inputs it shows at most.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.template.regions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(id: &str, stream: &str, [left, top, width, height]: [&str; 4]) -> v1::LayoutRegion {
        v1::LayoutRegion {
            stream_id: stream.into(),
            region_id: id.into(),
            left: left.into(),
            top: top.into(),
            width: width.into(),
            height: height.into(),
        }
    }

    fn read(regions: Vec<v1::LayoutRegion>) -> Result<RequestedLayout, LayoutError> {
        RequestedLayout::from_wire(v1::Layout { regions })
    }

    const LEFT: [&str; 4] = ["0", "0", "2/4", "1"];
    const RIGHT: [&str; 4] = ["1/2", "0/1", "1/2", "1/1"];

    #[test]
    fn regions_are_read_in_order_and_the_first_have_streams() {
        let layout = read(vec![region("a", "x", LEFT), region("b", "", RIGHT)]).unwrap();
        assert_eq!(layout.capacity(), 2);
        assert_eq!(layout.streams, [StreamId::new("x").unwrap()]);
        assert_eq!(layout.template.regions[0].width.to_string(), "1/2");
    }

    #[test]
    fn what_is_no_part_of_a_picture_is_refused() {
        for sides in [
            ["3/2", "0", "1", "1"],
            ["0", "1/0", "1", "1"],
            ["0", "0", "0", "1"],
            ["0", "0", "1", ""],
            ["-1", "0", "1", "1"],
            ["0", "0", "4294967296/4294967297", "1"],
        ] {
            assert_eq!(read(vec![region("a", "", sides)]), Err(LayoutError::Region), "{sides:?}");
        }
        assert_eq!(read(Vec::new()), Err(LayoutError::Region));
    }

    #[test]
    fn ids_are_there_and_different() {
        for (first, second) in [("a", "a"), ("a", ""), ("a", &"b".repeat(MAX_REGION_ID + 1))] {
            let refused = read(vec![region(first, "", LEFT), region(second, "", RIGHT)]);
            assert_eq!(refused, Err(LayoutError::Region), "{second}");
        }
    }

    #[test]
    fn streams_come_first_and_once() {
        let with =
            |first: &str, second: &str| read(vec![region("a", first, LEFT), region("b", second, RIGHT)]);
        assert!(with("x", "y").is_ok());
        assert_eq!(with("x", "x"), Err(LayoutError::Duplicate));
        assert_eq!(with("", "x"), Err(LayoutError::Hole));
        assert_eq!(with("x y", ""), Err(LayoutError::Stream));
    }

    #[test]
    fn the_number_of_regions_is_bounded() {
        let regions = |count: usize| (0..count).map(|i| region(&i.to_string(), "", LEFT)).collect();
        assert!(read(regions(MAX_REGIONS)).is_ok());
        assert_eq!(read(regions(MAX_REGIONS + 1)), Err(LayoutError::TooManyRegions));
    }
}
