// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong, in words.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::uapi;

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device file could not be opened.
    #[error("cannot open {}: {errno}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },

    /// No accelerator has the driver that was looked for.
    #[error("no accelerator of the driver '{driver}' under /dev/accel ({seen})")]
    NoDevice {
        /// The driver's name.
        driver: String,
        /// What is there instead.
        seen: String,
    },

    /// The kernel refused an operation.
    #[error("{operation}: {} ({errno})", operation.meaning(*errno))]
    System {
        /// What was asked for.
        operation: Operation,
        /// What the kernel said.
        errno: Errno,
    },

    /// A job ended badly.
    #[error(transparent)]
    Job(#[from] JobError),

    /// The wait took longer than allowed.
    #[error("timed out waiting for the device")]
    Timeout,

    /// An access outside a mapping.
    #[error("{length} bytes at offset {offset} lie outside the {size} bytes that are mapped")]
    OutOfRange {
        /// First byte.
        offset: usize,
        /// Number of bytes.
        length: usize,
        /// Size of the mapping.
        size: usize,
    },

    /// No free range of device addresses is large enough.
    #[error("no {size} free bytes of device addresses, aligned to {align}")]
    AddressSpace {
        /// Bytes wanted.
        size: u64,
        /// Alignment wanted.
        align: u64,
    },

    /// A handle was used with another device file than the one that made it.
    #[error("{what} belongs to another open device")]
    OtherDevice {
        /// What kind of handle.
        what: &'static str,
    },

    /// The kernel answered something that this library doesn't know.
    #[error("the kernel's answer has an unknown {what}: {value:#x}")]
    Unknown {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: u64,
    },

    /// Memory of a process can't be mirrored on this device, or its driver knows of no mirrors.
    #[error("this device or its driver can't mirror a process's memory ({errno})")]
    NoMirrors {
        /// What the kernel said.
        errno: Errno,
    },

    /// The CPU can't reach this buffer, or it was not asked for.
    #[error("the buffer has no CPU mapping")]
    NotMapped,
}

impl Error {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } | Self::Open { errno, .. } | Self::NoMirrors { errno } => {
                Some(*errno)
            }
            _ => None,
        }
    }

    /// Is it that some memory is full?
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.errno(), Some(Errno::NOSPC | Errno::NOMEM))
    }
}

/// An operation of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Ask the driver's name and version.
    Version,
    /// Ask what the device can do and has.
    QueryDevice,
    /// Ask the device's version and counters.
    Query,
    /// Create an address space.
    VmCreate,
    /// Create a buffer object.
    BoCreate,
    /// Get a buffer object's mmap() offset.
    BoMmap,
    /// Map a buffer object into the CPU's address space.
    Mmap,
    /// Change the mappings of an address space.
    Bind,
    /// Unmap a range of an address space.
    Unbind,
    /// Create a bind queue.
    BindQueueCreate,
    /// Advise about a range of an address space.
    Advise,
    /// Read back what is mapped in an address space.
    QueryRange,
    /// Take memory from the heap.
    Allocate,
    /// Bring mirrored memory to where it should be.
    Prefetch,
    /// Say whether the contents of mirrored memory are needed.
    Discard,
    /// Ask what mirroring has done in an address space.
    VmStats,
    /// Create a queue.
    QueueCreate,
    /// Submit a job.
    Submit,
    /// Ask how a queue's jobs ended.
    JobStatus,
    /// Create a syncobj.
    SyncobjCreate,
    /// Wait for syncobjs.
    SyncobjWait,
    /// Signal a syncobj from the CPU.
    SyncobjSignal,
    /// Take a syncobj's fence away.
    SyncobjReset,
    /// Ask how far a timeline got.
    SyncobjQuery,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "driver version",
            Self::QueryDevice => "device query",
            Self::Query => "counter query",
            Self::VmCreate => "creating an address space",
            Self::BoCreate => "creating a buffer",
            Self::BoMmap => "preparing a CPU mapping",
            Self::Mmap => "mapping a buffer for the CPU",
            Self::Bind => "binding",
            Self::Unbind => "unbinding",
            Self::BindQueueCreate => "creating a bind queue",
            Self::Advise => "advising",
            Self::QueryRange => "reading back a range",
            Self::Allocate => "allocating memory",
            Self::Prefetch => "prefetching",
            Self::Discard => "discarding",
            Self::VmStats => "an address space's statistics",
            Self::QueueCreate => "creating a queue",
            Self::Submit => "submitting a job",
            Self::JobStatus => "job status",
            Self::SyncobjCreate => "creating a syncobj",
            Self::SyncobjWait => "waiting for a syncobj",
            Self::SyncobjSignal => "signalling a syncobj",
            Self::SyncobjReset => "resetting a syncobj",
            Self::SyncobjQuery => "querying a timeline",
        })
    }
}

