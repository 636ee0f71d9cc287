// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `npu info`.

use std::time::Duration;

use npu::{Counters, Device, DeviceInfo, Driver};
use serde_json::{Value, json};

use super::{Result, human, say};

/// What `npu info` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON, sizes in bytes.
    #[arg(long)]
    json: bool,
}

/// Shows what the device is, has and did.
pub fn run(args: &Args, device: &Device) -> Result {
    let (driver, info, counters) = (device.driver()?, device.info()?, device.counters()?);
    let path = device.path().display().to_string();
    if args.json {
        say(format_args!(
            "{:#}",
            as_json(&path, &driver, &info, &counters)
        ))
    } else {
        say(as_text(&path, &driver, &info, &counters).trim_end())
    }
}

fn version(version: (i32, i32, i32)) -> String {
    format!("{}.{}.{}", version.0, version.1, version.2)
}

/// The `VERSION` register: the major number in its high half.
fn device_version(version: u32) -> String {
    format!("{}.{}", version >> 16, version & 0xffff)
}

fn as_json(path: &str, driver: &Driver, info: &DeviceInfo, counters: &Counters) -> Value {
    json!({
        "device": path,
        "driver": {
            "name": driver.name,
            "description": driver.description,
            "version": version(driver.version),
        },
        "version": device_version(counters.version),
        "memory": {
            "total": info.mem_total,
            "visible": info.mem_visible,
            "free": info.mem_free,
        },
        "page_sizes": info.page_sizes,
        "va_start": info.va_start,
        "va_end": info.va_end,
        "faults": info.faults,
        "queues": counters.num_queues,
        "job_timeout_ms": counters.job_timeout_ms,
        "timestamp_ns": counters.timestamp,
        "counters": {
            "jobs_ok": counters.jobs_ok,
            "jobs_failed": counters.jobs_failed,
            "tlb_hits": counters.tlb_hits,
            "tlb_misses": counters.tlb_misses,
            "tlb_invalidations": counters.tlb_invalidations,
            "bytes_read": counters.bytes_read,
            "bytes_written": counters.bytes_written,
            "bytes_to_device": counters.bytes_to_device,
            "bytes_to_host": counters.bytes_to_host,
            "bytes_cleared": counters.bytes_cleared,
        },
    })
}

fn as_text(path: &str, driver: &Driver, info: &DeviceInfo, counters: &Counters) -> String {
    let pages: Vec<String> = info.page_sizes.iter().copied().map(human::bytes).collect();
    let memory = if info.mem_total == 0 {
        "none".into()
    } else {
        format!(
            "{}, {} free, {} visible to the CPU",
            human::bytes(info.mem_total),
            human::bytes(info.mem_free),
            if info.mem_visible == 0 {
                "none".into()
            } else {
                human::bytes(info.mem_visible)
            },
        )
    };
    let translations = counters.tlb_hits + counters.tlb_misses;
    let rows = [
        (
            "device",
            format!("{path}, version {}", device_version(counters.version)),
        ),
        (
            "driver",
            format!(
                "{} {} ({})",
                driver.name,
                version(driver.version),
                driver.description
            ),
        ),
        ("memory", memory),
        ("page sizes", pages.join(", ")),
        (
            "addresses",
            format!("{:#x} to {:#x}", info.va_start, info.va_end),
        ),
        (
            "page faults",
            if info.faults { "served" } else { "end the job" }.into(),
        ),
        (
            "queues",
            format!(
                "{}, jobs of at most {} ms",
                counters.num_queues, counters.job_timeout_ms
            ),
        ),
        (
            "up for",
            format!("{:.1?}", Duration::from_nanos(counters.timestamp)),
        ),
        (
            "jobs",
            format!(
                "{} done, {} failed",
                human::count(counters.jobs_ok),
                human::count(counters.jobs_failed)
            ),
        ),
        (
            "they moved",
            format!(
                "{} read, {} written",
                human::bytes(counters.bytes_read),
                human::bytes(counters.bytes_written)
            ),
        ),
        (
            "TLB",
            format!(
                "{} translations, {} of them hits; {} invalidations",
                human::count(translations),
                human::percent(counters.tlb_hits, translations),
                human::count(counters.tlb_invalidations)
            ),
        ),
        (
            "copy queue",
            format!(
                "{} to the device, {} to the host, {} cleared",
                human::bytes(counters.bytes_to_device),
                human::bytes(counters.bytes_to_host),
                human::bytes(counters.bytes_cleared)
            ),
        ),
    ];
    human::rows(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Driver, DeviceInfo, Counters) {
        let driver = Driver {
            name: "npu".into(),
            description: "NPU".into(),
            version: (1, 0, 0),
        };
        let info = DeviceInfo {
            page_sizes: vec![4096, 65536, 2 << 20],
            va_start: 4096,
            va_end: 1 << 48,
            mem_total: 256 << 20,
            mem_visible: 0,
            mem_free: 255 << 20,
            faults: false,
            mirror_end: (1 << 47) - 4096,
        };
        let counters = Counters {
            version: 0x0001_0002,
            num_queues: 4,
            job_timeout_ms: 2000,
            tlb_hits: 3,
            tlb_misses: 1,
            ..Default::default()
        };
        (driver, info, counters)
    }

    #[test]
    fn text_is_readable() {
        let (driver, info, counters) = example();
        let text = as_text("/dev/accel/accel0", &driver, &info, &counters);
        for line in [
            "device       /dev/accel/accel0, version 1.2\n",
            "memory       256 MiB, 255 MiB free, none visible to the CPU\n",
            "page sizes   4 KiB, 64 KiB, 2 MiB\n",
            "page faults  end the job\n",
            "TLB          4 translations, 75.0 % of them hits; 0 invalidations\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn json_has_numbers() {
        let (driver, info, counters) = example();
        let json = as_json("/dev/accel/accel0", &driver, &info, &counters);
        assert_eq!(json["memory"]["total"], 256 << 20);
        assert_eq!(json["page_sizes"][2], 2 << 20);
        assert_eq!(json["counters"]["tlb_hits"], 3);
        assert_eq!(json["driver"]["version"], "1.0.0");
    }
}
