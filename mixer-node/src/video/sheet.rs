//! Pictures in GStreamer's memory: made once in each size that somebody wants, shared by all encoders of that size.

use std::collections::{BTreeMap, btree_map::Entry};

use gstreamer as gst;
use gstreamer::{
    glib,
    prelude::{BufferPoolExt, BufferPoolExtManual},
};
use gstreamer_video::{VideoFormat, VideoInfo};

use super::{Colour, Frame, Picture, Size, picture::chroma, scale::Letterbox};

/// The format of raw pictures in this node, in GStreamer's default layout.
pub(super) fn i420(size: Size, framerate: Option<u32>) -> Result<VideoInfo, glib::BoolError> {
    // GStreamer's 0/1 stands for a rate that varies.
    let rate = framerate.and_then(|rate| i32::try_from(rate).ok()).unwrap_or(0);
    VideoInfo::builder(VideoFormat::I420, size.width, size.height).fps(gst::Fraction::new(rate, 1)).build()
}

/// Copies pictures of one size into buffers that are used again when everybody has let them go.
pub(super) struct Press {
    pool: gst::BufferPool,
    info: VideoInfo,
}

impl Press {
    pub(super) fn new(size: Size) -> Result<Self, glib::BoolError> {
        let info = i420(size, None)?;
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        let bytes = u32::try_from(info.size()).unwrap_or(u32::MAX);
        config.set_params(Some(&info.to_caps()?), bytes, 0, 0);
        pool.set_config(config)?;
        pool.set_active(true)?;
        Ok(Self { pool, info })
    }

    /// None if the picture has another size, or there is no memory.
    pub(super) fn print(&self, picture: &Picture<'_>) -> Option<gst::Buffer> {
        let size = picture.size();
        if (size.width, size.height) != (self.info.width(), self.info.height()) {
            return None;
        }
        let mut buffer = self.pool.acquire_buffer(None).ok()?;
        let mut memory = buffer.get_mut()?.map_writable().ok()?;
        let sizes = [size, chroma(size), chroma(size)];
        for (index, (plane, size)) in picture.planes.iter().zip(sizes).enumerate() {
            let stride = usize::try_from(*self.info.stride().get(index)?).ok()?;
            let rows = memory.get_mut(*self.info.offset().get(index)?..)?.chunks_mut(stride);
            for (y, row) in (0..size.height).zip(rows) {
                let pixels = plane.row(0, y, size.width);
                row.get_mut(..pixels.len())?.copy_from_slice(pixels);
            }
        }
        drop(memory);
        Some(buffer)
    }
}

impl Drop for Press {
    fn drop(&mut self) {
        // Buffers that are still out are freed when they come back.
        let _stopped = self.pool.set_active(false);
    }
}

/// One picture after the other, each in all sizes that are asked for.
pub struct Sheets {
    background: Colour,
    sizes: BTreeMap<(u32, u32), Sheet>,
}

struct Sheet {
    letterbox: Option<Letterbox>,
    press: Press,
    /// The picture that was printed last.
    printed: Option<(u64, gst::Buffer)>,
    /// Of the look-up that used it last.
    used: u64,
}

impl Sheets {
    /// `background` is the colour of bars.
    #[must_use]
    pub fn new(background: Colour) -> Self {
        Self { background, sizes: BTreeMap::new() }
    }

    /// Picture `number` in that size. None if it is none, or there is no memory.
    pub fn get(&mut self, picture: &Picture<'_>, number: u64, size: Size) -> Option<gst::Buffer> {
        let sheet = match self.sizes.entry((size.width, size.height)) {
            Entry::Occupied(sheet) => sheet.into_mut(),
            Entry::Vacant(place) => {
                let press = Press::new(size).ok()?;
                place.insert(Sheet { letterbox: None, press, printed: None, used: number })
            }
        };
        sheet.used = number;
        if let Some((printed, buffer)) = &sheet.printed
            && *printed == number
        {
            return Some(buffer.clone());
        }
        // Whatever happens, the old picture's memory may be used again.
        sheet.printed = None;
        let buffer = if picture.size() == size {
            sheet.press.print(picture)
        } else {
            let background = self.background;
            let letterbox = sheet.letterbox.get_or_insert_with(|| Letterbox::new(size, background));
            sheet.press.print(&letterbox.fit(picture)?.picture()?)
        }?;
        sheet.printed = Some((number, buffer.clone()));
        Some(buffer)
    }

    /// Lets go of sizes that nobody has asked for since picture `number`.
    pub fn forget_before(&mut self, number: u64) {
        self.sizes.retain(|_, sheet| sheet.used >= number);
    }
}
