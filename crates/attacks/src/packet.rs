//! Packets for the rules to see.

use std::{
    ffi::CString,
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
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

/// Sends a frame with a VLAN tag and nothing of sense behind it.
pub fn send_tagged_frame(device: &str) -> io::Result<()> {
    let name = CString::new(device)?;
    // SAFETY: a text that ends with a zero byte and lives across the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: no pointers; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if index == 0 || socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nobody else knows.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut frame = vec![0_u8; 12];
    frame.extend([0x81, 0, 0, 5, 0x88, 0xb5]);
    frame.resize(300, 0x41);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0x8100_u16.to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: both pointers are to values of the lengths given, which live across the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
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
