//! What `otf analyze` left for one compartment: the lock with its modules, the signed bundle.

use std::{
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::{
    bundle,
    diagnostic::{Code, Diagnostic},
    kernel::{CachedFile, KernelLock, Loadable},
    yaml,
};
use otf_kernel::lineage;
use otf_vmtest::{guest::Guest, modules::Module};
use sha2::{Digest, Sha256};

/// Where things are.
#[derive(Clone, Debug, clap::Args)]
pub struct Setting {
    /// Products of one kernel: OUT/KERNEL.
    #[arg(long, default_value = "out/debian-6.12")]
    pub out: PathBuf,
    /// `otf-load`, linked statically.
    #[arg(long)]
    pub load: PathBuf,
    /// Public key of the bundles.
    #[arg(long)]
    pub key: PathBuf,
    /// Folder that holds kernels/.
    #[arg(long, default_value = ".")]
    pub root: PathBuf,
    /// Cache that the locks refer to.
    #[arg(long, env = "OTF_CACHE", default_value_os_t = default_cache())]
    pub cache: PathBuf,
}

impl Setting {
    /// Products of the same kernel by policies that have a private heap: OUT/private-heap/KERNEL.
    pub fn with_private_heap(&self) -> Self {
        let kernel = self.out.file_name().unwrap_or_default();
        Self {
            out: self.out.with_file_name("private-heap").join(kernel),
            ..self.clone()
        }
    }
}

fn default_cache() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    Path::new(&home).join(".cache/otf")
}

/// One compartment's products, read and checked against the lock.
#[derive(Debug)]
pub struct Target {
    /// The lock.
    pub lock: KernelLock,
    /// The bundle.
    pub bundle: PathBuf,
    setting: Setting,
}

impl Target {
    /// Reads OUT/KERNEL/NAME, where NAME is COMPARTMENT or COMPARTMENT@OVERLAY.
    pub fn open(setting: &Setting, name: &str) -> Result<Self, Diagnostic> {
        let folder = setting.out.join(name);
        let lock = folder.join("kernel.lock.yaml");
        let text =
            read(&lock).map_err(|e| e.help("run `otf analyze` for this compartment first"))?;
        let lock: KernelLock =
            yaml::parse(&String::from_utf8_lossy(&text), &lock.display().to_string())?;
        Ok(Self {
            lock,
            bundle: bundle_of(&folder)?,
            setting: setting.clone(),
        })
    }

    /// Boot image.
    pub fn kernel(&self) -> PathBuf {
        self.setting.cache.join(&self.lock.vmlinuz.path)
    }

    /// Folder of the kernel's modules: of a package `lib/modules/RELEASE`, of a kernel that was
    /// built `loadable`, in a folder that the image lies below.
    pub fn stock_modules(&self) -> Result<PathBuf, Diagnostic> {
        let kernel = self.kernel();
        let mut folders = kernel.ancestors().skip(1).flat_map(|folder| {
            let package = folder.join("lib/modules").join(&self.lock.release);
            [package, folder.join("loadable")]
        });
        folders.find(|f| f.is_dir()).ok_or_else(|| {
            let message = format!("{} has no modules above it", kernel.display());
            Diagnostic::error(Code::MissingModule, message)
        })
    }

    /// Stock modules that the compartment and the scripts need, in the order of loading.
    pub fn support(&self) -> Result<Vec<Module>, Diagnostic> {
        self.modules(&self.lock.support)
    }

    /// The compartment's own modules.
    pub fn own_modules(&self) -> Result<Vec<Module>, Diagnostic> {
        self.modules(&self.lock.loadable)
    }

    /// Test modules that show damage.
    pub fn oracles(&self) -> Result<Vec<Module>, Diagnostic> {
        self.modules(&self.lock.oracles)
    }

    fn modules(&self, files: &[Loadable]) -> Result<Vec<Module>, Diagnostic> {
        files
            .iter()
            .map(|module| {
                Ok(Module {
                    name: module.name.clone(),
                    bytes: self.cached(&module.file)?,
                })
            })
            .collect()
    }

    /// A cached file, whose content must be what the lock says.
    fn cached(&self, file: &CachedFile) -> Result<Vec<u8>, Diagnostic> {
        let path = self.setting.cache.join(&file.path);
        let bytes = read(&path)?;
        if format!("{:x}", Sha256::digest(&bytes)) == file.sha256 {
            Ok(bytes)
        } else {
            Err(Diagnostic::error(
                Code::CacheCorrupt,
                format!("{} is not what the lock says", path.display()),
            ))
        }
    }

    /// A guest with the compartment's modules, oracles, `otf-load`, key and bundle, the scripts of
    /// an overlay as `/otf/overlay`, and network tools.
    pub fn guest(&self, overlay: Option<&str>) -> Result<Guest, Diagnostic> {
        let mut first = self.support()?;
        first.extend(self.own_modules()?);
        self.guest_with(overlay, &first)
    }

