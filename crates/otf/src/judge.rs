//! `otf judge`: recordings against the legal sets of a folder.

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    recording::{CodePlace, Recording, SeenObject},
    sites::{CallSite, Site, Sites},
};
use otf_evaluation::{Judgement, Outside, OutsideTarget};

use crate::{
    cli::{self, Format},
    files,
    render::{self, Failure},
};

/// Frames of an allocation that a message shows.
const FRAMES: usize = 6;

/// Prints the figures and what is outside; whether nothing is.
pub fn judge(args: &cli::Judge, format: Format) -> Result<bool, Failure> {
    let path = args.dir.join("sites.json");
    let sites: Sites = files::read_artifact(&path)?;
    let places = places(&sites)?;
    let mut recordings = Vec::new();
    for path in &args.recordings {
        let recording: Recording = files::read_artifact(path)?;
        if recording.places != places {
            let message = "the recording was made with other sites than this folder's";
            return Err(Diagnostic::error(Code::BadArtifact, message)
                .at(path.display().to_string(), 0, 0)
                .help("record again with `otf compile DIR --record`")
                .into());
        }
        recordings.push(recording);
    }
    let judgement = otf_evaluation::judge(&sites, &recordings);
    match format {
        Format::Json => render::line(&serde_json::to_string_pretty(&judgement).map_err(|e| {
            Diagnostic::error(Code::InvariantBroken, format!("cannot be written: {e}"))
        })?)?,
        Format::Text => text(&judgement, &sites)?,
    }
    Ok(judgement.outside.is_empty() && judgement.outside_targets.is_empty())
}

/// SHA-256 of what the rows of a recording depend on: the images, and where sites and calls lie.
pub fn places(sites: &Sites) -> Result<String, Failure> {
    let images: Vec<_> = sites
        .images
        .iter()
        .map(|i| (&i.name, &i.build_id))
        .collect();
    let stores: Vec<_> = sites.sites.iter().map(|s| &s.location).collect();
    let calls: Vec<_> = sites.calls.iter().map(|c| &c.location).collect();
    let json = serde_json::to_vec(&(images, stores, calls)).map_err(|e| {
        Diagnostic::error(
            Code::InvariantBroken,
            format!("sites cannot be hashed: {e}"),
        )
    })?;
    Ok(otf_bundle::sha256(&json))
}

fn text(judgement: &Judgement, sites: &Sites) -> Result<(), Failure> {
    for outside in &judgement.outside {
        render::line(&write(outside, sites).to_string())?;
    }
    for outside in &judgement.outside_targets {
        render::line(&call(outside, sites).to_string())?;
    }
    let Judgement {
        sites: all,
        attached_sites,
        executed_sites,
        pairs_seen,
        pairs_outside,
        pairs_wide,
        pairs_older,
        writes_seen,
        calls,
        executed_calls,
        targets_seen,
        targets_outside,
        targets_wide,
        ..
    } = judgement;
    render::line(&format!(
        "sites {all}, attached {attached_sites}, executed {executed_sites}\n\
         pairs {pairs_seen}, outside {pairs_outside}, by a wide rule alone {pairs_wide}, \
         by layout alone {pairs_older} ({writes_seen} distinct writes)\n\
         indirect calls {calls}, executed {executed_calls}, targets {targets_seen}, \
         outside {targets_outside}, by an unknown flow alone {targets_wide}"
    ))?;
    for (reason, count) in &judgement.lost {
        render::line(&format!("lost: {reason}: {count}"))?;
    }
    Ok(())
}

fn write(outside: &Outside, sites: &Sites) -> Diagnostic {
    let pair = &outside.pair;
    let site: Option<&Site> = sites.sites.get(pair.site.index());
    let place = site.map_or_else(
        || format!("site {}", pair.site.0),
        |site| {
            let location = &site.location;
            format!(
                "`{}` at {}+{:#x}",
                site.text, location.symbol, location.symbol_offset
            )
        },
    );
    let message = format!(
        "{place} wrote {} bytes at {:+#x} of {} ({} times): {}",
        pair.length,
        pair.offset,
        object(&pair.object, &outside.allocated_at),
        pair.count,
        outside.why.text(),
    );
    let legal = site.and_then(|site| sites.legal_sets.get(site.legal.index()));
    let legal = legal.map(|set| otf_policygen::describe(set, &sites.analysis));
    let diagnostic = Diagnostic::error(Code::OutsideLegalSet, message)
        .help(format!("legal is: {}", legal.unwrap_or_default()));
    match site.and_then(|site| site.chain.first()) {
        Some(frame) => diagnostic.at(&frame.file, frame.line, frame.column),
        None => diagnostic,
    }
}

fn call(outside: &OutsideTarget, sites: &Sites) -> Diagnostic {
    let pair = &outside.pair;
    let call: Option<&CallSite> = sites.calls.get(pair.call.index());
    let place = call.map_or_else(
        || format!("call {}", pair.call.0),
        |call| {
            let location = &call.location;
            format!(
                "`{}` at {}+{:#x}",
                call.text, location.symbol, location.symbol_offset
            )
        },
    );
    let message = format!(
        "{place} led to {} of {} ({} times), which is no legal target",
        pair.target.symbol, pair.target.image, pair.count
    );
    let set = call.and_then(|call| sites.target_sets.get(call.targets.index()));
    let names: Vec<&str> = set
        .into_iter()
        .flat_map(|set| &set.targets)
        .filter_map(|id| sites.analysis.targets.get(id.index()))
        .map(|target| target.symbol.as_str())
        .collect();
    let diagnostic = Diagnostic::error(Code::OutsideLegalSet, message)
        .help(format!("legal is: {}", names.join(", ")));
    match call.and_then(|call| call.chain.first()) {
        Some(frame) => diagnostic.at(&frame.file, frame.line, frame.column),
        None => diagnostic,
    }
}

fn object(object: &SeenObject, allocated_at: &[CodePlace]) -> String {
    let from = || {
        let frames: Vec<&str> = allocated_at
            .iter()
            .take(FRAMES)
            .map(|f| f.symbol.as_str())
            .collect();
        if frames.is_empty() {
            "older than the recording".to_owned()
        } else {
            format!("from {}", frames.join(" < "))
        }
    };
    let bytes =
        |size: &Option<u64>| size.map_or("of unknown size".into(), |s| format!("of {s} bytes"));
    match object {
        SeenObject::Stack { alive: false, .. } => "the stack below the stack pointer".into(),
        SeenObject::Stack { frame, gate, .. } => {
            format!("a stack (frame {frame:?}, gate {gate:?})")
        }
        SeenObject::Global(place) => format!("global {} of {}", place.symbol, place.image),
        SeenObject::PerCpu => "per-CPU memory".into(),
        SeenObject::User => "user memory".into(),
        SeenObject::Slab {
            cache, object_size, ..
        } => format!("an object of {cache} ({object_size} bytes), {}", from()),
        SeenObject::Kfence => "an object in the KFENCE pool".into(),
        SeenObject::Pages { object_size, .. } => {
            format!("pages {}, {}", bytes(object_size), from())
        }
        SeenObject::Vmalloc { object_size, .. } => {
            format!("a vmalloc area {}, {}", bytes(object_size), from())
        }
        SeenObject::PageStruct => "a struct page".into(),
        SeenObject::Other => "no object".into(),
    }
}
