//! How far a heap place reaches: a number of bytes, or `end`.

use std::{borrow::Cow, fmt};

use otf_artifact::analysis::HeapPlace;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes that may be written from the start of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many.
    Bytes(u64),
    /// All up to the end of the object; written `end`.
    End,
}

impl Extent {
    /// As [`HeapPlace::size`].
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::End => HeapPlace::TO_END,
        }
    }
}

impl From<u64> for Extent {
    fn from(bytes: u64) -> Self {
        if bytes == HeapPlace::TO_END {
            Self::End
        } else {
            Self::Bytes(bytes)
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::End => f.write_str("end"),
        }
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_u64(*bytes),
            Self::End => serializer.serialize_str("end"),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Extent;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or `end`")
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Extent, E> {
                Ok(bytes.into())
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Extent, E> {
                let bytes = u64::try_from(bytes);
                bytes
                    .map(Extent::from)
                    .map_err(|_| E::custom("a size is not negative"))
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Extent, E> {
                match word {
                    "end" => Ok(Extent::End),
                    _ => Err(E::unknown_variant(word, &["end"])),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Extent {
    fn schema_name() -> Cow<'static, str> {
        "Extent".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes that may be written from the start of an element, or `end` for all up to the end of the object.",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "end" }],
        })
    }
}
