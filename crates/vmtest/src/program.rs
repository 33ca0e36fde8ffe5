//! Programs of the host for the guest: a dynamic ELF file with its interpreter and shared libraries.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use object::{
    Endianness, Object, ObjectSection,
    elf::{DT_NEEDED, DT_NULL, FileHeader64},
    read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader},
};
use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::{archive::Archive, error};

/// Where the dynamic linker of Debian on x86-64 looks; the guest has no `ld.so.cache`.
const LIBRARY_FOLDERS: [&str; 4] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
];
/// Where a guest finds every library.
const GUEST_LIBRARIES: &str = "/lib/x86_64-linux-gnu";
const PROGRAM_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// What a dynamic ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
}

/// Finds a program of the host by name, in the folders where Debian has programs.
pub fn find(name: &str, package: &str) -> Result<PathBuf, Diagnostic> {
    PROGRAM_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Diagnostic::error(
                Code::Environment,
                format!("this machine has no program {name}"),
            )
            .help(format!("apt-get install {package}"))
        })
}

/// Adds the program at `host` as `/bin/NAME`, with everything that it needs to start.
pub fn add(archive: &mut Archive, name: &str, host: &Path) -> Result<(), Diagnostic> {
    let bytes = fs::read(host).map_err(|e| error::file("read", host, &e))?;
    for (guest, library) in closure(&bytes, host)? {
        let bytes = fs::read(&library).map_err(|e| error::file("read", &library, &e))?;
        archive.program(&guest, bytes);
    }
    archive.program(&format!("/bin/{name}"), bytes);
    Ok(())
}

/// Path in the guest → path on the host of the interpreter and of all libraries, theirs included.
fn closure(program: &[u8], host: &Path) -> Result<BTreeMap<String, PathBuf>, Diagnostic> {
    let mut found = BTreeMap::new();
    let needs = needs(program, host)?;
    if let Some(interpreter) = needs.interpreter {
        let path = PathBuf::from(&interpreter);
        found.insert(interpreter, path);
    }
    let mut open = needs.libraries;
    while let Some(library) = open.pop() {
        let guest = format!("{GUEST_LIBRARIES}/{library}");
        if found.contains_key(&guest) {
            continue;
        }
        let path = LIBRARY_FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(&library))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                Diagnostic::error(
                    Code::Environment,
                    format!("{} needs {library}, which is not there", host.display()),
                )
            })?;
        let bytes = fs::read(&path).map_err(|e| error::file("read", &path, &e))?;
        open.extend(self::needs(&bytes, &path)?.libraries);
        found.insert(guest, path);
    }
    Ok(found)
}

/// Reads `PT_INTERP` and `DT_NEEDED`; a static program needs nothing.
fn needs(bytes: &[u8], host: &Path) -> Result<Needs, Diagnostic> {
    read_needs(bytes).map_err(|e| {
        Diagnostic::error(
            Code::BadImage,
            format!("{} is no ELF program: {e}", host.display()),
        )
    })
}

fn read_needs(bytes: &[u8]) -> object::Result<Needs> {
    let elf = ElfFile::<FileHeader64<Endianness>>::parse(bytes)?;
    let (header, endian) = (elf.elf_header(), elf.endian());
    let segments = header.program_headers(endian, bytes)?;
    let mut needs = Needs::default();
    for segment in segments {
        if let Some(name) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(String::from_utf8_lossy(name).into_owned());
        }
        let Some(dynamic) = segment.dynamic(endian, bytes)? else {
            continue;
        };
        let strings = elf
            .section_by_name(".dynstr")
            .map(|section| section.data())
            .transpose()?
            .unwrap_or_default();
        for entry in dynamic {
            let tag = entry.d_tag(endian);
            if tag == DT_NULL {
                break;
            }
            if tag == DT_NEEDED {
                let start = entry.d_val(endian) as usize;
                let rest = strings.get(start..).unwrap_or_default();
                let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
                let name = String::from_utf8_lossy(&rest[..end]).into_owned();
                needs.libraries.push(name);
            }
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_comes_with_what_it_needs() {
        let own = std::env::current_exe().unwrap();
        let mut archive = Archive::new();
        add(&mut archive, "own", &own).unwrap();
        let paths: Vec<&str> = archive.paths().collect();
        for path in [
            "bin/own",
            "lib/x86_64-linux-gnu/libc.so.6",
            "lib64/ld-linux-x86-64.so.2",
        ] {
            assert!(paths.contains(&path), "{path} is missing in {paths:?}");
        }
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "#!/bin/sh\n").unwrap();
        let refused = add(&mut Archive::new(), "script", script.path()).unwrap_err();
        assert_eq!(refused.code, Code::BadImage);
        assert_eq!(
            find("no-such-program", "nothing").unwrap_err().code,
            Code::Environment
        );
    }
}
