//! The stage: a request to a lock, step by step, each step's product cached by what went into it.

use std::{collections::BTreeSet, path::PathBuf};

use otf_artifact::{
    FORMAT_VERSION,
    diagnostic::{Code, Diagnostic},
    kernel::{Image, KernelLock, Loadable},
};
use tracing::info;

use crate::{
    apt::{Apt, Archive},
    bitcode::{ChangedTree, Compiler},
    cache::{Cache, io_error},
    compartment::Compartment,
    inputs,
    modules::{Builder, GUARD_MODULE},
    overlay::Overlay,
    packages::Packages,
    profile::Profile,
    trees::{StockModules, Trees},
    units::{self, Listed},
};

/// What to resolve.
#[derive(Clone, Debug)]
pub struct Request {
    /// Root of the repository: `kernels/` and the sources of guard and ABI are below it.
    pub root: PathBuf,
    /// `$OTF_CACHE`; made when it does not exist.
    pub cache: PathBuf,
    /// Kernel profile, `debian-6.12`.
    pub kernel: String,
    /// Compartment, `sch_qfq`.
    pub compartment: String,
    /// Overlay; the compartment may name one itself.
    pub overlay: Option<String>,
}

/// Resolves with this machine's apt.
pub fn resolve(request: &Request) -> Result<KernelLock, Vec<Diagnostic>> {
    resolve_from(request, &Apt)
}

/// Resolves with packages of any archive.
pub fn resolve_from(
    request: &Request,
    archive: &dyn Archive,
) -> Result<KernelLock, Vec<Diagnostic>> {
    // Tools run in other folders.
    let root = request
        .root
        .canonicalize()
        .map_err(|e| vec![io_error("find", &request.root, &e)])?;
    let request = &Request {
        root,
        ..request.clone()
    };
    let inputs = Inputs::read(request).map_err(|e| vec![e])?;
    let cache = Cache::open(&request.cache).map_err(|e| vec![e])?;
    let packages = Packages {
        archive,
        cache: &cache,
        kernel: &request.kernel,
    };
    let set = packages
        .settle(&inputs.profile.archive)
        .map_err(|e| vec![e])?;
    info!("kernel {}", set.release);
    let trees = Trees {
        packages: &packages,
        set: &set,
    };
    Resolver {
        request,
        inputs: &inputs,
        cache: &cache,
        trees: &trees,
    }
    .lock()
}

/// The user's files of one request.
pub(crate) struct Inputs {
    pub(crate) profile: Profile,
    pub(crate) compartment: Compartment,
    pub(crate) overlay: Option<(String, Overlay)>,
}

impl Inputs {
    fn read(request: &Request) -> Result<Self, Diagnostic> {
        let profile = inputs::profile(&request.root, &request.kernel)?;
        let compartment =
            inputs::compartment(&request.root, &request.kernel, &request.compartment)?;
        let own = compartment.overlay.as_ref().map(|o| o.value.clone());
        let overlay = request
            .overlay
            .clone()
            .or(own)
            .map(|name| {
                let overlay = inputs::overlay(&request.root, &request.kernel, &name)?;
                Ok((name, overlay))
            })
            .transpose()?;
        if let Some((name, overlay)) = &overlay {
            let builds = |module: &str| overlay.modules.iter().any(|m| m.name.value == module);
            if !compartment.modules.iter().any(|m| builds(&m.value)) {
                return Err(Diagnostic::error(
                    Code::UnknownOverlay,
                    format!(
                        "overlay `{name}` builds no module of compartment `{}`",
                        request.compartment
                    ),
                ));
            }
        }
        Ok(Self {
            profile,
            compartment,
            overlay,
        })
    }

    /// Whether the overlay builds this module.
    pub(crate) fn in_overlay(&self, module: &str) -> bool {
        self.overlay
            .iter()
            .any(|(_, o)| o.modules.iter().any(|m| m.name.value == module))
    }
}

/// One request while it is resolved.
pub(crate) struct Resolver<'a> {
    pub(crate) request: &'a Request,
    pub(crate) inputs: &'a Inputs,
    pub(crate) cache: &'a Cache,
    pub(crate) trees: &'a Trees<'a>,
}

