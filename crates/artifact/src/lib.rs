//! The types that cross stages and their file formats: no logic, no IO beyond (de)serialising.
//!
//! One module per artifact, in pipeline order. Every artifact carries `version`, is written as
//! JSON with sorted keys and a final newline, and refers to rows of its tables by typed index.

pub mod abi;
pub mod allocators;
pub mod analysis;
pub mod bundle;
pub mod covered;
pub mod diagnostic;
pub mod exact;
pub mod freers;
pub mod ids;
pub mod kernel;
pub mod places;
pub mod profile;
pub mod range_writers;
pub mod recorder;
pub mod recording;
pub mod sites;
pub mod yaml;

use std::io::{self, Write};

use serde::{Serialize, de::DeserializeOwned};

use crate::diagnostic::{Code, Diagnostic};

/// Format version of every artifact of this release; a reader refuses any other.
pub const FORMAT_VERSION: u32 = 2;

/// An artifact that has a file of its own.
pub trait Artifact: Serialize + DeserializeOwned {
    /// What the file is called in messages, e.g. `analysis`.
    const NAME: &'static str;
    /// The format version that the value carries.
    fn version(&self) -> u32;

    /// Writes the artifact: pretty JSON, the same bytes for the same value.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// Reads the artifact back; `file` is only for messages.
    fn read(bytes: &[u8], file: &str) -> Result<Self, Diagnostic> {
        let bad = |line, column, message: String| {
            Diagnostic::error(Code::BadArtifact, message)
                .at(file, line, column)
                .help(format!(
                    "make {} again with the command that writes it (`otf explain OTF0003`)",
                    Self::NAME
                ))
        };
        let value: Self = serde_json::from_slice(bytes).map_err(|e| {
            bad(
                e.line() as u32,
                e.column() as u32,
                format!("{}.json cannot be read: {e}", Self::NAME),
            )
        })?;
        if value.version() == FORMAT_VERSION {
            Ok(value)
        } else {
            Err(bad(
                0,
                0,
                format!(
                    "{} has format version {}, this release reads {FORMAT_VERSION}",
                    Self::NAME,
                    value.version()
                ),
            ))
        }
    }
}
