//! What the guard can decide about a site without asking the check library.

use otf_artifact::{
    abi,
    analysis::StackRule,
    bundle::{Line, Quick},
};

use crate::shape::Shape;

/// Most bytes of a write for which verdicts are kept: a page.
const MOST: u32 = 4096;
/// What stands on the stack while the guard decides, at most: displacements must leave room for it.
const PUSHED: i64 = 64;

/// `None` for a site about which only its program can decide: its length or operand is known to the
/// program alone, or it asks for more than the set of its place.
pub fn quick(shape: Shape, row: &abi::Site, legals: &[abi::Legal]) -> Option<Quick> {
    let legal = legals.get(row.legal as usize)?;
    let constant = row.length & !abi::LENGTH_LEADER == abi::LengthKind::Constant as u8;
    let other = abi::SITE_FREE | abi::SITE_PERCPU;
    if !constant
        || row.flags & other != 0
        || row.symbol != 0
        || row.pointer != 0
        || shape.bit.is_some()
        || !(1..=MOST).contains(&row.size)
    {
        return None;
    }
    i32::try_from(row.displacement + PUSHED).ok()?;
    let quick = Quick {
        base: shape.base,
        index: shape
            .index
            .map(|(register, scale)| (register, scale.trailing_zeros() as u8)),
        displacement: i32::try_from(row.displacement).ok()?,
        size: row.size,
        line: line(row, legal),
        frame: frame(row, legal),
        above: above(row, legal),
    };
    let any = quick.line != Line::None || quick.frame >= quick.size || quick.above.is_some();
    any.then_some(quick)
}

/// Verdicts may be about ranges where the set has objects or globals.
fn line(row: &abi::Site, legal: &abi::Legal) -> Line {
    if legal.flags & abi::LEGAL_ANY_HEAP != 0 {
        Line::Wide
    } else if legal.places > 0 || legal.globals > 0 {
        Line::Set(row.legal)
    } else {
        Line::None
    }
}

/// How far the variables of the own frame reach from the stack pointer on: as `otf_check_stack` and
/// `otf_hits_guarded` of the check library have it.
fn frame(row: &abi::Site, legal: &abi::Legal) -> u32 {
    if legal.stack == StackRule::None as u8 || row.flags & abi::SITE_FRAME == 0 {
        return 0;
    }
    let guarded = 8 * u32::from(row.saved.max(row.canary));
    row.frame_size.saturating_sub(guarded)
}

/// From where on all of the stack may be written: frames of callers, where any will do, and what is
/// not known to be another's, where the own one's end is not known.
fn above(row: &abi::Site, legal: &abi::Legal) -> Option<u32> {
    /// The return address itself is never written.
    const RETURN: u32 = 8;
    let known = row.flags & abi::SITE_FRAME != 0;
    let any = legal.stack == StackRule::Any as u8;
    let own = legal.stack == StackRule::Own as u8;
    if known {
        any.then(|| row.frame_size.saturating_add(RETURN))
    } else {
        (any || own && legal.passed == 0).then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use otf_artifact::sites::Register;

    use super::*;

    fn shape(base: Register) -> Shape {
        Shape {
            base: Some(base),
            index: None,
            bit: None,
        }
    }

    fn own_frame() -> (abi::Site, abi::Legal) {
        let row = abi::Site {
            displacement: 0x10,
            size: 8,
            frame_size: 72,
            flags: abi::SITE_FRAME,
            saved: 3,
            canary: 2,
            ..abi::Site::default()
        };
        let legal = abi::Legal {
            stack: StackRule::Own as u8,
            ..abi::Legal::default()
        };
        (row, legal)
    }

    #[test]
    fn the_own_frame_ends_below_what_only_its_function_writes() {
        let (row, legal) = own_frame();
        let quick = quick(shape(Register::Sp), &row, &[legal]).expect("it can");
        assert_eq!(
            (quick.frame, quick.line, quick.size),
            (72 - 24, Line::None, 8)
        );
    }

    #[test]
    fn the_stack_is_left_open_where_the_frame_is_not_known_and_closed_without_a_rule() {
        let (row, legal) = own_frame();
        let none = abi::Legal {
            stack: StackRule::None as u8,
            ..legal
        };
        assert_eq!(quick(shape(Register::Sp), &row, &[none]), None);
        let unknown = abi::Site { flags: 0, ..row };
        let quick = quick(shape(Register::Sp), &unknown, &[legal]);
        assert_eq!(quick.map(|q| (q.frame, q.above)), Some((0, Some(0))));
    }

    #[test]
    fn sets_with_objects_keep_verdicts_by_their_number() {
        let (row, _) = own_frame();
        let row = abi::Site { legal: 1, ..row };
        let heap = abi::Legal {
            places: 2,
            ..abi::Legal::default()
        };
        let quick = quick(shape(Register::Bx), &row, &[abi::Legal::default(), heap]);
        assert_eq!(quick.map(|q| (q.line, q.frame)), Some((Line::Set(1), 0)));
    }

    #[test]
    fn what_the_program_alone_knows_is_left_to_it() {
        let (row, legal) = own_frame();
        let length = abi::LengthKind::Cx as u8;
        for other in [
            abi::Site { length, ..row },
            abi::Site { symbol: 1, ..row },
            abi::Site {
                pointer: abi::POINTER_AX,
                ..row
            },
            abi::Site {
                flags: row.flags | abi::SITE_FREE,
                ..row
            },
            abi::Site {
                flags: row.flags | abi::SITE_PERCPU,
                ..row
            },
            abi::Site { size: 0, ..row },
            abi::Site {
                size: 2 * MOST,
                ..row
            },
            abi::Site {
                displacement: i64::from(i32::MAX),
                ..row
            },
        ] {
            assert_eq!(
                quick(shape(Register::Sp), &other, &[legal]),
                None,
                "{other:?}"
            );
        }
    }
}
