//! Packages become trees and files in the cache: image, headers, source, and the needed debug files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use liblzma::read::XzDecoder;
use otf_artifact::diagnostic::{Code, Diagnostic};
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
    /// For a kernel that was built here, its compiler: modules leave their bitcode too.
    pub built_with: Option<String>,
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
            built_with: None,
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
    /// one file of that name. A pass over the package takes a minute or two, so that one that is
    /// needed keeps the files of `expected` as well, for later requests.
    pub fn debug(
        &self,
        images: &BTreeSet<String>,
        expected: &BTreeSet<String>,
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
        let lacks = |image: &&String| !self.cache().path(&format!("{folder}/{image}")).exists();
        missing.extend(expected.iter().filter(lacks).map(String::as_str));
        let package = self.packages.fetch(record)?;
        info!("reading {} files from {}", missing.len(), record.name);
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
        match missing.iter().find(|image| images.contains(**image)) {
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

/// The way from one absolute folder to another; `.` when they are the same.
pub fn relative(from: &Path, to: &Path) -> String {
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = from.components().skip(common).map(|_| "..".to_owned());
    let down = to
        .components()
        .skip(common)
        .map(|c| c.as_os_str().to_string_lossy().into_owned());
    let steps: Vec<String> = up.chain(down).collect();
    if steps.is_empty() {
        ".".to_owned()
    } else {
        steps.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_between_folders() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/c/s/linux", "/c/s/linux"), ".");
        assert_eq!(way("/c/s/linux", "/c/h/x"), "../../h/x");
        assert_eq!(way("/c/o/tree", "/c"), "../..");
    }
}
