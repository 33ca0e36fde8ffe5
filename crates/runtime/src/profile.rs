//! `profile`: how often each checked place was reached, for `otf cost`.

use libbpf_rs::{MapCore, MapFlags};
use otf_artifact::{
    Artifact, FORMAT_VERSION,
    abi::SiteCount,
    diagnostic::{Code, Diagnostic},
    profile::{PlaceHits, Profile},
};

use crate::meta::Meta;
use crate::object::kernel_refused;
use crate::pins::Folder;
use crate::pod;

/// The counts of a loaded bundle; `earlier` is the text of a profile to take off.
pub fn read(folder: &Folder, earlier: Option<(&[u8], &str)>) -> Result<Profile, Diagnostic> {
    let meta = Meta::read(folder)?;
    let map = folder.map("otf_site_counts")?;
    let mut places = Vec::new();
    for (row, site) in meta.plan.checked().enumerate() {
        let raw = map
            .lookup(&(row as u32).to_ne_bytes(), MapFlags::ANY)
            .map_err(|e| kernel_refused("otf_site_counts", &e))?;
        let count: SiteCount = raw.as_deref().and_then(pod::read).unwrap_or_default();
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
