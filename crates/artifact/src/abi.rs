//! Mirror of `crates/policygen/bpf/otf_abi.h`: what maps and tables look like in memory.
//!
//! Names and field order are those of the header, where the meaning of each field is written down.
//! `policygen` tests that sizes and constants agree with what clang makes of the header.
#![expect(missing_docs, reason = "documented at the same names in otf_abi.h")]

pub const FILTER_SLOTS: usize = 65536;
pub const MAX_PLACES: usize = 64;
pub const MAX_GLOBALS: usize = 32;
pub const MAX_FRAMES: usize = 8;
pub const MAX_TEXTS: usize = 256;
pub const ALLOC_WORDS: usize = 8;
pub const MAX_PASSED: usize = 8;
pub const MAX_NOTES: usize = 8;
pub const ARGUMENTS: usize = 6;
pub const MAX_NAME_WORDS: usize = 9;
pub const GATE_WORDS: usize = 4;
pub const NO_INSTANCE: u8 = 0xff;
pub const POINTER_AX: u8 = 1;
pub const CACHE_GENERAL: u32 = 0xffff;
pub const CACHE_ANY: u32 = 0xfffe;
pub const CACHE_NONE: u32 = 0xfffd;

pub const SITE_FREE: u8 = 1;
pub const SITE_PERCPU: u8 = 2;
pub const SITE_RETURNS_DI: u8 = 4;
pub const SITE_RETURNS_LENGTH: u8 = 8;
pub const SITE_FRAME: u8 = 16;
pub const SITE_SKIP_ZF: u8 = 32;
pub const SITE_SKIP_CF: u8 = 64;
pub const SITE_TAIL: u8 = 128;

pub const CALL_WEAK: u8 = 1;
pub const CALL_TAIL: u8 = 2;

pub const RULE_LAYOUT: u8 = 1;
pub const RULE_PROVENANCE: u8 = 2;
pub const RULE_SAME_OBJECT: u8 = 4;

pub const LENGTH_LEADER: u8 = 0x80;

pub const LEGAL_ANY_HEAP: u8 = 1;
pub const LEGAL_ANY_GLOBAL: u8 = 2;
pub const LEGAL_PERCPU: u8 = 4;
pub const LEGAL_USER: u8 = 8;
pub const LEGAL_TRACKED: u8 = 16;

macro_rules! enumeration {
    ($($name:ident { $($variant:ident = $text:literal),* $(,)? })*) => {$(
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($variant),* }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The variant with this number in the header.
            pub fn from_raw(raw: u64) -> Option<Self> {
                Self::ALL.get(usize::try_from(raw).ok()?).copied()
            }
            /// Words for people.
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    )*};
}

