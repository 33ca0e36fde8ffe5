//! The kernel's own view of its allocations (`/proc/allocinfo`, `MEM_ALLOC_PROFILING`) beside the analysis.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::analysis::{AllocationSite, Analysis, Family};

/// Sizes of the general slab caches, in bytes.
const GENERAL: [u64; 13] = [
    8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192,
];

/// One line of `/proc/allocinfo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// `net/ipv6/route.c`.
    pub file: String,
    /// Line of the allocating call.
    pub line: u32,
    /// Function that has it.
    pub function: String,
    /// Bytes held when the kernel was asked.
    pub bytes: u64,
    /// Objects held.
    pub objects: u64,
}

/// How the two views compare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Allocating places of the compartment that held objects.
    pub seen: usize,
    /// Of these, the ones that the analysis lists as allocation sites.
    pub known: usize,
    /// `file:line function` of the others.
    pub missing: Vec<String>,
    /// Known ones with a constant size in the analysis.
    pub sized: usize,
    /// `file:line: …` of those whose objects in the kernel do not have the size.
    pub other_size: Vec<String>,
}

/// Reads the lines that have objects; what is no such line is left out. The format of 6.12 is
/// `BYTES OBJECTS FILE:LINE [MODULE] func:NAME`.
pub fn parse(text: &str) -> Vec<Tag> {
    let tags = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (bytes, objects) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (file, line) = words.next()?.rsplit_once(':')?;
        let function = words.find_map(|word| word.strip_prefix("func:"))?;
        Some(Tag {
            file: file.to_owned(),
            line: line.parse().ok()?,
            function: function.to_owned(),
            bytes,
            objects,
        })
    });
    let mut tags: Vec<Tag> = tags.filter(|tag| tag.objects > 0).collect();
    tags.sort();
    tags
}

/// Looks the compartment's tags up in the analysis. A tag is the compartment's when its file has confined functions, and the
/// function is one of them: a header's inline functions are, a header's macros are tagged where they are used.
pub fn compare(tags: &[Tag], analysis: &Analysis) -> Comparison {
    let functions: BTreeSet<(&str, &str)> = analysis
        .functions
        .iter()
        .filter(|f| !f.file.starts_with("include/"))
        .map(|f| (f.file.as_str(), f.name.as_str()))
        .collect();
    let mut known = Known::new();
    for site in &analysis.allocation_sites {
        let here = known.entry((&site.file, site.line)).or_default();
        here.push(site);
    }
    let mut places = Places::new();
    for held in tags {
        if functions.contains(&(held.file.as_str(), held.function.as_str())) {
            places
                .entry((&held.file, held.line))
                .or_default()
                .push(held);
        }
    }
    let mut result = Comparison::default();
    for ((file, line), here) in &places {
        result.seen += 1;
        let Some(sites) = sites_of(&known, &places, (file, *line)) else {
            let function = here.first().map_or("", |t| t.function.as_str());
            result.missing.push(format!("{file}:{line} {function}"));
            continue;
        };
        result.known += 1;
        // Several sites on a line cannot be told apart.
        let ([only], [held]) = (sites, here.as_slice()) else {
            continue;
        };
        let Some(size) = only.size else { continue };
        result.sized += 1;
        if !fits(only, size, held) {
            let each = held.bytes / held.objects;
            result.other_size.push(format!(
                "{file}:{line}: {size} bytes in the analysis, {each} in the kernel"
            ));
        }
    }
    result
}

/// Allocation sites by file and line.
type Known<'a> = BTreeMap<(&'a str, u32), Vec<&'a AllocationSite>>;
/// What the kernel holds, by file and line.
type Places<'a> = BTreeMap<(&'a str, u32), Vec<&'a Tag>>;

/// Lines that a call may have.
const CALL_LINES: u32 = 6;

