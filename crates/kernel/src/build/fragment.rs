//! The configuration fragment of a built kernel: which options it asks for, and which of them Kconfig dropped.

use std::collections::BTreeMap;

use otf_artifact::diagnostic::{Code, Diagnostic};

/// An option that the fragment asks for, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    value: String,
    file: String,
    line: u32,
}

/// Options by name (`CONFIG_SMP`); `n` for those that shall be off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    options: BTreeMap<String, Wanted>,
}

impl Fragment {
    /// Reads the text; `file` is for messages. Every line that is no option, and every option that
    /// occurs twice, is an error.
    pub fn parse(text: &str, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut options: BTreeMap<String, Wanted> = BTreeMap::new();
        let mut errors = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let parsed = match option(line) {
                Ok(Some(parsed)) => parsed,
                Ok(None) => continue,
                Err(why) => {
                    errors.push(
                        Diagnostic::error(Code::BadConfiguration, format!("`{line}` {why}"))
                            .at(file, number, 1)
                            .help("write CONFIG_NAME=y, m, n, a number or a quoted text"),
                    );
                    continue;
                }
            };
            let (name, value) = parsed;
            if let Some(first) = options.get(name) {
                errors.push(
                    Diagnostic::error(Code::BadConfiguration, format!("{name} occurs twice"))
                        .at(file, number, 1)
                        .help(format!("it is {} in line {}", first.value, first.line)),
                );
                continue;
            }
            let wanted = Wanted {
                value: value.to_owned(),
                file: file.to_owned(),
                line: number,
            };
            options.insert(name.to_owned(), wanted);
        }
        if errors.is_empty() {
            Ok(Self { options })
        } else {
            Err(errors)
        }
    }

    /// Lays another fragment over this one: its options come instead of those of the same name.
    pub fn over(&mut self, other: Self) {
        self.options.extend(other.options);
    }

    /// The fragment as kbuild reads it, without comments, sorted: what the kernel depends on.
    pub fn text(&self) -> String {
        let lines = self.options.iter();
        lines
            .flat_map(|(name, wanted)| [name.as_str(), "=", wanted.value.as_str(), "\n"])
            .collect()
    }

    /// Compares with the configuration that Kconfig made of it.
    pub fn honoured(&self, configuration: &str) -> Result<(), Vec<Diagnostic>> {
        let made: BTreeMap<&str, &str> = configuration
            .lines()
            .filter_map(|line| option(line).ok().flatten())
            .collect();
        let errors: Vec<Diagnostic> = self
            .options
            .iter()
            .filter_map(|(name, wanted)| {
                let got = made.get(name.as_str()).copied();
                let dropped = if wanted.value == "n" {
                    !matches!(got, None | Some("n"))
                } else {
                    got != Some(wanted.value.as_str())
                };
                dropped.then(|| self::dropped(name, wanted, got))
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}

fn dropped(name: &str, wanted: &Wanted, got: Option<&str>) -> Diagnostic {
    let got = got.map_or_else(
        || "nothing of that name".to_owned(),
        |v| format!("{name}={v}"),
    );
    Diagnostic::error(
        Code::BadConfiguration,
        format!("Kconfig dropped {name}={}: it has {got}", wanted.value),
    )
    .at(&wanted.file, wanted.line, 1)
    .help("add what the option depends on, or leave it out when other options select it")
}

/// The option of a line; `None` for a comment or an empty line.
fn option(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = line.trim_end();
    if let Some(comment) = line.strip_prefix('#') {
        let off = comment
            .trim()
            .strip_suffix(" is not set")
            .filter(|name| is_name(name));
        return Ok(off.map(|name| (name, "n")));
    }
    if line.is_empty() {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("is no option")?;
    if !is_name(name) {
        return Err("names no option");
    }
    if is_value(value) {
        Ok(Some((name, value)))
    } else {
        Err("has no value that Kconfig knows")
    }
}

fn is_name(name: &str) -> bool {
    name.strip_prefix("CONFIG_").is_some_and(|rest| {
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

fn is_value(value: &str) -> bool {
    let text = value.len() >= 2
        && value.starts_with('"')
        && value.ends_with('"')
        && !value[1..value.len() - 1].contains('"');
    let number = |digits: &str, radix| u64::from_str_radix(digits, radix).is_ok();
    let digits = value.strip_prefix('-').unwrap_or(value);
    text || matches!(value, "y" | "m" | "n")
        || digits
            .strip_prefix("0x")
            .map_or_else(|| number(digits, 10), |hex| number(hex, 16))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# comment\nCONFIG_A=y\n\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=n\n\
                        CONFIG_E=\"x,y\"\nCONFIG_F=0x10\n";

    #[test]
    fn what_kconfig_keeps_is_fine() {
        let fragment = Fragment::parse(TEXT, "f").unwrap();
        let made = "# Linux\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_E=\"x,y\"\n\
                    CONFIG_F=0x10\nCONFIG_Z=y\n";
        fragment.honoured(made).unwrap();
        assert!(
            fragment
                .text()
                .starts_with("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\n")
        );
    }

    #[test]
    fn every_dropped_option_is_named_with_its_line() {
        let fragment = Fragment::parse(TEXT, "f").unwrap();
        let errors = fragment
            .honoured("CONFIG_B=y\nCONFIG_C=y\nCONFIG_E=\"x,y\"\nCONFIG_F=0x10\n")
            .unwrap_err();
        let found: Vec<_> = errors
            .iter()
            .map(|e| (e.code, e.line, e.message.clone()))
            .collect();
        let code = Code::BadConfiguration;
        assert_eq!(
            found,
            [
                (
                    code,
                    2,
                    "Kconfig dropped CONFIG_A=y: it has nothing of that name".to_owned()
                ),
                (
                    code,
                    4,
                    "Kconfig dropped CONFIG_B=m: it has CONFIG_B=y".to_owned()
                ),
                (
                    code,
                    5,
                    "Kconfig dropped CONFIG_C=n: it has CONFIG_C=y".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn a_later_fragment_wins() {
        let mut fragment = Fragment::parse("CONFIG_A=y\nCONFIG_B=m\n", "base").unwrap();
        fragment.over(Fragment::parse("# for tests\nCONFIG_A=n\n", "extra").unwrap());
        assert_eq!(fragment.text(), "CONFIG_A=n\nCONFIG_B=m\n");
        let errors = fragment.honoured("CONFIG_A=y\n").unwrap_err();
        let places: Vec<_> = errors.iter().map(|e| (e.file.as_deref(), e.line)).collect();
        assert_eq!(places, [(Some("extra"), 2), (Some("base"), 2)]);
    }

    #[test]
    fn nonsense_and_repetitions_have_places() {
        let errors = Fragment::parse(
            "CONFIG_A=y\nA=y\nCONFIG_B\nCONFIG_C=maybe\nCONFIG_A=n\n",
            "f",
        )
        .unwrap_err();
        let lines: Vec<u32> = errors.iter().map(|e| e.line).collect();
        assert_eq!(lines, [2, 3, 4, 5]);
        assert!(errors.iter().all(|e| e.file.as_deref() == Some("f")));
        assert_eq!(errors[3].message, "CONFIG_A occurs twice");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            if let Ok(fragment) = Fragment::parse(&text, "f") {
                prop_assert!(fragment.honoured(&fragment.text()).is_ok());
            }
        }
    }
}
