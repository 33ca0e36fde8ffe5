//! `kernel.lock.yaml`: exactly which files a kernel profile stands for, and where they are cached.

use serde::{Deserialize, Serialize};

/// Source with the kernel's entry point: when it is in scope, the scope is the whole kernel.
pub const ENTRY_POINT: &str = "init/main.c";

/// Everything later stages need of a kernel and one compartment, pinned by hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLock {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Kernel profile, `debian-6.12`.
    pub kernel: String,
    /// Compartment, `sch_qfq`.
    pub compartment: String,
    /// Overlay that was applied, if any.
    pub overlay: Option<String>,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Packages the files came from, sorted by name.
    pub packages: Vec<LockedPackage>,
    /// Boot image.
    pub vmlinuz: CachedFile,
    /// `vmlinux` with code and DWARF.
    pub vmlinux: Image,
    /// The compartment's modules with code and DWARF (build-id as loaded), sorted by name.
    pub modules: Vec<Image>,
    /// Loadable files for a VM: `.ko` of the compartment's modules (overlay builds where one
    /// applies), in the order of loading.
    pub loadable: Vec<Loadable>,
    /// Further modules whose files are in scope, with code and DWARF, sorted by name: they may
    /// allocate what the compartment writes, whether or not they are loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope_modules: Vec<Image>,
    /// Stock modules that must be loaded before `loadable`: what those depend on and what the
    /// overlay's scripts need, in the order of loading.
    pub support: Vec<Loadable>,
    /// Test modules of the overlay that show damage, sorted by name.
    pub oracles: Vec<Loadable>,
    /// Kernel source tree the bitcode was made from, relative to the cache.
    pub source: String,
    /// Bitcode, sorted by source.
    pub bitcode: Vec<Bitcode>,
    /// Files that no C file of the kernel can include but those of `bitcode`, relative to the kernel
    /// tree, sorted: every object of a type that they define is the scope's. Empty when the scope is
    /// the whole kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_headers: Vec<String>,
    /// For a kernel that is built from its bitcode: the [`CodegenCommand`] of every file, as a JSON
    /// list sorted by source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<CachedFile>,
    /// `otf_guard.ko`, stripped of DWARF, for this release; none for one that is too old for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<CachedFile>,
}

/// A package and the hash of its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockedPackage {
    /// Package name.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// SHA-256 of the package file, hex.
    pub sha256: String,
}

/// A file in the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CachedFile {
    /// Path relative to `$OTF_CACHE`.
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
}

/// An ELF image with code and DWARF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `vmlinux`, or the module's name as in lsmod.
    pub name: String,
    /// The ELF file.
    pub file: CachedFile,
    /// GNU build-id, hex, the same as in the running kernel.
    pub build_id: String,
}

/// A module file that can be loaded into the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loadable {
    /// Module name as in lsmod.
    pub name: String,
    /// The `.ko` (not compressed).
    pub file: CachedFile,
}

/// One translation unit as LLVM bitcode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitcode {
    /// Source relative to the kernel tree, `net/sched/sch_qfq.c`.
    pub source: String,
    /// Image whose code this file is part of: `vmlinux` or a module name.
    pub image: String,
    /// Whether the file belongs to the compartment; otherwise it is scope: read for allocation
    /// sites, types and flows, but not confined.
    pub confined: bool,
    /// The bitcode.
    pub file: CachedFile,
}

/// How a recorded build made an object out of a file's bitcode: `COMPILER ARGUMENTS… -c -x ir BITCODE
/// -o OBJECT` gives the same bytes again, wherever it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CodegenCommand {
    /// Source relative to the kernel tree.
    pub source: String,
    /// Bitcode relative to the folder that the list is in.
    pub bitcode: String,
    /// Object relative to the folder that the list is in.
    pub object: String,
    /// Command, found by `PATH`: `clang-19`.
    pub compiler: String,
    /// Arguments that decide the code. None is a path.
    pub arguments: Vec<String>,
}

/// First version whose kprobe programs may call functions of a module: what the guard needs.
pub const GUARD_SINCE: (u32, u32) = (6, 10);

/// Version and patch level of a release as `uname -r` says it.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions() {
        assert_eq!(version("6.12.117+deb12-amd64"), Some((6, 12)));
        assert_eq!(version("6.1.0-56-amd64"), Some((6, 1)));
        assert_eq!(version("rubbish"), None);
    }
}
