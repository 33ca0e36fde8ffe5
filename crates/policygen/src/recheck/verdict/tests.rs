//! What is said to be implied, held against a model of the check in `otf_check.h`: random legal sets,
//! objects and places in them.

use super::*;

/// Numbers without a pattern, the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, Debug)]
struct Object {
    size: u64,
    cache: u32,
    /// Allocation row and size of the record.
    record: Option<(usize, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Legal,
    Unknown,
    Refused,
}

/// `otf_place_fits`.
fn fits(place: &abi::Place, object: &Object, offset: u64, length: u64) -> bool {
    let general = object.cache == abi::CACHE_GENERAL;
    let too_large =
        place.object_max > 0 && general && object.size >= 2 * place.object_max && object.size > 64;
    let cache = match place.cache {
        abi::CACHE_GENERAL => general || object.cache == abi::CACHE_NONE,
        abi::CACHE_NONE => object.cache == abi::CACHE_NONE,
        abi::CACHE_ANY => object.cache != abi::CACHE_NONE,
        dedicated => object.cache == dedicated,
    };
    if object.size < place.object_min || too_large || !cache || offset < place.offset {
        return false;
    }
    let mut rest = offset - place.offset;
    for (stride, count) in place.stride.iter().zip(place.count) {
        if *stride == 0 {
            continue;
        }
        if count > 0 && rest / stride >= count {
            return false;
        }
        rest %= stride;
    }
    rest < place.size && length <= place.size - rest
}

/// `otf_check_object`.
fn outcome(tables: &Tables, row: &abi::Site, object: &Object, offset: i64) -> Outcome {
    let legal = &tables.legals[row.legal as usize];
    let length = u64::from(row.size);
    let Ok(offset) = u64::try_from(offset) else {
        return Outcome::Refused;
    };
    if offset >= object.size || length > object.size - offset {
        return Outcome::Refused;
    }
    if legal.flags & abi::LEGAL_ANY_HEAP != 0 {
        return Outcome::Legal;
    }
    let (mut some, mut allowed) = (false, false);
    for place in places(tables, legal) {
        if !fits(place, object, offset, length) {
            continue;
        }
        some = true;
        if place.allocations == [0; abi::ALLOC_WORDS] {
            return Outcome::Legal;
        }
        allowed |= object
            .record
            .is_some_and(|(alloc, _)| place.allocations[0] >> alloc & 1 == 1);
    }
    match object.record {
        _ if !some => Outcome::Refused,
        Some((_, size)) if allowed && offset + length <= size => Outcome::Legal,
        Some(_) => Outcome::Refused,
        None if object.cache < abi::CACHE_NONE => Outcome::Legal,
        None => Outcome::Unknown,
    }
}

fn place(dice: &mut Dice) -> abi::Place {
    let mut place = abi::Place {
        offset: dice.one_of(&[0, 0, 8, 16]),
        size: dice.one_of(&[4, 8, 8, 12, 16, 24, 64, u64::from(u32::MAX)]),
        object_min: dice.one_of(&[0, 32, 64, 96]),
        object_max: dice.one_of(&[0, 0, 64, 96]),
        cache: dice.one_of(&[abi::CACHE_GENERAL, abi::CACHE_NONE, abi::CACHE_ANY, 0, 1]),
        ..abi::Place::default()
    };
    place.allocations[0] = dice.one_of(&[0, 1, 3, 5, 7]);
    if dice.below(3) == 0 {
        place.stride[0] = dice.one_of(&[16, 24, 32]);
        place.count[0] = dice.below(4);
        if dice.below(2) == 0 {
            place.stride[1] = 8;
            place.count[1] = dice.below(4);
        }
    }
    place
}

/// A place like another one, so that one often implies the other.
fn near(dice: &mut Dice, place: &abi::Place) -> abi::Place {
    let mut near = *place;
    match dice.below(8) {
        0 => near.offset += 8,
        1 => near.size = dice.one_of(&[8, 16, 24, 64]),
        2 => near.allocations[0] |= 2,
        3 => near.object_min = 0,
        4 => near.object_max = 0,
        5 => (near.stride, near.count) = ([0; 2], [0; 2]),
        _ => {}
    }
    near
}

fn tables(dice: &mut Dice) -> Tables {
    let from: Vec<abi::Place> = (0..=dice.below(2)).map(|_| place(dice)).collect();
    let to = from.iter().map(|p| near(dice, p)).collect::<Vec<_>>();
    let legal = |first_place: usize, places: usize, flags: u8| abi::Legal {
        first_place: first_place as u32,
        places: places as u32,
        flags,
        ..abi::Legal::default()
    };
    let mut heap = |n: u64| {
        if dice.below(n) == 0 {
            abi::LEGAL_ANY_HEAP
        } else {
            0
        }
    };
    let flags = [heap(9), heap(5)];
    let alloc = |size, size_arg| abi::Alloc {
        size,
        size_arg,
        ..abi::Alloc::default()
    };
    Tables {
        legals: vec![
            legal(0, from.len(), flags[0]),
            legal(from.len(), to.len(), flags[1]),
        ],
        places: from.into_iter().chain(to).collect(),
        // A constant size, that of the slab object, and one that is an argument.
        allocs: vec![alloc(64, 0xff), alloc(0, 0xff), alloc(0, 0)],
        ..Tables::default()
    }
}

fn object(dice: &mut Dice) -> Object {
    let size = dice.one_of(&[32, 64, 96, 128, 192]);
    let record = match dice.below(4) {
        0 => Some((0, 64)).filter(|_| size >= 64),
        1 => Some((1, size)),
        2 => Some((2, 8 + dice.below(size - 7))),
        _ => None,
    };
    let caches = [abi::CACHE_GENERAL, abi::CACHE_NONE, 0, 1];
    let cache = dice.one_of(&caches);
    Object {
        size,
        cache,
        record,
    }
}

#[test]
fn what_is_implied_passes() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let (mut implications, mut passed) = (0, 0);
    for _ in 0..60_000 {
        let tables = tables(&mut dice);
        let row = |legal, size| abi::Site {
            legal,
            size,
            ..abi::Site::default()
        };
        let writes = Writes {
            leader: row(0, dice.one_of(&[4, 8, 16, 24])),
            site: row(1, dice.one_of(&[1, 4, 8])),
            distance: dice.below(13) as i64 * 4 - 16,
            stack_moved: false,
        };
        if !implied(&tables, &writes) {
            continue;
        }
        implications += 1;
        for _ in 0..40 {
            let object = object(&mut dice);
            let offset = dice.below(object.size / 4) as i64 * 4;
            let first = outcome(&tables, &writes.leader, &object, offset);
            let second = outcome(&tables, &writes.site, &object, offset + writes.distance);
            passed += u64::from(first != Outcome::Refused);
            assert!(
                first == Outcome::Refused || second <= first,
                "{first:?} but {second:?} at {offset} of {object:?}: {writes:?}\n{:#?}",
                tables.places
            );
        }
    }
    assert!(
        implications > 1000 && passed > 1000,
        "{implications} {passed}"
    );
}

