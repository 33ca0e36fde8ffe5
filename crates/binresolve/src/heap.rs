//! Calls in the compartment's code that obtain memory from general caches, which a private heap can serve.

use iced_x86::{FlowControl, Instruction};
use otf_artifact::{allocators, analysis::Family, sites::HeapCall};

use crate::{confined::Confined, decode::destination};

/// Allocators that the guard can stand in for; it knows their arguments.
const SERVED: [&str; 7] = [
    "__kmalloc_cache_node_noprof",
    "__kmalloc_cache_noprof",
    "__kmalloc_node_noprof",
    "__kmalloc_node_track_caller_noprof",
    "__kmalloc_noprof",
    "__kvmalloc_node_noprof",
    "kmemdup_noprof",
];
/// A direct call or jump with a distance of four bytes.
const LENGTH: usize = 5;

/// Every call of an allocator, by place.
pub fn calls(confined: &Confined<'_>) -> Vec<HeapCall> {
    let mut calls: Vec<HeapCall> = confined
        .code
        .all
        .iter()
        .filter_map(|instruction| call(confined, instruction))
        .collect();
    calls.sort_by(|a, b| crate::in_order(&a.location, &b.location));
    calls
}

fn call(confined: &Confined<'_>, instruction: &Instruction) -> Option<HeapCall> {
    let image = &confined.image;
    let callee = destination(image, instruction)?.symbol;
    let family = allocators::find(callee)?.family;
    if !matches!(family, Family::Kmalloc | Family::Kvmalloc) {
        return None;
    }
    let (start, end) = (instruction.ip(), instruction.next_ip());
    let conditional = instruction.flow_control() == FlowControl::ConditionalBranch;
    let general = if !SERVED.contains(&callee) {
        Some(format!("{callee} allocates by itself"))
    } else if conditional || instruction.len() != LENGTH {
        Some("not an ordinary call or jump".to_owned())
    } else {
        confined.tables.refusal(image, start, end)
    };
    Some(HeapCall {
        location: image.location(start),
        callee: callee.to_owned(),
        general,
    })
}
