//! libvpx, called without GStreamer. It is loaded as the program runs (GStreamer's elements need it, too), so that nothing is needed to build.
//!
//! One of the places with unsafe code: what is written in C is called. What both halves have in common is declared here as libvpx has it since
//! 1.8 (vpx/vpx_codec.h, vpx/vpx_image.h).

#![allow(unsafe_code)]

mod decoder;
mod encoder;

use std::{
    ffi::{c_char, c_int, c_long, c_uchar, c_uint, c_void},
    ptr,
};

use libloading::Library;

pub(super) use decoder::{Refused, Vp8};
pub(super) use encoder::{Encoded, Encoder, EncoderConfig, Failed};

/// Its names have the version of its binary interface as a whole.
const SONAMES: std::ops::RangeInclusive<u32> = 6..=20;
/// 4:2:0 of 8 bits.
const I420: c_int = 0x102;

/// `vpx_codec_ctx_t`
#[repr(C)]
struct Context {
    name: *const c_char,
    interface: *const c_void,
    error: c_int,
    detail: *const c_char,
    flags: c_long,
    config: *const c_void,
    private: *mut c_void,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            name: ptr::null(),
            interface: ptr::null(),
            error: 0,
            detail: ptr::null(),
            flags: 0,
            config: ptr::null(),
            private: ptr::null_mut(),
        }
    }
}

/// `vpx_image_t`
#[repr(C)]
struct Image {
    format: c_int,
    colours: c_int,
    range: c_int,
    stored: [c_uint; 2],
    bits: c_uint,
    displayed: [c_uint; 2],
    rendered: [c_uint; 2],
    subsampling: [c_uint; 2],
    planes: [*const c_uchar; 4],
    strides: [c_int; 4],
    bits_per_sample: c_int,
    user: *mut c_void,
    data: *mut c_uchar,
    data_owned: c_int,
    allocated: c_int,
    buffer: *mut c_void,
}

type Interface = unsafe extern "C" fn() -> *const c_void;
type Destroy = unsafe extern "C" fn(*mut Context) -> c_int;

/// Those versions of libvpx that are there.
fn libraries() -> impl Iterator<Item = Library> {
    // SAFETY: libvpx does nothing when it is loaded.
    SONAMES.filter_map(|version| unsafe { Library::new(format!("libvpx.so.{version}")).ok() })
}
