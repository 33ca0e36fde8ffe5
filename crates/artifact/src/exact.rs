//! The exact map of one file's machine code: which instruction implements which write of the source.
//! Read off an object that was made again from the same bitcode with a mark on every instruction.

use serde::{Deserialize, Serialize};

use crate::{Artifact, analysis::WriteKind};

/// The map of one object file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactMap {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Source relative to the kernel tree.
    pub source: String,
    /// Why there is no map; then it has no functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Writes of the source that left machine code, in the order of the bitcode.
    pub writes: Vec<SourceWrite>,
    /// Machine functions, sorted by symbol.
    pub functions: Vec<MappedFunction>,
}

impl Artifact for ExactMap {
    const NAME: &'static str = "exact";
    fn version(&self) -> u32 {
        self.version
    }
}

/// One instruction of the bitcode, before any pass, that writes memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceWrite {
    /// Function that it stands in, as the source names it.
    pub function: String,
    /// Line; 0 for what the compiler adds.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Kind.
    pub kind: WriteKind,
    /// Bytes; 0 when not constant.
    pub size: u64,
}

/// A machine function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedFunction {
    /// Symbol.
    pub symbol: String,
    /// Its bytes, hexadecimal. The map holds for code that is the same but for the masked bytes.
    pub code: String,
    /// Bytes that the linker or objtool fills in: offset and length, sorted.
    pub masked: Vec<(u32, u32)>,
    /// Offsets from which on an origin holds, sorted; the last one holds to the end.
    pub rows: Vec<MapRow>,
}

/// What the instructions from an offset on were made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRow {
    /// Bytes from the function's start.
    pub offset: u32,
    /// What they implement.
    pub origin: Mapped,
}

/// What an instruction implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapped {
    /// Row of [`ExactMap::writes`].
    Write(u32),
    /// A piece of a copy that some pass made anew.
    Remade,
    /// Row of [`ExactMap::writes`]: the optimiser put this write together with others.
    Merged {
        /// The row.
        write: u32,
        /// Bytes written then; 0 when not constant.
        bytes: u64,
    },
    /// Bitcode that writes nothing.
    Other,
    /// Several instructions of the bitcode, or none.
    Nothing,
}

/// What became of a write in the optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It looks like a piece of the copy that it was, but some pass made it anew.
    Remade,
    /// It was put together with others: it writes this many bytes (0 when not constant), or in
    /// another way.
    Merged(u64),
}

impl Change {
    /// What is to be said of a write of which several instructions were made.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Merged(a), Self::Merged(b)) if a > 0 && b > 0 => Self::Merged(a.max(b)),
            (Self::Merged(_), Self::Merged(_)) => Self::Merged(0),
            (Self::Merged(bytes), Self::Remade) | (Self::Remade, Self::Merged(bytes)) => {
                Self::Merged(bytes)
            }
            (Self::Remade, Self::Remade) => Self::Remade,
        }
    }
}

/// What the exact map said about a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exact {
    /// It is this write of the source: the legal set is that of the write.
    Bound,
    /// The function's code is not the one that the map was made from.
    OtherCode,
    /// It has no place in the source: paths with different writes were joined, or the compiler
    /// added it.
    Nothing,
    /// The code was made of something that writes nothing: a register that is spilt, say.
    NoWrite,
    /// The optimiser made a piece of a copy anew.
    Remade,
    /// The optimiser put the write together with others: with those of its line where these are as
    /// many bytes, else with any of the function.
    Merged,
    /// A locked instruction, or one behind it, with the mark of something that does not lock.
    Locked,
    /// The code generator did: it writes more than the source's write, or in another way.
    Unlike,
    /// The pieces of a copy lie further apart than it is long: an unrolled loop, or one of them was
    /// merged with a neighbour.
    Spread,
    /// The analysis has no such write: a variable that is no object in memory, or nothing but
    /// variables of the frame, which this operand cannot reach.
    Variable,
    /// Debug information has another function here.
    OtherFunction,
}

impl Exact {
    /// All of them, with what they mean, for reports.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Bound, "it is this write of the source"),
        (Self::OtherCode, "the code is not that of the map"),
        (Self::Nothing, "joined paths, or added by the compiler"),
        (Self::NoWrite, "made of something that writes nothing"),
        (Self::Remade, "the optimiser made a piece of a copy anew"),
        (Self::Merged, "the optimiser merged it with other writes"),
        (
            Self::Locked,
            "locked, with the mark of something that is not",
        ),
        (
            Self::Unlike,
            "the code generator merged it with other writes",
        ),
        (
            Self::Spread,
            "a piece of a copy whose pieces lie further apart than it is long",
        ),
        (Self::Variable, "the analysis has no such write"),
        (
            Self::OtherFunction,
            "debug information has another function",
        ),
    ];

    /// What it means, for people.
    pub fn describe(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(one, _)| *one == self)
            .map_or("", |(_, text)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_change_counts() {
        let [remade, some, more] = [Change::Remade, Change::Merged(8), Change::Merged(16)];
        assert_eq!(remade.and(some), some);
        assert_eq!(more.and(some), more);
        assert_eq!(more.and(Change::Merged(0)), Change::Merged(0));
        assert_eq!(remade.and(remade), remade);
    }

    #[test]
    fn every_outcome_is_described() {
        for (one, text) in Exact::ALL {
            assert_eq!(one.describe(), text);
        }
    }
}
