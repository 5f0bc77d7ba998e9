//! Mixed streams: decoding, composing, mixing and encoding with GStreamer.
