//! The images of a lock: files with DWARF, loadable files, and what must be loaded before them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::Loadable,
};

use crate::{
    cache::io_error,
    elf,
    kernel::{ImageUnits, VMLINUX},
    modules::BuiltOverlay,
    resolve::Resolver,
};

/// A module to load, and the file's content for what it depends on.
pub(crate) struct Module {
    pub loadable: Loadable,
    pub bytes: Vec<u8>,
}

impl Resolver<'_> {
    /// `vmlinux` and modules with code and DWARF, and their compilation units. Modules of the overlay
    /// are those that it builds.
    pub(crate) fn images(
        &self,
        modules: &BTreeSet<String>,
        expected: &BTreeSet<String>,
        overlay: Option<&BuiltOverlay>,
    ) -> Result<BTreeMap<String, ImageUnits>, Diagnostic> {
        let (rebuilt, mut names): (BTreeSet<String>, BTreeSet<String>) = modules
            .iter()
            .cloned()
            .partition(|name| self.inputs.in_overlay(name));
        names.insert(VMLINUX.to_owned());
        let mut images = self.kernel.images(&names, expected)?;
        if let Some(overlay) = overlay {
            for name in rebuilt {
                let file = format!("modules/{name}.ko");
                let image = self.kernel.image(name.clone(), &overlay.product, &file)?;
                images.insert(name, image);
            }
        }
        Ok(images)
    }

    /// Loadable files of the compartment's and the overlay's modules. A stock module must be the
    /// one that its debug file describes.
    pub(crate) fn loadable(
        &self,
        modules: &BTreeSet<String>,
        overlay: Option<&BuiltOverlay>,
        images: &BTreeMap<String, ImageUnits>,
    ) -> Result<Vec<Module>, Diagnostic> {
        let mut names = modules.clone();
        names.extend(self.overlay_modules());
        let mut loadable = Vec::new();
        for name in &names {
            let module = match overlay {
                Some(built) if self.inputs.in_overlay(name) => {
                    let file = format!("loadable/{name}.ko");
                    self.read(Loadable {
                        name: name.clone(),
                        file: self.cache.locked(&built.product, &file)?,
                    })?
                }
                _ => match self.module(name)? {
                    Some(module) => module,
                    None => continue,
                },
            };
            let path = self.cache.path(&module.loadable.file.path);
            let build_id = elf::build_id(&module.bytes, &path)?;
            if let Some(image) = images.get(name)
                && image.image.build_id != build_id
            {
                return Err(Diagnostic::error(
                    Code::BuildIdMismatch,
                    format!(
                        "module {name} has build-id {build_id}, its debug file {}",
                        image.image.build_id
                    ),
                ));
            }
            loadable.push(module);
        }
        in_order(loadable)
    }

    fn read(&self, loadable: Loadable) -> Result<Module, Diagnostic> {
        let path = self.cache.path(&loadable.file.path);
        let bytes = fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
        Ok(Module { loadable, bytes })
    }

    /// A module of the kernel; `None` when it is part of `vmlinux`.
    fn module(&self, name: &str) -> Result<Option<Module>, Diagnostic> {
        let Some(file) = self.kernel.loadable(name)? else {
            return Ok(None);
        };
        let name = name.to_owned();
        self.read(Loadable { name, file }).map(Some)
    }

    /// Modules that must be loaded before: what the overlay's scripts need and what the
    /// compartment's modules depend on, each after what it depends on itself.
    pub(crate) fn support(&self, loadable: &[Module]) -> Result<Vec<Loadable>, Diagnostic> {
        let mut order = Vec::new();
        let mut seen: BTreeSet<String> = loadable.iter().map(|m| m.loadable.name.clone()).collect();
        if let Some((_, overlay)) = &self.inputs.overlay {
            for name in &overlay.needs {
                self.add_support(&name.value, &mut seen, &mut order)?;
            }
        }
        for module in loadable {
            for name in dependencies(&module.bytes, &module.loadable)? {
                self.add_support(&name, &mut seen, &mut order)?;
            }
        }
        Ok(order)
    }

    fn add_support(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Loadable>,
    ) -> Result<(), Diagnostic> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(module) = self.module(name)? else {
            return Ok(());
        };
        for dependency in dependencies(&module.bytes, &module.loadable)? {
            self.add_support(&dependency, seen, order)?;
        }
        order.push(module.loadable);
        Ok(())
    }
}

/// Each after those that it depends on, else by name.
fn in_order(modules: Vec<Module>) -> Result<Vec<Module>, Diagnostic> {
    let mut waiting: BTreeMap<String, (Vec<String>, Module)> = BTreeMap::new();
    for module in modules {
        let needs = dependencies(&module.bytes, &module.loadable)?;
        waiting.insert(module.loadable.name.clone(), (needs, module));
    }
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let free = |(needs, _): &(Vec<String>, Module)| {
            !needs.iter().any(|need| waiting.contains_key(need))
        };
        let next = waiting.iter().find(|(_, entry)| free(entry));
        // depmod refuses cycles, so that there is always one.
        let Some(name) = next.or(waiting.iter().next()).map(|(name, _)| name.clone()) else {
            break;
        };
        order.extend(waiting.remove(&name).map(|(_, module)| module));
    }
    Ok(order)
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
