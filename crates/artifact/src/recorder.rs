//! Mirror of `crates/policygen/bpf/otf_record.h`: what the maps of a recording look like in memory.
//!
//! Names and field order are those of the header, where the meaning of each field is written down.
//! `policygen` tests that sizes and constants agree with what clang makes of the header.
#![expect(missing_docs, reason = "documented at the same names in otf_record.h")]

pub const CHAIN: usize = 10;

pub const SEEN_DEAD: u8 = 1;
pub const SEEN_IN_FRAME: u8 = 2;
pub const SEEN_NO_FRAME: u8 = 4;
pub const SEEN_IN_GATE: u8 = 8;
pub const SEEN_NO_GATE: u8 = 16;
pub const SEEN_GENERAL: u8 = 32;
pub const SEEN_KFENCE: u8 = 64;
pub const SEEN_BOUNDED: u8 = 128;

/// What was lost, by row of `otf_lost`, in words.
pub const LOST: [&str; 6] = [
    "writes: map full or busy",
    "calls: map full or busy",
    "objects: map full or busy",
    "allocations: call chain lost",
    "calls: target not readable",
    "probes without a row",
];

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    pub frame: [u64; CHAIN],
    pub given: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainUse {
    pub cache: u64,
    pub count: u64,
    pub least: u64,
    pub most: u64,
    pub id: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub object: u64,
    pub offset: u64,
    pub size: u64,
    pub site: u32,
    pub chain: u32,
    pub class: u8,
    pub flags: u8,
    pub pad: [u8; 6],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeenUse {
    pub count: u64,
    pub length: u64,
    pub rest: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Called {
    pub target: u64,
    pub call: u32,
    pub pad: u32,
}
