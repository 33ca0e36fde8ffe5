//! The images of a lock: files with DWARF, loadable files, and what must be loaded before them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::{CachedFile, Image, Loadable},
};

use crate::{
    cache::{io_error, key},
    elf::{self, ImageFacts},
    modules::BuiltOverlay,
    packages::identity,
    resolve::Resolver,
    trees::{StockModules, read_module},
};

/// A module to load, and the file's content for what it depends on.
pub(crate) struct Module {
    pub loadable: Loadable,
    pub bytes: Vec<u8>,
}

impl Resolver<'_> {
    /// `vmlinux` and the compartment's modules with code and DWARF, and their compilation units.
    #[expect(clippy::type_complexity, reason = "two tables about the same images")]
    pub(crate) fn images(
        &self,
        overlay: Option<&BuiltOverlay>,
    ) -> Result<(Vec<Image>, BTreeMap<String, BTreeSet<String>>), Diagnostic> {
        let names: BTreeSet<String> = self
            .inputs
            .compartment
            .modules
            .iter()
            .map(|m| m.value.clone())
            .collect();
        let mut from_package: BTreeSet<String> = names
            .iter()
            .filter(|name| !self.inputs.in_overlay(name))
            .cloned()
            .collect();
        from_package.insert("vmlinux".to_owned());
        let mut places = self.trees.debug(&from_package)?;
        if let Some(overlay) = overlay {
            for name in names.iter().filter(|name| self.inputs.in_overlay(name)) {
                let place = (overlay.product.clone(), format!("modules/{name}.ko"));
                places.insert(name.clone(), place);
            }
        }
        let mut images = Vec::new();
        let mut units = BTreeMap::new();
        for (name, (product, file)) in places {
            let file = self.cache.locked(&product, &file)?;
            let facts = self.facts(&file)?;
            images.push(Image {
                name: name.clone(),
                file,
                build_id: facts.build_id,
            });
            units.insert(name, facts.units);
        }
        Ok((images, units))
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

    /// Loadable files of the compartment's and the overlay's modules. A stock module must be the
    /// one that its debug file describes.
    pub(crate) fn loadable(
        &self,
        stock: &StockModules,
        overlay: Option<&BuiltOverlay>,
        images: &[Image],
    ) -> Result<Vec<Module>, Diagnostic> {
        let mut names: BTreeSet<&str> = self
            .inputs
            .compartment
            .modules
            .iter()
            .map(|m| m.value.as_str())
            .collect();
        let rebuilt = self.overlay_modules();
        names.extend(rebuilt.iter().map(String::as_str));
        let mut loadable = Vec::new();
        for name in names {
            let module = match overlay {
                Some(built) if self.inputs.in_overlay(name) => {
                    self.module(name, &built.product, &format!("loadable/{name}.ko"))?
                }
                _ => match self.stock_module(stock, name)? {
                    Some(module) => module,
                    None => continue,
                },
            };
            let path = self.cache.path(&module.loadable.file.path);
            let build_id = elf::build_id(&module.bytes, &path)?;
            if let Some(image) = images.iter().find(|i| i.name == name)
                && image.build_id != build_id
            {
                return Err(Diagnostic::error(
                    Code::BuildIdMismatch,
                    format!(
                        "module {name} has build-id {build_id}, its debug file {}",
                        image.build_id
                    ),
                ));
            }
            loadable.push(module);
        }
        Ok(loadable)
    }

    fn module(&self, name: &str, product: &str, file: &str) -> Result<Module, Diagnostic> {
        let file = self.cache.locked(product, file)?;
        let path = self.cache.path(&file.path);
        Ok(Module {
            bytes: fs::read(&path).map_err(|e| io_error("read", &path, &e))?,
            loadable: Loadable {
                name: name.to_owned(),
                file,
            },
        })
    }

    /// The decompressed stock module; `None` when it is part of `vmlinux`.
    fn stock_module(&self, stock: &StockModules, name: &str) -> Result<Option<Module>, Diagnostic> {
        let Some(path) = stock.find(name)? else {
            return Ok(None);
        };
        let product = format!("stock/{}/{name}", identity(&self.trees.set.image));
        let file = format!("{name}.ko");
        self.cache.product(&product, |work| {
            let target = work.join(&file);
            fs::write(&target, read_module(path)?).map_err(|e| io_error("write", &target, &e))
        })?;
        self.module(name, &product, &file).map(Some)
    }

    /// Stock modules that must be loaded before: what the compartment's modules depend on and what
    /// the overlay's scripts need, each after what it depends on itself.
    pub(crate) fn support(
        &self,
        stock: &StockModules,
        loadable: &[Module],
    ) -> Result<Vec<Loadable>, Diagnostic> {
        let mut order = Vec::new();
        let mut seen: BTreeSet<String> = loadable.iter().map(|m| m.loadable.name.clone()).collect();
        for module in loadable {
            for name in dependencies(&module.bytes, &module.loadable)? {
                self.add_support(stock, &name, &mut seen, &mut order)?;
            }
        }
        if let Some((_, overlay)) = &self.inputs.overlay {
            for name in &overlay.needs {
                self.add_support(stock, &name.value, &mut seen, &mut order)?;
            }
        }
        Ok(order)
    }

    fn add_support(
        &self,
        stock: &StockModules,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Loadable>,
    ) -> Result<(), Diagnostic> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(module) = self.stock_module(stock, name)? else {
            return Ok(());
        };
        for dependency in dependencies(&module.bytes, &module.loadable)? {
            self.add_support(stock, &dependency, seen, order)?;
        }
        order.push(module.loadable);
        Ok(())
    }
}

/// Names in the module's `depends`, sorted as they are written there.
fn dependencies(bytes: &[u8], module: &Loadable) -> Result<Vec<String>, Diagnostic> {
    let depends = elf::modinfo(bytes, module.file.path.as_ref(), "depends")?;
    Ok(depends
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect())
}
