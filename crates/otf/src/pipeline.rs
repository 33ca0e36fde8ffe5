//! The stages in order, each from files to files below OUT/KERNEL/COMPARTMENT.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use otf_analyzer::{FileMeta, facts::Facts};
use otf_artifact::{
    analysis::{Analysis, Refusal},
    bundle,
    diagnostic::{Code, Diagnostic},
    kernel::{CachedFile, Image, KernelLock},
    sites::Sites,
};
use otf_binresolve::{ImageInput, extent::Confinement};
use tracing::info;

use crate::{
    budgets::Budgets,
    cli, exact, facts, files, judge, keys,
    render::{self, Failure},
};

/// What is analyzed when nobody says what.
const DEFAULT_COMPARTMENT: &str = "sch_qfq";

/// Name of the artifact with the sites.
pub const SITES: &str = "sites.json";

/// `otf analyze`: everything, and the path of the bundle.
pub fn analyze(args: &cli::Analyze) -> Result<(), Failure> {
    let request = otf_kernel::Request {
        root: args.root.clone(),
        cache: files::cache()?,
        kernel: args.kernel.clone(),
        compartment: compartment(args)?,
        overlay: args.overlay.clone(),
    };
    let lock = otf_kernel::resolve(&request)?;
    let dir = files::compartment(
        &args.out,
        &lock.kernel,
        &lock.compartment,
        lock.overlay.as_deref(),
    );
    files::write_lock(&dir.join("kernel.lock.yaml"), &lock)?;
    let analysis = whole_program(&args.root, &lock, &files::cache()?.join("facts"))?;
    render::warn(&analysis.diagnostics);
    files::write_artifact(&dir.join("analysis.json"), &analysis)?;
    let sites = bind(&analysis, &lock)?;
    render::warn(&sites.diagnostics);
    files::write_artifact(&dir.join(SITES), &sites)?;
    let mut policy = otf_policygen::generate(&sites);
    policy.private_heap = args.private_heap;
    files::write(
        &dir.join("policy.yaml"),
        otf_policygen::to_yaml(&policy).as_bytes(),
    )?;
    let path = compile_in(
        &dir,
        &dir.join("policy.yaml"),
        Path::new(cli::PRICES),
        None,
        args.key.as_deref(),
    )?;
    render::line(&path.display().to_string())
}

/// The compartment that is asked for, or that of the overlay's attack.
fn compartment(args: &cli::Analyze) -> Result<String, Failure> {
    if let Some(named) = &args.compartment {
        return Ok(named.clone());
    }
    let attack = match &args.overlay {
        Some(name) => otf_kernel::inputs::overlay(&args.root, &args.kernel, name)?.attack,
        None => None,
    };
    let named = attack.map(|a| a.compartment.value);
    Ok(named.unwrap_or_else(|| DEFAULT_COMPARTMENT.to_owned()))
}

/// `otf resolve DIR`.
pub fn resolve(dir: &Path) -> Result<(), Failure> {
    let lock = files::read_lock(&dir.join("kernel.lock.yaml"))?;
    let sites = resolve_only(dir, &lock)?;
    render::warn(&sites.diagnostics);
    files::write_artifact(&dir.join(SITES), &sites)?;
    Ok(())
}

/// `otf compile DIR`.
pub fn compile(args: &cli::Compile) -> Result<(), Failure> {
    let policy = args
        .policy
        .clone()
        .unwrap_or_else(|| args.dir.join("policy.yaml"));
    let path = if args.record {
        record_in(&args.dir, args.output.as_deref(), args.key.as_deref())?
    } else if args.naive {
        naive_in(&args.dir, args.output.as_deref(), args.key.as_deref())?
    } else {
        compile_in(
            &args.dir,
            &policy,
            &args.prices,
            args.output.as_deref(),
            args.key.as_deref(),
        )?
    };
    render::line(&path.display().to_string())
}

/// Where the bundle of a compartment lies.
pub fn bundle_path(dir: &Path, compartment: &str) -> PathBuf {
    dir.join(format!("{compartment}.{}", bundle::EXTENSION))
}

/// The bytes of a cached file, which must still be those that the lock names.
pub fn cached(file: &CachedFile) -> Result<Vec<u8>, Failure> {
    let path = files::cache()?.join(&file.path);
    let bytes = files::read(&path)?;
    unchanged(file, &path, &bytes)?;
    Ok(bytes)
}

fn unchanged(file: &CachedFile, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if otf_bundle::sha256(bytes) == file.sha256 {
        return Ok(());
    }
    Err(Diagnostic::error(
        Code::CacheCorrupt,
        "the file is not the one that the lock names",
    )
    .at(path.display().to_string(), 0, 0)
    .help("remove it and run `otf analyze` again")
    .into())
}

