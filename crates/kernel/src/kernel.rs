//! The kernel of a profile in the cache: the same questions to one taken as it is and to one built here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::{CachedFile, Image, LockedPackage},
};

use crate::{
    build::{self, BuiltImage, Contents},
    cache::{Cache, io_error, key},
    elf::{self, ImageFacts},
    listing::ModuleList,
    packages::{self, PackageSet, identity},
    trees::{Headers, Trees, read_module},
};

/// An image and the C and assembler files that it is made of.
#[derive(Clone, Debug)]
pub struct ImageUnits {
    /// Image.
    pub image: Image,
    /// Names relative to the kernel tree.
    pub units: BTreeSet<String>,
}

/// A kernel.
pub struct Kernel<'a> {
    /// `uname -r`.
    pub release: String,
    /// Packages that it comes from.
    pub packages: Vec<LockedPackage>,
    /// Boot image.
    pub vmlinuz: CachedFile,
    /// What modules are built against.
    pub headers: Headers,
    /// Source tree, relative to the cache.
    pub source: String,
    /// Names the source.
    pub source_key: String,
    /// Modules.
    pub modules: ModuleList,
    cache: &'a Cache,
    origin: Origin<'a>,
}

enum Origin<'a> {
    Stock(&'a Trees<'a>),
    Built { product: String, contents: Contents },
}

impl<'a> Kernel<'a> {
    /// A kernel that is taken as the distribution made it.
    pub fn stock(cache: &'a Cache, trees: &'a Trees<'a>) -> Result<Self, Diagnostic> {
        let set: &PackageSet = trees.set;
        let image = trees.image()?;
        Ok(Self {
            release: set.release.clone(),
            packages: packages::locked(&set.all()),
            vmlinuz: cache.locked(&image, &format!("boot/vmlinuz-{}", set.release))?,
            headers: trees.headers()?,
            source: trees.source()?,
            source_key: set.source.sha256.clone(),
            modules: ModuleList::list(&cache.path(&image), &set.release)?,
            cache,
            origin: Origin::Stock(trees),
        })
    }

    /// A kernel built here, from the source package of the set.
    pub fn built(
        cache: &'a Cache,
        set: &PackageSet,
        source: String,
        product: String,
        compiler: &str,
    ) -> Result<Self, Diagnostic> {
        let root = cache.path(&product);
        let contents = Contents::read(&root)?;
        let modules = contents.images.iter().filter(|(name, _)| *name != VMLINUX);
        let files = modules
            .map(|(name, image)| (name.clone(), root.join(&image.file)))
            .collect::<BTreeMap<String, PathBuf>>();
        Ok(Self {
            release: contents.release.clone(),
            packages: packages::locked(&set.source_only()),
            vmlinuz: cache.locked(&product, build::BOOT_IMAGE)?,
            headers: Headers {
                flavour: root.join(build::OUT),
                common: root.clone(),
                // Modules of such a kernel are built through its wrapper.
                key: format!("{product} recorded"),
                built_with: Some(compiler.to_owned()),
            },
            source,
            source_key: set.source.sha256.clone(),
            modules: ModuleList::of(files, contents.builtin.clone()),
            cache,
            origin: Origin::Built { product, contents },
        })
    }

    /// Images with code and DWARF by name, which is [`VMLINUX`] or a module's. `expected` are those
    /// that other requests will want.
    pub fn images(
        &self,
        names: &BTreeSet<String>,
        expected: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, ImageUnits>, Diagnostic> {
        match &self.origin {
            Origin::Stock(trees) => trees
                .debug(names, expected)?
                .into_iter()
                .map(|(name, (product, file))| {
                    Ok((name.clone(), self.image(name, &product, &file)?))
                })
                .collect(),
            Origin::Built { product, contents } => names
                .iter()
                .filter_map(|name| contents.images.get_key_value(name))
                .map(|(name, built)| {
                    Ok((name.clone(), built_image(self.cache, product, name, built)?))
                })
                .collect(),
        }
    }

    /// An image that is a file of a product; its DWARF says what it is made of.
    pub fn image(&self, name: String, product: &str, file: &str) -> Result<ImageUnits, Diagnostic> {
        let file = self.cache.locked(product, file)?;
        let facts = self.facts(&file)?;
        Ok(ImageUnits {
            image: Image {
                name,
                file,
                build_id: facts.build_id,
            },
            units: facts.units,
        })
    }

    /// Reading the DWARF of vmlinux takes a while, so what was read is kept by hash.
    fn facts(&self, image: &CachedFile) -> Result<ImageFacts, Diagnostic> {
        let path = self
            .cache
            .path(&format!("facts/{}.json", key([&image.sha256])));
        if let Some(facts) = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        {
            return Ok(facts);
        }
        let facts = elf::image_facts(&self.cache.path(&image.path))?;
        self.cache.write_json(&path, &facts)?;
        Ok(facts)
    }

    /// A module that can be loaded, decompressed; `None` when it is part of `vmlinux`.
    pub fn loadable(&self, name: &str) -> Result<Option<CachedFile>, Diagnostic> {
        let Some(path) = self.modules.find(name)? else {
            return Ok(None);
        };
        let file = format!("{name}.ko");
        let found = match &self.origin {
            Origin::Stock(trees) => {
                let product = format!("stock/{}/{name}", identity(&trees.set.image));
                self.cache.product(&product, |work| {
                    let target = work.join(&file);
                    fs::write(&target, read_module(path)?)
                        .map_err(|e| io_error("write", &target, &e))
                })?;
                self.cache.locked(&product, &file)
            }
            Origin::Built { product, .. } => self
                .cache
                .locked(product, &format!("{}/{file}", build::LOADABLE)),
        };
        found.map(Some)
    }

    /// Of a kernel built here: the product, and its files' bitcode.
    pub fn bitcode(&self) -> Option<(&str, &BTreeMap<String, String>)> {
        match &self.origin {
            Origin::Stock(_) => None,
            Origin::Built { product, contents } => Some((product, &contents.bitcode)),
        }
    }

    /// Of a kernel built here: the list of commands that made its objects.
    pub fn commands(&self) -> Result<Option<CachedFile>, Diagnostic> {
        self.bitcode()
            .map(|(product, _)| self.cache.locked(product, build::COMMANDS))
            .transpose()
    }

    /// The image of a name that has none is a bug of ours.
    pub fn lacking(name: &str) -> Diagnostic {
        Diagnostic::error(Code::InvariantBroken, format!("no image {name}"))
    }
}

/// Name of the image that is no module.
pub const VMLINUX: &str = "vmlinux";

fn built_image(
    cache: &Cache,
    product: &str,
    name: &str,
    built: &BuiltImage,
) -> Result<ImageUnits, Diagnostic> {
    Ok(ImageUnits {
        image: Image {
            name: name.to_owned(),
            file: cache.locked(product, &built.file)?,
            build_id: built.build_id.clone(),
        },
        units: built.units.clone(),
    })
}
