//! Operations on sockets.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::{fd::AsRawFd, unix::net::UnixStream},
};

use crate::measure::Operation;

/// Payload of a datagram.
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// A pair of sockets and a pipe, made and closed: many objects of the slab allocator.
pub struct Pairs;

impl Operation for Pairs {
    fn run(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            drop(UnixStream::pair()?);
            drop(io::pipe()?);
        }
        Ok(())
    }
}

fn address(text: &str) -> io::Result<IpAddr> {
    text.parse()
        .map_err(|_| io::Error::other(format!("`{text}` is no address")))
}

/// Two sockets of one address, each connected to the other.
fn connected(text: &str) -> io::Result<(UdpSocket, UdpSocket)> {
    let address = address(text)?;
    let one = UdpSocket::bind((address, 0))?;
    let other = UdpSocket::bind((address, 0))?;
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok((one, other))
}

fn deliver(from: &UdpSocket, to: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 128];
    from.send(&PAYLOAD)?;
    match to.recv(&mut buffer)? {
        length if length == PAYLOAD.len() => Ok(()),
        length => Err(io::Error::other(format!("{length} bytes came"))),
    }
}

/// A datagram there and one back.
pub struct RoundTrip(UdpSocket, UdpSocket);

impl RoundTrip {
    /// Between two sockets of a local address.
    pub fn new(address: &str) -> io::Result<Self> {
        connected(address).map(|(one, other)| Self(one, other))
    }
}

impl Operation for RoundTrip {
    fn run(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            deliver(&self.0, &self.1)?;
            deliver(&self.1, &self.0)?;
        }
        Ok(())
    }
}

/// A datagram there.
pub struct OneWay(UdpSocket, UdpSocket);

impl OneWay {
    /// Between two sockets of a local address.
    pub fn new(address: &str) -> io::Result<Self> {
        connected(address).map(|(one, other)| Self(one, other))
    }
}

impl Operation for OneWay {
    fn run(&mut self, count: u64) -> io::Result<()> {
        (0..count).try_for_each(|_| deliver(&self.0, &self.1))
    }
}

/// A datagram that nobody waits for.
pub struct Send(UdpSocket);

impl Send {
    /// To another host; `priority` is the class that a queueing discipline puts it into.
    pub fn new(text: &str, priority: &str) -> io::Result<Self> {
        let to = address(text)?;
        let any: SocketAddr = match to {
            IpAddr::V4(_) => ([0; 4], 0).into(),
            IpAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect((to, 9))?;
        set_priority(&socket, priority)?;
        Ok(Self(socket))
    }
}

fn set_priority(socket: &UdpSocket, hex: &str) -> io::Result<()> {
    let priority = u32::from_str_radix(hex, 16)
        .map_err(|_| io::Error::other(format!("`{hex}` is no number in base 16")))?;
    // SAFETY: the value lives during the call, and its size is told.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PRIORITY,
            (&raw const priority).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl Operation for Send {
    fn run(&mut self, count: u64) -> io::Result<()> {
        for _ in 0..count {
            self.0.send(&PAYLOAD)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_arrive() {
        RoundTrip::new("127.0.0.1").unwrap().run(3).unwrap();
        OneWay::new("127.0.0.1").unwrap().run(3).unwrap();
        Pairs.run(3).unwrap();
        assert!(Send::new("nowhere", "0").is_err());
        assert!(Send::new("127.0.0.1", "g").is_err());
    }
}