impl Operation {
    /// What an error number means for this operation, by the uAPI's documentation.
    fn meaning(self, errno: Errno) -> &'static str {
        match (self, errno) {
            (_, Errno::NODEV) => "the device is gone",
            (Self::Advise, Errno::NOMEM) => {
                "no memory, or more pinned than the user or the device may have"
            }
            (_, Errno::NOMEM) => "out of host memory",
            (_, Errno::FAULT) => "bad user pointer",
            (_, Errno::NOTTY) => "not an ioctl of this driver",
            (Self::VmCreate, Errno::NOSPC) => {
                "no device memory for a page table, or too many address spaces"
            }
            (Self::BoCreate, Errno::NOSPC) => "device memory is full",
            (Self::BoCreate, Errno::INVAL) => "bad size or flags",
            (Self::BoMmap, Errno::PERM) => "the CPU can't reach this part of device memory",
            (Self::Bind | Self::Unbind, Errno::NOSPC) => "no device memory for page tables",
            (Self::Bind, Errno::RANGE) => {
                "outside the address space, beyond the buffer, or not a process's address"
            }
            (Self::Bind, Errno::XDEV) => "the address space is attached to another process",
            (Self::Bind | Self::Prefetch | Self::Discard, Errno::SRCH) => {
                "the mirrored process has ended"
            }
            (Self::Bind, Errno::OPNOTSUPP) => "the device can't mirror memory",
            (Self::Bind, Errno::INVAL) => {
                "misaligned, empty or too large range, bad flags, or a syncobj without a fence"
            }
            (Self::Unbind, Errno::INVAL) => "misaligned or empty range",
            (Self::Bind, Errno::INTR) => "interrupted; the changes are queued and will be made",
            (Self::Bind | Self::Unbind, Errno::CANCELED) => "the address space was destroyed",
            (
                Self::Bind
                | Self::Unbind
                | Self::BindQueueCreate
                | Self::Advise
                | Self::QueryRange
                | Self::Submit,
                Errno::IO,
            ) => "the address space is unusable",
            (Self::Prefetch, Errno::IO) => "the device failed",
            (
                Self::Unbind | Self::Advise | Self::QueryRange | Self::Prefetch | Self::Discard,
                Errno::RANGE,
            ) => "outside the address space",
            (Self::Advise, Errno::PERM) => "no memory may be pinned, by the limit of locked memory",
            (Self::Discard, Errno::PERM) => "the memory is mirrored to be read only",
            (Self::Prefetch, Errno::INVAL) => "misaligned or empty range, or a bad location",
            (Self::Advise, Errno::INVAL) => "misaligned or empty range, or a bad value",
            (Self::QueryRange, Errno::INVAL) => "misaligned or empty range",
            (Self::QueueCreate | Self::BindQueueCreate, Errno::NOSPC) => "too many queues",
            (Self::Submit, Errno::RANGE) => "commands outside the address space",
            (Self::Submit, Errno::INVAL) => {
                "bad size, misaligned commands, bad or too many ranges, or a syncobj without a fence"
            }
            (_, Errno::NOENT) => "no such object",
            (_, Errno::INVAL) => "bad argument",
            _ => "refused",
        }
    }
}

/// How a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job {seqno} failed: {cause}")]
pub struct JobError {
    /// Which job, counting its queue's submissions from 1.
    pub seqno: u64,
    /// Why.
    pub cause: JobFailure,
}

