//! JSON whose objects are objects: serde alone would take a list for the members of a struct in their order.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, Error as _, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};

/// Deserializes the value, and all in it.
#[derive(Clone, Debug)]
pub struct Strict(pub Value);

/// Reads a value into `T`.
///
/// # Errors
/// If it is none.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Strict(value))
}

impl Strict {
    fn unexpected(&self, expected: &dyn Expected) -> Error {
        let found = match &self.0 {
            Value::Object(_) => Unexpected::Map,
            Value::Array(_) => Unexpected::Seq,
            Value::Null => Unexpected::Unit,
            Value::Bool(flag) => Unexpected::Bool(*flag),
            Value::Number(_) => Unexpected::Other("number"),
            Value::String(text) => Unexpected::Str(text),
        };
        Error::invalid_type(found, expected)
    }
}

impl IntoDeserializer<'_, Error> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Strict {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Self));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(members) => {
                let mut members = MapDeserializer::new(members.into_iter().map(|(name, v)| (name, Self(v))));
                let value = visitor.visit_map(&mut members)?;
                members.end()?;
                Ok(value)
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_object() { self.deserialize_any(visitor) } else { Err(self.unexpected(&visitor)) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_array() { self.deserialize_any(visitor) } else { Err(self.unexpected(&visitor)) }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Outer {
        list: Vec<Inner>,
        #[serde(default)]
        one: Option<Inner>,
        pair: (u8, f64),
        id: Id,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Inner {
        number: i64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Id(String);

    #[test]
    fn nothing_is_no_empty_map_or_list() {
        assert!(from_value::<serde_json::Map<String, Value>>(Value::Null).is_err());
        assert!(from_value::<Vec<u8>>(Value::Null).is_err());
        assert_eq!(from_value::<Vec<u8>>(json!([1])).unwrap(), [1]);
    }

    #[test]
    fn what_is_an_object_is_read() {
        let value = json!({"list": [{}, {"number": -1, "more": []}], "one": null, "pair": [1, 2], "id": "a"});
        let list = vec![Inner { number: 0 }, Inner { number: -1 }];
        let expected = Outer { list, one: None, pair: (1, 2.0), id: Id("a".to_owned()) };
        assert_eq!(from_value::<Outer>(value).unwrap(), expected);
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        for value in [
            json!([[], null, [1, 2], "a"]),
            json!({"list": [[]], "pair": [1, 2], "id": "a"}),
            json!({"list": [], "one": [5], "pair": [1, 2], "id": "a"}),
            json!({"list": [], "pair": [1, 2, 3], "id": "a"}),
            json!(null),
            json!("a"),
        ] {
            assert!(from_value::<Outer>(value.clone()).is_err(), "{value}");
        }
    }
}
