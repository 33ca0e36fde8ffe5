//! `profile`: how often each checked place was reached, for `otf cost` and the budgets of a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;

use otf_artifact::{
    Artifact, FORMAT_VERSION,
    diagnostic::{Code, Diagnostic},
    profile::{Operation, PlaceHits, Profile},
};

use crate::host::{Host, sysctl};
use crate::meta::Meta;
use crate::object::kernel_refused;
use crate::pins::Folder;
use crate::{status, sys};

/// The counts of a loaded bundle; `earlier` is the text of a profile to take off.
pub fn read(
    folder: &Folder,
    host: &Host,
    operation: Option<Operation>,
    earlier: Option<(&[u8], &str)>,
) -> Result<Profile, Diagnostic> {
    let meta = Meta::read(folder)?;
    let counts = status::site_counts(folder, &meta, host)?;
    let mut places = Vec::new();
    let checks = meta.plan.probes.iter();
    let probed: BTreeSet<u32> = checks.filter_map(|p| meta.plan.checked_row(p)).collect();
    // What has no probe under this action was not reached 0 times: nobody counted.
    let rows = meta.plan.checked().zip(&counts).zip(0..);
    for ((site, count), _) in rows.filter(|(_, row)| probed.contains(row)) {
        let image = meta.plan.images.get(site.location.image.index());
        places.push(PlaceHits {
            image: image.map_or_else(String::new, |image| image.name.clone()),
            section: site.location.section.clone(),
            offset: site.location.offset,
            hits: count.hits,
        });
    }
    places.sort();
    let profile = Profile {
        version: FORMAT_VERSION,
        runs: runs(folder, &meta, host)?,
        operation,
        compartment: meta.manifest.compartment,
        release: meta.manifest.release,
        bundle: meta.bundle,
        places,
    };
    let Some((bytes, name)) = earlier else {
        return Ok(profile);
    };
    profile
        .since(&Profile::read(bytes, name)?)
        .map_err(|why| Diagnostic::error(Code::BadArtifact, format!("{name}: {why}")))
}

/// Runs of every program, if the kernel counts them. Without the guard programs run for every free of
/// the machine, which says nothing of a load with it.
fn runs(folder: &Folder, meta: &Meta, host: &Host) -> Result<BTreeMap<String, u64>, Diagnostic> {
    let mut runs = BTreeMap::new();
    let counted = sysctl::get(host, sysctl::COUNT_RUNS).is_some_and(|value| value == "1");
    if !counted || meta.guarded.is_none() {
        return Ok(runs);
    }
    for name in Folder::pins(&folder.programs())? {
        let count = sys::open_pin(&folder.programs().join(&name))
            .and_then(|fd| sys::runs(fd.as_fd()))
            .map_err(|e| kernel_refused(&name, &e))?;
        runs.insert(name, count);
    }
    Ok(runs)
}
