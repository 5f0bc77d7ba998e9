//! libvpx's VP8 decoder. What is declared here is its binary interface of version 12 (1.8 and later), which it is asked for; where that is not
//! there, GStreamer's element decodes.

#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_long, c_uchar, c_uint, c_void},
    ptr,
    sync::OnceLock,
};

use super::{Context, Destroy, I420, Image, Interface, Library, libraries};
use crate::video::{Picture, Plane, Size, picture::chroma};

/// Of libvpx's decoders.
const ABI: c_int = 12;

/// `vpx_codec_dec_cfg_t`
#[repr(C)]
struct Config {
    threads: c_uint,
    width: c_uint,
    height: c_uint,
}

type Init = unsafe extern "C" fn(*mut Context, *const c_void, *const Config, c_long, c_int) -> c_int;
type Decode = unsafe extern "C" fn(*mut Context, *const c_uchar, c_uint, *mut c_void, c_long) -> c_int;
type GetFrame = unsafe extern "C" fn(*mut Context, *mut *const c_void) -> *const Image;

struct Functions {
    interface: Interface,
    init: Init,
    decode: Decode,
    get_frame: GetFrame,
    destroy: Destroy,
    /// What they are in; never unloaded.
    _library: Library,
}

fn functions() -> Option<&'static Functions> {
    static LOADED: OnceLock<Option<Functions>> = OnceLock::new();
    LOADED.get_or_init(|| libraries().find_map(find)).as_ref()
}

fn find(library: Library) -> Option<Functions> {
    // SAFETY: its functions have these types (vpx/vpx_decoder.h, vpx/vp8dx.h).
    unsafe {
        Some(Functions {
            interface: *library.get::<Interface>(b"vpx_codec_vp8_dx\0").ok()?,
            init: *library.get::<Init>(b"vpx_codec_dec_init_ver\0").ok()?,
            decode: *library.get::<Decode>(b"vpx_codec_decode\0").ok()?,
            get_frame: *library.get::<GetFrame>(b"vpx_codec_get_frame\0").ok()?,
            destroy: *library.get::<Destroy>(b"vpx_codec_destroy\0").ok()?,
            _library: library,
        })
    }
}

/// A frame that can't be decoded.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("libvpx's error {0}")]
pub(in crate::video) struct Refused(pub(in crate::video) c_int);

/// A VP8 decoder with one thread, which is the caller's.
pub(in crate::video) struct Vp8 {
    functions: &'static Functions,
    context: Box<Context>,
}

// SAFETY: what the context points to belongs to it alone, and libvpx ties it to no thread.
unsafe impl Send for Vp8 {}

impl Vp8 {
    /// None if libvpx is not there, or has another binary interface.
    pub(in crate::video) fn new() -> Option<Self> {
        let functions = functions()?;
        let mut context = Box::new(Context::default());
        let config = Config { threads: 1, width: 0, height: 0 };
        // SAFETY: the interface is libvpx's own, the context stays where it is, and the configuration is copied. If libvpx was built with
        // another binary interface, it refuses before it touches either.
        let error = unsafe { (functions.init)(&mut *context, (functions.interface)(), &config, 0, ABI) };
        (error == 0).then_some(Self { functions, context })
    }

    /// Decodes a frame. The picture is gone with the next one's; none: the frame is not shown.
    pub(in crate::video) fn decode(&mut self, frame: &[u8]) -> Result<Option<Picture<'_>>, Refused> {
        let bytes = c_uint::try_from(frame.len()).map_err(|_| Refused(-1))?;
        // SAFETY: the context was initialised, and the frame outlives the call.
        let error =
            unsafe { (self.functions.decode)(&mut *self.context, frame.as_ptr(), bytes, ptr::null_mut(), 0) };
        if error != 0 {
            return Err(Refused(error));
        }
        let mut iterator = ptr::null();
        // SAFETY: as above. What is returned is null or belongs to the context, until it is given another frame, for which it has to be
        // borrowed again.
        let image = unsafe { (self.functions.get_frame)(&mut *self.context, &mut iterator).as_ref() };
        Ok(image.and_then(picture))
    }
}

impl Drop for Vp8 {
    fn drop(&mut self) {
        // SAFETY: the context was initialised and is not used any more.
        let _error = unsafe { (self.functions.destroy)(&mut *self.context) };
    }
}

fn picture(image: &Image) -> Option<Picture<'_>> {
    let [width, height] = image.displayed;
    let size = Size { width, height };
    if image.format != I420 || width == 0 || height == 0 {
        return None;
    }
    let plane = |index: usize, size: Size| {
        let stride = usize::try_from(image.strides[index]).ok()?;
        let rows = image.planes[index];
        if rows.is_null() || stride < size.width as usize {
            return None;
        }
        // SAFETY: planes have all their rows, and borders of 32 pixels (16 of chroma) around them, so that the last row's rest is there, too.
        let data = unsafe { std::slice::from_raw_parts(rows, stride * size.height as usize) };
        Plane::new(data, stride, size)
    };
    Some(Picture { planes: [plane(0, size)?, plane(1, chroma(size))?, plane(2, chroma(size))?] })
}
