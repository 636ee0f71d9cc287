// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Tests of DMA addresses, for a faux device.

use kernel::prelude::*;

#[kunit_tests(gmem_vm_kapi_dma)]
mod suite {
    use super::super::{
        super::device_private::LockedFolio,
        *, //
    };
    use kernel::{
        error::to_result,
        faux,
        page::{
            PAGE_SHIFT,
            PAGE_SIZE, //
        }, //
    };

    /// Runs a test with the mapper of a device that can use any address, and is bound.
    fn with_mapper(f: impl FnOnce(&Mapper) -> Result) -> Result<Mapper> {
        let device = faux::Registration::new(c"gmem_vm-kunit", None)?;
        let parent: &faux::Device<Bound> = device.as_ref();
        let dev: &device::Device<Bound> = parent.as_ref();

        // SAFETY: The device is valid, and nobody else knows it. The faux bus gives it no mask of its own.
        to_result(unsafe {
            let dev = dev.as_raw();
            (*dev).dma_mask = &raw mut (*dev).coherent_dma_mask;
            bindings::dma_set_mask_and_coherent(dev, u64::MAX)
        })?;

        let mapper = Mapper::new(dev, false)?;
        f(&mapper)?;
        Ok(mapper)
    }

    fn folio(order: u32) -> Result<(LockedFolio, u64)> {
        let folio = LockedFolio::new(order, bindings::NUMA_NO_NODE, true, false)?;
        let phys = (folio.pfn() << PAGE_SHIFT) as u64;
        Ok((folio, phys))
    }

    #[test]
    fn pages_get_addresses() -> Result {
        with_mapper(|mapper| {
            let (_folio, phys) = folio(2)?;
            let bus = mapper.bus().ok_or(ENODEV)?;
            let address = bus.map(phys, 4 * PAGE_SIZE)?;
            if !mapper.needs_unmap() {
                // As there is nothing to be given back, there is nothing in between.
                assert_eq!(address, phys);
                assert_eq!(
                    bus.map(phys + PAGE_SIZE as u64, PAGE_SIZE),
                    Ok(phys + PAGE_SIZE as u64)
                );
            }
            // As a whole, or by pages.
            bus.unmap(address, 4 * PAGE_SIZE);
            let address = bus.map(phys, 4 * PAGE_SIZE)?;
            for page in 0..4 {
                bus.unmap(address + page * PAGE_SIZE as u64, PAGE_SIZE);
            }
            Ok(())
        })?;
        Ok(())
    }

    #[test]
    fn there_is_no_bus_without_a_driver() -> Result {
        let mapper = with_mapper(|mapper| {
            assert!(mapper.bus().is_some());
            Ok(())
        })?;
        assert!(mapper.bus().is_none());
        Ok(())
    }
}
