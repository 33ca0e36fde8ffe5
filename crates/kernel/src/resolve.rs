//! The stage: a request to a lock, step by step, each step's product cached by what went into it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use otf_artifact::{
    FORMAT_VERSION,
    diagnostic::{Code, Diagnostic},
    kernel::{Bitcode, ENTRY_POINT, GUARD_SINCE, Image, KernelLock, Loadable, version},
};
use tracing::info;

use crate::{
    apt::{Apt, Archive},
    build,
    cache::{Cache, io_error},
    compartment::Compartment,
    includes, inputs,
    kernel::{Kernel, VMLINUX},
    lineage,
    modules::{Builder, GUARD_MODULE},
    overlay::Overlay,
    packages::{PackageSet, Packages},
    profile::{self, Profile},
    trees::Trees,
};

/// The configuration of a kernel, relative to its headers.
const CONFIG: &str = "include/config/auto.conf";

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
    let one = |e: Diagnostic| vec![e];
    let inputs = Inputs::read(request).map_err(one)?;
    let cache = Cache::open(&request.cache).map_err(one)?;
    let packages = Packages {
        archive,
        cache: &cache,
        kernel: inputs.packages_of(&request.kernel),
        purpose: &request.kernel,
    };
    let needed = match inputs.profile.build {
        None => PackageSet::all,
        Some(_) => PackageSet::source_only,
    };
    let set = packages.settle(&inputs.archive, needed).map_err(one)?;
    let trees = Trees {
        packages: &packages,
        set: &set,
    };
    let kernel = match &inputs.profile.build {
        None => Kernel::stock(&cache, &trees).map_err(one)?,
        Some(recipe) => built(request, &inputs.profile, recipe, &cache, &trees)?,
    };
    info!("kernel {}", kernel.release);
    Resolver {
        request,
        inputs: &inputs,
        cache: &cache,
        kernel: &kernel,
    }
    .lock()
}

/// The kernel of a profile that says how to build it.
fn built<'a>(
    request: &Request,
    profile: &Profile,
    recipe: &profile::Build,
    cache: &'a Cache,
    trees: &Trees<'_>,
) -> Result<Kernel<'a>, Vec<Diagnostic>> {
    let one = |e: Diagnostic| vec![e];
    let source = trees.source().map_err(one)?;
    let read = |file: String| {
        let path = request.root.join(&file);
        let text = fs::read_to_string(&path).map_err(|e| io_error("read", &path, &e))?;
        Ok(build::FragmentFile { file, text })
    };
    let fragments: Vec<_> = inputs::fragments(&request.kernel, profile)
        .into_iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(one)?;
    let product = build::Recipe {
        kernel: &request.kernel,
        source: &source,
        source_key: &trees.set.source.sha256,
        compiler: &recipe.compiler.value,
        base: recipe.base.target(),
        fragments: &fragments,
    }
    .product(cache)?;
    Kernel::built(cache, trees.set, source, product, &recipe.compiler.value).map_err(one)
}

/// The user's files of one request.
pub(crate) struct Inputs {
    pub(crate) profile: Profile,
    /// Where the packages come from: the profile's, or those of the profile whose source is built.
    pub(crate) archive: profile::Archive,
    pub(crate) compartment: Compartment,
    pub(crate) overlay: Option<(String, Overlay)>,
}

impl Inputs {
    fn read(request: &Request) -> Result<Self, Diagnostic> {
        let profile = inputs::profile(&request.root, &request.kernel)?;
        let archive = inputs::archive(&request.root, &request.kernel, &profile)?;
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
        if profile.build.is_some() {
            compartment_of_built(request, &compartment)?;
        }
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
            archive,
            compartment,
            overlay,
        })
    }

    /// Name of the profile that the packages are in.
    fn packages_of<'s>(&'s self, kernel: &'s str) -> &'s str {
        let recipe = self.profile.build.as_ref();
        recipe.map_or(kernel, |recipe| &recipe.source_of.value)
    }

    /// Whether the overlay builds this module.
    pub(crate) fn in_overlay(&self, module: &str) -> bool {
        self.overlay
            .iter()
            .any(|(_, o)| o.modules.iter().any(|m| m.name.value == module))
    }
}

