//! What a call's arguments say about the signature of what it calls.

use crate::bitcode::{Type, Value};

/// Signature of a call through a pointer; `None` for a variadic one.
pub(super) fn of_call(call: Value<'_>) -> Option<String> {
    if call.is_variadic_call() {
        return None;
    }
    let mut text = format!("~{}", class(call.ty()));
    for index in 0..call.argument_count() {
        text.push('|');
        text += &call.operand(index).map_or("?".into(), |v| class(v.ty()));
    }
    Some(text)
}

fn class(ty: Type<'_>) -> String {
    if ty.is_pointer() {
        "p".into()
    } else if ty.width() > 0 {
        format!("i{}", ty.width().div_ceil(8))
    } else {
        "?".into()
    }
}
