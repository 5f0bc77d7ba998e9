//! Formats, parameters, views and layouts of a room document.

use serde::{Deserialize, Serialize};

use crate::resolution::Resolution;

/// An audio codec. Members that are absent mean "as the codec has it".
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AudioFormat {
    /// Lower case: `opus`, `pcmu`, `pcma`, `g722`, `isac`, `ilbc`, `aac`, `ac3`, `nellymoser`.
    pub codec: String,
    /// Hz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// 1 or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_num: Option<u32>,
}

impl AudioFormat {
    /// What browsers speak.
    #[must_use]
    pub fn opus() -> Self {
        Self { codec: "opus".to_owned(), sample_rate: Some(48000), channel_num: Some(2) }
    }
}

/// A video codec.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VideoFormat {
    /// `vp8`, `vp9`, `h264`, `h265`, `av1`.
    pub codec: String,
    /// H.264: `CB`, `B`, `M`, `H`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// What publications may be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MediaIn {
    /// Accepted audio formats.
    pub audio: Vec<AudioFormat>,
    /// Accepted video formats.
    pub video: Vec<VideoFormat>,
}

/// What subscriptions may be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MediaOut {
    /// Offered audio formats.
    pub audio: Vec<AudioFormat>,
    /// Offered video formats and parameters.
    pub video: VideoOut,
}

/// Offered video formats and parameters.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct VideoOut {
    /// Offered formats.
    pub format: Vec<VideoFormat>,
    /// Offered parameters.
    pub parameters: VideoParameterLists,
}

/// Offered values of each video parameter.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct VideoParameterLists {
    /// Names for [`crate::named_resolution`].
    pub resolution: Vec<String>,
    /// Frames per second.
    pub framerate: Vec<u32>,
    /// Multipliers: `x0.8`.
    pub bitrate: Vec<String>,
    /// Seconds.
    pub key_frame_interval: Vec<u32>,
}

/// Which conversions are offered.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Transcoding {
    /// Audio codecs.
    pub audio: bool,
    /// Video; absent = none.
    #[serde(with = "or_false")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::or_false::<TranscodingVideo>"))]
    pub video: Option<TranscodingVideo>,
}

/// Which video conversions are offered.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TranscodingVideo {
    /// Codecs.
    pub format: bool,
    /// Parameters; absent = none.
    #[serde(with = "or_false")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::or_false::<VideoParameterFlags>"))]
    pub parameters: Option<VideoParameterFlags>,
}

/// Which video parameters may be asked for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct VideoParameterFlags {
    /// Picture sizes.
    pub resolution: bool,
    /// Frame rates.
    pub framerate: bool,
    /// Bitrate multipliers.
    pub bitrate: bool,
    /// Key frame intervals.
    pub key_frame_interval: bool,
}

/// A view: one mixed stream.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct View {
    /// Unique in the room.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9A-Za-z_-]{1,64}$")))]
    pub label: String,
    /// Its sound.
    pub audio: ViewAudio,
    /// Its picture; absent (`false` in JSON) = audio only.
    #[serde(with = "or_false")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::or_false::<ViewVideo>"))]
    pub video: Option<ViewVideo>,
}

impl Default for View {
    fn default() -> Self {
        Self { label: "common".to_owned(), audio: ViewAudio::default(), video: Some(ViewVideo::default()) }
    }
}

impl View {
    pub(crate) fn validate(&self) -> Result<(), String> {
        if self.label.is_empty()
            || self.label.len() > 64
            || !self.label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        {
            return Err("label: 1 to 64 letters, digits, '-' and '_' are allowed".to_owned());
        }
        let Some(video) = &self.video else { return Ok(()) };
        if !(1..=256).contains(&video.max_input) {
            return Err(format!("video.maxInput: {} is not in 1..256", video.max_input));
        }
        video.decoration.validate().map_err(|reason| format!("video.decoration.{reason}"))?;
        let Resolution { width, height } = video.parameters.resolution;
        if !(16..=7680).contains(&width) || !(16..=4320).contains(&height) {
            return Err(format!("video.parameters.resolution: {width}x{height} is out of range"));
        }
        if !(1..=120).contains(&video.parameters.framerate) {
            return Err(format!(
                "video.parameters.framerate: {} is not in 1..120",
                video.parameters.framerate
            ));
        }
        Ok(())
    }
}

/// The sound of a view.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ViewAudio {
    /// Codec.
    pub format: AudioFormat,
    /// Whether the loudest input is announced.
    pub vad: bool,
}

impl Default for ViewAudio {
    fn default() -> Self {
        Self { format: AudioFormat::opus(), vad: true }
    }
}

/// The picture of a view.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ViewVideo {
    /// Codec.
    pub format: VideoFormat,
    /// Size, rate, bitrate, key frame interval.
    pub parameters: VideoParameters,
    /// Most inputs shown, 1..256.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 256)))]
    pub max_input: u32,
    /// Factor on the default bitrate.
    pub motion_factor: f64,
    /// Shown where nothing else is.
    pub bg_color: BgColor,
    /// Whether the loudest input moves to the first region.
    pub keep_active_input_primary: bool,
    /// Where inputs are placed.
    pub layout: LayoutSpec,
    /// What is drawn besides. Kaigi's own; left out of documents where it is the default.
    #[serde(skip_serializing_if = "Decoration::is_default")]
    pub decoration: Decoration,
}

impl Default for ViewVideo {
    fn default() -> Self {
        Self {
            format: VideoFormat { codec: "vp8".to_owned(), profile: None },
            parameters: VideoParameters::default(),
            max_input: 16,
            motion_factor: 0.8,
            bg_color: BgColor::default(),
            keep_active_input_primary: false,
            layout: LayoutSpec::default(),
            decoration: Decoration::default(),
        }
    }
}

