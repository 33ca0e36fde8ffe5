//! Plan → addresses in the running kernel. Nothing is changed here.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi::{MAX_TEXTS, Range, Target},
    bundle::{FREE_BULK, GlobalBinding, Plan, Probe, Program, Quick},
    diagnostic::{Code, Diagnostic},
    ids::ImageId,
    sites::{Location, Room},
};

use crate::host::{Host, kallsyms};

/// Name of the kernel's own image.
pub const VMLINUX: &str = "vmlinux";

/// A probe with its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundProbe {
    /// Program to run.
    pub program: Program,
    /// Address of the instruction.
    pub address: u64,
    /// Row that the program reads.
    pub cookie: u64,
    /// Where the guard can put a jump.
    pub room: Option<Room>,
    /// What it can decide there itself.
    pub quick: Option<Quick>,
    /// `qfq_schedule_agg+0x55 [sch_qfq]`, for messages.
    pub label: String,
}

/// Everything of a plan that depends on where the kernel lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// In the order of the plan.
    pub probes: Vec<BoundProbe>,
    /// Rows of `otf_globals`; an empty range for what was freed after initialisation.
    pub globals: Vec<Range>,
    /// Keys of `otf_targets`.
    pub targets: Vec<Target>,
    /// Code of the compartment.
    pub texts: Vec<Range>,
    /// Probes that were left out, by reason; only a recording leaves any out.
    pub left_out: BTreeMap<String, u64>,
    /// Section bases by `IMAGE SECTION`, to notice a module that was loaded again elsewhere.
    pub bases: BTreeMap<String, u64>,
}

/// Finds every address that the plan names.
pub fn bind(plan: &Plan, host: &Host) -> Result<Binding, Diagnostic> {
    let mut book = AddressBook::new(plan, host)?;
    let mut probes = Vec::with_capacity(plan.probes.len());
    let mut left_out = BTreeMap::new();
    for probe in &plan.probes {
        let label = label(plan, &probe.location);
        if plan.recording.is_some()
            && let Some(why) = book.unreachable(&probe.location)
        {
            *left_out.entry(why).or_default() += 1;
            continue;
        }
        if is_init(&probe.location.section) {
            return Err(Diagnostic::error(
                Code::BadBundle,
                format!("a probe at {label} lies in code that is freed after initialisation"),
            )
            .help("make the bundle again with this release"));
        }
        probes.push(BoundProbe {
            program: probe.program,
            address: book.address(&probe.location)?,
            cookie: probe.cookie,
            room: probe.room,
            quick: quick(plan, probe),
            label,
        });
    }
    let globals = plan
        .globals
        .iter()
        .map(|global| book.global(global))
        .collect::<Result<_, _>>()?;
    let targets = plan
        .targets
        .iter()
        // Nobody may call what was freed after initialisation.
        .filter(|target| !is_init(&target.location.section))
        .map(|target| {
            Ok(Target {
                address: book.address(&target.location)?,
                set: target.set,
                pad: 0,
            })
        })
        .collect::<Result<_, _>>()?;
    // A recording does not ask whose code a caller is.
    let texts = if plan.recording.is_some() {
        Vec::new()
    } else {
        book.texts()?
    };
    Ok(Binding {
        probes,
        left_out,
        globals,
        targets,
        texts,
        bases: book.bases,
    })
}

fn quick(plan: &Plan, probe: &Probe) -> Option<Quick> {
    let row = usize::try_from(probe.cookie).ok()?;
    let site = plan.sites.get(row);
    site.filter(|_| probe.program == Program::Site)?.quick
}

/// Where the guard sees objects that are freed in bulk: behind the ftrace site of the function, as
/// gates (docs/decisions/0007).
pub fn free_bulk(host: &Host, endbr: bool) -> Result<BoundProbe, Diagnostic> {
    const ENDBR: u64 = 4;
    const FTRACE_SITE: u64 = 5;
    let (_, symbols) = kallsyms::read(host, &BTreeSet::from([FREE_BULK.to_owned()]))?;
    let [start, ..] = symbols.addresses(FREE_BULK) else {
        let message = format!("/proc/kallsyms does not say where {FREE_BULK} is");
        return Err(Diagnostic::error(Code::Environment, message)
            .help("load with --action audit or kill, without --guard"));
    };
    let offset = FTRACE_SITE + if endbr { ENDBR } else { 0 };
    Ok(BoundProbe {
        program: Program::FreeBulk,
        address: start + offset,
        cookie: 0,
        room: None,
        quick: None,
        label: format!("{FREE_BULK}+{offset:#x} [{VMLINUX}]"),
    })
}

