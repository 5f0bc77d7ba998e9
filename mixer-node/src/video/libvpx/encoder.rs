//! libvpx's VP8 encoder. What is declared here is its binary interface of version 25 (1.11 and 1.12), which it is asked for; where that is not
//! there, GStreamer's element encodes.

#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_long, c_uchar, c_uint, c_ulong, c_void},
    mem::MaybeUninit,
    ptr,
    sync::OnceLock,
};

use super::{Context, Destroy, I420, Image, Interface, Library, libraries};
use crate::video::{Content, Picture, Size};

/// Of libvpx's encoders.
const ABI: c_int = 25;
/// Hz of the times that are given.
const CLOCK_RATE: c_int = 90_000;

const CBR: c_int = 1;
const REALTIME: c_ulong = 1;
const FORCE_KEY_FRAME: c_long = 1;
/// Of a packet that has a frame, and of a frame that is a key frame.
const IS_FRAME: c_int = 0;
const IS_KEY_FRAME: u32 = 1;

// `vp8e_enc_control_id`
const CPU_USED: c_int = 13;
const STATIC_THRESHOLD: c_int = 17;
const MAX_INTRA_BITRATE: c_int = 26;
const SCREEN_CONTENT: c_int = 31;

/// `vpx_codec_enc_cfg_t`: the part that is touched, and room for what follows it (328 bytes in 1.12).
#[repr(C)]
struct Config {
    usage: c_uint,
    threads: c_uint,
    profile: c_uint,
    width: c_uint,
    height: c_uint,
    bit_depth: c_int,
    input_bit_depth: c_uint,
    timebase: [c_int; 2],
    error_resilient: c_uint,
    pass: c_int,
    lag_in_frames: c_uint,
    drop_threshold: c_uint,
    resize: [c_uint; 5],
    end_usage: c_int,
    statistics: [Buffer; 2],
    bitrate: c_uint,
    min_quantizer: c_uint,
    max_quantizer: c_uint,
    undershoot: c_uint,
    overshoot: c_uint,
    buffer_size: c_uint,
    buffer_initial_size: c_uint,
    buffer_optimal_size: c_uint,
    two_passes: [c_uint; 4],
    key_frame_mode: c_int,
    key_frame_min_distance: c_uint,
    key_frame_max_distance: c_uint,
    spatial_layers: c_uint,
    rest: [u64; 256],
}

/// `vpx_fixed_buf_t`
#[repr(C)]
struct Buffer {
    data: *mut c_void,
    bytes: usize,
}

/// `vpx_codec_cx_pkt_t`, as far as it is read, of a frame.
#[repr(C)]
struct Packet {
    kind: c_int,
    data: *const c_uchar,
    bytes: usize,
    time: i64,
    duration: c_ulong,
    flags: u32,
}

type ConfigDefault = unsafe extern "C" fn(*const c_void, *mut Config, c_uint) -> c_int;
type ConfigSet = unsafe extern "C" fn(*mut Context, *const Config) -> c_int;
type Init = unsafe extern "C" fn(*mut Context, *const c_void, *const Config, c_long, c_int) -> c_int;
type Control = unsafe extern "C" fn(*mut Context, c_int, ...) -> c_int;
type Encode = unsafe extern "C" fn(*mut Context, *const Image, i64, c_ulong, c_long, c_ulong) -> c_int;
type GetData = unsafe extern "C" fn(*mut Context, *mut *const c_void) -> *const Packet;

struct Functions {
    vp8: Interface,
    config_default: ConfigDefault,
    config_set: ConfigSet,
    init: Init,
    control: Control,
    encode: Encode,
    get_data: GetData,
    destroy: Destroy,
    /// What they are in; never unloaded.
    _library: Library,
}

fn functions() -> Option<&'static Functions> {
    static LOADED: OnceLock<Option<Functions>> = OnceLock::new();
    LOADED.get_or_init(|| libraries().find_map(find)).as_ref()
}