enumeration! {
    Action { Audit = "audit", Kill = "kill", Deny = "deny" }
    Phase { Transition = "transition", Working = "working" }
    LengthKind { Constant = "constant", Cx = "cx", Dx = "dx", Si = "si" }
    Class {
        User = "user memory", Stack = "stack", Global = "global", PerCpu = "per-CPU", Slab = "slab",
        Pages = "pages", Vmalloc = "vmalloc", Other = "other",
    }
    Reason {
        Ok = "legal", Unknown = "fits, but the object has no provenance",
        BadClass = "no object of this class is legal here",
        BadGlobal = "another global, read-only data or code",
        BadStack = "outside the stack frames that are legal here",
        BadLayout = "no legal container has such a place",
        BadBounds = "leaves the object", BadProvenance = "object of another allocation site",
        Freed = "the object was freed", BadAddress = "no valid address",
        BadTarget = "a call to where no legal call leads",
        BadReturn = "a return to where the gate was not called from",
        BadFree = "a free of what is not the start of an object",
        OtherObject = "another object than the one that its pointer leads to",
    }
    Done {
        Reported = "reported", Killed = "task killed",
        KillImpossible = "not killed: no task of its own",
        Unwound = "prevented, unwound to the gate, instance quarantined",
        Skipped = "prevented, instance quarantined at the next gate",
        SkippedOnly = "prevented, nothing was quarantined",
        DenyFailed = "NOT prevented: the guard could not",
    }
    Counter {
        Checks = "checks", Violations = "violations", Unknown = "unknown objects",
        EventsLost = "events lost", RecordsLost = "provenance records lost",
        FramesLost = "gate frames lost", NoFrame = "violations without a gate frame",
        DenyFailed = "writes that deny could not prevent", KillImpossible = "kills impossible",
        Refused = "entries refused", BadCookie = "probes without a row",
        Weak = "allowed by a wide rule alone", QuarantineFull = "quarantines impossible",
        Records = "provenance records",
        NotesLost = "function entries not noted",
        Calls = "calls checked",
        WeakCalls = "calls allowed by a wide rule alone", Frees = "frees checked",
        Returns = "returns checked",
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    pub displacement: i64,
    pub legal: u32,
    pub size: u32,
    pub frame_size: u32,
    pub shape: u16,
    pub length: u8,
    pub flags: u8,
    pub insn_len: u8,
    pub action: u8,
    pub symbol: u16,
    pub gates: u16,
    pub saved: u8,
    pub canary: u8,
    pub pointer: u8,
    pub release: u8,
    pub release_gates: u16,
    pub pad: [u8; 4],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GateSet {
    pub gates: [u64; GATE_WORDS],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Legal {
    pub first_place: u32,
    pub places: u32,
    pub first_global: u32,
    pub globals: u32,
    pub first_passed: u32,
    pub passed: u8,
    pub otherwise: u8,
    pub stack: u8,
    pub flags: u8,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub function: u32,
    pub size: u32,
    pub argument: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub stride: [u64; 2],
    pub count: [u64; 2],
    pub size: u64,
    pub object_min: u64,
    pub object_max: u64,
    pub allocations: [u64; ALLOC_WORDS],
    pub cache: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    pub refusal: i64,
    pub instance: u8,
    pub pad: [u8; 7],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameWord {
    pub word: u64,
    pub mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alloc {
    pub size: u64,
    pub size_arg: u8,
    pub count_arg: u8,
    pub is_order: u8,
    pub pad: [u8; 5],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub displacement: i64,
    pub targets: u32,
    pub shape: u16,
    pub symbol: u16,
    pub gates: u16,
    pub memory: u8,
    pub insn_len: u8,
    pub action: u8,
    pub flags: u8,
    pub pad: [u8; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Return {
    pub gate: u32,
    pub action: u8,
    pub pad: [u8; 3],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub address: u64,
    pub set: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: u32,
    pub action: u32,
    pub page_offset: u64,
    pub vmemmap: u64,
    pub vmalloc_start: u64,
    pub vmalloc_end: u64,
    pub kernel_map: u64,
    pub kfence: u64,
    pub texts: u32,
    pub endbr: u32,
    pub text: [Range; MAX_TEXTS],
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: 0,
            action: 0,
            page_offset: 0,
            vmemmap: 0,
            vmalloc_start: 0,
            vmalloc_end: 0,
            kernel_map: 0,
            kfence: 0,
            texts: 0,
            endbr: 0,
            text: [Range::default(); MAX_TEXTS],
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub start: u64,
    pub size: u64,
    pub alloc: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    pub object: u64,
    pub time: u64,
    pub refused: u64,
    pub site: u32,
    pub gate: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub time: u64,
    pub address: u64,
    pub length: u64,
    pub object: u64,
    pub object_size: u64,
    pub instance: u64,
    pub ip: u64,
    pub site: u32,
    pub gate: u32,
    pub alloc: u32,
    pub pid: u32,
    pub tid: u32,
    pub cpu: u32,
    pub class: u8,
    pub reason: u8,
    pub done: u8,
    pub phase: u8,
    pub in_interrupt: u8,
    pub rules: u8,
    pub pad: [u8; 2],
    pub comm: [u8; 16],
    pub cache: [u8; 32],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteCount {
    pub hits: u64,
    pub violations: u64,
    pub unknown: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    pub address: u64,
    pub size: u32,
    pub object_size: u32,
    pub name: [u8; 56],
    pub unique: [u8; 56],
}