/// What is drawn over the inputs of a view, and in place of those without a picture.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Decoration {
    /// Whether inputs whose video is muted show the initials of their participant, or a picture.
    pub avatars: bool,
    /// Name of the picture that they show; `*` in it stands for what the participant is called. Participants for whom the mixer-node has no
    /// such picture are shown by their initials.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[0-9A-Za-z_*-][0-9A-Za-z._*-]{0,63}$")))]
    pub avatar_picture: Option<String>,
    /// Whether participants' names are written in their regions.
    pub captions: bool,
    /// Around the region of the loudest input; absent (`false` in JSON) = none, `true` = black.
    #[serde(with = "or_false")]
    #[cfg_attr(feature = "schema", schemars(schema_with = "crate::schema::or_false::<BgColor>"))]
    pub active_border: Option<BgColor>,
    /// Whether the time of day (UTC) is shown.
    pub clock: bool,
    /// A picture over everything; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo: Option<Logo>,
    /// Milliseconds that a change of the layout takes, 0..2000; 0 = at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 2000)))]
    pub animation: u32,
}

impl Default for Decoration {
    fn default() -> Self {
        Self {
            avatars: true,
            avatar_picture: None,
            captions: false,
            active_border: None,
            clock: false,
            logo: None,
            animation: 0,
        }
    }
}

/// A picture over a view.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Logo {
    /// Its name. A view whose mixer-node has no such picture is without it.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[0-9A-Za-z_-][0-9A-Za-z._-]{0,63}$")))]
    pub picture: String,
    /// Where it is.
    #[serde(default)]
    pub corner: Corner,
    /// Hundredths of the view's height, 1..50.
    #[serde(default = "logo_height")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 50)))]
    pub height: u32,
}

fn logo_height() -> u32 {
    10
}

/// Of a view.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Corner {
    #[default]
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
}

/// Whether it may name a file: no path, and none that is hidden.
fn is_picture_name(name: &str, others: &[u8]) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b) || others.contains(&b);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

impl Decoration {
    fn validate(&self) -> Result<(), String> {
        if self.animation > 2000 {
            return Err(format!("animation: {} is not in 0..2000", self.animation));
        }
        let many = |name: &String| name.bytes().filter(|b| *b == b'*').count() > 1;
        if let Some(name) = &self.avatar_picture
            && (!is_picture_name(name, b"*") || many(name))
        {
            return Err(format!(
                "avatarPicture: {name:?} is no name of a picture: 1 to 64 letters, digits, '.', '-', '_', and one '*'"
            ));
        }
        let Some(Logo { picture, height, .. }) = &self.logo else { return Ok(()) };
        if !is_picture_name(picture, b"") {
            return Err(format!(
                "logo.picture: {picture:?} is no name of a picture: 1 to 64 letters, digits, '.', '-' and '_'"
            ));
        }
        if !(1..=50).contains(height) {
            return Err(format!("logo.height: {height} is not in 1..50"));
        }
        Ok(())
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Size, rate, bitrate and key frame interval of a view.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct VideoParameters {
    /// Pixels.
    pub resolution: Resolution,
    /// Frames per second.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 120)))]
    pub framerate: u32,
    /// kbit/s; absent = by size and rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u32>,
    /// Seconds.
    pub key_frame_interval: u32,
}

impl Default for VideoParameters {
    fn default() -> Self {
        Self {
            resolution: Resolution { width: 640, height: 480 },
            framerate: 24,
            bitrate: None,
            key_frame_interval: 100,
        }
    }
}

/// A colour.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct BgColor {
    /// Red.
    pub r: u8,
    /// Green.
    pub g: u8,
    /// Blue.
    pub b: u8,
}

/// Where inputs are placed, and how they fill their places.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct LayoutSpec {
    /// Letterbox or crop.
    pub fit_policy: FitPolicy,
    /// Templates.
    pub templates: Templates,
}

/// How a picture fills a region of another shape.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum FitPolicy {
    /// Whole picture, bars beside it.
    #[default]
    Letterbox,
    /// Whole region, picture cut.
    Crop,
}

/// The layouts that a view chooses from by its number of inputs.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Templates {
    /// `fluid`, `lecture` or `void`.
    pub base: String,
    /// Beside or instead of the built-in ones.
    pub custom: Vec<Template>,
}

impl Default for Templates {
    fn default() -> Self {
        Self { base: "fluid".to_owned(), custom: Vec::new() }
    }
}

/// A layout for as many inputs as it has regions.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Template {
    /// Accepted and without effect, as in OWT: the first region is the primary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// In drawing order.
    pub region: Vec<Region>,
}

/// One place of a layout.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Region {
    /// Unique in its layout.
    pub id: String,
    /// Always `rectangle`.
    #[serde(default = "rectangle")]
    pub shape: String,
    /// Where.
    pub area: RegionArea,
}

fn rectangle() -> String {
    "rectangle".to_owned()
}

/// Fractions of the picture as texts: `0`, `1`, `1/3`, `0.25`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegionArea {
    /// Left edge.
    pub left: String,
    /// Top edge.
    pub top: String,
    /// Width.
    pub width: String,
    /// Height.
    pub height: String,
}

/// `None` is `false` in JSON; `true` is the default value.
mod or_false {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error};
    use serde_json::Value;

    pub(super) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(s),
            None => s.serialize_bool(false),
        }
    }

    pub(super) fn deserialize<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<T>, D::Error> {
        match Value::deserialize(d)? {
            Value::Bool(flag) => Ok(flag.then(T::default)),
            value => crate::strict::from_value(value).map(Some).map_err(D::Error::custom),
        }
    }
}
