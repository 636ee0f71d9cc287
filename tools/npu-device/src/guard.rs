// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A small process between the virtual machine and the device, so that the device's process can die.
//!
//! A card that is pulled answers with all ones. A vfio-user client whose server dies does worse: QEMU
//! 11.1 aborts if a request is under way at that moment, and otherwise waits 5 s for its reply. So the
//! guard keeps the client's socket and passes messages on, one at a time and unchanged. When the
//! device's process has ended, the guard answers in its place: reads give all ones, writes are taken
//! and lost. Everything else goes past the guard: interrupts, DMA and the aperture.
//!
//! The process that was started is the device's; the guard is its child, and ends with the client.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use vfio_user::Command as Request;

/// Bytes of a message's header.
const HEADER: usize = 16;
/// The longest message that is not taken for garbage.
const LONGEST: usize = 4 << 20;
/// Descriptors that a message can carry.
const DESCRIPTORS: usize = 16;

const TYPE_REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;
const EIO: u32 = 5;

/// Starts a guard that serves `public`, which listens at `path`, and returns the listener on which
/// the guard passes messages on.
pub fn spawn(public: UnixListener, path: &Path) -> io::Result<(Child, UnixListener)> {
    // Abstract names are shared with processes of other pid namespaces, which may have our pid.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let name = format!("npu-device-{}-{}", std::process::id(), now.as_nanos());
    let private = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let child = Command::new(std::env::current_exe()?)
        .arg("--socket")
        .arg(path)
        .arg("--guard-of")
        .arg(&name)
        .stdin(Stdio::from(OwnedFd::from(public)))
        .spawn()?;
    Ok((child, private))
}

/// What the guard's process does. Its standard input listens at `path`.
pub fn run(path: &Path, name: &str) -> io::Result<()> {
    let device = match UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(device) => device,
        Err(e) => {
            // The device has ended already; nobody will serve this socket.
            std::fs::remove_file(path)?;
            return Err(e);
        }
    };
    let public = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    let client = accept(&public, &device);
    std::fs::remove_file(path)?;
    client?.map_or(Ok(()), |client| {
        Guard {
            client,
            device: Some(device),
        }
        .relay()
    })
}

/// Waits for a client; there is none if the device ends before.
fn accept(public: &UnixListener, device: &UnixStream) -> io::Result<Option<UnixStream>> {
    let mut fds = [
        PollFd::new(public, PollFlags::IN),
        PollFd::new(device, PollFlags::IN),
    ];
    while poll(&mut fds, None)? == 0 {}
    if fds[0].revents().is_empty() {
        Ok(None)
    } else {
        public.accept().map(|(s, _)| Some(s))
    }
}

struct Message {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Message {
    /// Receives a message; there is none if the other side has gone.
    fn receive(mut stream: &UnixStream) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; HEADER];
        let mut fds = Vec::new();
        let mut len = 0;
        while len < HEADER {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut iov = [IoSliceMut::new(&mut bytes[len..])];
            let got = recvmsg(stream, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
            if got == 0 {
                return Ok(None);
            }
            len += got;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(received) = message {
                    fds.extend(received);
                }
            }
        }
        let mut message = Message { bytes, fds };
        let size = message.u32(4) as usize;
        if !(HEADER..=LONGEST).contains(&size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        message.bytes.resize(size, 0);
        stream.read_exact(&mut message.bytes[HEADER..])?;
        Ok(Some(message))
    }

    fn send(&self, mut stream: &UnixStream) -> io::Result<()> {
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let iov = [IoSlice::new(&self.bytes)];
        let sent = sendmsg(stream, &iov, &mut ancillary, SendFlags::NOSIGNAL)?;
        stream.write_all(&self.bytes[sent..])
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(std::array::from_fn(|i| self.bytes[offset + i]))
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.bytes[offset + i]))
    }

    fn id(&self) -> u16 {
        self.u16(0)
    }

    fn wants_reply(&self) -> bool {
        self.u32(8) & NO_REPLY == 0
    }

    /// What a card that was pulled answers.
    fn all_ones(&self) -> Message {
        /// Offset, region and count of an access.
        const ACCESS: usize = 16;
        let echoed = |len: usize| self.bytes.get(HEADER..HEADER + len).map(<[u8]>::to_vec);
        let body = match Request::n(self.u16(2)) {
            Some(Request::RegionRead) => echoed(ACCESS).map(|mut body| {
                let count = self.u32(HEADER + 12) as usize;
                body.resize(ACCESS + count.min(LONGEST - HEADER - ACCESS), 0xff);
                body
            }),
            Some(Request::RegionWrite) => echoed(ACCESS),
            Some(Request::DmaUnmap) => echoed(24),
            Some(Request::DmaMap | Request::SetIrqs | Request::DeviceReset) => Some(Vec::new()),
            _ => None,
        };
        let (flags, error) = if body.is_some() {
            (TYPE_REPLY, 0)
        } else {
            (TYPE_REPLY | ERROR, EIO)
        };
        let body = body.unwrap_or_default();
        let mut bytes = self.bytes[..HEADER].to_vec();
        bytes[4..8].copy_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
        bytes[8..12].copy_from_slice(&flags.to_le_bytes());
        bytes[12..16].copy_from_slice(&error.to_le_bytes());
        bytes.extend(body);
        Message {
            bytes,
            fds: Vec::new(),
        }
    }
}

struct Guard {
    client: UnixStream,
    /// `None` once its process has ended.
    device: Option<UnixStream>,
}

impl Guard {
    /// Passes messages on until the client has gone.
    fn relay(&mut self) -> io::Result<()> {
        while let Some(request) = self.next_request()? {
            let reply = self.answer(&request);
            if request.wants_reply() {
                reply.send(&self.client)?;
            }
        }
        Ok(())
    }

    fn next_request(&self) -> io::Result<Option<Message>> {
        match Message::receive(&self.client) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            result => result,
        }
    }

    fn answer(&mut self, request: &Message) -> Message {
        let answer = self
            .device
            .as_ref()
            .and_then(|device| exchange(device, request));
        answer.unwrap_or_else(|| {
            if self.device.take().is_some() {
                log::warn!("the device's process has ended: every register reads as all ones now");
            }
            request.all_ones()
        })
    }
}

/// Passes a request on, and returns the device's reply, or something to be dropped if the request
/// wants none. There is neither if the device's process has ended.
fn exchange(device: &UnixStream, request: &Message) -> Option<Message> {
    request.send(device).ok()?;
    if !request.wants_reply() {
        return Some(Message {
            bytes: Vec::new(),
            fds: Vec::new(),
        });
    }
    loop {
        let reply = Message::receive(device).ok()??;
        // The device may have reported the failure of a request that wanted no reply.
        if reply.id() == request.id() {
            return Some(reply);
        }
    }
}
