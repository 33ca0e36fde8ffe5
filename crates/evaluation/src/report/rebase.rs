//! A recording of a large compartment as one of a part of it: the sites of `net/ipv6/ip6_output.c` are sites of `ipv6` too.

use std::collections::BTreeMap;

use otf_artifact::{
    ids::{CallSiteId, SiteId},
    recording::{CallPair, Pair, Recording, SeenObject, Side},
    sites::{Location, Sites},
};

/// Where code lies, whatever number the image has: image, section, offset.
type Place<'a> = (&'a str, &'a str, u64);

/// The part of `recording`, made with the sites `from`, that is about sites of `to`; `sites` is the hash of `to`'s file.
/// Sites are the same when image, section and offset are.
///
/// The part has more gates than the whole. So an address within the whole's outermost gate may be beyond the part's: the
/// relation to the gate becomes unknown, unless the address was beyond the whole's, which is farther out.
pub fn rebase(recording: &Recording, from: &Sites, to: &Sites, sites: String) -> Recording {
    let site_places = places(to, to.sites.iter().map(|s| &s.location));
    let call_places = places(to, to.calls.iter().map(|c| &c.location));
    let site = |id: SiteId| {
        let location = &from.sites.get(id.index())?.location;
        site_places.get(&place(from, location)?).map(|&n| SiteId(n))
    };
    let call = |id: CallSiteId| {
        let location = &from.calls.get(id.index())?.location;
        call_places
            .get(&place(from, location)?)
            .map(|&n| CallSiteId(n))
    };
    let mut pairs: Vec<Pair> = recording
        .pairs
        .iter()
        .filter_map(|pair| {
            Some(Pair {
                site: site(pair.site)?,
                object: seen(&pair.object),
                ..pair.clone()
            })
        })
        .collect();
    pairs.sort();
    let mut calls: Vec<CallPair> = recording
        .calls
        .iter()
        .filter_map(|pair| {
            Some(CallPair {
                call: call(pair.call)?,
                ..pair.clone()
            })
        })
        .collect();
    calls.sort();
    let mut attached: Vec<_> = recording
        .attached
        .iter()
        .copied()
        .filter_map(site)
        .collect();
    attached.sort();
    let mut attached_calls: Vec<_> = recording
        .attached_calls
        .iter()
        .copied()
        .filter_map(call)
        .collect();
    attached_calls.sort();
    Recording {
        compartment: to.analysis.compartment.clone(),
        sites,
        attached,
        attached_calls,
        pairs,
        calls,
        ..recording.clone()
    }
}

fn seen(object: &SeenObject) -> SeenObject {
    match object {
        SeenObject::Stack { alive, frame, gate } => SeenObject::Stack {
            alive: *alive,
            frame: *frame,
            gate: match gate {
                Side::Beyond => Side::Beyond,
                Side::Within | Side::Unknown => Side::Unknown,
            },
        },
        other => other.clone(),
    }
}

fn place<'a>(sites: &'a Sites, location: &'a Location) -> Option<Place<'a>> {
    let image = sites.images.get(location.image.index())?;
    Some((&image.name, &location.section, location.offset))
}

fn places<'a>(
    sites: &'a Sites,
    locations: impl Iterator<Item = &'a Location>,
) -> BTreeMap<Place<'a>, u32> {
    (0..)
        .zip(locations)
        .filter_map(|(number, location)| Some((place(sites, location)?, number)))
        .collect()
}
