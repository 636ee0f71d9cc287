// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Exports the functions of the gmem_vm crate to modules that embed it. The list is made
 * from the crate's object file; see Kbuild.
 */

#include <linux/export.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_generated.h"
