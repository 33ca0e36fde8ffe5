//! Functions outside the compartment that free an object on behalf of their caller.
//!
//! A direct call of one of these is a site: what is freed is checked before the call.

use crate::sites::Register;

/// A freeing function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freer {
    /// Symbol.
    pub symbol: &'static str,
    /// Argument (from 0) that is the object.
    pub argument: usize,
}

impl Freer {
    /// Register of the object at the call.
    pub fn register(self) -> Register {
        if self.argument == 0 {
            Register::Di
        } else {
            Register::Si
        }
    }
}

/// The freeing function with this symbol.
pub fn find(symbol: &str) -> Option<Freer> {
    FREERS.iter().copied().find(|f| f.symbol == symbol)
}

/// Every freeing function. Not those that count references (`kfree_skb`), nor `call_rcu`, whose
/// callback frees.
pub const FREERS: &[Freer] = &[
    at(0, "kfree"),
    at(0, "kfree_sensitive"),
    at(0, "kvfree"),
    at(0, "kvfree_sensitive"),
    at(1, "kmem_cache_free"),
    // kfree_rcu and kvfree_rcu: `(head, object)`.
    at(1, "kvfree_call_rcu"),
];

const fn at(argument: usize, symbol: &'static str) -> Freer {
    Freer { symbol, argument }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_by_symbol() {
        assert_eq!(find("kfree").map(Freer::register), Some(Register::Di));
        assert_eq!(
            find("kvfree_call_rcu").map(Freer::register),
            Some(Register::Si)
        );
        assert_eq!(find("kfree_skb"), None);
    }
}
