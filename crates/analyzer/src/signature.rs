//! Signatures of functions as text: `RESULT|PARAMETER|…`, with one class per type.
//!
//! `v` nothing, `iN` a number of N bytes, `p` an untyped pointer or one to numbers, `pNAME` to a
//! structure, `pf` to a function, `pp` to a pointer, `rNAME` a structure by value, `?` unknown. A
//! text that begins with `~` was made from the arguments of a call, and says less.

use crate::types::{Shape, TypeId, Types};

/// The type of the functions that a type is a pointer to.
pub(crate) fn function_type(types: &Types, ty: TypeId) -> Option<TypeId> {
    types
        .pointee(ty)
        .filter(|to| matches!(types.get(*to).shape, Shape::Function { .. }))
}

/// Element of an array type, however many dimensions.
pub(crate) fn element(types: &Types, mut ty: TypeId) -> TypeId {
    while let Shape::Array { element, .. } = types.get(ty).shape {
        ty = element;
    }
    ty
}

/// Signature of a declared function.
pub(crate) fn declared(
    types: &Types,
    result: Option<TypeId>,
    parameters: &[Option<TypeId>],
) -> String {
    let mut text = class(types, result);
    for parameter in parameters {
        text.push('|');
        text += &class(types, *parameter);
    }
    text
}

/// Signature of a function type.
pub(crate) fn of_type(types: &Types, function: TypeId) -> String {
    match &types.get(function).shape {
        Shape::Function { result, parameters } => declared(types, *result, parameters),
        _ => "?".into(),
    }
}

fn class(types: &Types, ty: Option<TypeId>) -> String {
    let Some(ty) = ty else { return "v".into() };
    let row = types.get(ty);
    match &row.shape {
        Shape::Scalar => format!("i{}", row.size),
        Shape::Record { .. } => format!("r{}", row.name),
        Shape::Pointer(None) | Shape::Array { .. } => "p".into(),
        Shape::Pointer(Some(to)) => {
            let to = types.get(element(types, *to));
            match to.shape {
                Shape::Record { .. } => format!("p{}", to.name),
                Shape::Function { .. } => "pf".into(),
                Shape::Pointer(_) => "pp".into(),
                _ => "p".into(),
            }
        }
        Shape::Function { .. } => "pf".into(),
    }
}

/// Whether a function of signature `function` may be what a call of signature `call` reaches.
///
/// Differences that C code has and machines do not see are ignored: numbers of any size,
/// `void *` for any pointer, an address as a number, a result that nobody looks at.
pub(crate) fn agree(call: &str, function: &str) -> bool {
    if call == function || call == "?" || function == "?" {
        return true;
    }
    let (call, rough) = match call.strip_prefix('~') {
        Some(rest) => (rest, true),
        None => (call, false),
    };
    // Structures by value are spread over arguments.
    if rough && function.split('|').any(|class| class.starts_with('r')) {
        return true;
    }
    let mut call = call.split('|');
    let mut function = function.split('|');
    let results = (call.next().unwrap_or("?"), function.next().unwrap_or("?"));
    if results.0 != "v" && !same(results.0, results.1) {
        return false;
    }
    loop {
        match (call.next(), function.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if same(a, b) => {}
            _ => return false,
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    if a == b || a == "?" || b == "?" {
        return true;
    }
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'i'), Some(b'i')) => true,
        (Some(b'p'), Some(b'p')) => a == "p" || b == "p",
        (Some(b'p'), Some(b'i')) => b == "i8",
        (Some(b'i'), Some(b'p')) => a == "i8",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::agree;

    #[test]
    fn what_agrees() {
        for (call, function) in [
            ("v|p", "i4|pstruct sock"),
            ("i4|i4|pstruct sk_buff", "i8|i1|p"),
            ("~?|p|i4", "v|pstruct sock|i4"),
            ("~?|p|p|p", "rstruct pair|i4"),
            ("i4|i8", "i4|pstruct sock"),
            ("?", "v"),
        ] {
            assert!(agree(call, function), "{call} reaches {function}");
        }
    }

    #[test]
    fn what_does_not_agree() {
        for (call, function) in [
            ("v|pstruct sock", "v|pstruct sk_buff"),
            ("v|p", "v|p|p"),
            ("v|p|p", "v|p"),
            ("i4|p", "v|p"),
            ("v|i4", "v|p"),
            ("v|pf", "v|pp"),
        ] {
            assert!(!agree(call, function), "{call} reaches {function}");
        }
    }
}
