//! What filters there are and what they take, as REST and the processes among themselves name it.

use kaigi_room_config::strict;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Aperture, Norm, Thresholds};

/// Bytes of parameters at most.
const MAX_TEXT: usize = 4096;

/// A filter with its parameters, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Edges, white on black.
    EdgeDetect(EdgeDetect),
    /// As if it were drawn.
    Cartoon(Cartoon),
    /// Turned and mirrored.
    Rotate(Rotate),
}

/// Why there is no such filter.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    /// No such name.
    #[error("no filter is named {0:?}")]
    Unknown(String),
    /// Not an object of the filter's parameters.
    #[error("parameters of {filter}: {reason}")]
    Parameters {
        /// Its name.
        filter: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// A parameter beyond its range.
    #[error("parameter {parameter} of {filter} is {value}, not {wanted}")]
    Range {
        /// Its name.
        filter: &'static str,
        /// The parameter's.
        parameter: &'static str,
        /// What was given.
        value: u32,
        /// What may be given.
        wanted: &'static str,
    },
}

/// How edges are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum EdgeMethod {
    /// Canny's: lines of one pixel, white on black.
    #[default]
    Canny,
    /// The strength of Sobel's gradient, in grey.
    Sobel,
}

/// Parameters of `edgedetect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EdgeDetect {
    /// How edges are shown.
    pub method: EdgeMethod,
    /// Canny: edges whose gradient is above this count where they touch strong ones. Sobel: gradients up to this are black.
    #[cfg_attr(feature = "schema", schemars(range(max = 326400)))]
    pub low_threshold: u32,
    /// Canny: edges whose gradient is above this are strong. Sobel: gradients from this on are white.
    #[cfg_attr(feature = "schema", schemars(range(max = 326400)))]
    pub high_threshold: u32,
    /// Of Sobel's operator, in pixels: 3, 5 or 7.
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [3, 5, 7])))]
    pub aperture: u32,
    /// Whether the gradient's magnitude is √(dx² + dy²) and not |dx| + |dy|.
    pub l2_gradient: bool,
}

impl EdgeDetect {
    /// Largest magnitude of any aperture, and so the largest threshold.
    pub const MAX_THRESHOLD: u32 = 326_400;

    /// As the cores take it.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        Thresholds { low: self.low_threshold, high: self.high_threshold }
    }

    /// As the cores take it.
    #[must_use]
    pub fn aperture(&self) -> Aperture {
        Aperture::new(self.aperture).unwrap_or_default()
    }

    /// As the cores take it.
    #[must_use]
    pub fn norm(&self) -> Norm {
        if self.l2_gradient { Norm::L2 } else { Norm::L1 }
    }
}

impl Default for EdgeDetect {
    fn default() -> Self {
        Self {
            method: EdgeMethod::Canny,
            low_threshold: 100,
            high_threshold: 200,
            aperture: 3,
            l2_gradient: false,
        }
    }
}

/// Parameters of `cartoon`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cartoon {
    /// Tones from black to white.
    #[cfg_attr(feature = "schema", schemars(range(min = 2, max = 32)))]
    pub levels: u32,
    /// Gradients (3×3, |dx| + |dy|) above this are drawn as black outlines; 2040 = none.
    #[cfg_attr(feature = "schema", schemars(range(max = 2040)))]
    pub outline: u32,
    /// Strength of the colours, in percent of what it was.
    #[cfg_attr(feature = "schema", schemars(range(max = 400)))]
    pub saturation: u32,
}

impl Cartoon {
    /// Tones there may be.
    pub const LEVELS: std::ops::RangeInclusive<u32> = 2..=32;
    /// Largest gradient: none is above it.
    pub const MAX_OUTLINE: u32 = 2040;
    /// Percent.
    pub const MAX_SATURATION: u32 = 400;
}

impl Default for Cartoon {
    fn default() -> Self {
        Self { levels: 6, outline: 160, saturation: 150 }
    }
}

/// What is mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Nothing.
    #[default]
    None,
    /// Left and right change places.
    Horizontal,
    /// Top and bottom change places.
    Vertical,
}

/// Parameters of `rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rotate {
    /// Degrees, clockwise. 90 and 270 exchange width and height; others but 0 and 180 leave black corners and cut what stands over.
    #[cfg_attr(feature = "schema", schemars(range(max = 359)))]
    pub angle: u32,
    /// What is mirrored before it is turned.
    pub flip: Flip,
}

impl Rotate {
    /// Degrees.
    pub const MAX_ANGLE: u32 = 359;
}

impl Filter {
    /// Of all there are.
    pub const NAMES: [&'static str; 3] = ["edgedetect", "cartoon", "rotate"];

    /// Takes a name and an object of parameters; `Null` stands for an empty one, and what is not given has its default.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new(name: &str, parameters: Value) -> Result<Self, FilterError> {
        let parameters =
            if parameters.is_null() { Value::Object(serde_json::Map::new()) } else { parameters };
        let filter = match name {
            "edgedetect" => Self::EdgeDetect(read(Self::NAMES[0], parameters)?),
            "cartoon" => Self::Cartoon(read(Self::NAMES[1], parameters)?),
            "rotate" => Self::Rotate(read(Self::NAMES[2], parameters)?),
            _ => return Err(FilterError::Unknown(name.to_owned())),
        };
        filter.checked()
    }

