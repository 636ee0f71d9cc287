// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The kernel's `kunit_tests` attribute, for tests on the host.

use proc_macro::TokenStream;

/// Makes a module of KUnit tests one of ordinary tests.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    let mut tests: TokenStream = "#[cfg(test)]".parse().expect("an attribute");
    tests.extend(module);
    tests
}
