//! A netlink socket for nfnetlink: batches of changes, dumps, and what the kernel answers.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::FromRawFd,
};

use crate::attribute::Attributes;

/// Subsystem of `nf_tables` in the message type.
const NFTABLES: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
/// Bytes of a message's header.
const HEADER: usize = 16;
/// Bytes of the header of nfnetlink behind it.
const NF_HEADER: usize = 4;

/// Changes that the kernel makes all together or not at all.
pub struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Default for Batch {
    fn default() -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            sequence: 0,
        };
        batch.mark(libc::NFNL_MSG_BATCH_BEGIN as u16);
        batch
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a change of `nf_tables`; `flags` as in `nlmsghdr`.
    #[must_use]
    pub fn add(mut self, kind: i32, family: i32, flags: i32, attributes: &Attributes) -> Self {
        self.push(&message(
            NFTABLES | kind as u16,
            flags | libc::NLM_F_REQUEST,
            self.sequence,
            family,
            0,
            attributes,
        ));
        self
    }

    /// Sends it. The first error that the kernel reports is the result.
    pub fn send(mut self) -> io::Result<()> {
        self.mark(libc::NFNL_MSG_BATCH_END as u16);
        let mut socket = open()?;
        socket.write_all(&self.bytes)?;
        // The kernel works a batch off within the write: what it has to say is there, or nothing.
        for (header, body) in replies(&mut socket)? {
            if i32::from(header) == libc::NLMSG_ERROR {
                error(&body)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, kind: u16) {
        self.push(&message(
            kind,
            libc::NLM_F_REQUEST,
            self.sequence,
            libc::AF_UNSPEC,
            libc::NFNL_SUBSYS_NFTABLES as u16,
            &Attributes::new(),
        ));
    }

    fn push(&mut self, message: &[u8]) {
        self.bytes.extend(message);
        self.sequence += 1;
    }
}

/// Asks for everything of a kind, and returns the attributes of each answer.
pub fn dump(kind: i32, family: i32, attributes: &Attributes) -> io::Result<Vec<Vec<u8>>> {
    let mut socket = open()?;
    let request = message(
        NFTABLES | kind as u16,
        libc::NLM_F_REQUEST | libc::NLM_F_DUMP,
        1,
        family,
        0,
        attributes,
    );
    socket.write_all(&request)?;
    let mut answers = Vec::new();
    for (header, body) in replies(&mut socket)? {
        match i32::from(header) {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => error(&body)?,
            _ => answers.push(body.get(NF_HEADER..).unwrap_or_default().to_vec()),
        }
    }
    Ok(answers)
}

fn open() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nobody else knows.
    Ok(unsafe { File::from_raw_fd(socket) })
}

fn message(
    kind: u16,
    flags: i32,
    sequence: u32,
    family: i32,
    resource: u16,
    attributes: &Attributes,
) -> Vec<u8> {
    let body = attributes.as_bytes();
    let length = HEADER + NF_HEADER + body.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.push(family as u8);
    bytes.push(0);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Type and body of every message that waits in the socket.
fn replies(socket: &mut File) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(found),
            Err(error) => return Err(error),
        };
        let mut bytes = &buffer[..count];
        while let [l0, l1, l2, l3, k0, k1, ..] = *bytes {
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let Some(body) = bytes.get(HEADER..length) else {
                break;
            };
            found.push((u16::from_ne_bytes([k0, k1]), body.to_vec()));
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

/// The error number that an answer starts with.
fn error(body: &[u8]) -> io::Result<()> {
    match body {
        [a, b, c, d, ..] => match i32::from_ne_bytes([*a, *b, *c, *d]) {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(-number)),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