/// Facts of every file, then the whole-program step on facts alone. `kept` is where facts are kept.
pub fn whole_program(root: &Path, lock: &KernelLock, kept: &Path) -> Result<Analysis, Failure> {
    let facts = facts::of_lock(lock, kept)?;
    info!("legal sets");
    let analysis = program(root, lock, &facts);
    // Millions of small pieces: nobody has to wait for the last of them.
    rayon::spawn(move || drop(facts));
    analysis
}

/// The whole-program step.
pub fn program(
    root: &Path,
    lock: &KernelLock,
    facts: &[(FileMeta, Facts)],
) -> Result<Analysis, Failure> {
    Ok(otf_analyzer::analyze(facts, &request(root, lock)?)?)
}

/// What the whole-program step is asked for.
pub fn request(root: &Path, lock: &KernelLock) -> Result<otf_analyzer::Request, Failure> {
    let profile = otf_kernel::inputs::profile(root, &lock.kernel)?;
    Ok(otf_analyzer::Request {
        kernel: lock.kernel.clone(),
        compartment: lock.overlay.as_ref().map_or_else(
            || lock.compartment.clone(),
            |overlay| format!("{}@{overlay}", lock.compartment),
        ),
        refusals: profile
            .refusals
            .into_iter()
            .map(|(gate, r)| {
                (
                    gate,
                    Refusal {
                        value: r.value,
                        name: r.name,
                    },
                )
            })
            .collect(),
        complete: profile.complete.into_iter().collect(),
        whole: facts::whole(lock),
        closed_headers: lock.closed_headers.iter().cloned().collect(),
    })
}

/// Sites of the analysis in a folder, not written anywhere.
pub fn resolve_only(dir: &Path, lock: &KernelLock) -> Result<Sites, Failure> {
    let analysis: Analysis = files::read_artifact(&dir.join("analysis.json"))?;
    bind(&analysis, lock)
}

/// Machine code and DWARF of the images, joined with the analysis.
fn bind(analysis: &Analysis, lock: &KernelLock) -> Result<Sites, Failure> {
    let mut confined: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for unit in lock.bitcode.iter().filter(|unit| unit.confined) {
        let files = confined.entry(unit.image.as_str()).or_default();
        files.insert(unit.source.clone());
    }
    let images = map_images(lock)?;
    let maps = exact::of_lock(lock)?;
    let inputs: Vec<ImageInput<'_>> = images
        .iter()
        .map(|(image, bytes)| ImageInput {
            name: &image.name,
            file: &image.file.path,
            bytes,
            confined: confined
                .get(image.name.as_str())
                .map_or(Confinement::Outside, Confinement::Files),
            exact: maps.get(&image.name).map_or(&[], Vec::as_slice),
        })
        .collect();
    let sites = otf_binresolve::resolve(analysis, &inputs)?;
    same_builds(&sites, lock)?;
    Ok(sites)
}

/// The images of a kernel.
fn map_images(lock: &KernelLock) -> Result<Vec<(&Image, memmap2::Mmap)>, Failure> {
    let cache = files::cache()?;
    lock.modules
        .iter()
        .chain([&lock.vmlinux])
        .map(|image| {
            let path = cache.join(&image.file.path);
            let bytes = files::map(&path)?;
            // The 354 MB of vmlinux would take as long as all the rest: there the build-id has to do.
            if image.name != lock.vmlinux.name {
                unchanged(&image.file, &path, &bytes)?;
            }
            Ok((image, bytes))
        })
        .collect()
}

/// The sites must be those of the images that the lock names.
fn same_builds(sites: &Sites, lock: &KernelLock) -> Result<(), Failure> {
    let locked = || lock.modules.iter().chain([&lock.vmlinux]);
    let wrong: Vec<Diagnostic> = sites
        .images
        .iter()
        .filter_map(|found| {
            let locked = locked().find(|image| image.name == found.name)?;
            (locked.build_id != found.build_id).then(|| {
                let message = format!(
                    "build-id of {} is {}, the lock says {}",
                    found.name, found.build_id, locked.build_id
                );
                Diagnostic::error(Code::BuildIdMismatch, message)
                    .at(&found.file, 0, 0)
                    .help("run `otf analyze` again")
            })
        })
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.into())
    }
}

/// The analysis whose hash a bundle carries must be the one that its sites were made from.
fn same_analysis(sites: &Sites, path: &Path) -> Result<(), Failure> {
    let mut analysis: Analysis = files::read_artifact(path)?;
    analysis.functions.clear();
    if analysis == sites.analysis {
        return Ok(());
    }
    Err(Diagnostic::error(
        Code::BadArtifact,
        "sites.json was made from another analysis than this one",
    )
    .at(path.display().to_string(), 0, 0)
    .help("run `otf resolve` for this folder, and again")
    .into())
}

