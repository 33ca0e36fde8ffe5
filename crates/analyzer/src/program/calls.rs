//! Where every call of the program leads, and a dense row for each: asked for often, found once.

use rayon::prelude::*;

use crate::program::{FunctionRef, Program, origins::CallRef};

/// No function that was read.
const NONE: u32 = u32::MAX;

/// Calls of one file.
#[derive(Default)]
struct FileCalls {
    /// Row in the program of the file's first call.
    first: usize,
    /// For each function the row in the file of its first call.
    starts: Vec<u32>,
    /// File and row of the function that is called.
    targets: Vec<(u32, u32)>,
}

/// Calls of all files.
#[derive(Default)]
pub(super) struct Calls(Vec<FileCalls>);

impl Calls {
    /// Looks up every call; symbols are linked already.
    pub(super) fn find(program: &Program<'_>) -> Self {
        let files = (0..program.files.len()).into_par_iter();
        let mut files: Vec<FileCalls> = files.map(|file| of_file(program, file)).collect();
        let mut first = 0;
        for calls in &mut files {
            calls.first = first;
            first += calls.targets.len();
        }
        Self(files)
    }

    /// Number of calls.
    pub(super) fn len(&self) -> usize {
        self.0.last().map_or(0, |f| f.first + f.targets.len())
    }

    /// The row of a call.
    pub(super) fn row(&self, at: CallRef) -> usize {
        let calls = &self.0[at.function.file];
        calls.first + (calls.starts[at.function.row] + at.call) as usize
    }

    /// The function with a body that a call names.
    pub(super) fn target(&self, at: CallRef) -> Option<FunctionRef> {
        let calls = &self.0[at.function.file];
        let (file, row) = calls.targets[(calls.starts[at.function.row] + at.call) as usize];
        (file != NONE).then_some(FunctionRef {
            file: file as usize,
            row: row as usize,
        })
    }
}

fn of_file(program: &Program<'_>, file: usize) -> FileCalls {
    let mut calls = FileCalls::default();
    for function in &program.files[file].1.functions {
        calls.starts.push(calls.targets.len() as u32);
        let targets = function.calls.iter().map(|call| {
            let symbol = call.callee.as_deref();
            let target = symbol.and_then(|symbol| program.callee(file, symbol));
            target.map_or((NONE, NONE), |at| (at.file as u32, at.row as u32))
        });
        calls.targets.extend(targets);
    }
    calls
}