/// `symbol+0xoffset [image]`.
pub fn label(plan: &Plan, location: &Location) -> String {
    let image = plan
        .images
        .get(location.image.index())
        .map_or("?", |i| i.name.as_str());
    format!(
        "{}+{:#x} [{image}]",
        location.symbol, location.symbol_offset
    )
}

/// Where a location of a loaded plan lies, by the bases that the load has noted.
pub fn address_at(plan: &Plan, bases: &BTreeMap<String, u64>, location: &Location) -> Option<u64> {
    let image = image_name(plan, location.image);
    let base = bases.get(&base_key(image, &location.section))?;
    base.checked_add(location.offset)
}

/// Offsets of vmlinux count from its first byte, whatever the section.
fn base_key(image: &str, section: &str) -> String {
    if image == VMLINUX {
        format!("{VMLINUX} _text")
    } else {
        format!("{image} {section}")
    }
}

/// Code and data that a module gives back once it is initialised: its address is somebody else's now.
fn is_init(section: &str) -> bool {
    section.starts_with(".init")
}

/// Section of per-CPU variables.
const PER_CPU: &str = ".data..percpu";

struct AddressBook<'a> {
    plan: &'a Plan,
    host: &'a Host,
    kernel_base: Option<u64>,
    symbols: kallsyms::Symbols,
    bases: BTreeMap<String, u64>,
}

impl<'a> AddressBook<'a> {
    fn new(plan: &'a Plan, host: &'a Host) -> Result<Self, Diagnostic> {
        let vmlinux = |image: ImageId| image_name(plan, image) == VMLINUX;
        let wanted: BTreeSet<String> = plan
            .globals
            .iter()
            .filter_map(|g| match per_cpu_symbol(plan, g) {
                Some(symbol) => Some(symbol),
                None => vmlinux(g.location.image).then(|| g.symbol.clone()),
            })
            .collect();
        let needed = !wanted.is_empty()
            || plan.probes.iter().any(|p| vmlinux(p.location.image))
            || plan.targets.iter().any(|t| vmlinux(t.location.image))
            || plan
                .images
                .iter()
                .any(|i| i.name == VMLINUX && !i.text.is_empty());
        let (kernel_base, symbols) = if needed {
            let (base, symbols) = kallsyms::read(host, &wanted)?;
            (Some(base), symbols)
        } else {
            (None, kallsyms::Symbols::default())
        };
        Ok(Self {
            plan,
            host,
            kernel_base,
            symbols,
            bases: BTreeMap::new(),
        })
    }

    fn base(&mut self, image: ImageId, section: &str) -> Result<u64, Diagnostic> {
        let name = image_name(self.plan, image);
        let key = base_key(name, section);
        if name == VMLINUX {
            let base = self.kernel_base.unwrap_or_default();
            self.bases.insert(key, base);
            return Ok(base);
        }
        if let Some(base) = self.bases.get(&key) {
            return Ok(*base);
        }
        let base = self.host.section(name, section)?;
        self.bases.insert(key, base);
        Ok(base)
    }

    fn address(&mut self, location: &Location) -> Result<u64, Diagnostic> {
        let base = self.base(location.image, &location.section)?;
        base.checked_add(location.offset).ok_or_else(|| {
            Diagnostic::error(
                Code::BadBundle,
                format!("{} lies outside memory", label(self.plan, location)),
            )
        })
    }

    /// Why a place cannot be recorded, if so.
    fn unreachable(&self, location: &Location) -> Option<String> {
        let image = image_name(self.plan, location.image);
        if is_init(&location.section) {
            Some("code that is freed after initialisation".into())
        } else if image != VMLINUX && !self.host.module_loaded(image) {
            Some(format!("module {image} is not loaded"))
        } else {
            None
        }
    }

