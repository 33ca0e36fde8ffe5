//! Of the thousands of types that headers declare, those that the facts of a file are about.
//!
//! A row is *kept* with its members when the facts mention it, when it lies inside one that is
//! kept, or when it is the pointee of a mentioned pointer. What members merely point to stays as
//! an opaque row; the rest are containers and headers that this file says nothing about.

use crate::{
    facts::{Facts, Shape, Type, TypeId, Types},
    mentions::Mentions,
};

/// How much of a type is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Nothing.
    No,
    /// That it exists: something points to it.
    Opaque,
    /// Everything.
    Whole,
}

/// Moves what the facts mention to the front of the table and gives its number of rows, with the
/// rows of those that need not have members.
pub(crate) fn sort_types(facts: &mut Facts) -> (usize, Vec<TypeId>) {
    let needs = needs(facts);
    let mut order: Vec<usize> = (0..needs.len()).collect();
    order.sort_by_key(|row| needs[*row] == Need::No);
    let mut new = vec![TypeId(0); order.len()];
    for (row, old) in order.iter().enumerate() {
        new[*old] = TypeId(row as u32);
    }
    let moved = |id: &mut TypeId| *id = new[id.0 as usize];
    facts.mentions(&mut |id| moved(id));
    let mut old: Vec<Option<Type>> = std::mem::take(&mut facts.types.0)
        .into_iter()
        .map(Some)
        .collect();
    for row in &order {
        if let Some(mut ty) = old[*row].take() {
            each_part(&mut ty.shape, moved);
            facts.types.0.push(ty);
        }
    }
    let kept = needs.iter().filter(|need| **need != Need::No).count();
    let opaque = (0..kept)
        .filter(|row| needs[order[*row]] == Need::Opaque)
        .map(|row| TypeId(row as u32))
        .filter(|id| facts.types.is_record(*id))
        .collect();
    (kept, opaque)
}

fn each_part(shape: &mut Shape, mut visit: impl FnMut(&mut TypeId)) {
    match shape {
        Shape::Scalar | Shape::Pointer(None) => {}
        Shape::Pointer(Some(to)) => visit(to),
        Shape::Array { element, .. } => visit(element),
        Shape::Function { result, parameters } => {
            result.iter_mut().for_each(&mut visit);
            parameters.iter_mut().flatten().for_each(visit);
        }
        Shape::Record { members, .. } => members.iter_mut().for_each(|m| visit(&mut m.ty)),
    }
}

fn needs(facts: &mut Facts) -> Vec<Need> {
    let mut work = vec![(Types::VOID, Need::Whole)];
    facts.mentions(&mut |id| work.push((*id, Need::Whole)));
    let types = &facts.types;
    // Mentioned pointers (of parameters, of globals) stand for what they point to.
    let pointees: Vec<_> = work
        .iter()
        .filter_map(|(id, _)| types.pointee(*id))
        .collect();
    work.extend(pointees.into_iter().map(|id| (id, Need::Whole)));
    let mut needs = vec![Need::No; types.0.len()];
    while let Some((id, need)) = work.pop() {
        let known = &mut needs[id.0 as usize];
        if *known >= need {
            continue;
        }
        *known = need;
        match &types.get(id).shape {
            Shape::Record { .. } if need == Need::Opaque && !types.get(id).is_anonymous() => {}
            // Without a name there is nothing but the members to know it by.
            Shape::Record { .. } if need == Need::Opaque => work.push((id, Need::Whole)),
            Shape::Record { members, .. } => {
                work.extend(members.iter().map(|m| (m.ty, Need::Whole)));
            }
            Shape::Array { element, .. } => work.push((*element, need)),
            Shape::Pointer(to) => work.extend(to.map(|to| (to, Need::Opaque))),
            Shape::Function { result, parameters } => {
                let all = result.iter().chain(parameters.iter().flatten());
                work.extend(all.map(|id| (*id, Need::Opaque)));
            }
            Shape::Scalar => {}
        }
    }
    needs
}
