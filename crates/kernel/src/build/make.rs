//! Builds a kernel: configuration, image and modules, and every file's bitcode on the way.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use otf_artifact::diagnostic::{Code, Diagnostic};
use tracing::info;

use crate::{
    build::{collect, fragment::Fragment, tree},
    cache::{Cache, io_error, key},
    command, kbuild, progress,
};

/// Raised when a change of this folder changes the products, so that cached ones are not taken.
const RECIPE: &[u8] = b"kernel 1";
/// The compiler that kbuild calls.
const WRAPPER: &str = include_str!("cc.sh");
/// Its name in the product.
const WRAPPER_FILE: &str = "otf-cc";
/// The fragment's name in the product.
const FRAGMENT_FILE: &str = "fragment.config";
/// Flags by which names in debug information are relative to the kernel tree.
pub const NAMES: &str = "-ffile-prefix-map=../= -fdebug-compilation-dir=.";
/// Programs whose version decides what is built, by the suffix of the compiler's version.
const TOOLS: [&str; 4] = ["ld.lld", "llvm-ar", "llvm-objcopy", "llvm-strip"];
/// Packages that hold what kbuild calls.
const PACKAGES: &str = "the build needs the packages bc, bison, clang-19, flex, libelf-dev, lld-19, llvm-19, make, pahole, perl-base";

/// Everything that decides what is built.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// Kernel profile.
    pub kernel: &'a str,
    /// Source tree, relative to the cache.
    pub source: &'a str,
    /// Names the source.
    pub source_key: &'a str,
    /// Compiler, `clang-19`; the rest of LLVM has the same suffix.
    pub compiler: &'a str,
    /// What the configuration starts from: `allnoconfig`.
    pub base: &'a str,
    /// Fragments, each over those before it.
    pub fragments: &'a [FragmentFile],
}

/// A fragment as it lies in a file.
#[derive(Debug)]
pub struct FragmentFile {
    /// The file's name for messages.
    pub file: String,
    /// What it says.
    pub text: String,
}

