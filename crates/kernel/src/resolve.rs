//! The stage: a request to a lock, step by step, each step's product cached by what went into it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use otf_artifact::{
    FORMAT_VERSION,
    diagnostic::{Code, Diagnostic},
    kernel::{CachedFile, Image, KernelLock, Loadable},
};
use tracing::info;

use crate::{
    apt::{Apt, Archive},
    bitcode::Compiler,
    cache::{Cache, io_error, key},
    compartment::Compartment,
    elf::{self, ImageFacts},
    inputs,
    modules::{Builder, BuiltOverlay, GUARD_MODULE},
    overlay::Overlay,
    packages::{Packages, identity},
    profile::Profile,
    trees::{StockModules, Trees, read_module},
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
struct Inputs {
    profile: Profile,
    compartment: Compartment,
    overlay: Option<(String, Overlay)>,
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

    fn in_overlay(&self, module: &str) -> bool {
        self.overlay
            .iter()
            .any(|(_, o)| o.modules.iter().any(|m| m.name.value == module))
    }
}

struct Resolver<'a> {
    request: &'a Request,
    inputs: &'a Inputs,
    cache: &'a Cache,
    trees: &'a Trees<'a>,
}

/// A module to load, and the file's content for what it depends on.
struct Module {
    loadable: Loadable,
    bytes: Vec<u8>,
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
            overlay: overlay
                .as_ref()
                .map(|o| (self.cache.path(&o.product).join("tree"), o.key.clone())),
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

    /// `vmlinux` and the compartment's modules with code and DWARF, and their compilation units.
    #[expect(clippy::type_complexity, reason = "two tables about the same images")]
    fn images(
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
    fn loadable(
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
        if let Some((_, overlay)) = &self.inputs.overlay {
            names.extend(overlay.modules.iter().map(|m| m.name.value.as_str()));
        }
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
    fn support(
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

/// Names in the module's `depends`, sorted as they are written there.
fn dependencies(bytes: &[u8], module: &Loadable) -> Result<Vec<String>, Diagnostic> {
    let depends = elf::modinfo(bytes, module.file.path.as_ref(), "depends")?;
    Ok(depends
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect())
}
