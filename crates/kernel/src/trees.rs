//! Packages become trees and files in the cache: image, headers, source, and the needed debug files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use liblzma::read::XzDecoder;
use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    yaml,
};
use tracing::info;

use crate::{
    cache::{Cache, io_error, key},
    deb::{self, Walk},
    packages::{PackageSet, Packages, identity},
};

/// Unpacked packages of one kernel.
pub struct Trees<'a> {
    /// Packages.
    pub packages: &'a Packages<'a>,
    /// Which ones.
    pub set: &'a PackageSet,
}

/// The two trees that external modules and bitcode are built against.
#[derive(Clone, Debug)]
pub struct Headers {
    /// The flavour's tree: configuration and generated files; `make -C` goes here.
    pub flavour: PathBuf,
    /// The tree that flavours have in common.
    pub common: PathBuf,
    /// Names what the trees were made from.
    pub key: String,
}

impl Trees<'_> {
    fn cache(&self) -> &Cache {
        self.packages.cache
    }

    /// Boot image and modules: name of the product, which has `boot/` and `lib/modules/`.
    pub fn image(&self) -> Result<String, Diagnostic> {
        let record = &self.set.image;
        let product = format!("image/{}", identity(record));
        self.cache().product(&product, |work| {
            let package = self.packages.fetch(record)?;
            info!("unpacking {}", record.name);
            deb::unpack(&package, &record.name, work, |path| {
                let wanted = ["boot", "lib/modules", "usr/lib/modules"]
                    .iter()
                    .any(|dir| path.starts_with(dir));
                // /lib and /usr/lib are the same place on a running system.
                wanted.then(|| path.strip_prefix("usr").unwrap_or(path).to_owned())
            })
        })?;
        Ok(product)
    }

    /// The headers packages as one tree that works from here instead of from /usr/src.
    pub fn headers(&self) -> Result<Headers, Diagnostic> {
        let key = key(self.set.headers.iter().map(|r| &r.sha256));
        let product = format!("headers/{}-{key}", self.set.release);
        let flavour = format!("usr/src/linux-headers-{}", self.set.release);
        let root = self.cache().product(&product, |work| {
            for record in &self.set.headers {
                let package = self.packages.fetch(record)?;
                info!("unpacking {}", record.name);
                deb::unpack(&package, &record.name, work, |path| {
                    Some(path.to_owned()).filter(|p| p.starts_with("usr"))
                })?;
            }
            let makefile = work.join(&flavour).join("Makefile");
            let edit = || -> io::Result<()> {
                let text = fs::read_to_string(&makefile)?;
                fs::write(&makefile, text.replace("/usr/src/", "../"))
            };
            edit().map_err(|e| io_error("adapt", &makefile, &e))
        })?;
        Ok(Headers {
            flavour: root.join(flavour),
            common: root.join(format!("usr/src/linux-headers-{}-common", self.set.base)),
            key,
        })
    }

    /// The source tree: path of its top relative to the cache.
    pub fn source(&self) -> Result<String, Diagnostic> {
        let record = &self.set.source;
        let product = format!("source/{}", identity(record));
        self.cache().product(&product, |work| {
            let package = self.packages.fetch(record)?;
            info!("unpacking {}", record.name);
            let archive = format!("usr/src/{}.tar.xz", record.name);
            let mut found = false;
            deb::walk(&package, &record.name, |path, entry| {
                if path != Path::new(&archive) {
                    return Ok(Walk::On);
                }
                found = true;
                deb::unpack_nested(entry, work).map(|()| Walk::Done)
            })?;
            if found && work.join(&record.name).is_dir() {
                Ok(())
            } else {
                Err(Diagnostic::error(
                    Code::PackageGone,
                    format!("{} {} holds no {archive}", record.name, record.version),
                ))
            }
        })?;
        Ok(format!("{product}/{}", record.name))
    }

    /// Debug files with code and DWARF: products by image name (`vmlinux` or a module), each with
    /// one file of that name. One pass over the package for all that are missing.
    pub fn debug(
        &self,
        images: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, (String, String)>, Diagnostic> {
        let record = &self.set.debug;
        let folder = format!("debug/{}", identity(record));
        let mut products = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for image in images {
            let product = format!("{folder}/{image}");
            if !self.cache().path(&product).exists() {
                missing.insert(image.as_str());
            }
            products.insert(image.clone(), (product, debug_file(image)));
        }
        if missing.is_empty() {
            return Ok(products);
        }
        let package = self.packages.fetch(record)?;
        info!(
            "reading {} from {}",
            missing.iter().copied().collect::<Vec<_>>().join(", "),
            record.name
        );
        let scratch = self.cache().scratch()?;
        let vmlinux = format!("vmlinux-{}", self.set.release);
        let mut found = Vec::new();
        deb::walk(
            &package,
            &format!("reading {}", record.name),
            |path, entry| {
                let name = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .unwrap_or_default();
                let image = if path.starts_with("usr/lib/debug/boot") && name == vmlinux {
                    "vmlinux".to_owned()
                } else if let Some(module) =
                    name.strip_suffix(".ko").or(name.strip_suffix(".ko.debug"))
                {
                    module.replace('-', "_")
                } else {
                    return Ok(Walk::On);
                };
                if !entry.header().entry_type().is_file() || !missing.remove(image.as_str()) {
                    return Ok(Walk::On);
                }
                let work = scratch.path().join(&image);
                fs::create_dir(&work)?;
                io::copy(entry, &mut fs::File::create(work.join(debug_file(&image)))?)?;
                found.push(image);
                Ok(if missing.is_empty() {
                    Walk::Done
                } else {
                    Walk::On
                })
            },
        )?;
        for image in &found {
            self.cache()
                .publish(&format!("{folder}/{image}"), &scratch.path().join(image))?;
        }
        match missing.first() {
            None => Ok(products),
            Some(image) => Err(Diagnostic::error(
                Code::MissingModule,
                format!("{} has no debug file of {image}", record.name),
            )),
        }
    }
}

