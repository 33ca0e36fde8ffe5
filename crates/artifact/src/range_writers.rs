//! Functions outside the compartment that write a range of memory on behalf of their caller.
//!
//! A direct call of one of these is a site: the destination is checked before the call.

use crate::sites::Register;

/// What the function returns, so that a call that was not executed can be made to look refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Its destination argument.
    Destination,
    /// How many bytes it did *not* copy.
    Left,
    /// Nothing, or something that cannot be made up.
    Other,
}

/// How many bytes the function writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeLength {
    /// Always this many.
    Constant(u32),
    /// The value of a register times a factor.
    Register(Register, u32),
    /// Only known when the function has run.
    Unknown,
}

/// A range-writing function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeWriter {
    /// Symbol.
    pub symbol: &'static str,
    /// Register of the destination at the call.
    pub destination: Register,
    /// Length at the call.
    pub length: RangeLength,
    /// Result.
    pub returns: Returns,
}

/// The range-writing function with this symbol.
pub fn find(symbol: &str) -> Option<&'static RangeWriter> {
    // Sorted by symbol: a test holds that.
    RANGE_WRITERS
        .binary_search_by(|w| w.symbol.cmp(symbol))
        .ok()
        .map(|row| &RANGE_WRITERS[row])
}

const fn at_di(symbol: &'static str, length: RangeLength, returns: Returns) -> RangeWriter {
    RangeWriter {
        symbol,
        destination: Register::Di,
        length,
        returns,
    }
}

/// `f(destination, _, bytes)` that returns its destination.
const fn mem(symbol: &'static str) -> RangeWriter {
    at_di(
        symbol,
        RangeLength::Register(Register::Dx, 1),
        Returns::Destination,
    )
}

/// `f(destination, _, elements)` with elements of `size` bytes.
const fn fill(symbol: &'static str, size: u32) -> RangeWriter {
    at_di(
        symbol,
        RangeLength::Register(Register::Dx, size),
        Returns::Destination,
    )
}

/// `f(destination, source, bytes)` that returns what it did not copy.
const fn copy(symbol: &'static str) -> RangeWriter {
    at_di(
        symbol,
        RangeLength::Register(Register::Dx, 1),
        Returns::Left,
    )
}

/// `f(destination, source, bytes)` that returns something else.
const fn bounded(symbol: &'static str) -> RangeWriter {
    at_di(
        symbol,
        RangeLength::Register(Register::Dx, 1),
        Returns::Other,
    )
}

/// `f(destination, bytes, …)`.
const fn sized(symbol: &'static str) -> RangeWriter {
    at_di(
        symbol,
        RangeLength::Register(Register::Si, 1),
        Returns::Other,
    )
}

/// One page at `di`.
const fn page(symbol: &'static str) -> RangeWriter {
    at_di(symbol, RangeLength::Constant(4096), Returns::Other)
}

/// A replacement of `rep movs` or `rep stos`: length and rest in `cx`.
const fn rep(symbol: &'static str) -> RangeWriter {
    at_di(
        symbol,
        RangeLength::Register(Register::Cx, 1),
        Returns::Other,
    )
}

/// The end is where the source ends.
const fn string(symbol: &'static str) -> RangeWriter {
    at_di(symbol, RangeLength::Unknown, Returns::Destination)
}

/// `f(skb, offset, destination, bytes)`.
const fn from_skb(symbol: &'static str) -> RangeWriter {
    RangeWriter {
        symbol,
        destination: Register::Dx,
        length: RangeLength::Register(Register::Cx, 1),
        returns: Returns::Other,
    }
}

/// Every range-writing function, sorted by symbol.
pub const RANGE_WRITERS: &[RangeWriter] = &[
    copy("__copy_user_nocache"),
    mem("__memcpy"),
    copy("__memcpy_flushcache"),
    mem("__memmove"),
    mem("__memset"),
    sized("_copy_from_iter"),
    sized("_copy_from_iter_nocache"),
    copy("_copy_from_user"),
    page("clear_page_erms"),
    page("clear_page_orig"),
    page("clear_page_rep"),
    bounded("copy_from_kernel_nofault"),
    copy("copy_from_user"),
    page("copy_page"),
    sized("get_random_bytes"),
    mem("memcpy"),
    bounded("memcpy_fromio"),
    mem("memmove"),
    mem("memset"),
    fill("memset16", 2),
    fill("memset32", 4),
    fill("memset64", 8),
    bounded("nla_memcpy"),
    rep("rep_movs_alternative"),
    bounded("sized_strscpy"),
    from_skb("skb_copy_bits"),
    string("stpcpy"),
    string("strcpy"),
    bounded("strlcpy"),
    mem("strncpy"),
    bounded("strncpy_from_user"),
    bounded("strscpy"),
    bounded("strscpy_pad"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        for pair in RANGE_WRITERS.windows(2) {
            assert!(pair[0].symbol < pair[1].symbol, "{}", pair[1].symbol);
        }
    }

    #[test]
    fn found_by_symbol() {
        let copy = find("_copy_from_user").unwrap();
        assert_eq!(copy.length, RangeLength::Register(Register::Dx, 1));
        assert_eq!(copy.returns, Returns::Left);
        assert_eq!(find("memcmp"), None);
    }
}
