//! Operations that have nothing to do with a compartment: what it costs while it is only loaded.

use std::{
    ffi::CString,
    fs, io,
    io::{PipeReader, PipeWriter, Read, Write},
    os::unix::ffi::OsStrExt,
};

use crate::measure::Operation;

/// A system call that does next to nothing.
pub struct NullSyscall;

impl Operation for NullSyscall {
    fn run(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            // SAFETY: it takes no pointer.
            unsafe { libc::syscall(libc::SYS_getppid) };
        }
        Ok(())
    }
}

/// A byte to another process and back.
pub struct Pipe {
    to: PipeWriter,
    from: PipeReader,
}

impl Pipe {
    /// Starts the other process, which ends when the pipe does.
    pub fn new() -> io::Result<Self> {
        let (mut there, to) = io::pipe()?;
        let (from, mut back) = io::pipe()?;
        // SAFETY: there is one thread; the child only reads, writes and ends.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop((to, from));
                let mut byte = [0];
                while there.read_exact(&mut byte).is_ok() && back.write_all(&byte).is_ok() {}
                std::process::exit(0);
            }
            _ => Ok(Self { to, from }),
        }
    }
}

impl Operation for Pipe {
    fn run(&mut self, count: u64) -> io::Result<()> {
        let mut byte = [0];
        for _ in 0..count {
            self.to.write_all(&byte)?;
            self.from.read_exact(&mut byte)?;
        }
        Ok(())
    }
}

/// A process that is made, runs a program that does nothing, and ends.
pub struct ForkExec {
    program: CString,
    argument: CString,
}

impl ForkExec {
    /// The program is this one.
    pub fn new() -> io::Result<Self> {
        let program = std::env::current_exe()?;
        Ok(Self {
            program: CString::new(program.as_os_str().as_bytes())?,
            argument: CString::new("nothing")?,
        })
    }
}

impl Operation for ForkExec {
    fn run(&mut self, count: u64) -> io::Result<()> {
        let words = [
            self.program.as_ptr(),
            self.argument.as_ptr(),
            std::ptr::null(),
        ];
        for _ in 0..count {
            // SAFETY: there is one thread; the child only calls execv, whose strings end in NUL.
            let child = unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::execv(self.program.as_ptr(), words.as_ptr());
                    libc::_exit(127);
                }
                child
            };
            let mut status = 0;
            // SAFETY: `status` lives during the call.
            if child < 0 || unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
            if status != 0 {
                return Err(io::Error::other(format!(
                    "the child ended with {status:#x}"
                )));
            }
        }
        Ok(())
    }
}

/// A file in /tmp that is made and removed.
pub struct File;

impl Operation for File {
    fn run(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            fs::File::create("/tmp/otf-exercise")?;
            fs::remove_file("/tmp/otf-exercise")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operations_run() {
        NullSyscall.run(3).unwrap();
        Pipe::new().unwrap().run(3).unwrap();
        File.run(3).unwrap();
    }
}
