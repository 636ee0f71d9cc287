# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The kernel: its source with our patches, and one build a flavour. Sourced
# after lib.sh and root.sh.
#
# KSRC=DIR takes one's own 7.3 source tree instead of Debian's package.
# GMEM_KERNEL_release=DIR and GMEM_KERNEL_debug=DIR take a build directory that
# is already there (one made with O=, patched, configured and built by hand).
# shellcheck disable=SC2034 # what is set is for those who call

kernel_patches() { find "$TOP/patches" -name '*.patch' 2>/dev/null | LC_ALL=C sort; }

# A name for the state of the user's tree: every file's name, size and time.
tree_key() {
	hash_of "$(find "$1" -name .git -prune -o -type f -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum)"
}

# need_source: sets SOURCE, a patched source tree, and SOURCE_KEY.
need_source() {
	local pristine pristine_key patches
	need_buildroot
	if [ -n "${KSRC:-}" ]; then
		[ -e "$KSRC/Kbuild" ] && [ -d "$KSRC/rust/kernel" ] ||
			die "KSRC=$KSRC is not a kernel source tree"
		[ ! -e "$KSRC/.config" ] ||
			die "KSRC=$KSRC has been built in: run 'make mrproper' there, or give a clean copy"
		pristine_key=$(tree_key "$KSRC")
	else
		# One key for whatever 7.3 the archive had when it was fetched.
		pristine_key=$(hash_of linux-source-7.3 "$(owner)")
	fi
	cached pristine "$pristine_key" 3500 "the kernel source" "$LAB/make-pristine"
	pristine=$ENTRY
	mapfile -t patches < <(kernel_patches)
	SOURCE_KEY=$(hash_of "$(cat "$pristine/version")" "$pristine_key" \
		"$(hash_files "$LAB/make-source" "${patches[@]}")")
	cached source "$SOURCE_KEY" 500 "the patched kernel source" \
		"$LAB/make-source" "$pristine/linux" "${patches[@]/#/--patch=}"
	SOURCE=$ENTRY/linux
}

# need_kernel FLAVOUR: sets KERNEL_BUILD (what modules build against), SOURCE,
# KERNEL_IMAGE and KERNEL_MODULES, and ENTER_KERNEL: what to add to ENTER, and
# KDIR_INSIDE and SOURCE_INSIDE: where both then are.
need_kernel() {
	local flavour=$1 override=GMEM_KERNEL_$1
	case $flavour in release | debug) ;; *) die "no such kernel flavour: $flavour" ;; esac
	need_buildroot
	if [ -n "${!override:-}" ]; then
		KERNEL_BUILD=$(realpath "${!override}")
		KERNEL_IMAGE=$KERNEL_BUILD/arch/x86/boot/bzImage
		[ -e "$KERNEL_IMAGE" ] || die "$override=$KERNEL_BUILD has no kernel built in it"
		SOURCE=$(realpath "$KERNEL_BUILD/source")
		KERNEL_MODULES=$KERNEL_BUILD
		KDIR_INSIDE=$KERNEL_BUILD
		SOURCE_INSIDE=$SOURCE
		ENTER_KERNEL=(--ro-bind "$SOURCE" "$SOURCE" --ro-bind "$KERNEL_BUILD" "$KERNEL_BUILD")
		return
	fi
	need_source
	KERNEL_KEY=$(hash_of "$flavour" "$SOURCE_KEY" "$(hash_files \
		"${BUILDROOT%/root}/toolchain" "$LAB/make-kernel" "$LAB/config/base.config" "$LAB/config/$flavour.config")")
	cached "kernel_$flavour" "$KERNEL_KEY" 5000 "the $flavour kernel" \
		"$LAB/make-kernel" "$flavour" "$SOURCE"
	KERNEL_BUILD=$ENTRY/build
	KERNEL_IMAGE=$ENTRY/bzImage
	KERNEL_MODULES=$ENTRY/modules
	# A build directory has its absolute path in its files: always these two.
	KDIR_INSIDE=/kernel/build
	SOURCE_INSIDE=/kernel/source
	ENTER_KERNEL=(--ro-bind "$SOURCE" /kernel/source --ro-bind "$KERNEL_BUILD" /kernel/build)
}

# kmake_args: sets KMAKE, how every make on a kernel tree is called in the build
# root.
kmake_args() {
	local library=("$BUILDROOT"/usr/src/rustc-*/library)
	KMAKE=(make LLVM=-19 "RUST_LIB_SRC=${library[0]#"$BUILDROOT"}")
}
