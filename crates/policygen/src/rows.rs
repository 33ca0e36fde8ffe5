//! Rows of the generated tables as bytes, field by field in the order of `otf_abi.h`, little-endian.

use otf_artifact::abi;

/// A row of a table in `.rodata`.
pub trait Row {
    /// Appends the bytes of the row, padding included.
    fn encode(&self, out: &mut Vec<u8>);
}

/// All rows, one after the other.
pub fn encode<R: Row>(rows: &[R]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        row.encode(&mut bytes);
    }
    bytes
}

macro_rules! scalars {
    ($($type:ty),*) => {$(
        impl Row for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        }
    )*};
}

scalars!(u8, u16, u32, u64, i64);

impl<R: Row, const N: usize> Row for [R; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        for row in self {
            row.encode(out);
        }
    }
}

macro_rules! rows {
    ($($type:ident { $($field:ident),* })*) => {$(
        impl Row for abi::$type {
            fn encode(&self, out: &mut Vec<u8>) {
                // Without `..`: a new field does not compile until it is encoded.
                let abi::$type { $($field),* } = self;
                $($field.encode(out);)*
            }
        }
    )*};
}

rows! {
    Site { displacement, legal, size, frame_size, shape, length, flags, insn_len, action, symbol, gates, saved, canary, pointer, release, release_gates, pad }
    GateSet { gates }
    Legal { first_place, places, first_global, globals, first_passed, passed, otherwise, stack, flags }
    Passed { function, size, argument }
    Place { offset, stride, count, size, object_min, object_max, allocations, cache, pad }
    Gate { refusal, instance, pad }
    Call { displacement, targets, shape, symbol, gates, memory, insn_len, action, flags, pad }
    NameWord { word, mask }
    Return { gate, action, pad }
    Alloc { size, size_arg, count_arg, is_order, pad }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_row<R: Row + Default>() -> (usize, usize) {
        (encode(&[R::default()]).len(), size_of::<R>())
    }

    #[test]
    fn rows_have_the_size_of_their_structs() {
        for (encoded, in_memory) in [
            size_of_row::<abi::Site>(),
            size_of_row::<abi::Legal>(),
            size_of_row::<abi::Passed>(),
            size_of_row::<abi::Place>(),
            size_of_row::<abi::Gate>(),
            size_of_row::<abi::Alloc>(),
            size_of_row::<abi::Call>(),
            size_of_row::<abi::Return>(),
        ] {
            assert_eq!(encoded, in_memory);
        }
    }
}
