//! Action Message Format 0 (Adobe's AMF 0 specification): what commands are made of.

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 16;
/// Most values of one command.
const MAX_VALUES: usize = 16;

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const REFERENCE: u8 = 7;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_STRING: u8 = 12;
const XML: u8 = 15;
const TYPED_OBJECT: u8 = 16;

/// Why values can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// It ends within a value.
    #[error("a command ends within a value")]
    Short,
    /// No type of AMF 0 that can be sent.
    #[error("a command has a value of no known type: {0}")]
    Type(u8),
    /// Nested too deeply, or too many.
    #[error("a command has more values than are taken")]
    TooMany,
}

/// A value, as far as anything is done with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Number(f64),
    /// Bytes that should be UTF-8.
    Text(&'a [u8]),
    /// Anything else.
    Other,
}

/// All values of a command.
pub(super) fn values(bytes: &[u8]) -> Result<Vec<Value<'_>>, AmfError> {
    let mut reader = Reader(bytes);
    let mut values = Vec::new();
    while let Some(kind) = reader.0.first() {
        if values.len() == MAX_VALUES {
            return Err(AmfError::TooMany);
        }
        values.push(match *kind {
            NUMBER => {
                reader.take(1)?;
                let bytes = reader.take(8)?.try_into().map_err(|_| AmfError::Short)?;
                Value::Number(f64::from_be_bytes(bytes))
            }
            STRING => {
                reader.take(1)?;
                Value::Text(reader.text()?)
            }
            _ => {
                reader.skip()?;
                Value::Other
            }
        });
    }
    Ok(values)
}

/// What a reader is within.
enum Within {
    /// Keys and values until an end.
    Object,
    /// That many more values.
    Array(u32),
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], AmfError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(AmfError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, AmfError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, AmfError> {
        let bytes = self.take(4)?.try_into().map_err(|_| AmfError::Short)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'a [u8], AmfError> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }

    fn long_text(&mut self) -> Result<&'a [u8], AmfError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| AmfError::Short)?)
    }

    /// Goes past one value, whatever is in it.
    fn skip(&mut self) -> Result<(), AmfError> {
        let mut within: Vec<Within> = Vec::new();
        loop {
            let ended = match within.last_mut() {
                Some(Within::Object) => {
                    let key = self.text()?;
                    let ended = key.is_empty() && self.0.first() == Some(&OBJECT_END);
                    if ended {
                        self.take(1)?;
                    }
                    ended
                }
                Some(Within::Array(0)) => true,
                Some(Within::Array(left)) => {
                    *left -= 1;
                    false
                }
                None => false,
            };
            if ended {
                within.pop();
            } else if let Some(opened) = self.enter()? {
                if within.len() == MAX_DEPTH {
                    return Err(AmfError::TooMany);
                }
                within.push(opened);
            }
            if within.is_empty() {
                return Ok(());
            }
        }
    }

    /// Goes past a plain value, or into one that has others.
    fn enter(&mut self) -> Result<Option<Within>, AmfError> {
        match self.u8()? {
            NUMBER => drop(self.take(8)?),
            BOOLEAN => drop(self.take(1)?),
            STRING => drop(self.text()?),
            NULL | UNDEFINED => {}
            REFERENCE => drop(self.take(2)?),
            DATE => drop(self.take(10)?),
            LONG_STRING | XML => drop(self.long_text()?),
            OBJECT => return Ok(Some(Within::Object)),
            // Its number of members is a hint.
            ECMA_ARRAY => {
                self.take(4)?;
                return Ok(Some(Within::Object));
            }
            TYPED_OBJECT => {
                self.text()?;
                return Ok(Some(Within::Object));
            }
            STRICT_ARRAY => return Ok(Some(Within::Array(self.u32()?))),
            other => return Err(AmfError::Type(other)),
        }
        Ok(None)
    }
}

/// Writes values.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(STRING);
        self.bare(text);
        self
    }

    pub(super) fn number(mut self, number: f64) -> Self {
        self.0.push(NUMBER);
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(super) fn null(mut self) -> Self {
        self.0.push(NULL);
        self
    }

    /// An object of texts.
    pub(super) fn texts(mut self, members: &[(&str, &str)]) -> Self {
        self.0.push(OBJECT);
        for (key, text) in members {
            self.bare(key);
            self = self.text(text);
        }
        self.bare("");
        self.0.push(OBJECT_END);
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }

    /// Texts of more than 64 KiB are cut off; none is.
    fn bare(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_be_bytes());
        self.0.extend(&text.as_bytes()[..usize::from(length)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let written = Writer::default()
            .text("connect")
            .number(1.0)
            .texts(&[("app", "live"), ("tcUrl", "rtmp://a/live")])
            .null()
            .text("key")
            .done();
        let read = values(&written).unwrap();
        let expected =
            [Value::Text(b"connect"), Value::Number(1.0), Value::Other, Value::Other, Value::Text(b"key")];
        assert_eq!(read, expected);
    }

    #[test]
    fn every_type_is_gone_past() {
        let nested = [
            &[ECMA_ARRAY, 0xff, 0xff, 0xff, 0xff][..], // a size that is no size
            &[0, 1, b'a', STRICT_ARRAY, 0, 0, 0, 2, BOOLEAN, 1, DATE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[
                0,
                1,
                b'b',
                TYPED_OBJECT,
                0,
                1,
                b't',
                0,
                1,
                b'x',
                LONG_STRING,
                0,
                0,
                0,
                1,
                b'y',
                0,
                0,
                OBJECT_END,
            ],
            &[0, 1, b'c', REFERENCE, 0, 1, 0, 0, OBJECT_END],
            &[NUMBER, 0x40, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(values(&nested), Ok(vec![Value::Other, Value::Number(2.0)]));
    }

    #[test]
    fn what_is_short_deep_or_unknown_is_refused() {
        assert_eq!(values(&[STRING, 0, 9, b'a']), Err(AmfError::Short));
        assert_eq!(values(&[STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff, NULL]), Err(AmfError::Short));
        assert_eq!(values(&[LONG_STRING, 0xff, 0xff, 0xff, 0xff]), Err(AmfError::Short));
        assert_eq!(values(&[17]), Err(AmfError::Type(17)));
        let deep: Vec<u8> = [STRICT_ARRAY, 0, 0, 0, 1].repeat(100_000);
        assert_eq!(values(&deep), Err(AmfError::TooMany));
        assert_eq!(values(&[NULL; 17]), Err(AmfError::TooMany));
    }
}
