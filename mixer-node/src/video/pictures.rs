//! Pictures that views may show: in place of inputs without one (avatars), and over everything (a logo). Those of one directory, read when the
//! node starts: what a room names is looked up among them, and never opened.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use fast_image_resize::{PixelType, ResizeOptions, Resizer, images::Image};
use image::{ImageReader, Limits};

use super::Size;

/// Files at most.
const MAX_FILES: usize = 500;
/// Bytes of one.
const MAX_BYTES: u64 = 4 << 20;
/// Pixels of a side that are decoded.
const MAX_SIDE: u32 = 4096;
/// Pixels of a side that are kept; larger ones are made smaller.
const KEPT_SIDE: u32 = 512;
/// What a name may have in place of which the name of a participant is put.
const ANYBODY: char = '*';

/// Why the pictures can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PicturesError {
    /// No such directory, or not readable.
    #[error("pictures in {directory}: {source}")]
    Directory {
        /// As given.
        directory: String,
        /// What happened.
        source: io::Error,
    },
    /// More than are kept.
    #[error("pictures in {directory}: more than {MAX_FILES} files")]
    TooMany {
        /// As given.
        directory: String,
    },
}

/// A picture with transparency.
pub struct Still {
    name: String,
    size: Size,
    rgba: Vec<u8>,
}

impl Still {
    /// Its file's.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Red, green, blue and opacity of each pixel in that size; none if it is no size.
    pub(super) fn scaled(&self, size: Size) -> Option<Vec<u8>> {
        if size == self.size {
            return Some(self.rgba.clone());
        }
        let from =
            Image::from_vec_u8(self.size.width, self.size.height, self.rgba.clone(), PixelType::U8x4).ok()?;
        let mut scaled = Image::new(size.width, size.height, PixelType::U8x4);
        Resizer::new().resize(&from, &mut scaled, &ResizeOptions::new()).ok()?;
        Some(scaled.into_vec())
    }

    #[cfg(test)]
    pub(super) fn of_colour(name: &str, size: Size, rgba: [u8; 4]) -> Self {
        Self { name: name.to_owned(), size, rgba: rgba.repeat((size.width * size.height) as usize) }
    }

    fn read(path: &Path, name: String) -> Result<Self, image::ImageError> {
        let mut reader = ImageReader::open(path)?.with_guessed_format()?;
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
        reader.limits(limits);
        let rgba = reader.decode()?.into_rgba8();
        let size = Size { width: rgba.width(), height: rgba.height() };
        let still = Self { name, size, rgba: rgba.into_raw() };
        let kept = within(size, Size { width: KEPT_SIDE, height: KEPT_SIDE });
        let smaller = (kept.width < size.width).then(|| still.scaled(kept)).flatten();
        Ok(match smaller {
            Some(rgba) => Self { size: kept, rgba, ..still },
            None => still,
        })
    }
}

impl std::fmt::Debug for Still {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Still").field(&self.name).finish()
    }
}

/// The largest size of that shape within another; at least a pixel.
pub(super) fn within(shape: Size, most: Size) -> Size {
    let (wide, high) =
        (u64::from(shape.width) * u64::from(most.height), u64::from(shape.height) * u64::from(most.width));
    let part =
        |of: u32, by: u32, to: u32| (u64::from(of) * u64::from(by) / u64::from(to.max(1))).max(1) as u32;
    if wide > high {
        Size { width: most.width, height: part(shape.height, most.width, shape.width) }
    } else {
        Size { width: part(shape.width, most.height, shape.height), height: most.height }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Pictures(BTreeMap<String, Arc<Still>>);

impl Pictures {
    /// Reads the pictures of a directory (PNG, JPEG), not of those in it. A file that is none is left out, and logged.
    ///
    /// # Errors
    /// See [`PicturesError`].
    pub fn read(directory: &Path) -> Result<Self, PicturesError> {
        let shown = directory.display().to_string();
        let failed = |source| PicturesError::Directory { directory: shown.clone(), source };
        let mut pictures = BTreeMap::new();
        for (index, entry) in std::fs::read_dir(directory).map_err(failed)?.enumerate() {
            if index >= MAX_FILES {
                return Err(PicturesError::TooMany { directory: shown });
            }
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = std::fs::metadata(entry.path()).map_err(failed)?;
            if !metadata.is_file() {
                continue;
            }
            if metadata.len() > MAX_BYTES {
                tracing::warn!(name, bytes = metadata.len(), "picture left out, it is too large");
                continue;
            }
            match Still::read(&entry.path(), name.clone()) {
                Ok(still) => drop(pictures.insert(name, Arc::new(still))),
                Err(error) => tracing::warn!(name, %error, "picture left out"),
            }
        }
        tracing::info!(count = pictures.len(), directory = shown, "pictures read");
        Ok(Self(pictures))
    }

    /// The picture of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Still>> {
        self.0.get(name)
    }

    /// The picture of a participant: a `*` in `pattern` stands for what he is called.
    #[must_use]
    pub fn of(&self, pattern: &str, participant: &str) -> Option<&Arc<Still>> {
        self.get(&pattern.replacen(ANYBODY, participant, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    fn directory(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("kaigi-pictures-{name}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("below")).unwrap();
        directory
    }

    #[test]
    fn pictures_are_those_of_the_directory() {
        let directory = directory("read");
        let red = image::RgbaImage::from_pixel(40, 20, image::Rgba([255, 0, 0, 128]));
        red.save(directory.join("Ann.png")).unwrap();
        red.save(directory.join("below/hidden.png")).unwrap();
        image::RgbImage::from_pixel(1600, 800, image::Rgb([0, 0, 255]))
            .save(directory.join("big.jpg"))
            .unwrap();
        std::fs::write(directory.join("text.png"), "no picture").unwrap();
        let pictures = Pictures::read(&directory).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();

        let ann = pictures.of("*.png", "Ann").unwrap();
        assert_eq!((ann.name(), ann.size()), ("Ann.png", size(40, 20)));
        assert_eq!(ann.scaled(size(40, 20)).unwrap()[..4], [255, 0, 0, 128]);
        assert_eq!(ann.scaled(size(10, 5)).unwrap().len(), 200);
        assert_eq!(pictures.get("big.jpg").unwrap().size(), size(512, 256));
        for name in ["text.png", "hidden.png", "below/hidden.png", "../Ann.png", "Bob.png", ""] {
            assert!(pictures.get(name).is_none(), "{name}");
        }
        assert!(matches!(Pictures::read(&directory), Err(PicturesError::Directory { .. })));
    }

    #[test]
    fn shapes_are_kept() {
        assert_eq!(within(size(400, 200), size(100, 100)), size(100, 50));
        assert_eq!(within(size(200, 400), size(100, 100)), size(50, 100));
        assert_eq!(within(size(10, 10), size(90, 80)), size(80, 80));
        assert_eq!(within(size(5000, 1), size(90, 80)), size(90, 1));
    }
}