fn find(library: Library) -> Option<Functions> {
    // SAFETY: its functions have these types (vpx/vpx_encoder.h, vpx/vp8cx.h).
    unsafe {
        Some(Functions {
            vp8: *library.get::<Interface>(b"vpx_codec_vp8_cx\0").ok()?,
            config_default: *library.get::<ConfigDefault>(b"vpx_codec_enc_config_default\0").ok()?,
            config_set: *library.get::<ConfigSet>(b"vpx_codec_enc_config_set\0").ok()?,
            init: *library.get::<Init>(b"vpx_codec_enc_init_ver\0").ok()?,
            control: *library.get::<Control>(b"vpx_codec_control_\0").ok()?,
            encode: *library.get::<Encode>(b"vpx_codec_encode\0").ok()?,
            get_data: *library.get::<GetData>(b"vpx_codec_get_cx_data\0").ok()?,
            destroy: *library.get::<Destroy>(b"vpx_codec_destroy\0").ok()?,
            _library: library,
        })
    }
}

/// What libvpx does not do.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("libvpx's error {0}")]
pub(in crate::video) struct Failed(c_int);

fn done(error: c_int) -> Result<(), Failed> {
    if error == 0 { Ok(()) } else { Err(Failed(error)) }
}

/// How to encode.
#[derive(Clone, Copy, Debug)]
pub(in crate::video) struct EncoderConfig {
    /// Of the pictures.
    pub(in crate::video) size: Size,
    /// `cpu-used`
    pub(in crate::video) speed: i32,
    /// What is shown.
    pub(in crate::video) content: Content,
    /// Times that one key frame may take the bits of a usual frame, in hundredths.
    pub(in crate::video) max_intra_bitrate: u32,
}

/// A picture as it was encoded.
pub(in crate::video) struct Encoded<'a> {
    pub(in crate::video) data: &'a [u8],
    pub(in crate::video) is_key_frame: bool,
}

/// An encoder in real time, with one thread, which is the caller's: two threads on two cores cost three times the CPU.
pub(in crate::video) struct Encoder {
    functions: &'static Functions,
    context: Box<Context>,
    config: Box<Config>,
    size: Size,
}

// SAFETY: what the context points to belongs to it alone, and libvpx ties it to no thread.
unsafe impl Send for Encoder {}

impl Encoder {
    /// None if libvpx is not there, has another binary interface, or does not take these settings.
    pub(in crate::video) fn new(settings: &EncoderConfig, kbps: u32) -> Option<Self> {
        let functions = functions()?;
        // SAFETY: the interface is a constant.
        let interface = unsafe { (functions.vp8)() };
        let mut config = Box::new(MaybeUninit::<Config>::zeroed());
        // SAFETY: what libvpx fills is shorter than what is given.
        let error = unsafe { (functions.config_default)(interface, config.as_mut_ptr(), 0) };
        // SAFETY: all of it are numbers and pointers, which may be zero.
        let mut config = unsafe { config.assume_init() };
        done(error).ok()?;
        (config.width, config.height) = (settings.size.width, settings.size.height);
        config.threads = 1;
        // RTP's. In units of the frame rate, pictures that are not spaced evenly would be given the same time.
        config.timebase = [1, CLOCK_RATE];
        config.lag_in_frames = 0;
        config.end_usage = CBR;
        config.bitrate = kbps;
        (config.min_quantizer, config.max_quantizer) = (2, 56);
        (config.undershoot, config.overshoot) = (95, 15);
        // The decoder's buffer in milliseconds: a key frame may take the time of some frames, not of seconds.
        (config.buffer_size, config.buffer_initial_size, config.buffer_optimal_size) = (1000, 500, 600);
        config.key_frame_max_distance = c_uint::try_from(c_int::MAX).ok()?;
        let mut context = Box::<Context>::default();
        // SAFETY: the interface is libvpx's own, and context and configuration, which it points to, stay where they are. If libvpx was built
        // with another binary interface, it refuses before it touches either.
        let error = unsafe { (functions.init)(&mut *context, interface, &*config, 0, ABI) };
        done(error).ok()?;
        let mut this = Self { functions, context, config, size: settings.size };
        this.control(CPU_USED, settings.speed).ok()?;
        this.control(MAX_INTRA_BITRATE, c_int::try_from(settings.max_intra_bitrate).ok()?).ok()?;
        let is_screen = c_int::from(settings.content == Content::Screen);
        this.control(SCREEN_CONTENT, is_screen).ok()?;
        Some(this)
    }

