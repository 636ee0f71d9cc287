// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! KUnit: the framework over this device.

use kernel::prelude::*;

#[kunit_tests(gmem_soft)]
mod suite {
    use super::*;
    use crate::{
        driver::{
            Soft,
            SoftDevice, //
        },
        faux::with_device,
        hardware::{
            Hardware,
            PAGE,
            TABLE_SPAN, //
        },
        module_parameters,
        page_table::{
            Attrs,
            PageTable,
            Plan,
            Prepared, //
        },
        random::Run, //
    };
    use gmem_vm::{
        bind::BindOp,
        bo::Placement,
        kapi::random::random,
        mapping::{
            Backing,
            Mapping, //
        },
        sync::Syncs,
        Access,
        Basis,
        Bo,
        FaultAccess,
        Location,
        MapAttrs,
        MapRun,
        PageTable as _,
        PendingFlush as _,
        VaRange,
        Vm, //
    };
    use kernel::{
        drm,
        sync::Arc, //
    };

    type Device = SoftDevice<drm::Registered>;

    /// Runs a test with a device and a VM, and checks that nothing is left of either.
    fn with_vm(
        frames: u32,
        f: impl FnOnce(&Device, &Arc<Vm<Soft>>, &Arc<Hardware>) -> Result,
    ) -> Result {
        let hardware = Hardware::new(frames)?;
        with_device(&hardware, |device| {
            let vm = Vm::new(device)?;
            let result = f(device, &vm, &hardware);
            vm.close();
            result
        })?;
        assert_eq!(hardware.free_frames(), frames as usize);
        Ok(())
    }

    fn sparse(va: u64, size: u64) -> Result<BindOp<Soft>> {
        Ok(BindOp::Map(Mapping {
            range: VaRange::new(va, size)?,
            backing: Backing {
                object: None,
                offset: 0,
                access: Access::default(),
                attrs: Attrs::from_uapi(0)?,
            },
        }))
    }

    fn unmap(va: u64, size: u64) -> Result<BindOp<Soft>> {
        Ok(BindOp::Unmap(VaRange::new(va, size)?))
    }

    fn bind<const N: usize>(vm: &Arc<Vm<Soft>>, ops: [BindOp<Soft>; N]) -> Result {
        let mut batch = KVVec::with_capacity(N, GFP_KERNEL)?;
        for op in ops {
            batch.push(op, GFP_KERNEL)?;
        }
        vm.bind_and_wait(vm.default_queue(), batch, Syncs::none())
    }

    /// Half of the operations asked for, of one kind of steps.
    fn random_steps(several: bool) -> Result {
        let seed = match module_parameters::seed.value() {
            0 => random(),
            seed => seed,
        };
        let ops = module_parameters::ops.value() / 2;
        pr_info!("seed={} ops={} several={}\n", seed, ops, several);
        let hardware = Hardware::new(16)?;
        let (mut done, mut steps) = (0, 0);
        with_device(&hardware, |device| {
            let mut run = Run::new(device, seed)?;
            while done < ops {
                done += run.step(several).inspect_err(|e| {
                    pr_err!(
                        "seed={} several={}: step {}, {:?}\n",
                        seed,
                        several,
                        steps,
                        e
                    );
                })?;
                steps += 1;
            }
            Ok(())
        })?;
        pr_info!("{} operations in {} steps\n", done, steps);
        assert_eq!(hardware.free_frames(), 16);
        Ok(())
    }

    #[test]
    fn random_batches_one_at_a_time() -> Result {
        random_steps(false)
    }

    #[test]
    fn random_batches_on_several_queues() -> Result {
        random_steps(true)
    }

    #[test]
    fn one_flush_a_batch() -> Result {
        with_vm(4, |_device, vm, hardware| {
            let before = hardware.flushes();
            bind(
                vm,
                [
                    sparse(0, 4 * PAGE)?,
                    unmap(PAGE, PAGE)?,
                    sparse(TABLE_SPAN, PAGE)?,
                    unmap(0, TABLE_SPAN)?,
                ],
            )?;
            assert_eq!(hardware.flushes(), before + 1);
            Ok(())
        })
    }

    #[test]
    fn tables_go_once_empty() -> Result {
        with_vm(4, |_device, vm, hardware| {
            let before = hardware.free_frames();
            bind(vm, [sparse(TABLE_SPAN - PAGE, 2 * PAGE)?])?;
            assert_eq!(hardware.free_frames(), before - 2);
            bind(vm, [unmap(TABLE_SPAN, PAGE)?])?;
            assert_eq!(hardware.free_frames(), before - 1);
            bind(vm, [unmap(TABLE_SPAN - PAGE, PAGE)?])?;
            assert_eq!(hardware.free_frames(), before);
            Ok(())
        })
    }