/// Why a job failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobFailure {
    /// It touched an address that it may not.
    Fault {
        /// The device address.
        address: u64,
        /// 1 not mapped, 2 not writable, 3 not executable, 4 outside the address space.
        reason: u32,
        /// What it tried, if the driver tells.
        access: Option<FaultAccess>,
    },
    /// The device did not understand a command.
    BadCommand {
        /// Offset of the command in bytes.
        offset: u64,
        /// 1 unknown opcode, 2 wrong size, 3 reserved field, 4 misaligned, 5 out of range.
        reason: u32,
    },
    /// Anything else.
    Other(Errno),
}

/// What a job tried where it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAccess {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To fetch commands.
    Fetch,
}

impl FaultAccess {
    fn decode(access: u32) -> Option<Self> {
        match access {
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            4 => Some(Self::Fetch),
            _ => None,
        }
    }
}

impl JobFailure {
    /// Decodes what the kernel reports.
    pub(crate) fn new(raw: &uapi::JobStatus) -> Self {
        match Errno::from_raw_os_error(raw.error as i32) {
            Errno::FAULT => Self::Fault {
                address: raw.detail,
                reason: raw.reason,
                access: FaultAccess::decode(raw.access),
            },
            Errno::INVAL => Self::BadCommand {
                offset: raw.detail,
                reason: raw.reason,
            },
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Fault {
                address,
                reason,
                access,
            } => {
                let (what, which) = match access {
                    Some(FaultAccess::Read) => ("it read from ", ", which"),
                    Some(FaultAccess::Write) => ("it wrote to ", ", which"),
                    Some(FaultAccess::Fetch) => ("it fetched commands from ", ", which"),
                    None => ("", ""),
                };
                let why = match reason {
                    1 => "is not mapped",
                    2 => "is not writable",
                    3 => "is not executable",
                    4 => "is outside the address space",
                    _ => "can't be accessed",
                };
                write!(f, "{what}device address {address:#x}{which} {why}")
            }
            Self::BadCommand { offset, reason } => {
                let why = match reason {
                    1 => "has an unknown opcode",
                    2 => "has the wrong size",
                    3 => "has a reserved field that is not zero",
                    4 => "is misaligned",
                    5 => "has an operand out of range",
                    _ => "is bad",
                };
                write!(f, "the command at offset {offset:#x} {why}")
            }
            Self::Other(Errno::TIMEDOUT) => f.write_str("it ran longer than the device allows"),
            Self::Other(Errno::CANCELED) => f.write_str("its queue was closed"),
            Self::Other(Errno::NODEV) => f.write_str("the device is gone"),
            Self::Other(Errno::IO) => f.write_str("the device failed"),
            Self::Other(errno) => write!(f, "{errno}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_tell_what_was_tried() {
        let mut raw = uapi::JobStatus {
            error: Errno::FAULT.raw_os_error() as u32,
            seqno: 3,
            detail: 0x7000,
            reason: 1,
            ..Default::default()
        };
        let text = |raw: &uapi::JobStatus| {
            let error = JobError {
                seqno: raw.seqno,
                cause: JobFailure::new(raw),
            };
            error.to_string()
        };
        assert_eq!(
            text(&raw),
            "job 3 failed: device address 0x7000 is not mapped"
        );
        (raw.reason, raw.access) = (2, 2);
        assert_eq!(
            text(&raw),
            "job 3 failed: it wrote to device address 0x7000, which is not writable"
        );
        let accesses = [0, 1, 2, 3, 4].map(FaultAccess::decode);
        let (read, write) = (Some(FaultAccess::Read), Some(FaultAccess::Write));
        assert_eq!(
            accesses,
            [None, read, write, None, Some(FaultAccess::Fetch)]
        );
    }

    #[test]
    fn refused_mirrors_are_told_apart() {
        let bind = |errno| {
            let operation = Operation::Bind;
            Error::System { operation, errno }.to_string()
        };
        assert!(bind(Errno::XDEV).contains("attached to another process"));
        assert!(bind(Errno::SRCH).contains("the mirrored process has ended"));
        assert!(bind(Errno::OPNOTSUPP).contains("can't mirror"));
        let error = Error::NoMirrors {
            errno: Errno::INVAL,
        };
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }
}