    fn control(&mut self, what: c_int, value: c_int) -> Result<(), Failed> {
        // SAFETY: all that is set this way are numbers.
        done(unsafe { (self.functions.control)(&mut *self.context, what, value) })
    }

    /// See [`VideoEncoder::STATIC`](crate::video::VideoEncoder::STATIC).
    pub(in crate::video) fn set_static_threshold(&mut self, threshold: i32) -> Result<(), Failed> {
        self.control(STATIC_THRESHOLD, threshold)
    }

    /// kbit/s.
    pub(in crate::video) fn set_bitrate(&mut self, kbps: u32) -> Result<(), Failed> {
        self.config.bitrate = kbps;
        // SAFETY: both are libvpx's own, as it made them.
        done(unsafe { (self.functions.config_set)(&mut *self.context, &*self.config) })
    }

    /// Encodes a picture of the encoder's size, whose time, in units of RTP's clock, is after those before; `duration` likewise. Nothing: the
    /// encoder left it out, to stay within its bitrate.
    pub(in crate::video) fn encode(
        &mut self,
        picture: &Picture<'_>,
        time: i64,
        duration: u32,
        key_frame: bool,
    ) -> Result<Option<Encoded<'_>>, Failed> {
        let size = picture.size();
        if size != self.size {
            return Err(Failed(-1));
        }
        let rows = |index: usize| picture.planes[index].row(0, 0, 1).as_ptr();
        let stride = |index: usize| c_int::try_from(picture.planes[index].stride()).unwrap_or(c_int::MAX);
        let image = Image {
            format: I420,
            colours: 0,
            range: 0,
            stored: [size.width, size.height],
            bits: 8,
            displayed: [size.width, size.height],
            rendered: [size.width, size.height],
            subsampling: [1, 1],
            planes: [rows(0), rows(1), rows(2), ptr::null()],
            strides: [stride(0), stride(1), stride(2), 0],
            bits_per_sample: 12,
            user: ptr::null_mut(),
            data: ptr::null_mut(),
            data_owned: 0,
            allocated: 0,
            buffer: ptr::null_mut(),
        };
        let flags = if key_frame { FORCE_KEY_FRAME } else { 0 };
        // SAFETY: planes have all the rows of their sizes; libvpx copies them before it returns.
        let error = unsafe {
            (self.functions.encode)(&mut *self.context, &image, time, duration.into(), flags, REALTIME)
        };
        done(error)?;
        let mut iterator = ptr::null();
        loop {
            // SAFETY: what is returned is null or belongs to the context, until it is given another picture, for which it has to be borrowed
            // again.
            let packet = unsafe { (self.functions.get_data)(&mut *self.context, &mut iterator).as_ref() };
            match packet {
                None => return Ok(None),
                Some(packet) if packet.kind == IS_FRAME && !packet.data.is_null() => {
                    // SAFETY: as above; of a frame these two tell where it is.
                    let data = unsafe { std::slice::from_raw_parts(packet.data, packet.bytes) };
                    return Ok(Some(Encoded { data, is_key_frame: packet.flags & IS_KEY_FRAME != 0 }));
                }
                Some(_) => {}
            }
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the context was initialised and is not used any more.
        let _error = unsafe { (self.functions.destroy)(&mut *self.context) };
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn what_is_declared_is_where_libvpx_has_it() {
        assert_eq!(offset_of!(Config, bitrate), 112);
        assert_eq!(offset_of!(Config, key_frame_max_distance), 168);
        assert_eq!(offset_of!(Packet, bytes), 16);
        assert_eq!(offset_of!(Packet, flags), 40);
        assert_eq!(size_of::<Image>(), 136);
        assert_eq!(size_of::<Context>(), 56);
    }
}
