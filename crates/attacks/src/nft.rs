//! What `nf_tables` is told, message by message. Names and numbers are those of `linux/netfilter/nf_tables.h`.

use std::io;

use crate::{
    attribute::{Attributes, find, parse},
    netlink::{Batch, dump},
};

/// Family of the tables: IPv4.
pub const IP: i32 = libc::NFPROTO_IPV4;
/// Create it, and complain when it is there already.
pub const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
/// Rules go behind those that are there.
pub const APPEND: i32 = libc::NLM_F_CREATE | libc::NLM_F_APPEND;

/// First of the 16 registers of four bytes.
pub const REG32_00: u32 = 8;
/// First of the four registers of 16 bytes; it shares its bytes with the first four small ones.
pub const REG_1: u32 = 1;
/// Last of the four registers of 16 bytes.
pub const REG_4: u32 = 4;
/// The register that holds the verdict.
pub const REG_VERDICT: u32 = 0;

/// Verdict: let the packet through.
pub const ACCEPT: u32 = 1;
/// Verdict: drop the packet.
pub const DROP: u32 = 0;
/// Verdict: go on in another chain, and come back.
pub const JUMP: u32 = -3i32 as u32;

/// A set whose elements end at a time.
pub const SET_TIMEOUT: u32 = 0x10;
/// A set with ranges.
pub const SET_INTERVAL: u32 = 4;
/// A set that maps keys to data.
pub const SET_MAP: u32 = 8;
/// A set whose keys are made of several fields.
pub const SET_CONCAT: u32 = 0x80;

/// Header that a payload expression counts from.
#[derive(Clone, Copy)]
pub enum Base {
    /// Ethernet.
    Link = 0,
    /// UDP.
    Transport = 2,
}

const LIST_ELEM: u16 = 1;

/// A change of a table.
pub fn table(name: &str) -> Attributes {
    Attributes::new().text(1, name)
}

/// A chain that only jumps lead to.
pub fn chain(table: &str, name: &str) -> Attributes {
    Attributes::new().text(1, table).text(3, name)
}

/// A chain of type filter at hook number `hook`.
pub fn base_chain(table: &str, name: &str, hook: u32, device: Option<&str>) -> Attributes {
    let place = Attributes::new().number(1, hook).number(2, 0);
    let place = match device {
        Some(device) => place.text(3, device),
        None => place,
    };
    chain(table, name).nest(4, &place).text(7, "filter")
}

/// A rule with its expressions in order.
pub fn rule(table: &str, chain: &str, expressions: &[Attributes]) -> Attributes {
    let list = expressions
        .iter()
        .fold(Attributes::new(), |list, expression| {
            list.nest(LIST_ELEM, expression)
        });
    Attributes::new()
        .text(1, table)
        .text(2, chain)
        .nest(4, &list)
}

/// A set, up to what its kind needs; `id` refers to it within the batch.
pub fn set(table: &str, name: &str, flags: u32, key_bytes: u32, id: u32) -> Attributes {
    Attributes::new()
        .text(1, table)
        .text(2, name)
        .number(3, flags)
        .number(5, key_bytes)
        .number(10, id)
}

/// Elements for a set.
pub fn elements(table: &str, set: &str, elements: &[Attributes]) -> Attributes {
    let list = elements.iter().fold(Attributes::new(), |list, element| {
        list.nest(LIST_ELEM, element)
    });
    Attributes::new().text(1, table).text(2, set).nest(3, &list)
}

/// An element with a key alone.
pub fn element(key: &[u8]) -> Attributes {
    Attributes::new().nest(1, &value(key))
}

/// Data that is a value.
pub fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(1, bytes)
}

/// Data that is a verdict; jumps have a chain.
pub fn verdict(code: u32, chain: Option<&str>) -> Attributes {
    let inner = Attributes::new().number(1, code);
    let inner = match chain {
        Some(chain) => inner.text(2, chain),
        None => inner,
    };
    Attributes::new().nest(2, &inner)
}

/// An expression of any kind.
pub fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::new().text(1, name).nest(2, data)
}

/// Puts data into a register.
pub fn immediate(register: u32, data: &Attributes) -> Attributes {
    let data = Attributes::new().number(1, register).nest(2, data);
    expression("immediate", &data)
}

/// Ends the rule with a verdict.
pub fn end(code: u32, chain: Option<&str>) -> Attributes {
    immediate(REG_VERDICT, &verdict(code, chain))
}

/// Loads bytes of the packet.
pub fn payload(register: u32, base: Base, offset: u32, length: u32) -> Attributes {
    let data = Attributes::new()
        .number(1, register)
        .number(2, base as u32)
        .number(3, offset)
        .number(4, length);
    expression("payload", &data)
}

/// Looks a register up in a set; the rule ends here if it is not in it.
pub fn lookup(set: &str, register: u32) -> Attributes {
    let data = Attributes::new().text(1, set).number(2, register);
    expression("lookup", &data)
}

/// Counts packets.
pub fn counter() -> Attributes {
    expression("counter", &Attributes::new())
}

/// The rule goes on for packets to this UDP or TCP port alone.
pub fn to_port(port: u16) -> Vec<Attributes> {
    let equal = Attributes::new()
        .number(1, REG32_00)
        .number(2, 0)
        .nest(3, &value(&port.to_be_bytes()));
    vec![
        payload(REG32_00, Base::Transport, 2, 2),
        expression("cmp", &equal),
    ]
}

/// Deletes a table with all that is in it.
pub fn delete_table(name: &str, family: i32) -> io::Result<()> {
    Batch::new()
        .add(libc::NFT_MSG_DELTABLE, family, 0, &table(name))
        .send()
}

/// Key and user data of every element that a set of family IPv4 has.
pub fn held(table: &str, set: &str) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let request = Attributes::new().text(1, table).text(2, set);
    let mut found = Vec::new();
    for answer in dump(libc::NFT_MSG_GETSETELEM, IP, &request)? {
        for (_, element) in parse(find(&answer, 3).unwrap_or_default()) {
            let key = find(element, 1).and_then(|data| find(data, 1));
            let note = find(element, 6);
            found.push((
                key.unwrap_or_default().to_vec(),
                note.unwrap_or_default().to_vec(),
            ));
        }
    }
    Ok(found)
}