impl Recipe<'_> {
    /// The product, built unless the cache has it: its path relative to the cache.
    pub fn product(&self, cache: &Cache) -> Result<String, Vec<Diagnostic>> {
        let fragment = self.fragment()?;
        let one = |e: Diagnostic| vec![e];
        let mut parts = vec![
            RECIPE.to_owned(),
            WRAPPER.as_bytes().to_owned(),
            self.source_key.as_bytes().to_owned(),
            self.base.as_bytes().to_owned(),
            fragment.text().into_bytes(),
        ];
        parts.extend(self.versions().map_err(one)?);
        let name = key(parts);
        let product = format!("built/{}/{name}", self.kernel);
        if cache.path(&product).exists() {
            return Ok(product);
        }
        // Not one of the folders that are removed when a command ends: a build that was interrupted
        // goes on where it was. What it depends on is in the name.
        let folder = cache.path(&format!("tmp/{}-{name}", self.kernel));
        let _lock = lock(&folder).map_err(one)?;
        // Another command may have built it while this one waited.
        if !cache.path(&product).exists() {
            let work = folder.join("product");
            self.build(cache, &work, &fragment)?;
            cache.publish(&product, &work).map_err(one)?;
        }
        fs::remove_dir_all(&folder).map_err(|e| one(io_error("remove", &folder, &e)))?;
        Ok(product)
    }

    /// What all fragments ask for.
    fn fragment(&self) -> Result<Fragment, Vec<Diagnostic>> {
        let mut all = Fragment::default();
        for FragmentFile { file, text } in self.fragments {
            all.over(Fragment::parse(text, file)?);
        }
        Ok(all)
    }

    /// What the tools say of themselves. Their paths do not matter.
    fn versions(&self) -> Result<Vec<Vec<u8>>, Diagnostic> {
        let suffix = suffix(self.compiler);
        let tools = TOOLS.iter().map(|tool| format!("{tool}{suffix}"));
        [self.compiler.to_owned(), "pahole".to_owned()]
            .into_iter()
            .chain(tools)
            .map(|tool| {
                command::run(
                    Command::new(&tool).arg("--version"),
                    package(&tool),
                    Code::Environment,
                    &tool,
                )
            })
            .collect()
    }

    fn build(
        &self,
        cache: &Cache,
        work: &Path,
        fragment: &Fragment,
    ) -> Result<(), Vec<Diagnostic>> {
        let one = |e: Diagnostic| vec![e];
        info!(
            "building kernel {}: this takes a quarter of an hour on two processors",
            self.kernel
        );
        tree::link(work, &cache.path(""), self.source).map_err(one)?;
        let wrapper = work.join(WRAPPER_FILE);
        write(&wrapper, WRAPPER).map_err(one)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
            .map_err(|e| one(io_error("make", &wrapper, &e)))?;
        let kept = work.join(FRAGMENT_FILE);
        write(&kept, &fragment.text()).map_err(one)?;

        self.make(work, &[self.base]).map_err(one)?;
        let configuration = work.join(tree::OUT).join(".config");
        let text = fs::read_to_string(&configuration)
            .map_err(|e| one(io_error("read", &configuration, &e)))?;
        fragment.honoured(&text)?;

        self.make(work, &["bzImage", "modules"]).map_err(one)?;
        // The output folder's own Makefile names the tree; the product is another folder than this.
        write(
            &work.join(tree::OUT).join("Makefile"),
            "include ../Makefile\n",
        )
        .map_err(one)?;
        collect::collect(work, self.compiler).map_err(one)
    }

    /// One call of make; what it compiles is reported as progress.
    fn make(&self, work: &Path, targets: &[&str]) -> Result<(), Diagnostic> {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.current_dir(work)
            .arg(format!("-j{jobs}"))
            .arg(format!("O={}", tree::OUT))
            .arg(format!("KCFLAGS={NAMES}"))
            .arg(format!("KAFLAGS={NAMES}"))
            .args(targets)
            .env("KCONFIG_ALLCONFIG", work.join(FRAGMENT_FILE))
            .env("LC_ALL", "C")
            .env("LOCALVERSION", "")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        use_wrapper(&mut make, work, self.compiler);
        kbuild::reproducible(&mut make);
        let mut child = make
            .spawn()
            .map_err(|e| command::not_started(&make, "make", &e))?;
        let errors = child.stderr.take().map(|mut pipe| {
            thread::spawn(move || {
                let mut said = Vec::new();
                // A pipe that breaks ends the text; make's status says the rest.
                let _ = pipe.read_to_end(&mut said);
                said
            })
        });
        let mut counter =
            progress::Counter::new(format!("building {}", self.kernel), "files compiled");
        for line in child
            .stdout
            .take()
            .into_iter()
            .flat_map(|out| BufReader::new(out).lines())
        {
            if line.is_ok_and(|line| line.trim_start().starts_with("CC")) {
                counter.one();
            }
        }
        let status = child
            .wait()
            .map_err(|e| io_error("wait for make in", work, &e))?;
        if status.success() {
            return Ok(());
        }
        let said = errors.and_then(|t| t.join().ok()).unwrap_or_default();
        Err(Diagnostic::error(
            Code::BuildFailed,
            format!(
                "building {} ({}) failed:\n{}",
                self.kernel,
                targets.join(" "),
                command::last_lines(&said)
            ),
        )
        .help(PACKAGES))
    }
}

/// Lets make compile through the wrapper that lies in `folder`.
pub fn use_wrapper(make: &mut Command, folder: &Path, compiler: &str) {
    make.arg(format!("LLVM={}", suffix(compiler)))
        .arg(format!("CC={WRAPPER_FILE}"))
        .env("OTF_CLANG", compiler)
        .env("PATH", path_with(folder));
}

/// Makes the folder of a build; waits for another command that is at work in it.
fn lock(folder: &Path) -> Result<File, Diagnostic> {
    fs::create_dir_all(folder).map_err(|e| io_error("make", folder, &e))?;
    let path = folder.join("lock");
    let open = File::create(&path).and_then(|file| {
        if file.try_lock().is_err() {
            info!("another command is building this kernel: waiting for it");
            file.lock()?;
        }
        Ok(file)
    });
    open.map_err(|e| io_error("lock", &path, &e))
}

