//! Packets for the rules to see.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

/// Sends a datagram to a port of this machine. A rule that drops it makes this `PermissionDenied`.
pub fn send(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.send_to(&[0; 32], (Ipv4Addr::LOCALHOST, port))?;
    Ok(())
}

/// Begins a connection to a port of this machine that nobody listens at.
pub fn connect(port: u16) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    Ok(())
}

/// Whether a datagram to the port gets there.
pub fn arrives(port: u16) -> io::Result<bool> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
    receiver.set_read_timeout(Some(Duration::from_secs(2)))?;
    match send(port) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(error),
    }
    match receiver.recv(&mut [0; 64]) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
