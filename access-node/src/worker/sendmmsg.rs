//! `sendmmsg(2)` with segmentation (`UDP_SEGMENT`, udp(7)) and the address to send from (`IP_PKTINFO`, ip(7) and ipv6(7)). One of
//! the places with unsafe code: no crate offers the call with different control messages for each message.

#![allow(unsafe_code)]

use std::{
    io::{self, IoSlice},
    mem,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use socket2::SockAddr;

/// Most messages of one call.
pub(super) const MAX_MESSAGES: usize = 64;
/// Bytes of control messages: of a segment's size and of an IPv6 address with its interface, see the assertion below.
const CONTROL: usize = 64;

/// Datagrams to one receiver.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) to: SockAddr,
    /// Of the socket's address family.
    pub(super) from: Option<IpAddr>,
    /// The size of all datagrams but the last, if there are several.
    pub(super) segment: Option<u16>,
    /// Of how many of the call's pieces it is made.
    pub(super) pieces: usize,
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

// Safety: these compute sizes.
const _: () = assert!(
    unsafe { libc::CMSG_SPACE(2) + libc::CMSG_SPACE(mem::size_of::<libc::in6_pktinfo>() as u32) }
        <= CONTROL as u32
);
const _: () = assert!(mem::align_of::<Control>() >= mem::align_of::<libc::cmsghdr>());

/// Sends messages, whose pieces follow one another in `pieces`; at most [`MAX_MESSAGES`]. Returns how many the kernel took.
///
/// # Errors
/// If it did not take the first.
///
/// # Panics
/// If there are more messages, or fewer pieces than they have.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    messages: &[Message],
    pieces: &[IoSlice<'_>],
) -> io::Result<usize> {
    assert!(messages.len() <= MAX_MESSAGES, "more messages than one call takes");
    let mut controls = [Control([0; CONTROL]); MAX_MESSAGES];
    // Safety: zeros are a valid value of these structures: null pointers and lengths of zero.
    let mut headers: [libc::mmsghdr; MAX_MESSAGES] = unsafe { mem::zeroed() };
    let mut rest = pieces;
    for ((message, control), header) in messages.iter().zip(&mut controls).zip(&mut headers) {
        let (own, others) = rest.split_at(message.pieces);
        rest = others;
        let header = &mut header.msg_hdr;
        // The kernel only reads through these two pointers, although C has them without const.
        header.msg_name = message.to.as_ptr().cast_mut().cast();
        header.msg_namelen = message.to.len();
        // `IoSlice` has the layout of `iovec` on Unix, as its documentation says.
        header.msg_iov = own.as_ptr().cast_mut().cast();
        header.msg_iovlen = own.len() as _;
        let mut used = 0;
        if let Some(segment) = message.segment {
            used += put(control, used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        match message.from {
            Some(IpAddr::V4(ip)) => {
                let source = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: source,
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                used += put(control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Some(IpAddr::V6(ip)) => {
                let source = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: source };
                used += put(control, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            None => {}
        }
        if used > 0 {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = used as _;
        }
    }
    // Safety: the first `messages.len()` headers point to addresses, pieces and control messages that are borrowed or owned by this
    // function, so live until the call returns, and have the lengths that stand beside them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), messages.len() as _, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes a control message `at` so many bytes from the beginning; returns the room that it takes.
fn put<T: Copy>(control: &mut Control, at: usize, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = mem::size_of::<T>() as u32;
    // Safety: these compute sizes.
    let (length, space, data) = unsafe {
        (libc::CMSG_LEN(size) as usize, libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(0) as usize)
    };
    assert!(at + space <= CONTROL, "control messages larger than was foreseen");
    // Safety: a header is plain numbers, for which zeros are valid.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    header.cmsg_len = length as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    let begin = control.0[at..].as_mut_ptr();
    // Safety: header and value lie within the array, as asserted; what is written need not be aligned.
    unsafe {
        begin.cast::<libc::cmsghdr>().write_unaligned(header);
        begin.add(data).cast::<T>().write_unaligned(value);
    }
    space
}
