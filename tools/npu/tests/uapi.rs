// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The structures of `npu::uapi` against the kernel's headers, as a C compiler sees them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use npu::uapi::*;

/// One fact: a C expression and what Rust says it is.
struct Facts(Vec<(String, u64)>);

impl Facts {
    fn add(&mut self, expression: impl Into<String>, value: u64) {
        self.0.push((expression.into(), value));
    }
}

/// Size and field offsets of structures.
macro_rules! layouts {
    ($facts:ident; $($c:literal = $rust:ident { $($field:ident),* })*) => {$(
        $facts.add(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>() as u64);
        $(
            $facts.add(
                concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
                std::mem::offset_of!($rust, $field) as u64,
            );
            let value = $rust::default().$field;
            $facts.add(
                concat!("sizeof(((struct ", $c, " *)0)->", stringify!($field), ")"),
                size_of_val(&value) as u64,
            );
        )*
        // Every field is listed above, or this doesn't compile.
        let $rust { $($field: _),* } = $rust::default();
    )*};
}

/// Constants by their C names.
macro_rules! constants {
    ($facts:ident; $($c:literal = $rust:expr;)*) => {
        $($facts.add($c, u64::from($rust));)*
    };
}

fn facts() -> Facts {
    let mut facts = Facts(Vec::new());
    layouts! { facts;
        "drm_version" = Version {
            version_major, version_minor, version_patchlevel, name_len, name, date_len, date,
            desc_len, desc
        }
        "drm_gem_close" = GemClose { handle, pad }
        "drm_syncobj_create" = SyncobjCreate { handle, flags }
        "drm_syncobj_destroy" = SyncobjDestroy { handle, pad }
        "drm_syncobj_wait" = SyncobjWait {
            handles, timeout_nsec, count_handles, flags, first_signaled, pad, deadline_nsec
        }
        "drm_syncobj_timeline_wait" = SyncobjTimelineWait {
            handles, points, timeout_nsec, count_handles, flags, first_signaled, pad, deadline_nsec
        }
        "drm_syncobj_array" = SyncobjArray { handles, count_handles, pad }
        "drm_syncobj_timeline_array" = SyncobjTimelineArray {
            handles, points, count_handles, flags
        }
        "drm_gmem_query_device" = QueryDevice {
            flags, pad, page_sizes, va_start, va_end, mem_total, mem_visible, mem_free, caps,
            mirror_end
        }
        "drm_gmem_vm_create" = VmCreate { flags, vm_id }
        "drm_gmem_vm_destroy" = VmDestroy { vm_id, pad }
        "drm_gmem_bo_create" = BoCreate { size, flags, handle }
        "drm_gmem_bo_mmap" = BoMmap { handle, flags, offset }
        "drm_gmem_bind_op" = BindOp { op, flags, handle, pad, va, size, bo_offset, attrs }
        "drm_gmem_bind" = Bind { vm_id, flags, num_ops, num_syncs, ops, syncs, queue_id, pad }
        "drm_gmem_bind_queue_create" = BindQueueCreate { vm_id, flags, queue_id, pad }
        "drm_gmem_bind_queue_destroy" = BindQueueDestroy { queue_id, pad }
        "drm_gmem_unbind" = Unbind { vm_id, flags, va, size }
        "drm_gmem_sync" = Sync { handle, flags, point }
        "drm_gmem_attr" = Attr { kind, pad, value }
        "drm_gmem_advise" = Advise { vm_id, flags, va, size, num_attrs, pad, attrs }
        "drm_gmem_range" = RangeEntry {
            va, size, mapping, flags, residency, pad, bo_offset, attrs, advice, faults,
            refaults, evicted, pad2
        }
        "drm_gmem_query_range" = QueryRange { vm_id, flags, va, size, num_ranges, pad, ranges }
        "drm_gmem_prefetch" = Prefetch { vm_id, flags, va, size, location, moved, mapped }
        "drm_gmem_discard" = Discard { vm_id, flags, va, size, discarded, retained }
        "drm_gmem_vm_stats" = VmStats {
            vm_id, flags, faults, merged, bad, retries, invalidations, to_device, made, stayed,
            mirrored, extents, bytes
        }
        "drm_npu_queue_create" = QueueCreate { flags, queue_id }
        "drm_npu_queue_destroy" = QueueDestroy { queue_id, pad }
        "drm_npu_range" = Range { va, size }
        "drm_npu_submit" = Submit {
            queue_id, vm_id, commands, size, flags, num_syncs, num_ranges, syncs, ranges
        }
        "drm_npu_job_status" = JobStatus {
            queue_id, error, seqno, detail, reason, access, completed
        }
        "drm_npu_query" = Query {
            flags, version, num_queues, job_timeout_ms, timestamp, jobs_ok, jobs_failed, tlb_hits,
            tlb_misses, tlb_invalidations, bytes_read, bytes_written, bytes_to_device,
            bytes_to_host, bytes_cleared
        }
    }
    constants! { facts;
        "DRM_GMEM_CAP_FAULTS" = CAP_FAULTS;
        "DRM_GMEM_BO_DEVICE" = BO_DEVICE;
        "DRM_GMEM_BO_HOST" = BO_HOST;
        "DRM_GMEM_BO_CPU_VISIBLE" = BO_CPU_VISIBLE;
        "DRM_GMEM_BIND_OP_MAP_BO" = BIND_OP_MAP_BO;
        "DRM_GMEM_BIND_OP_UNMAP" = BIND_OP_UNMAP;
        "DRM_GMEM_BIND_OP_MAP_SPARSE" = BIND_OP_MAP_SPARSE;
        "DRM_GMEM_BIND_OP_MAP_MIRROR" = BIND_OP_MAP_MIRROR;
        "DRM_GMEM_BIND_READONLY" = BIND_READONLY;
        "DRM_GMEM_BIND_EXEC" = BIND_EXEC;
        "DRM_GMEM_BIND_ASYNC" = BIND_ASYNC;
        "DRM_GMEM_SYNC_SIGNAL" = SYNC_SIGNAL;
        "DRM_GMEM_SYNC_TIMELINE" = SYNC_TIMELINE;
        "DRM_GMEM_ATTR_PREFERRED_LOCATION" = ATTR_PREFERRED_LOCATION;
        "DRM_GMEM_ATTR_ACCESS" = ATTR_ACCESS;
        "DRM_GMEM_ATTR_READ_MOSTLY" = ATTR_READ_MOSTLY;
        "DRM_GMEM_ATTR_ALWAYS_MAPPED" = ATTR_ALWAYS_MAPPED;
        "DRM_GMEM_ATTR_READ_ONLY" = ATTR_READ_ONLY;
        "DRM_GMEM_ATTR_EXEC" = ATTR_EXEC;
        "DRM_GMEM_ATTR_ATOMICS" = ATTR_ATOMICS;
        "DRM_GMEM_ATTR_GRANULARITY" = ATTR_GRANULARITY;
        "DRM_GMEM_ATTR_MIGRATION_POLICY" = ATTR_MIGRATION_POLICY;
        "DRM_GMEM_ATTR_PINNED" = ATTR_PINNED;
        "DRM_GMEM_ATTR_EVICTION_PRIORITY" = ATTR_EVICTION_PRIORITY;
        "DRM_GMEM_ATTR_AUTO_RESET" = ATTR_AUTO_RESET;
        "DRM_GMEM_ATTR_FOLLOW" = ATTR_FOLLOW;
        "DRM_GMEM_ATTR_DRIVER" = ATTR_DRIVER;
        "DRM_GMEM_ATTR_COUNT" = ATTR_COUNT;
        "DRM_GMEM_LOCATION_DEFAULT" = LOCATION_DEFAULT;
        "DRM_GMEM_LOCATION_HOST" = LOCATION_HOST;
        "DRM_GMEM_LOCATION_HOST_NODE(0)" = location_host_node(0);
        "DRM_GMEM_LOCATION_HOST_NODE(77)" = location_host_node(77);
        "DRM_GMEM_LOCATION_HOST_NODE(-1)" = location_host_node(u32::MAX);
        "DRM_GMEM_LOCATION_DEVICE" = LOCATION_DEVICE;
        "DRM_GMEM_ACCESS_DEFAULT" = ACCESS_DEFAULT;
        "DRM_GMEM_ACCESS_NONE" = ACCESS_NONE;
        "DRM_GMEM_ACCESS_MIGRATE" = ACCESS_MIGRATE;
        "DRM_GMEM_ACCESS_IN_PLACE" = ACCESS_IN_PLACE;
        "DRM_GMEM_ATOMICS_UNDEFINED" = ATOMICS_UNDEFINED;
        "DRM_GMEM_ATOMICS_DEVICE" = ATOMICS_DEVICE;
        "DRM_GMEM_ATOMICS_GLOBAL" = ATOMICS_GLOBAL;
        "DRM_GMEM_ATOMICS_CPU" = ATOMICS_CPU;
        "DRM_GMEM_MIGRATE_ALL" = MIGRATE_ALL;
        "DRM_GMEM_MIGRATE_SYSTEM" = MIGRATE_SYSTEM;
        "DRM_GMEM_ADVISE_RESET" = ADVISE_RESET;
        "DRM_GMEM_DISCARD_UNDO" = DISCARD_UNDO;
        "DRM_GMEM_DISCARD_PREFETCH" = DISCARD_PREFETCH;
        "DRM_GMEM_MAPPING_NONE" = MAPPING_NONE;
        "DRM_GMEM_MAPPING_BO" = MAPPING_BO;
        "DRM_GMEM_MAPPING_SPARSE" = MAPPING_SPARSE;
        "DRM_GMEM_MAPPING_MIRROR" = MAPPING_MIRROR;
        "DRM_GMEM_RESIDENT_NOWHERE" = RESIDENT_NOWHERE;
        "DRM_GMEM_RESIDENT_HOST" = RESIDENT_HOST;
        "DRM_GMEM_RESIDENT_DEVICE" = RESIDENT_DEVICE;
        "DRM_GMEM_EVICTED_NEVER" = EVICTED_NEVER;
        "DRM_GMEM_EVICTED_MEMORY" = EVICTED_MEMORY;
        "DRM_GMEM_EVICTED_OBJECT" = EVICTED_OBJECT;
        "DRM_GMEM_EVICTED_ADVICE" = EVICTED_ADVICE;
        "DRM_GMEM_EVICTED_CPU" = EVICTED_CPU;
        "NPU_ATTR_CACHE_WRITE_BACK" = ATTR_CACHE_WRITE_BACK;
        "NPU_ATTR_CACHE_UNCACHED" = ATTR_CACHE_UNCACHED;
        "NPU_ATTR_CACHE_WRITE_THROUGH" = ATTR_CACHE_WRITE_THROUGH;
        "NPU_ATTR_COMPRESSION(3)" = attr_compression(3);
        "DRM_SYNCOBJ_CREATE_SIGNALED" = SYNCOBJ_CREATE_SIGNALED;
        "DRM_SYNCOBJ_WAIT_FLAGS_WAIT_ALL" = SYNCOBJ_WAIT_FLAGS_WAIT_ALL;
        "DRM_SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT" = SYNCOBJ_WAIT_FLAGS_WAIT_FOR_SUBMIT;
        "DRM_IOCTL_VERSION" = IOCTL_VERSION;
        "DRM_IOCTL_GEM_CLOSE" = IOCTL_GEM_CLOSE;
        "DRM_IOCTL_SYNCOBJ_CREATE" = IOCTL_SYNCOBJ_CREATE;
        "DRM_IOCTL_SYNCOBJ_DESTROY" = IOCTL_SYNCOBJ_DESTROY;
        "DRM_IOCTL_SYNCOBJ_WAIT" = IOCTL_SYNCOBJ_WAIT;
        "DRM_IOCTL_SYNCOBJ_RESET" = IOCTL_SYNCOBJ_RESET;
        "DRM_IOCTL_SYNCOBJ_SIGNAL" = IOCTL_SYNCOBJ_SIGNAL;
        "DRM_IOCTL_SYNCOBJ_TIMELINE_WAIT" = IOCTL_SYNCOBJ_TIMELINE_WAIT;
        "DRM_IOCTL_SYNCOBJ_QUERY" = IOCTL_SYNCOBJ_QUERY;
        "DRM_IOCTL_SYNCOBJ_TIMELINE_SIGNAL" = IOCTL_SYNCOBJ_TIMELINE_SIGNAL;
        "DRM_IOCTL_NPU_QUERY_DEVICE" = IOCTL_NPU_QUERY_DEVICE;
        "DRM_IOCTL_NPU_VM_CREATE" = IOCTL_NPU_VM_CREATE;
        "DRM_IOCTL_NPU_VM_DESTROY" = IOCTL_NPU_VM_DESTROY;
        "DRM_IOCTL_NPU_BO_CREATE" = IOCTL_NPU_BO_CREATE;
        "DRM_IOCTL_NPU_BO_MMAP" = IOCTL_NPU_BO_MMAP;
        "DRM_IOCTL_NPU_BIND" = IOCTL_NPU_BIND;
        "DRM_IOCTL_NPU_UNBIND" = IOCTL_NPU_UNBIND;
        "DRM_IOCTL_NPU_QUEUE_CREATE" = IOCTL_NPU_QUEUE_CREATE;
        "DRM_IOCTL_NPU_QUEUE_DESTROY" = IOCTL_NPU_QUEUE_DESTROY;
        "DRM_IOCTL_NPU_SUBMIT" = IOCTL_NPU_SUBMIT;
        "DRM_IOCTL_NPU_JOB_STATUS" = IOCTL_NPU_JOB_STATUS;
        "DRM_IOCTL_NPU_QUERY" = IOCTL_NPU_QUERY;
        "DRM_IOCTL_NPU_BIND_QUEUE_CREATE" = IOCTL_NPU_BIND_QUEUE_CREATE;
        "DRM_IOCTL_NPU_BIND_QUEUE_DESTROY" = IOCTL_NPU_BIND_QUEUE_DESTROY;
        "DRM_IOCTL_NPU_ADVISE" = IOCTL_NPU_ADVISE;
        "DRM_IOCTL_NPU_QUERY_RANGE" = IOCTL_NPU_QUERY_RANGE;
        "DRM_IOCTL_NPU_PREFETCH" = IOCTL_NPU_PREFETCH;
        "DRM_IOCTL_NPU_VM_STATS" = IOCTL_NPU_VM_STATS;
        "DRM_IOCTL_NPU_DISCARD" = IOCTL_NPU_DISCARD;
    }
    facts
}