/// The sites of a place. `__LINE__` in a macro is the line where its arguments end, debug information names the one where they
/// begin: without a site on the line itself it is the last one before it that no other place is at.
fn sites_of<'k>(
    known: &'k Known<'k>,
    places: &Places<'_>,
    (file, line): (&'k str, u32),
) -> Option<&'k [&'k AllocationSite]> {
    if let Some(sites) = known.get(&(file, line)) {
        return Some(sites);
    }
    let function = &places.get(&(file, line))?.first()?.function;
    let before = known.range((file, line.saturating_sub(CALL_LINES))..(file, line));
    let ((_, begins), sites) = before.last()?;
    let free = !places.contains_key(&(file, *begins))
        && sites.iter().all(|site| site.function == *function);
    free.then_some(sites)
}

/// The kernel counts what it gives out: for `kmalloc` the size of the general cache, for a dedicated one that of its objects.
fn fits(site: &AllocationSite, requested: u64, tag: &Tag) -> bool {
    let each = tag.bytes / tag.objects;
    let exact = tag.bytes.is_multiple_of(tag.objects);
    match site.family {
        Family::Kmalloc => match GENERAL.iter().find(|&&given| given >= requested) {
            Some(&given) => exact && each == given,
            None => each >= requested,
        },
        Family::PerCpu => true,
        _ => each >= requested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_others_left_out() {
        let text = "allocinfo - version: 1.0\n#     <size>  <calls> <tag info>\n\
             4096 8 net/ipv6/route.c:12 func:rt6_alloc\n\
             0 0 net/ipv6/route.c:13 func:rt6_none\n\
             64 1 net/sched/sch_qfq.c:477 [sch_qfq] func:qfq_change_class\n";
        let tags = parse(text);
        assert_eq!(tags.len(), 2);
        assert_eq!(
            (tags[1].file.as_str(), tags[1].line, tags[1].bytes),
            ("net/sched/sch_qfq.c", 477, 64)
        );
        assert_eq!(tags[1].function, "qfq_change_class");
    }

    fn site(family: Family, size: u64) -> AllocationSite {
        AllocationSite {
            file: "a.c".to_owned(),
            line: 1,
            column: 1,
            function: "f".to_owned(),
            callee: "kmalloc".to_owned(),
            image: "m".to_owned(),
            family,
            cache: None,
            size: Some(size),
            size_argument: None,
            count_argument: None,
            types: Vec::new(),
            because: Vec::new(),
            confined: true,
        }
    }

    fn tag(bytes: u64, objects: u64) -> Tag {
        Tag {
            file: "a.c".to_owned(),
            line: 1,
            function: "f".to_owned(),
            bytes,
            objects,
        }
    }

    #[test]
    fn a_call_of_several_lines_is_found_by_its_end() {
        let one = site(Family::Kmalloc, 64);
        let known = Known::from([(("a.c", 1), vec![&one])]);
        let end = Tag {
            line: 3,
            ..tag(64, 1)
        };
        let places = Places::from([(("a.c", 3), vec![&end])]);
        assert!(sites_of(&known, &places, ("a.c", 3)).is_some());
        let begin = tag(64, 1);
        let taken = Places::from([(("a.c", 1), vec![&begin]), (("a.c", 3), vec![&end])]);
        assert!(sites_of(&known, &taken, ("a.c", 3)).is_none());
        let far = Tag {
            line: 9,
            ..tag(64, 1)
        };
        let places = Places::from([(("a.c", 9), vec![&far])]);
        assert!(sites_of(&known, &places, ("a.c", 9)).is_none());
    }

    #[test]
    fn a_general_cache_gives_its_own_size() {
        assert!(fits(&site(Family::Kmalloc, 65), 65, &tag(192, 2)));
        assert!(!fits(&site(Family::Kmalloc, 65), 65, &tag(128, 1)));
        assert!(fits(&site(Family::Slab, 100), 100, &tag(104, 1)));
        assert!(!fits(&site(Family::Slab, 100), 100, &tag(96, 1)));
    }
}
