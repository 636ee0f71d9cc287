# SPDX-License-Identifier: GPL-2.0
#
# Everything one does with this tree, on an x86-64 Debian machine: the work is
# done by small scripts in tools/lab, in Debian roots of their own.

LAB := tools/lab

# What these variables say is for the scripts.
export KDIR KSRC GMEM_CACHE TESTS MINUTES BENCH NPU_MEM APERTURE MEMORY NPUS FLAVOUR

# The scripts share one cache and one build directory, and use all processors
# by themselves.
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## this text
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@sed -n 's/^#= //p' $(MAKEFILE_LIST)

demo: ## a transformer on the NPU, in a guest (NPU_MEM=64M, APERTURE=0, NPUS=2, MEMORY=bo)
	@$(LAB)/demo

test: ## all tests, on the debug kernel (TESTS='igt:npu_bind.*' for some)
	@$(LAB)/test

soak: ## tests under permanent pressure for an hour (MINUTES=10, TESTS='npu_svm_litmus ...')
	@$(LAB)/soak

shell: ## a shell in a guest with an NPU, modules loaded (FLAVOUR=debug ...)
	@$(LAB)/shell

bench: ## one benchmark: BENCH=bind or svm
	@$(LAB)/bench

modules: ## the kernel modules, into build/modules-FLAVOUR, or for KDIR=...
	@$(LAB)/modules $(FLAVOUR)

tools: ## npu-device and npu, into build/bin
	@$(LAB)/tools

igt: ## the IGT tests, into build/igt
	@$(LAB)/igt

kernel: ## the lab's two kernels (FLAVOUR=release or debug, KSRC=... for your own source)
	@$(LAB)/kernel $(FLAVOUR)

lint: ## format, clippy, rustdoc, checkpatch, shellcheck
	@$(LAB)/lint

clean: ## remove build/
	rm -rf build

distclean: clean ## remove build/ and the cache
	@$(LAB)/distclean

.PHONY: help demo test soak shell bench modules tools igt kernel lint clean distclean

#= 
#= Roots, kernels and crates are kept in $GMEM_CACHE (~/.cache/gmem_vm): the
#= first 'make demo' and 'make test' take about twenty minutes more than later ones,
#= which take a minute and half an hour. Kernel modules for a kernel of your own: make modules KDIR=/its/build.