/// A directory of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("npu-uapi-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn matches_the_headers() {
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/uapi");
    let facts = facts();
    let mut source = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <drm/npu_accel.h>\nint main(void)\n{\n",
    );
    for (i, (expression, _)) in facts.0.iter().enumerate() {
        writeln!(
            source,
            "\tprintf(\"{i} %llu\\n\", (unsigned long long)({expression}));"
        )
        .unwrap();
    }
    source.push_str("\treturn 0;\n}\n");

    let scratch = Scratch::new();
    let (c, program) = (scratch.0.join("uapi.c"), scratch.0.join("uapi"));
    std::fs::write(&c, source).expect("the C program");
    let compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args([
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-std=gnu11",
            "-idirafter",
        ])
        // drm.h of libdrm, where the kernel's isn't installed.
        .args(["/usr/include/libdrm", "-I"])
        .arg(headers)
        .arg("-o")
        .args([&program, &c])
        .output()
        .expect("a C compiler");
    let errors = String::from_utf8_lossy(&compiler.stderr);
    assert!(
        compiler.status.success(),
        "the headers don't compile:\n{errors}"
    );

    let output = Command::new(&program)
        .output()
        .expect("the compiled program runs");
    let said: BTreeMap<usize, u64> = String::from_utf8(output.stdout)
        .expect("numbers")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(i, value)| {
            (
                i.parse().expect("an index"),
                value.parse().expect("a value"),
            )
        })
        .collect();
    let wrong: Vec<String> = facts
        .0
        .iter()
        .enumerate()
        .filter(|(i, (_, value))| said.get(i) != Some(value))
        .map(|(i, (what, value))| format!("{what}: C has {:?}, Rust {value}", said.get(&i)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(facts.0.len() > 350);
}