fn debug_file(image: &str) -> String {
    if image == "vmlinux" {
        image.to_owned()
    } else {
        format!("{image}.ko")
    }
}

/// The stock modules of an image, by the name that lsmod shows.
pub struct StockModules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl StockModules {
    /// Lists what is below `lib/modules/RELEASE` of an unpacked image.
    pub fn list(image: &Path, release: &str) -> Result<Self, Diagnostic> {
        let root = image.join("lib/modules").join(release);
        let mut files = BTreeMap::new();
        let mut folders = vec![root.join("kernel")];
        while let Some(folder) = folders.pop() {
            let listing = fs::read_dir(&folder).map_err(|e| io_error("read", &folder, &e))?;
            for entry in listing {
                let entry = entry.map_err(|e| io_error("read", &folder, &e))?;
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        let list = root.join("modules.builtin");
        let builtin = fs::read_to_string(&list)
            .map_err(|e| io_error("read", &list, &e))?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// The module's file; `None` when it is part of `vmlinux`.
    pub fn find(&self, name: &str) -> Result<Option<&Path>, Diagnostic> {
        if let Some(path) = self.files.get(name) {
            return Ok(Some(path));
        }
        if self.builtin.contains(name) {
            return Ok(None);
        }
        let error = Diagnostic::error(
            Code::MissingModule,
            format!("the kernel has no module `{name}`"),
        );
        let start: String = name.chars().take(3).collect();
        let near = self
            .files
            .keys()
            .map(String::as_str)
            .filter(|n| n.starts_with(&start));
        Err(
            match yaml::suggest(name, "modules with such a name", near) {
                Some(help) => error.help(help),
                None => error.help("names are those of lsmod, without .ko"),
            },
        )
    }
}

/// `net/sched/sch_qfq.ko.xz` is `sch_qfq`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once('.')?;
    matches!(rest, "ko" | "ko.xz").then(|| name.replace('-', "_"))
}

/// A module file's bytes, decompressed.
pub fn read_module(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let bytes = fs::read(path).map_err(|e| io_error("read", path, &e))?;
    if path.extension().is_none_or(|e| e != "xz") {
        return Ok(bytes);
    }
    let mut module = Vec::new();
    XzDecoder::new_multi_decoder(bytes.as_slice())
        .read_to_end(&mut module)
        .map_err(|e| io_error("decompress", path, &e))?;
    Ok(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_named_as_in_lsmod() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lib/modules/r");
        fs::create_dir_all(root.join("kernel/net/sched")).unwrap();
        fs::write(root.join("kernel/net/sched/sch-qfq.ko.xz"), "").unwrap();
        fs::write(root.join("kernel/net/sched/README"), "").unwrap();
        fs::write(root.join("modules.builtin"), "kernel/lib/crc-itu.ko\n").unwrap();
        let modules = StockModules::list(dir.path(), "r").unwrap();
        assert!(modules.find("sch_qfq").unwrap().is_some());
        assert!(modules.find("crc_itu").unwrap().is_none());
        let error = modules.find("sch_qfk").unwrap_err();
        assert_eq!(error.code, Code::MissingModule);
        assert!(error.help.unwrap().contains("did you mean `sch_qfq`?"));
    }
}
