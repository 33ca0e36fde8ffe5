//! Whether `nf_tables` still serves others: a table of its own, a set, chains, rules, and packets through them.

use std::{
    env, io,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    netlink::{Batch, dump},
    nft, packet,
};

const TABLE: &str = "otf_alive";
const DROPPED: u16 = 4101;
const PASSED: u16 = 4102;
/// A damaged kernel may never answer; this is long for a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs [`serve`] in a process of its own, as it may hang for ever in the kernel.
pub fn watch() -> io::Result<()> {
    let mut child = Command::new(env::current_exe()?).arg("serve").spawn()?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(io::Error::other(format!("service: {status}")))
            };
        }
        thread::sleep(Duration::from_millis(20));
    }
    // If it hangs in the kernel it does not die either: it is left behind.
    child.kill()?;
    Err(io::Error::other(
        "nf_tables does not answer within 30 seconds",
    ))
}

/// The service itself.
pub fn serve() -> io::Result<()> {
    let mut in_set = vec![nft::payload(nft::REG32_00, nft::Base::Transport, 2, 2)];
    in_set.push(nft::lookup("ports", nft::REG32_00));
    in_set.push(nft::counter());
    in_set.push(nft::end(nft::DROP, None));
    Batch::new()
        .add(
            libc::NFT_MSG_NEWTABLE,
            nft::IP,
            nft::CREATE,
            &nft::table(TABLE),
        )
        .add(
            libc::NFT_MSG_NEWSET,
            nft::IP,
            nft::CREATE,
            &nft::set(TABLE, "ports", 0, 2, 1),
        )
        .add(
            libc::NFT_MSG_NEWSETELEM,
            nft::IP,
            nft::CREATE,
            &nft::elements(
                TABLE,
                "ports",
                &[
                    nft::element(&DROPPED.to_be_bytes()),
                    nft::element(&9u16.to_be_bytes()),
                ],
            ),
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
            &nft::rule(TABLE, "output", &[nft::end(nft::JUMP, Some("inner"))]),
        )
        .add(
            libc::NFT_MSG_NEWRULE,
            nft::IP,
            nft::APPEND,
            &nft::rule(TABLE, "inner", &in_set),
        )
        .send()?;
    expect(
        packet::arrives(PASSED)?,
        "a packet that no rule drops is lost",
    )?;
    expect(
        !packet::arrives(DROPPED)?,
        "a packet that a rule drops gets through",
    )?;
    let held = dump(
        libc::NFT_MSG_GETSETELEM,
        nft::IP,
        &nft::elements(TABLE, "ports", &[]),
    )?;
    expect(!held.is_empty(), "the set cannot be read")?;
    nft::delete_table(TABLE, nft::IP)?;
    expect(
        packet::arrives(DROPPED)?,
        "a deleted rule still drops packets",
    )
}

fn expect(holds: bool, otherwise: &str) -> io::Result<()> {
    if holds {
        Ok(())
    } else {
        Err(io::Error::other(otherwise))
    }
}