/// `PATH` with a folder in front. The compiler is found by name, so that the records of a build hold
/// no folder and it can go on elsewhere.
fn path_with(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

/// What the names of LLVM's tools end with: `-19` for `clang-19`, nothing for `clang`.
fn suffix(compiler: &str) -> &str {
    compiler.strip_prefix("clang").unwrap_or_default()
}

/// The package of a tool.
fn package(tool: &str) -> &str {
    match tool.split('-').next() {
        Some("ld.lld") => "lld-19",
        Some("llvm") => "llvm-19",
        _ => tool,
    }
}

fn write(path: &Path, text: &str) -> Result<(), Diagnostic> {
    fs::write(path, text).map_err(|e| io_error("write", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_have_the_suffix_of_the_compiler() {
        assert_eq!(suffix("clang-19"), "-19");
        assert_eq!(suffix("clang"), "");
        assert_eq!(package("ld.lld-19"), "lld-19");
        assert_eq!(package("llvm-ar-19"), "llvm-19");
        assert_eq!(package("pahole"), "pahole");
    }

    /// One file through the wrapper, in a tree like that of a build.
    fn compiled(folder: &Path, arguments: &[&str]) -> std::process::Output {
        let script = folder.join("cc");
        write(&script, WRAPPER).unwrap();
        fs::create_dir_all(folder.join("net")).unwrap();
        fs::create_dir_all(folder.join("out")).unwrap();
        write(
            &folder.join("net/a.c"),
            "int a(int *p) { return *p + N; }\n",
        )
        .unwrap();
        Command::new("sh")
            .arg(script)
            .args(arguments)
            .current_dir(folder.join("out"))
            .env("OTF_CLANG", "clang-19")
            .output()
            .unwrap()
    }

    const ARGUMENTS: [&str; 14] = [
        "-Wp,-MMD,.a.o.d",
        "-nostdinc",
        "-I../include",
        "-D__KERNEL__",
        "-DN=3",
        "-Wall",
        "-O2",
        "-g",
        "-ffile-prefix-map=../=",
        "-fdebug-compilation-dir=.",
        "-c",
        "-o",
        "a.o",
        "../net/a.c",
    ];

    #[test]
    fn the_record_makes_the_same_object_again() {
        let dir = tempfile::tempdir().unwrap();
        let output = compiled(dir.path(), &ARGUMENTS);
        assert!(output.status.success(), "{output:?}");
        let out = dir.path().join("out");
        let record = fs::read_to_string(out.join("a.codegen")).unwrap();
        let lines: Vec<&str> = record.lines().collect();
        assert_eq!(lines[0], "../net/a.c");
        assert!(
            lines.contains(&"-O2") && !record.contains("-DN=3"),
            "{record}"
        );
        assert_eq!(fs::read(out.join("a.bc")).unwrap()[..4], *b"BC\xc0\xde");
        let status = Command::new("clang-19")
            .args(&lines[1..])
            .args(["-c", "-x", "ir", "a.bc", "-o", "again.o"])
            .current_dir(&out)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(
            fs::read(out.join("a.o")).unwrap(),
            fs::read(out.join("again.o")).unwrap()
        );
        // The same bytes in another folder, so that no path got in.
        let other = tempfile::tempdir().unwrap();
        compiled(other.path(), &ARGUMENTS);
        let other = other.path().join("out");
        for file in ["a.bc", "a.o", "a.codegen"] {
            assert_eq!(
                fs::read(out.join(file)).unwrap(),
                fs::read(other.join(file)).unwrap()
            );
        }
    }

    #[test]
    fn what_is_no_kernel_file_is_only_compiled() {
        let dir = tempfile::tempdir().unwrap();
        for instead in ["-DX", "-m32"] {
            let arguments = ARGUMENTS.map(|a| if a == "-D__KERNEL__" { instead } else { a });
            assert!(compiled(dir.path(), &arguments).status.success());
        }
        assert!(dir.path().join("out/a.o").is_file());
        assert!(!dir.path().join("out/a.bc").exists());
        let wrong = ARGUMENTS.map(|a| if a == "-DN=3" { "-DM=3" } else { a });
        assert!(!compiled(dir.path(), &wrong).status.success());
    }
}