/// What a kernel that is built has no use for is refused, not ignored.
fn compartment_of_built(request: &Request, compartment: &Compartment) -> Result<(), Diagnostic> {
    if compartment.flags.is_empty() {
        return Ok(());
    }
    let file = lineage::compartment_file(&request.root, &request.kernel, &request.compartment);
    let message = format!(
        "`flags` are for kernels that are taken as they are; {} is built",
        request.kernel
    );
    Err(Diagnostic::error(Code::BadYaml, message)
        .at(file, 0, 0)
        .help("leave them out: bitcode is that of the build"))
}

/// One request while it is resolved.
pub(crate) struct Resolver<'a> {
    pub(crate) request: &'a Request,
    pub(crate) inputs: &'a Inputs,
    pub(crate) cache: &'a Cache,
    pub(crate) kernel: &'a Kernel<'a>,
}

impl Resolver<'_> {
    fn lock(&self) -> Result<KernelLock, Vec<Diagnostic>> {
        let one = |e: Diagnostic| vec![e];
        let kernel = self.kernel;
        let named = self.modules()?;
        let builder = Builder {
            cache: self.cache,
            headers: &kernel.headers,
            root: &self.request.root,
            kernel: &self.request.kernel,
        };
        let overlay = self
            .inputs
            .overlay
            .as_ref()
            .map(|(name, overlay)| {
                let source = self.cache.path(&kernel.source);
                builder.overlay(name, overlay, &source, &kernel.source_key)
            })
            .transpose()
            .map_err(one)?;

        let expected = self.expected();
        let mut images = self
            .images(&named.own, &expected, overlay.as_ref())
            .map_err(one)?;
        let loadable = self
            .loadable(&named.own, overlay.as_ref(), &images)
            .map_err(one)?;
        let around = self.images(&named.scope, &expected, None).map_err(one)?;
        let units = self.units(&images, &around)?;
        let bitcode = self.bitcode(&units, overlay.as_ref())?;

        let guard = version(&kernel.release)
            .is_none_or(|version| version >= GUARD_SINCE)
            .then(|| {
                let product = builder.guard()?;
                let file = format!("{GUARD_MODULE}.ko");
                self.cache.locked(&product, &file)
            })
            .transpose()
            .map_err(one)?;
        let vmlinux = images
            .remove(VMLINUX)
            .ok_or_else(|| one(Kernel::lacking(VMLINUX)))?;
        let modules: Vec<Image> = images.into_values().map(|i| i.image).collect();
        let in_scope: BTreeSet<&str> = units.iter().map(|unit| unit.image.as_str()).collect();
        Ok(KernelLock {
            version: FORMAT_VERSION,
            kernel: self.request.kernel.clone(),
            compartment: self.request.compartment.clone(),
            overlay: self.inputs.overlay.as_ref().map(|(name, _)| name.clone()),
            release: kernel.release.clone(),
            packages: kernel.packages.clone(),
            vmlinuz: kernel.vmlinuz.clone(),
            vmlinux: vmlinux.image,
            scope_modules: around
                .into_iter()
                .filter(|(name, _)| name != VMLINUX && in_scope.contains(name.as_str()))
                .map(|(_, image)| image.image)
                .filter(|image| modules.iter().all(|own| own.name != image.name))
                .collect(),
            modules,
            support: self.support(&loadable).map_err(one)?,
            loadable: loadable.into_iter().map(|m| m.loadable).collect(),
            oracles: self.oracles(&builder).map_err(one)?,
            source: kernel.source.clone(),
            closed_headers: self.closed_headers(&bitcode).map_err(one)?,
            bitcode,
            commands: kernel.commands().map_err(one)?,
            guard,
        })
    }

    /// Headers that only the scope's files can include. The whole kernel needs no list.
    fn closed_headers(&self, bitcode: &[Bitcode]) -> Result<Vec<String>, Diagnostic> {
        let scope: BTreeSet<&str> = bitcode.iter().map(|unit| unit.source.as_str()).collect();
        if scope.contains(ENTRY_POINT) {
            return Ok(Vec::new());
        }
        let kernel = self.kernel;
        let graph = includes::of_tree(self.cache, &kernel.source, &kernel.source_key)?;
        let config = kernel.headers.flavour.join(CONFIG);
        let config = fs::read_to_string(&config).map_err(|e| io_error("read", &config, &e))?;
        Ok(graph.sight(&scope, &config).closed)
    }

    /// Modules that the overlay builds.
    pub(crate) fn overlay_modules(&self) -> BTreeSet<String> {
        let overlays = self.inputs.overlay.iter();
        overlays
            .flat_map(|(_, o)| o.modules.iter().map(|m| m.name.value.clone()))
            .collect()
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