impl Resolver<'_> {
    fn lock(&self) -> Result<KernelLock, Vec<Diagnostic>> {
        let one = |e: Diagnostic| vec![e];
        let set = self.trees.set;
        let image = self.trees.image().map_err(one)?;
        let stock = StockModules::list(&self.cache.path(&image), &set.release).map_err(one)?;
        self.modules_exist(&stock)?;
        let headers = self.trees.headers().map_err(one)?;
        let source = self.trees.source().map_err(one)?;
        let builder = Builder {
            cache: self.cache,
            headers: &headers,
            root: &self.request.root,
            kernel: &self.request.kernel,
        };
        let overlay = self
            .inputs
            .overlay
            .as_ref()
            .map(|(name, overlay)| {
                builder.overlay(name, overlay, &self.cache.path(&source), &set.source.sha256)
            })
            .transpose()
            .map_err(one)?;

        let (images, facts) = self.images(overlay.as_ref()).map_err(one)?;
        let loadable = self
            .loadable(&stock, overlay.as_ref(), &images)
            .map_err(one)?;
        let compartment_file =
            inputs::compartment_file(&self.request.kernel, &self.request.compartment);
        let units = units::select(
            &facts,
            &Listed {
                paths: &self.inputs.compartment.confined,
                file: &compartment_file,
            },
            &Listed {
                paths: &self.inputs.profile.scope,
                file: &format!("kernels/{}/kernel.yaml", self.request.kernel),
            },
        )?;
        let bitcode = Compiler {
            cache: self.cache,
            recipe: &self.inputs.profile.bitcode,
            confined_flags: &self.inputs.compartment.flags,
            headers: &headers,
            source: (self.cache.path(&source), set.source.sha256.clone()),
            overlay: overlay.as_ref().map(|built| ChangedTree {
                tree: self.cache.path(&built.product).join("tree"),
                key: built.key.clone(),
                modules: self.overlay_modules(),
            }),
        }
        .compile(&units)?;

        let guard = builder.guard().map_err(one)?;
        let (vmlinux, modules): (Vec<Image>, Vec<Image>) =
            images.into_iter().partition(|i| i.name == "vmlinux");
        Ok(KernelLock {
            version: FORMAT_VERSION,
            kernel: self.request.kernel.clone(),
            compartment: self.request.compartment.clone(),
            overlay: self.inputs.overlay.as_ref().map(|(name, _)| name.clone()),
            release: set.release.clone(),
            packages: set.locked(),
            vmlinuz: self
                .cache
                .locked(&image, &format!("boot/vmlinuz-{}", set.release))
                .map_err(one)?,
            vmlinux: vmlinux
                .into_iter()
                .next()
                .ok_or_else(|| vec![Diagnostic::error(Code::InvariantBroken, "no vmlinux")])?,
            modules,
            support: self.support(&stock, &loadable).map_err(one)?,
            loadable: loadable.into_iter().map(|m| m.loadable).collect(),
            oracles: self.oracles(&builder).map_err(one)?,
            source,
            bitcode,
            guard: self
                .cache
                .locked(&guard, &format!("{GUARD_MODULE}.ko"))
                .map_err(one)?,
        })
    }

    /// Modules that the overlay builds.
    pub(crate) fn overlay_modules(&self) -> BTreeSet<String> {
        let overlays = self.inputs.overlay.iter();
        overlays
            .flat_map(|(_, o)| o.modules.iter().map(|m| m.name.value.clone()))
            .collect()
    }

    /// Every module that is named is one of the kernel's or of the overlay's.
    fn modules_exist(&self, stock: &StockModules) -> Result<(), Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let file = inputs::compartment_file(&self.request.kernel, &self.request.compartment);
        for module in &self.inputs.compartment.modules {
            if self.inputs.in_overlay(&module.value) {
                continue;
            }
            match stock.find(&module.value) {
                Ok(Some(_)) => {}
                Ok(None) => errors.push(
                    module
                        .error(
                            Code::MissingModule,
                            &file,
                            format!("`{module}` is part of vmlinux, no module"),
                        )
                        .help("leave it out of `modules` and name its files under `confined`"),
                ),
                Err(error) => errors.push(error.at(&file, module.line, module.column)),
            }
        }
        if let Some((name, overlay)) = &self.inputs.overlay {
            let file = inputs::overlay_file(&self.request.kernel, name);
            for module in &overlay.needs {
                if let Err(error) = stock.find(&module.value) {
                    errors.push(error.at(&file, module.line, module.column));
                }
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    fn oracles(&self, builder: &Builder<'_>) -> Result<Vec<Loadable>, Diagnostic> {
        let names: BTreeSet<String> = self
            .inputs
            .overlay
            .iter()
            .flat_map(|(_, o)| o.oracles.iter().map(|name| name.value.clone()))
            .collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let product = builder.oracles(&names)?;
        names
            .into_iter()
            .map(|name| {
                let file = self.cache.locked(&product, &format!("{name}.ko"))?;
                Ok(Loadable { name, file })
            })
            .collect()
    }
}
