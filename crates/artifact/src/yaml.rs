//! Reads the YAML that people write: errors have a place, and a suggestion from what exists there.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_saphyr::{Budget, DuplicateKeyPolicy, Error, MergeKeyPolicy, Options, Spanned};

use crate::diagnostic::{Code, Diagnostic};

/// A value and where the user wrote it, for messages about values that are well-formed but wrong.
///
/// Reads and writes like the bare `T`. Not inside `flatten` or untagged enums: serde loses the place there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Line, from 1; 0 for a value that was not read from a file.
    pub line: u32,
    /// Column, from 1; 0 for a value that was not read from a file.
    pub column: u32,
}

impl<T> From<T> for Placed<T> {
    fn from(value: T) -> Self {
        Self {
            value,
            line: 0,
            column: 0,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Placed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Placed<T> {
    /// An error about this value in `file`.
    pub fn error(&self, code: Code, file: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message).at(file, self.line, self.column)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Self {
            line: clamp(spanned.referenced.line()),
            column: clamp(spanned.referenced.column()),
            value: spanned.value,
        })
    }
}

impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// Parses one YAML document; `file` is only for messages. Errors have [`Code::BadYaml`].
///
/// Strict where leniency hides mistakes: duplicate keys and merge keys are errors, and only
/// `true` and `false` are booleans. Put `#[serde(deny_unknown_fields)]` on every type.
pub fn parse<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, Diagnostic> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| diagnose(&error, file))
}

/// Spells a value as YAML, the same text for the same value.
pub fn write<T: Serialize>(value: &T) -> Result<String, Diagnostic> {
    serde_saphyr::to_string(value)
        .map_err(|error| Diagnostic::error(Code::InvariantBroken, format!("not YAML: {error}")))
}

/// `did you mean …?` when a known word is close to `word`, else the list of the known ones.
/// `kind` is the plural of what they are, e.g. `fields`.
pub fn suggest<'a>(
    word: &str,
    kind: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .min();
    let list = match known.as_slice() {
        [] => return None,
        words => format!("known {kind} are {}", words.join(", ")),
    };
    Some(match nearest {
        Some((d, candidate)) if d <= 1 + candidate.chars().count() / 4 => {
            format!("did you mean `{candidate}`? {list}")
        }
        _ => list,
    })
}

fn options() -> Options {
    let mut budget = Budget::default();
    // A policy of a large compartment has some ten nodes per site. What protects against hostile
    // input are the limits on aliases and depth, which stay.
    budget.max_nodes = 50_000_000;
    budget.max_events = 200_000_000;
    budget.max_total_scalar_bytes = 1 << 31;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.with_snippet = false;
    options
}

fn diagnose(error: &Error, file: &str) -> Diagnostic {
    let error = error.without_snippet();
    let (line, column) = error
        .location()
        .map_or((0, 0), |l| (clamp(l.line()), clamp(l.column())));
    let (message, help) = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            format!("unknown field `{field}`"),
            suggest(field, "fields", expected.iter().copied()),
        ),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            format!("unknown value `{variant}`"),
            suggest(variant, "values", expected.iter().copied()),
        ),
        Error::SerdeMissingField { field, .. } => (
            format!("missing field `{field}`"),
            Some(format!("add `{field}:` here")),
        ),
        Error::DuplicateMappingKey { key, .. } => (
            key.as_ref().map_or_else(
                || "a key occurs twice".into(),
                |key| format!("`{key}` occurs twice"),
            ),
            Some("keep one of them".into()),
        ),
        other => (
            other
                .render_with_formatter(&Plain)
                .lines()
                .collect::<Vec<_>>()
                .join(" "),
            None,
        ),
    };
    let diagnostic = Diagnostic::error(Code::BadYaml, message).at(file, line, column);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

/// The parser's words without the place, which the diagnostic carries.
struct Plain;

impl serde_saphyr::MessageFormatter for Plain {
    fn localizer(&self) -> &dyn serde_saphyr::localizer::Localizer {
        &NoPlace
    }
    fn format_message<'a>(&self, error: &'a Error) -> std::borrow::Cow<'a, str> {
        serde_saphyr::UserMessageFormatter.format_message(error)
    }
}

struct NoPlace;

impl serde_saphyr::localizer::Localizer for NoPlace {
    fn attach_location<'a>(
        &self,
        base: std::borrow::Cow<'a, str>,
        _: serde_saphyr::Location,
    ) -> std::borrow::Cow<'a, str> {
        base
    }
}

fn clamp(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Levenshtein's distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        name: Placed<String>,
        #[serde(default)]
        kind: Kind,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        #[default]
        Debian,
        Directory,
    }

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        size: u32,
        on: bool,
    }

    fn error(text: &str) -> Diagnostic {
        parse::<Config>(text, "a.yaml").unwrap_err()
    }

    #[test]
    fn places_of_values() {
        let config: Config = parse("kind: directory\nname:   x\n", "a.yaml").unwrap();
        assert_eq!((config.name.line, config.name.column), (2, 9));
        assert_eq!(config.kind, Kind::Directory);
    }

    #[test]
    fn unknown_field_has_place_and_suggestion() {
        let e = error("name: x\nkinds: debian\n");
        assert_eq!(
            e.to_string(),
            "error[OTF0004]: unknown field `kinds`\n  --> a.yaml:2:1\n  \
             help: did you mean `kind`? known fields are name, kind, inner"
        );
    }

    #[test]
    fn unknown_value_lists_values() {
        let e = error("name: x\nkind: zzz\n");
        assert_eq!((e.line, e.column), (2, 7));
        assert_eq!(e.message, "unknown value `zzz`");
        assert_eq!(
            e.help.as_deref(),
            Some("known values are debian, directory")
        );
    }

    #[test]
    fn missing_nested_field_points_into_its_mapping() {
        let e = error("name: x\ninner:\n  - on: true\n");
        assert_eq!(e.message, "missing field `size`");
        assert_eq!(e.line, 3);
    }

    #[test]
    fn wrong_type_duplicate_key_and_syntax() {
        let e = error("name: x\ninner:\n  - size: many\n    on: true\n");
        assert_eq!((e.line, e.column), (3, 11), "{e}");
        assert!(!e.message.contains("line"), "{e}");
        assert_eq!(error("name: x\nname: y\n").message, "`name` occurs twice");
        assert_eq!(error("name: x\ninner:\n  - {size: 1, on: yes}\n").line, 3);
        assert_eq!(error("name: [x\n").code, Code::BadYaml);
        assert_eq!(error("name: x\n---\nname: y\n").code, Code::BadYaml);
        assert_eq!(error("").code, Code::BadYaml);
    }

    #[test]
    fn what_is_written_reads_back() {
        let config = Config {
            name: Placed::from("a: b # c".to_owned()),
            kind: Kind::Directory,
            inner: vec![Inner { size: 3, on: false }],
        };
        let text = write(&config).unwrap();
        let back: Config = parse(&text, "a.yaml").unwrap();
        assert_eq!(back.name.value, config.name.value);
        assert_eq!(back.inner, config.inner);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kinds", "kind"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("flaw", "lawn"), 2);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC*") {
            let _ = parse::<Config>(&text, "a.yaml");
        }

        #[test]
        fn nearly_yaml_never_panics(text in "(name|kind|inner|size|on|[-:{}\\[\\]&*!|>'\"#,? \n\t0-9a-z<]){0,60}") {
            if let Err(e) = parse::<Config>(&text, "a.yaml") {
                prop_assert_eq!(e.code, Code::BadYaml);
            }
        }
    }
}