    fn global(&mut self, global: &GlobalBinding) -> Result<Range, Diagnostic> {
        let lost = self.plan.recording.is_some() && self.unreachable(&global.location).is_some();
        if lost || is_init(&global.location.section) {
            return Ok(Range::default());
        }
        let start = if let Some(symbol) = per_cpu_symbol(self.plan, global) {
            let [start] = self.symbols.addresses(&symbol) else {
                return Err(Diagnostic::error(
                    Code::Environment,
                    format!("/proc/kallsyms does not say where {symbol} is"),
                )
                .help("the kernel needs CONFIG_KALLSYMS_ALL"));
            };
            *start
        } else if is_per_cpu(global) {
            // An offset into every CPU's area, not an address.
            global.location.offset
        } else {
            self.address(&global.location)?
        };
        let known = self.symbols.addresses(&global.symbol);
        if !known.is_empty() && !known.contains(&start) {
            return Err(Diagnostic::error(
                Code::WrongKernel,
                format!(
                    "{} should be at {start:#x}, the kernel has it at {:#x}",
                    global.symbol, known[0]
                ),
            )
            .help("the bundle was not made from this kernel's image"));
        }
        Ok(Range {
            start,
            end: start.saturating_add(global.size),
        })
    }

    fn texts(&mut self) -> Result<Vec<Range>, Diagnostic> {
        let plan = self.plan;
        let mut texts = Vec::new();
        for (row, image) in plan.images.iter().enumerate() {
            let never_runs = |section: &str| {
                is_init(section)
                    // Patched code is copied from there; nothing unloads vmlinux.
                    || section.starts_with(".altinstr")
                    || (image.name == VMLINUX && section.starts_with(".exit"))
            };
            for text in image.text.iter().filter(|t| !never_runs(&t.name)) {
                let start = self.base(ImageId::from(row), &text.name)?;
                let start = start.saturating_add(text.offset);
                texts.push(Range {
                    start,
                    end: start.saturating_add(text.size),
                });
            }
        }
        if texts.len() > MAX_TEXTS {
            return Err(Diagnostic::error(
                Code::BadBundle,
                format!(
                    "the compartment has {} text sections, at most {MAX_TEXTS} can be bound",
                    texts.len()
                ),
            )
            .help("split the compartment"));
        }
        // The programs search by halves.
        texts.sort_by_key(|text| text.start);
        Ok(texts)
    }
}

fn is_per_cpu(global: &GlobalBinding) -> bool {
    global.location.section.starts_with(PER_CPU)
}

/// What kallsyms calls a per-CPU variable of a module: sysfs has no address of that section, for
/// the kernel puts it into the area of all CPUs.
fn per_cpu_symbol(plan: &Plan, global: &GlobalBinding) -> Option<String> {
    let image = image_name(plan, global.location.image);
    (image != VMLINUX && is_per_cpu(global)).then(|| kallsyms::of_module(image, &global.symbol))
}

fn image_name(plan: &Plan, image: ImageId) -> &str {
    plan.images.get(image.index()).map_or("", |i| &i.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn modules_by_section_and_vmlinux_by_base() {
        let machine = testing::Machine::new();
        let plan = testing::plan();
        let binding = bind(&plan, &machine.host).unwrap();
        let addresses: Vec<u64> = binding.probes.iter().map(|p| p.address).collect();
        assert_eq!(
            addresses,
            [testing::MODULE_TEXT + 0x10, testing::MODULE_TEXT + 0x65]
        );
        assert_eq!(binding.probes[1].label, "qfq_schedule_agg+0x55 [sch_qfq]");
        assert_eq!(
            binding.globals,
            [
                Range {
                    start: testing::KERNEL_BASE + 0x1000,
                    end: testing::KERNEL_BASE + 0x1008
                },
                Range::default()
            ]
        );
        assert_eq!(
            binding.texts,
            [Range {
                start: testing::MODULE_TEXT,
                end: testing::MODULE_TEXT + 0x2000
            }]
        );
        let enqueue = testing::KERNEL_BASE + 0x2000;
        let bound: Vec<_> = binding.targets.iter().map(|t| (t.set, t.address)).collect();
        assert_eq!(bound, [(0, enqueue)]);
        assert_eq!(binding.bases["sch_qfq .text"], testing::MODULE_TEXT);
    }

    #[test]
    fn a_moved_symbol_is_another_kernel() {
        let machine = testing::Machine::new();
        let mut plan = testing::plan();
        plan.globals[0].location.offset += 8;
        assert_eq!(
            bind(&plan, &machine.host).unwrap_err().code,
            Code::WrongKernel
        );
    }

    #[test]
    fn probes_in_init_code_are_refused() {
        let machine = testing::Machine::new();
        let mut plan = testing::plan();
        plan.probes[0].location.section = ".init.text".into();
        assert_eq!(
            bind(&plan, &machine.host).unwrap_err().code,
            Code::BadBundle
        );
    }
}
