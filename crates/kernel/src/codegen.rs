//! The code generation of a recorded build, run once more on other bitcode.

use std::{fs, path::Path, process::Command};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::CodegenCommand,
};

use crate::{cache::io_error, command};

/// What the two halves of a compilation left.
#[derive(Debug)]
pub struct Generated {
    /// Bitcode after the optimiser.
    pub optimised: Vec<u8>,
    /// The object.
    pub object: Vec<u8>,
}

/// Says what the compiler of a recorded command is, for the names of products.
///
/// # Errors
/// When it cannot be started.
pub fn compiler_version(compiler: &str) -> Result<Vec<u8>, Diagnostic> {
    command::run(
        Command::new(compiler).arg("--version"),
        compiler,
        Code::Environment,
        compiler,
    )
}

/// Compiles bitcode as the command says, in two halves so that what the optimiser made of it can be
/// looked at. `folder` is for files in between.
///
/// An instruction without a place in the source does not take that of the one before it: that
/// changes the line table and nothing else.
///
/// # Errors
/// When the compiler fails, or a file cannot be written or read.
pub fn again(
    command: &CodegenCommand,
    bitcode: &[u8],
    folder: &Path,
) -> Result<Generated, Diagnostic> {
    let [given, optimised, object] = ["given.bc", "optimised.bc", "made.o"];
    let path = folder.join(given);
    fs::write(&path, bitcode).map_err(|e| io_error("write", &path, &e))?;
    let halves: [(&[&str], &str, &str); 2] = [
        (&["-emit-llvm"], given, optimised),
        (
            &[
                "-Xclang",
                "-disable-llvm-passes",
                "-mllvm",
                "-use-unknown-locations=Enable",
            ],
            optimised,
            object,
        ),
    ];
    for (more, from, to) in halves {
        let mut clang = Command::new(&command.compiler);
        clang
            .current_dir(folder)
            .args(&command.arguments)
            .args(more)
            .args(["-c", "-x", "ir", from, "-o", to]);
        let what = format!("code of {}", command.source);
        command::run(&mut clang, &command.compiler, Code::BuildFailed, &what)?;
    }
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|e| io_error("read", &path, &e))
    };
    Ok(Generated {
        optimised: read(optimised)?,
        object: read(object)?,
    })
}