    #[test]
    fn without_room_for_tables_nothing_changes() -> Result {
        // The root table and two more.
        with_vm(3, |_device, vm, hardware| {
            bind(vm, [sparse(0, PAGE)?])?;
            let entry = hardware.translate(vm.root(), 0)?;
            assert!(entry != 0);
            let result = bind(
                vm,
                [
                    unmap(0, PAGE)?,
                    sparse(TABLE_SPAN, PAGE)?,
                    sparse(2 * TABLE_SPAN, PAGE)?,
                ],
            );
            assert_eq!(result, Err(ENOSPC));
            assert_eq!(hardware.free_frames(), 1);
            for (va, expected) in [(0, entry), (TABLE_SPAN, 0), (2 * TABLE_SPAN, 0)] {
                assert_eq!(hardware.translate(vm.root(), va)?, expected);
            }
            let mut entries = KVVec::with_capacity(8, GFP_KERNEL)?;
            vm.query(VaRange::new(0, 3 * TABLE_SPAN)?, &mut entries)?;
            assert_eq!(entries.len(), 2);
            assert_eq!(entries[0].size, PAGE);
            Ok(())
        })
    }

    #[test]
    fn a_device_that_confirms_nothing_fails_its_vm() -> Result {
        with_vm(2, |device, vm, hardware| {
            hardware.set_broken(true);
            assert_eq!(bind(vm, [sparse(0, PAGE)?]), Err(EIO));
            assert_eq!(bind(vm, [unmap(0, PAGE)?]), Err(EIO));
            assert_eq!(vm.check(), Err(EIO));
            hardware.set_broken(false);
            // It may have cached anything: there is no way back, but for another VM.
            assert_eq!(bind(vm, [unmap(0, PAGE)?]), Err(EIO));
            assert_eq!(Vm::new(device).err(), Some(ENOSPC));
            Ok(())
        })
    }

    #[test]
    fn objects_are_made_of_whole_pages_of_the_device() -> Result {
        with_vm(1, |device, _vm, _hardware| {
            let create = |size, placement| Bo::<Soft>::create(device, size, placement, false).err();
            assert_eq!(create(PAGE / 2, Placement::Host), Some(EINVAL));
            assert_eq!(create(PAGE + PAGE / 2, Placement::Host), Some(EINVAL));
            assert_eq!(create(0, Placement::Host), Some(EINVAL));
            assert_eq!(create(PAGE, Placement::Device), Some(ENOSPC));
            assert_eq!(create(PAGE, Placement::DeviceVisible), Some(ENOSPC));
            let bo = Bo::<Soft>::create(device, 5 * PAGE, Placement::Host, false)?;
            for extent in bo.object().ok_or(EINVAL)?.extents() {
                let all = extent.offset | extent.location.address() | extent.size;
                assert_eq!(all % PAGE, 0);
            }
            Ok(())
        })
    }
    #[test]
    fn a_zap_takes_whole_pages() -> Result {
        let hardware = Hardware::new(2)?;
        let mut table = PageTable::new(&hardware)?;
        let run = MapRun {
            range: VaRange::new(0, 4 * PAGE)?,
            location: Location::Sparse,
            access: Access {
                write: true,
                exec: false,
            },
            attrs: Attrs::from_uapi(0)?,
        };
        let mut plan = Plan::default();
        table.plan_map(&mut plan, &run, Basis::Current);
        let mut prepared = Prepared::new(&hardware, plan)?;
        table.map(&mut prepared, &run);
        table.flush(prepared, run.range, None).wait().0?;
        for page in 0..4 {
            // So that the walk remembers it.
            assert!(hardware.translate(table.root(), page * PAGE)? != 0);
        }
        let mut prepared = Prepared::default();
        let zapped = table.zap(&mut prepared, VaRange::new(PAGE + PAGE / 2, PAGE)?);
        assert_eq!(zapped, VaRange::new(PAGE, 2 * PAGE)?);
        table.flush(prepared, zapped, None).wait().0?;
        for page in 0..5 {
            let mapped = page == 0 || page == 3;
            let va = page * PAGE + PAGE / 2;
            let seen = hardware.translate(table.root(), va)? != 0;
            assert_eq!(seen, mapped);
            assert_eq!(table.permits(va, FaultAccess::Read), mapped);
            assert_eq!(table.permits(va, FaultAccess::Write), mapped);
            assert!(!table.permits(va, FaultAccess::Fetch));
        }
        // Tables stay.
        assert_eq!(table.stats().tables, 2);
        Ok(())
    }
}
