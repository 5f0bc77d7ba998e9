//! Makes recordings with ffmpeg's encoders, once: they are kept in a directory.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Codec, Encoded, Recording, annex_b, ivf, ogg};

/// Duration of a recording in seconds. Longer ones take longer to make and more memory; they are played in a loop.
const SECONDS: u32 = 8;
/// Frames from one key frame to the next. A publisher that is asked for one goes on with the next one at once.
const KEY_FRAMES: u32 = 60;
/// bit/s of sound.
const SOUND: u32 = 32_000;
/// Of recordings that differ from those of other versions.
const VERSION: u32 = 1;

/// A size of a picture.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// kbit/s.
    pub kbps: u32,
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The directory.
    #[error("{}: {source}", .path.display())]
    Cache {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// ffmpeg is missing.
    #[error("ffmpeg can't be started: {0}; it encodes what is sent, once (apt-get install ffmpeg)")]
    NoEncoder(std::io::Error),
    /// ffmpeg can't.
    #[error("ffmpeg made no recording: {0}")]
    Encoder(String),
    /// A kept recording is damaged.
    #[error("{} is damaged; remove it", .0.display())]
    Damaged(PathBuf),
}

/// Where recordings are kept.
#[derive(Clone, Debug)]
pub struct Cache(PathBuf);

impl Cache {
    /// In that directory, which is made if there is something to keep.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// A moving picture in each of the sizes.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub fn picture(
        &self,
        codec: Codec,
        framerate: u32,
        layers: &[LayerSpec],
    ) -> Result<Recording, MakeError> {
        let encoded: Result<Vec<_>, _> =
            layers.iter().map(|layer| self.layer(codec, framerate, layer)).collect();
        Ok(Recording::new(codec, 90_000 / framerate, encoded?))
    }

    /// A sound.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub fn sound(&self) -> Result<Recording, MakeError> {
        // A tone that rises, and noise: no two packets are the same.
        let source = "aevalsrc=0.3*sin(2*PI*t*(200+40*t))+0.02*(random(0)-0.5):s=48000".to_owned();
        let encoder = format!("-c:a libopus -b:a {SOUND} -frame_duration 20 -f ogg");
        let name = format!("sound-{SOUND}-{SECONDS}s-v{VERSION}.ogg");
        let frames = self.made(&name, &source, &encoder, ogg::read)?;
        Ok(Recording::new(Codec::Opus, 960, vec![frames]))
    }

    fn layer(&self, codec: Codec, framerate: u32, spec: &LayerSpec) -> Result<Vec<Encoded>, MakeError> {
        let LayerSpec { width, height, kbps } = spec;
        let source = format!("testsrc2=size={width}x{height}:rate={framerate},noise=alls=6:allf=t");
        let rate = format!("-b:v {kbps}k -minrate {kbps}k -maxrate {kbps}k -bufsize {}k", kbps / 2);
        let name = |end| format!("picture-{width}x{height}-{framerate}-{kbps}k-{SECONDS}s-v{VERSION}.{end}");
        match codec {
            Codec::H264 => {
                let encoder = format!(
                    "-c:v libx264 -profile:v baseline -preset veryfast -tune zerolatency -threads 1 -pix_fmt yuv420p {rate} \
                     -x264-params keyint={KEY_FRAMES}:min-keyint={KEY_FRAMES}:scenecut=0:aud=1:repeat-headers=1:sliced-threads=0 -f h264"
                );
                self.made(&name("h264"), &source, &encoder, annex_b::read)
            }
            Codec::Vp8 | Codec::Opus => {
                let encoder = format!(
                    "-c:v libvpx -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0 -threads 1 -pix_fmt yuv420p \
                     {rate} -g {KEY_FRAMES} -keyint_min {KEY_FRAMES} -f ivf"
                );
                self.made(&name("ivf"), &source, &encoder, ivf::read)
            }
        }
    }

    fn made(
        &self,
        name: &str,
        source: &str,
        encoder: &str,
        read: impl Fn(&[u8]) -> Option<Vec<Encoded>>,
    ) -> Result<Vec<Encoded>, MakeError> {
        let path = self.0.join(name);
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| MakeError::Cache { path, source }
        };
        if !path.exists() {
            std::fs::create_dir_all(&self.0).map_err(wrong(&self.0))?;
            // Whole or not at all, whoever makes the same beside this.
            let unfinished = tempfile::NamedTempFile::new_in(&self.0).map_err(wrong(&self.0))?;
            encode(source, encoder, unfinished.path())?;
            unfinished.persist(&path).map_err(|error| wrong(&path)(error.error))?;
        }
        let file = std::fs::read(&path).map_err(wrong(&path))?;
        let frames = read(&file).filter(|frames| !frames.is_empty() && frames[0].key);
        frames.ok_or(MakeError::Damaged(path))
    }
}

fn encode(source: &str, encoder: &str, to: &Path) -> Result<(), MakeError> {
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", source])
        .args(["-t", &SECONDS.to_string()])
        .args(encoder.split_whitespace())
        .arg(to)
        .stdin(Stdio::null())
        .output()
        .map_err(MakeError::NoEncoder)?;
    if !done.status.success() {
        return Err(MakeError::Encoder(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(())
}
