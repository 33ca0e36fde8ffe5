//! Signatures as text: `RESULT|PARAMETER|…`, with one class per type.
//!
//! `v` nothing, `iN` a number of N bytes, `p` an untyped pointer or one to numbers, `pNAME` to a
//! structure, `pf` to a function, `pp` to a pointer, `rNAME` a structure by value, `?` unknown. A
//! text that begins with `~` was made from the arguments of a call.

use crate::{
    extract::slots::layout::element,
    facts::{Shape, TypeId, Types},
    ir::{Type, Value},
};

/// Signature of a function type or of a declared function.
pub(super) fn declared(
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
pub(super) fn of_type(types: &Types, function: TypeId) -> String {
    match &types.get(function).shape {
        Shape::Function { result, parameters } => declared(types, *result, parameters),
        _ => "?".into(),
    }
}

/// What a call's arguments say about the signature; `None` for a variadic one.
pub(super) fn of_call(call: Value<'_>) -> Option<String> {
    if call.is_variadic_call() {
        return None;
    }
    let mut text = format!("~{}", ir_class(call.ty()));
    for index in 0..call.argument_count() {
        text.push('|');
        text += &call.operand(index).map_or("?".into(), |v| ir_class(v.ty()));
    }
    Some(text)
}

fn ir_class(ty: Type<'_>) -> String {
    if ty.is_pointer() {
        "p".into()
    } else if ty.width() > 0 {
        format!("i{}", ty.width().div_ceil(8))
    } else {
        "?".into()
    }
}

fn class(types: &Types, ty: Option<TypeId>) -> String {
    let Some(ty) = ty else { return "v".into() };
    let row = types.get(ty);
    match &row.shape {
        Shape::Scalar => format!("i{}", row.size),
        Shape::Record { .. } => format!("r{}", row.name),
        Shape::Pointer(None) => "p".into(),
        Shape::Pointer(Some(to)) => {
            let to = types.get(element(types, *to));
            match to.shape {
                Shape::Record { .. } => format!("p{}", to.name),
                Shape::Function { .. } => "pf".into(),
                Shape::Pointer(_) => "pp".into(),
                _ => "p".into(),
            }
        }
        Shape::Array { .. } => "p".into(),
        Shape::Function { .. } => "pf".into(),
    }
}
