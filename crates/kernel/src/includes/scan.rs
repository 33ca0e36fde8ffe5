//! What the text of a file may include, whatever its conditions and comments say.

/// How a name is written, which decides where it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// `"x.h"`: the folder of the file comes first.
    Quoted,
    /// `<x.h>`, or the target of a macro that an `#include` may name.
    Bracketed,
}

/// The name in an `#include`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) form: Form,
    pub(super) path: String,
}

/// What was found in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What the file includes.
    pub(super) included: Vec<Name>,
    /// What stands in its text without being a directive: a program may write it to files that are
    /// not in the tree.
    pub(super) printed: Vec<Name>,
}

/// Directives of C and assembler. A header that a macro stands for counts where the macro is defined:
/// who includes it by the macro's name sees the definition.
pub(super) fn directives(text: &[u8]) -> Found {
    let mut found = Found::default();
    for (at, rest) in hashes(text) {
        if let Some(rest) = word(rest, b"include") {
            let Some(name) = name(skip_word(rest)) else {
                continue;
            };
            if is_first(text, at) {
                found.included.push(name);
            } else {
                found.printed.push(name);
            }
        } else if let Some(rest) = word(rest, b"define") {
            found.included.extend(defined(rest));
        }
    }
    found
}

/// Every `#include` in the text of a file that is no C: part of C to be, or of a program that writes it.
pub(super) fn mentions(text: &[u8]) -> Found {
    let printed = hashes(text)
        .filter_map(|(_, rest)| name(skip_word(word(rest, b"include")?)))
        .collect();
    Found {
        included: Vec::new(),
        printed,
    }
}

/// Headers that a makefile gives to the compiler with `-include`.
pub(super) fn forced(text: &str) -> Vec<Name> {
    let mut words = text.split_whitespace().filter(|word| *word != "\\");
    let mut names = Vec::new();
    while let Some(word) = words.next() {
        if !word.ends_with("-include") {
            continue;
        }
        if let Some(path) = words.next() {
            let path = path.rsplit(')').next().unwrap_or(path);
            let path = path.trim_matches(['/', '"', '\'']);
            names.push(Name {
                form: Form::Bracketed,
                path: path.to_owned(),
            });
        }
    }
    names
}

/// The text after each `#` and the blanks behind it, with the place of the `#`.
fn hashes(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let places = text.iter().enumerate().filter(|(_, byte)| **byte == b'#');
    places.map(|(at, _)| (at, blanks(&text[at + 1..])))
}

fn blanks(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    &text[text.iter().take_while(|b| blank(b)).count()..]
}

fn word<'t>(text: &'t [u8], word: &[u8]) -> Option<&'t [u8]> {
    text.strip_prefix(word)
}

/// Over the rest of `include_next`, and blanks.
fn skip_word(text: &[u8]) -> &[u8] {
    blanks(text.strip_prefix(b"_next").unwrap_or(text))
}

/// Whether only blanks come before a place in its line.
fn is_first(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev();
    before
        .take_while(|byte| **byte != b'\n')
        .all(u8::is_ascii_whitespace)
}

/// The name at the beginning of a text, in quotes or brackets; the quotes may be escaped.
fn name(text: &[u8]) -> Option<Name> {
    let text = text.strip_prefix(b"\\").unwrap_or(text);
    let (form, end) = match text.first()? {
        b'"' => (Form::Quoted, b'"'),
        b'<' => (Form::Bracketed, b'>'),
        _ => return None,
    };
    let text = &text[1..];
    let length = text.iter().position(|b| *b == end || *b == b'\n')?;
    let inner = std::str::from_utf8(&text[..length]).ok()?;
    let path = inner.trim_end_matches('\\').trim();
    (!path.is_empty() && text[length] == end).then(|| Name {
        form,
        path: path.to_owned(),
    })
}

/// What a macro may stand for in an `#include`: a header in quotes or brackets, or the file that
/// `trace/define_trace.h` reads again.
fn defined(text: &[u8]) -> Option<Name> {
    let text = blanks(text);
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let (macro_name, rest) = text.split_at(text.iter().take_while(|b| is_part(b)).count());
    let rest = blanks(rest);
    if matches!(macro_name, b"TRACE_SYSTEM" | b"TRACE_INCLUDE_FILE") {
        let length = rest.iter().take_while(|b| !b.is_ascii_whitespace()).count();
        let stem = std::str::from_utf8(&rest[..length]).ok()?;
        return (!stem.is_empty()).then(|| Name {
            form: Form::Quoted,
            path: format!("{stem}.h"),
        });
    }
    let name = name(rest)?;
    let source = [".h", ".c", ".S"]
        .iter()
        .any(|ending| name.path.ends_with(ending));
    (source && !name.path.contains(' ')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[Name]) -> Vec<&str> {
        names.iter().map(|n| n.path.as_str()).collect()
    }

    #[test]
    fn directives_count_whatever_their_condition() {
        let text = b"#ifdef CONFIG_X\n # include <a/b.h> // c\n#else\n\t#include \"c.h\"\n#endif\n\
            #include_next <d.h>\n/*\n#include <e.h>\n*/\n#include MACRO\n#include <cut.h\n#";
        let found = directives(text);
        assert_eq!(paths(&found.included), ["a/b.h", "c.h", "d.h", "e.h"]);
        assert_eq!(found.included[1].form, Form::Quoted);
        assert!(found.printed.is_empty());
    }

    #[test]
    fn macros_stand_for_headers_where_they_are_defined() {
        let text = b"#define GENL_FILE <linux/g.h>\n#define TEXT \"a b.h\"\n#define N 1\n\
            #define TRACE_SYSTEM sched\n# define TRACE_INCLUDE_FILE trace\n#define X \"y\"\n";
        let found = directives(text);
        assert_eq!(paths(&found.included), ["linux/g.h", "sched.h", "trace.h"]);
    }

    #[test]
    fn programs_that_write_directives_are_noticed() {
        let text = b"printf(\"#include <a.h>\\n#include \\\"b.h\\\"\\n\");\n#include <stdio.h>\n";
        let found = directives(text);
        assert_eq!(paths(&found.printed), ["a.h", "b.h"]);
        assert_eq!(paths(&found.included), ["stdio.h"]);
        assert_eq!(
            paths(&mentions(b"echo '#include <a.h>'\n#include <b.h>\n").printed),
            ["a.h", "b.h"]
        );
    }

    #[test]
    fn headers_of_makefiles() {
        let text = "KBUILD_CFLAGS += -include $(srctree)/include/linux/hidden.h \\\n\
            -include \\\n $(srctree)/include/linux/kconfig.h\n-include .config\n";
        assert_eq!(
            paths(&forced(text)),
            [
                "include/linux/hidden.h",
                "include/linux/kconfig.h",
                ".config"
            ]
        );
    }
}