    /// The same of parameters as JSON text; an empty one stands for an empty object.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn parse(name: &str, parameters: &str) -> Result<Self, FilterError> {
        let Some(known) = Self::NAMES.into_iter().find(|known| *known == name) else {
            return Err(FilterError::Unknown(name.to_owned()));
        };
        let wrong = |reason: String| FilterError::Parameters { filter: known, reason };
        if parameters.len() > MAX_TEXT {
            return Err(wrong(format!("more than {MAX_TEXT} bytes")));
        }
        if parameters.is_empty() {
            return Self::new(name, Value::Null);
        }
        Self::new(name, serde_json::from_str(parameters).map_err(|error| wrong(error.to_string()))?)
    }

    /// As [`NAMES`](Self::NAMES) has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::EdgeDetect(_) => "edgedetect",
            Self::Cartoon(_) => "cartoon",
            Self::Rotate(_) => "rotate",
        }
    }

    /// All parameters, those that have their defaults among them.
    #[must_use]
    pub fn parameters(&self) -> Value {
        let value = match self {
            Self::EdgeDetect(parameters) => serde_json::to_value(parameters),
            Self::Cartoon(parameters) => serde_json::to_value(parameters),
            Self::Rotate(parameters) => serde_json::to_value(parameters),
        };
        value.unwrap_or_default()
    }

    /// Whether width and height of pictures change places.
    #[must_use]
    pub fn swaps_sides(&self) -> bool {
        matches!(self, Self::Rotate(Rotate { angle: 90 | 270, .. }))
    }

    fn checked(self) -> Result<Self, FilterError> {
        let filter = self.name();
        let check = |fits: bool, parameter, value, wanted| {
            if fits { Ok(()) } else { Err(FilterError::Range { filter, parameter, value, wanted }) }
        };
        match &self {
            Self::EdgeDetect(EdgeDetect { low_threshold, high_threshold, aperture, .. }) => {
                for (parameter, value) in
                    [("lowThreshold", *low_threshold), ("highThreshold", *high_threshold)]
                {
                    check(value <= EdgeDetect::MAX_THRESHOLD, parameter, value, "within 0..=326400")?;
                }
                check(Aperture::new(*aperture).is_some(), "aperture", *aperture, "3, 5 or 7")?;
            }
            Self::Cartoon(Cartoon { levels, outline, saturation }) => {
                check(Cartoon::LEVELS.contains(levels), "levels", *levels, "within 2..=32")?;
                check(*outline <= Cartoon::MAX_OUTLINE, "outline", *outline, "within 0..=2040")?;
                check(*saturation <= Cartoon::MAX_SATURATION, "saturation", *saturation, "within 0..=400")?;
            }
            Self::Rotate(Rotate { angle, .. }) => {
                check(*angle <= Rotate::MAX_ANGLE, "angle", *angle, "within 0..=359")?;
            }
        }
        Ok(self)
    }
}

fn read<T: serde::de::DeserializeOwned>(filter: &'static str, value: Value) -> Result<T, FilterError> {
    strict::from_value(value).map_err(|error| FilterError::Parameters { filter, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_given_has_its_default() {
        assert_eq!(Filter::parse("edgedetect", ""), Ok(Filter::EdgeDetect(EdgeDetect::default())));
        let given = Filter::new("edgedetect", json!({"lowThreshold": 50, "method": "sobel"})).unwrap();
        let wanted = EdgeDetect { low_threshold: 50, method: EdgeMethod::Sobel, ..EdgeDetect::default() };
        assert_eq!(given, Filter::EdgeDetect(wanted));
        assert_eq!(Filter::new("cartoon", Value::Null), Ok(Filter::Cartoon(Cartoon::default())));
    }

    #[test]
    fn all_are_written_as_they_are_read() {
        for filter in [
            Filter::new("edgedetect", json!({"aperture": 7, "l2Gradient": true})),
            Filter::new("cartoon", json!({"levels": 3})),
            Filter::new("rotate", json!({"angle": 90, "flip": "vertical"})),
        ] {
            let filter = filter.unwrap();
            assert_eq!(Filter::parse(filter.name(), &filter.parameters().to_string()), Ok(filter));
        }
    }

    #[test]
    fn what_is_no_filter_is_told_why() {
        let why = |name, parameters| Filter::new(name, parameters).unwrap_err().to_string();
        assert_eq!(why("blur", json!({})), "no filter is named \"blur\"");
        assert_eq!(
            why("edgedetect", json!({"aperture": 4})),
            "parameter aperture of edgedetect is 4, not 3, 5 or 7"
        );
        assert_eq!(
            why("rotate", json!({"angle": 360})),
            "parameter angle of rotate is 360, not within 0..=359"
        );
        for (name, parameters) in [
            ("cartoon", json!({"levels": 1})),
            ("cartoon", json!({"colour": 1})),
            ("cartoon", json!([1, 2, 3])),
            ("edgedetect", json!({"lowThreshold": -1})),
            ("edgedetect", json!({"highThreshold": 326_401})),
            ("edgedetect", json!({"method": "prewitt"})),
            ("rotate", json!({"flip": true})),
            ("rotate", json!("90")),
        ] {
            assert!(Filter::new(name, parameters.clone()).is_err(), "{name} {parameters}");
        }
        assert!(Filter::parse("rotate", "{").is_err());
        assert!(Filter::parse("rotate", &" ".repeat(5000)).is_err());
    }
}