/// What every bundle of a folder is made from.
struct Made {
    lock: KernelLock,
    sites: Sites,
    /// SHA-256 of the files, by name.
    hashes: BTreeMap<String, String>,
}

impl Made {
    fn read(dir: &Path) -> Result<Self, Failure> {
        let lock_path = dir.join("kernel.lock.yaml");
        let lock = files::read_lock(&lock_path)?;
        let sites_path = dir.join(SITES);
        let sites: Sites = files::read_artifact(&sites_path)?;
        let analysis_path = dir.join("analysis.json");
        same_builds(&sites, &lock)?;
        same_analysis(&sites, &analysis_path)?;
        let mut hashes = BTreeMap::new();
        for path in [&lock_path, &analysis_path, &sites_path] {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            hashes.insert(name, otf_bundle::sha256(&files::read(path)?));
        }
        Ok(Self {
            lock,
            sites,
            hashes,
        })
    }
}

/// Policy and sites to a signed bundle.
fn compile_in(
    dir: &Path,
    policy_path: &Path,
    prices: &Path,
    output: Option<&Path>,
    key: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let mut made = Made::read(dir)?;
    let text = String::from_utf8(files::read(policy_path)?).map_err(|e| {
        let message = format!("not UTF-8: {e}");
        Diagnostic::error(Code::BadYaml, message).at(policy_path.display().to_string(), 0, 0)
    })?;
    let policy = otf_policygen::parse(&text, &policy_path.display().to_string())?;
    let images = map_images(&made.lock)?;
    let images: Vec<otf_policygen::ImageBytes<'_>> = images
        .iter()
        .map(|(image, bytes)| (image.name.as_str(), &bytes[..]))
        .collect();
    let budgets = Budgets::read(&policy, policy_path, prices, &mut made.hashes)?;
    let inputs = otf_policygen::Inputs {
        images: &images,
        profiles: &budgets.profiles,
        prices: budgets.prices.as_ref(),
        release: made.lock.release.clone(),
        guard: made.lock.guard.as_ref().map_or(Ok(Vec::new()), cached)?,
        hashes: made.hashes,
        policy_text: Some(text),
    };
    let (bundle, warnings) = otf_policygen::compile(&policy, &made.sites, inputs)?;
    render::warn(&warnings);
    let path = output.map_or_else(
        || bundle_path(dir, &made.sites.analysis.compartment),
        Path::to_path_buf,
    );
    sign_and_write(&bundle, path, key)
}

/// Sites to a signed bundle that eliminates nothing.
fn naive_in(dir: &Path, output: Option<&Path>, key: Option<&Path>) -> Result<PathBuf, Failure> {
    let made = Made::read(dir)?;
    let (sites, counts) = otf_policygen::naive(&made.sites);
    info!(
        probed = counts.probed,
        left = counts.left,
        "nothing eliminated"
    );
    let inputs = otf_policygen::Inputs {
        // Nothing is covered by something else, so that nothing is to be validated.
        images: &[],
        profiles: &BTreeMap::new(),
        prices: None,
        release: made.lock.release.clone(),
        guard: made.lock.guard.as_ref().map_or(Ok(Vec::new()), cached)?,
        hashes: made.hashes,
        policy_text: None,
    };
    let policy = otf_policygen::generate(&sites);
    let (contents, warnings) = otf_policygen::compile(&policy, &sites, inputs)?;
    render::warn(&warnings);
    let name = format!("{}.{}", sites.analysis.compartment, bundle::NAIVE);
    let path = output.map_or_else(|| bundle_path(dir, &name), Path::to_path_buf);
    sign_and_write(&contents, path, key)
}

/// Sites to a signed bundle that records.
fn record_in(dir: &Path, output: Option<&Path>, key: Option<&Path>) -> Result<PathBuf, Failure> {
    let made = Made::read(dir)?;
    let mut hashes = made.hashes;
    hashes.insert("places".into(), judge::places(&made.sites)?);
    let inputs = otf_policygen::RecordInputs {
        release: made.lock.release.clone(),
        hashes,
    };
    let bundle = otf_policygen::record(&made.sites, inputs)?;
    let name = format!("{}.{}", made.sites.analysis.compartment, bundle::RECORDING);
    let path = output.map_or_else(|| bundle_path(dir, &name), Path::to_path_buf);
    sign_and_write(&bundle, path, key)
}

fn sign_and_write(
    bundle: &otf_bundle::Bundle,
    path: PathBuf,
    key: Option<&Path>,
) -> Result<PathBuf, Failure> {
    let archive = otf_bundle::pack(bundle)?;
    let signature = otf_policygen::sign(&archive, &bundle.manifest, &keys::secret(key)?)?;
    files::write(&path, &archive)?;
    let mut name = path.clone().into_os_string();
    name.push(".minisig");
    files::write(Path::new(&name), signature.as_bytes())?;
    Ok(path)
}
