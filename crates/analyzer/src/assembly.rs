//! Text of inline assembly, so that its instructions carry their mark.
//!
//! Kernel assembly notes the address of a locked instruction in a section of its own, before the
//! instruction. The assembler gives the mark to the first thing that it puts anywhere: to the note.
//! In a shadow the note comes last; what lands in each section stays the same.

use std::borrow::Cow;

/// How a note begins, and the label that it names.
const NOTE: &str = ".pushsection .smp_locks";
const END: &str = ".popsection";
const FORWARD: &str = "671f";
const BACKWARD: &str = "671b";
/// What ends a statement.
const SEPARATORS: [char; 2] = ['\n', ';'];

/// The text with a note moved to the end, when there is exactly one.
pub(crate) fn note_last(text: &str) -> Cow<'_, str> {
    let moved = || {
        let start = text.find(NOTE)?;
        let end = start + text[start..].find(END)? + END.len();
        let (note, rest) = (&text[start..end], &text[end..]);
        let once = !rest.contains(NOTE) && note.matches(FORWARD).count() == 1;
        once.then(|| {
            let note = note.replace(FORWARD, BACKWARD);
            format!("{}{rest}\n{note}\n", &text[..start])
        })
    };
    moved().map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Whether the first instruction comes after something that is put in another section: it would carry
/// the mark of what stands before the assembly.
pub(crate) fn loses_mark(text: &str) -> bool {
    let (mut depth, mut elsewhere) = (0_u32, false);
    for statement in text.split(SEPARATORS) {
        // Labels may stand before a statement.
        let statement = statement.rsplit(':').next().unwrap_or_default().trim();
        if statement.starts_with(".pushsection") || statement.starts_with(".section") {
            depth += 1;
            elsewhere = true;
        } else if statement.starts_with(".popsection") || statement.starts_with(".previous") {
            depth = depth.saturating_sub(1);
        } else if !(depth > 0 || statement.is_empty() || statement.starts_with(['.', '#'])) {
            return elsewhere;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKED: &str = ".pushsection .smp_locks,\"a\"\n.balign 4\n.long 671f - .\n.popsection\n671:\n\tlock incl $0";

    #[test]
    fn the_note_comes_last() {
        assert_eq!(
            note_last(LOCKED),
            "\n671:\n\tlock incl $0\n.pushsection .smp_locks,\"a\"\n.balign 4\n.long 671b - .\n.popsection\n"
        );
        assert!(loses_mark(LOCKED) && !loses_mark(&note_last(LOCKED)));
        let twice = format!("{LOCKED}\n{LOCKED}");
        assert_eq!(note_last(&twice), twice);
        assert_eq!(note_last("nop"), "nop");
    }

    #[test]
    fn only_a_section_before_the_first_instruction_takes_the_mark() {
        for kept in [
            "",
            "1:\tmov %rax, (%rdi)\n.pushsection t,\"a\"\n.long 1b\n.popsection\nnop",
            ".pushsection t,\"a\"\n.long 1b\n.popsection",
            ".pushsection t,\"ax\"\nnop\n.popsection\n",
            "# note: nothing\n771:\n\tnop",
        ] {
            assert!(!loses_mark(kept), "{kept}");
        }
        assert!(loses_mark("9: .pushsection t; .long 9b; .popsection; nop"));
    }
}