    /// The same, with other modules to load first.
    pub fn guest_with(&self, overlay: Option<&str>, first: &[Module]) -> Result<Guest, Diagnostic> {
        let mut guest = Guest::new()?;
        guest.network_tools()?;
        guest.modules(first, &self.oracles()?);
        if let Some(overlay) = overlay {
            let scripts = lineage::overlay_folder(&self.setting.root, &self.lock.kernel, overlay);
            guest.copy_folder(&scripts, "/otf/overlay")?;
        }
        guest.copy(&self.setting.load, "/bin/otf-load")?;
        guest.copy(&self.setting.key, "/otf/key.pub")?;
        guest.copy(&self.bundle, "/otf/bundle.otf")?;
        guest.copy(&signature_of(&self.bundle), "/otf/bundle.otf.minisig")?;
        Ok(guest)
    }
}

/// The signature lies beside the bundle.
pub fn signature_of(bundle: &Path) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// Whether a bundle confines, by its name: there are some for other purposes beside it.
fn confines(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let purpose = stem.rsplit_once('.').map_or("", |(_, purpose)| purpose);
    ![bundle::RECORDING, bundle::NAIVE].contains(&purpose)
}

/// The one bundle in a folder that confines.
fn bundle_of(folder: &Path) -> Result<PathBuf, Diagnostic> {
    let unreadable = |e: &dyn std::fmt::Display| {
        Diagnostic::error(
            Code::Environment,
            format!("cannot list {}: {e}", folder.display()),
        )
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| unreadable(&e))? {
        let path = entry.map_err(|e| unreadable(&e))?.path();
        if confines(&path) && path.extension().is_some_and(|e| e == bundle::EXTENSION) {
            found.push(path);
        }
    }
    match found.as_slice() {
        [bundle] => Ok(bundle.clone()),
        _ => Err(Diagnostic::error(
            Code::Environment,
            format!(
                "{} bundles in {}, one is wanted",
                found.len(),
                folder.display()
            ),
        )
        .help("run `otf analyze` for this compartment")),
    }
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    fs::read(path).map_err(|e| {
        Diagnostic::error(
            Code::Environment,
            format!("cannot read {}: {e}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "sch_qfq";

    /// A kernel folder and a cache with one compartment whose only file is `content`, whose lock
    /// wants the content `x`.
    fn setting(folder: &Path, content: &str) -> Setting {
        let own = folder.join(NAME);
        fs::create_dir(&own).unwrap();
        fs::write(folder.join("file"), content).unwrap();
        let hash = format!("{:x}", Sha256::digest("x"));
        let file = format!("{{path: file, sha256: {hash}}}");
        let lock = format!(
            "{{version: 1, kernel: k, compartment: {NAME}, overlay: null, release: r, packages: [],
              vmlinuz: {file}, vmlinux: {{name: vmlinux, file: {file}, build_id: ''}}, modules: [],
              loadable: [{{name: m, file: {file}}}], support: [], oracles: [], source: s,
              bitcode: [], guard: {file}}}"
        );
        fs::write(own.join("kernel.lock.yaml"), lock).unwrap();
        Setting {
            out: folder.to_owned(),
            load: folder.join("load"),
            key: folder.join("key"),
            root: folder.to_owned(),
            cache: folder.to_owned(),
        }
    }

    #[test]
    fn there_must_be_one_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let setting = setting(folder.path(), "x");
        assert!(Target::open(&setting, NAME).is_err());
        let bundle = folder.path().join(NAME).join("a.otf");
        fs::write(&bundle, "").unwrap();
        fs::write(signature_of(&bundle), "").unwrap();
        assert_eq!(Target::open(&setting, NAME).unwrap().bundle, bundle);
        fs::write(folder.path().join(NAME).join("b.otf"), "").unwrap();
        let refused = Target::open(&setting, NAME).unwrap_err();
        assert!(refused.message.starts_with("2 bundles"));
    }

    #[test]
    fn a_cached_file_must_be_the_locked_one() {
        for (content, fine) in [("x", true), ("y", false)] {
            let folder = tempfile::tempdir().unwrap();
            let setting = setting(folder.path(), content);
            fs::write(folder.path().join(NAME).join("a.otf"), "").unwrap();
            let modules = Target::open(&setting, NAME).unwrap().own_modules();
            assert_eq!(
                modules.as_ref().err().map(|e| e.code),
                (!fine).then_some(Code::CacheCorrupt)
            );
        }
    }

    #[test]
    fn a_compartment_that_was_not_analyzed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Target::open(&setting(folder.path(), "x"), "other").unwrap_err();
        assert!(
            refused
                .help
                .is_some_and(|help| help.contains("otf analyze"))
        );
    }
}