#[test]
fn stacks_and_what_has_no_bounds() {
    let row = |legal, size| abi::Site {
        legal,
        size,
        flags: abi::SITE_FRAME,
        frame_size: 64,
        ..abi::Site::default()
    };
    let tables = Tables {
        legals: (0..4)
            .map(|stack| abi::Legal {
                stack,
                flags: abi::LEGAL_ANY_GLOBAL,
                ..abi::Legal::default()
            })
            .collect(),
        ..Tables::default()
    };
    let writes = Writes {
        leader: row(1, 8),
        site: row(1, 4),
        distance: 4,
        stack_moved: false,
    };
    let says = |change: &dyn Fn(&mut Writes)| {
        let mut writes = writes;
        change(&mut writes);
        implied(&tables, &writes)
    };
    assert!(says(&|_| ()));
    assert!(!says(&|w| w.distance = 5));
    assert!(!says(&|w| w.distance = -1));
    assert!(!says(&|w| w.stack_moved = true));
    assert!(!says(&|w| w.site.frame_size = 32));
    assert!(!says(&|w| w.site.canary = 2));
    // Own frame to any stack, not to the compartment's frames, which are found in another way.
    assert!(says(&|w| w.site.legal = 3));
    assert!(!says(&|w| w.site.legal = 2));
    assert!(!says(&|w| w.site.legal = 0));
    assert!(!says(&|w| w.leader.length = abi::LengthKind::Cx as u8));
}

#[test]
fn a_fresh_object_where_provenance_is_not_tracked() {
    let place = |allocations, cache| abi::Place {
        size: 64,
        object_min: 64,
        allocations: [allocations; abi::ALLOC_WORDS],
        cache,
        ..abi::Place::default()
    };
    let says = |place: abi::Place, recorded, cache, distance| {
        let tables = Tables {
            legals: vec![abi::Legal {
                places: 1,
                ..abi::Legal::default()
            }],
            places: vec![place],
            ..Tables::default()
        };
        let site = abi::Site {
            size: 8,
            ..abi::Site::default()
        };
        let object = Fresh {
            room: 64,
            recorded,
            cache,
        };
        fresh(&tables, &site, &object, distance)
    };
    let general = Some(abi::CACHE_GENERAL);
    // Another allocation of the set is not recorded: the program looks at cache and layout alone.
    assert!(says(place(0, abi::CACHE_GENERAL), None, general, 56));
    assert!(says(place(0, abi::CACHE_GENERAL), Some(3), general, 56));
    assert!(!says(place(0, abi::CACHE_GENERAL), Some(3), general, 60));
    assert!(says(place(0, 2), Some(3), Some(2), 0));
    assert!(says(place(0, abi::CACHE_ANY), Some(3), Some(2), 0));
    assert!(!says(place(0, 2), Some(3), Some(1), 0));
    assert!(!says(place(0, 2), Some(3), general, 0));
    assert!(!says(place(0, abi::CACHE_GENERAL), Some(3), None, 0));
    // Where all are, the record decides.
    assert!(says(place(8, abi::CACHE_GENERAL), Some(3), general, 0));
    assert!(!says(place(8, abi::CACHE_GENERAL), Some(2), general, 0));
    assert!(!says(place(8, abi::CACHE_GENERAL), None, general, 0));
}
