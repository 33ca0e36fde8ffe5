//! What a request names: modules, files, and the bitcode of these.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::Bitcode,
    yaml::Placed,
};
use rayon::prelude::*;

use crate::{
    bitcode::{ChangedTree, Compiler},
    build,
    cache::Cache,
    inputs,
    kernel::ImageUnits,
    lineage,
    modules::{BITCODE, BuiltOverlay},
    resolve::Resolver,
    units::{self, EVERYTHING, Listed, Unit, Units},
};

/// Modules by name.
pub(crate) struct Named {
    /// The compartment's.
    pub own: BTreeSet<String>,
    /// Others, whose files may be in scope.
    pub scope: BTreeSet<String>,
}

impl Resolver<'_> {
    fn compartment_file(&self) -> String {
        let request = self.request;
        lineage::compartment_file(&request.root, &request.kernel, &request.compartment)
    }

    fn profile_file(&self) -> String {
        let own = &self.request.kernel;
        let said = self.inputs.profile.like.as_ref();
        lineage::profile_file(said.map_or(own, |like| &like.value))
    }

    /// Every module that is named is one of the kernel's or of the overlay's.
    pub(crate) fn modules(&self) -> Result<Named, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut expand = |list: &[Placed<String>], file: &str, into: &mut BTreeSet<String>| {
            for module in list {
                if self.inputs.in_overlay(&module.value) {
                    into.insert(module.value.clone());
                    continue;
                }
                match self.kernel.modules.expand(&module.value) {
                    Ok(names) => into.extend(names),
                    Err(error) => errors.push(error.at(file, module.line, module.column)),
                }
            }
        };
        let (profile, compartment) = (&self.inputs.profile, &self.inputs.compartment);
        let file = self.compartment_file();
        let (mut own, mut scope) = (BTreeSet::new(), BTreeSet::new());
        expand(&compartment.modules, &file, &mut own);
        expand(&profile.scope_modules, &self.profile_file(), &mut scope);
        expand(&compartment.scope_modules, &file, &mut scope);
        if let Some((name, overlay)) = &self.inputs.overlay {
            let file = lineage::overlay_file(&self.request.root, &self.request.kernel, name);
            for module in &overlay.needs {
                if let Err(error) = self.kernel.modules.find(&module.value) {
                    errors.push(error.at(&file, module.line, module.column));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut paths = profile.scope.iter().chain(&compartment.scope);
        if self.kernel.bitcode().is_some() && paths.any(|path| path.value == EVERYTHING) {
            scope.extend(self.kernel.modules.names().map(str::to_owned));
        }
        scope.retain(|name| !own.contains(name));
        Ok(Named { own, scope })
    }

    /// Modules that any compartment of the profile names. Mistakes in the others' files are theirs.
    pub(crate) fn expected(&self) -> BTreeSet<String> {
        let (root, kernel) = (&self.request.root, &self.request.kernel);
        inputs::compartments(root, kernel)
            .iter()
            .filter_map(|name| inputs::compartment(root, kernel, name).ok())
            .flat_map(|c| c.modules.into_iter().chain(c.scope_modules))
            .chain(self.inputs.profile.scope_modules.iter().cloned())
            .filter_map(|module| self.kernel.modules.expand(&module.value).ok())
            .flatten()
            .collect()
    }

    /// The files of the compartment and of the scope. `own` are vmlinux and the compartment's
    /// modules, `around` the modules that scope may name files of.
    pub(crate) fn units(
        &self,
        own: &BTreeMap<String, ImageUnits>,
        around: &BTreeMap<String, ImageUnits>,
    ) -> Result<Vec<Unit>, Vec<Diagnostic>> {
        let units = |images: &BTreeMap<String, ImageUnits>| -> Units {
            images
                .iter()
                .map(|(name, image)| (name.clone(), image.units.clone()))
                .collect()
        };
        let own = units(own);
        let mut all = units(around);
        all.extend(own.clone());
        let (profile, compartment) = (self.profile_file(), self.compartment_file());
        let listed = |paths, file| Listed { paths, file };
        units::select(
            &own,
            &all,
            &listed(&self.inputs.compartment.confined, &compartment),
            &[
                listed(&self.inputs.profile.scope, &profile),
                listed(&self.inputs.compartment.scope, &compartment),
            ],
        )
    }

    /// The bitcode of these files: the build's, or compiled now.
    pub(crate) fn bitcode(
        &self,
        units: &[Unit],
        overlay: Option<&BuiltOverlay>,
    ) -> Result<Vec<Bitcode>, Vec<Diagnostic>> {
        if let Some((product, files)) = self.kernel.bitcode() {
            let cache = self.cache;
            let changed = self.overlay_modules();
            return units
                .par_iter()
                .map(|unit| match overlay {
                    Some(built) if changed.contains(&unit.image) => {
                        recorded(cache, unit, &built.product, BITCODE, &built.bitcode)
                    }
                    _ => recorded(cache, unit, product, build::OUT, files),
                })
                .collect::<Result<_, _>>()
                .map_err(|e| vec![e]);
        }
        let Some(recipe) = &self.inputs.profile.bitcode else {
            let message = "no recipe for bitcode";
            return Err(vec![Diagnostic::error(Code::InvariantBroken, message)]);
        };
        let kernel = self.kernel;
        Compiler {
            cache: self.cache,
            recipe,
            confined_flags: &self.inputs.compartment.flags,
            headers: &kernel.headers,
            source: (self.cache.path(&kernel.source), kernel.source_key.clone()),
            overlay: overlay.map(|built| ChangedTree {
                tree: self.cache.path(&built.product).join("tree"),
                key: built.key.clone(),
                modules: self.overlay_modules(),
            }),
        }
        .compile(units)
    }
}

/// Bitcode that a build has left in a folder of its product.
fn recorded(
    cache: &Cache,
    unit: &Unit,
    product: &str,
    folder: &str,
    files: &BTreeMap<String, String>,
) -> Result<Bitcode, Diagnostic> {
    let Some(file) = files.get(&unit.source) else {
        let message = format!(
            "the build left no bitcode of {}, a part of {}",
            unit.source, unit.image
        );
        return Err(Diagnostic::error(Code::BuildFailed, message));
    };
    Ok(Bitcode {
        source: unit.source.clone(),
        image: unit.image.clone(),
        confined: unit.confined,
        file: cache.locked(product, &format!("{folder}/{file}"))?,
    })
}
