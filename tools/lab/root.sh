# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The two Debian roots: made when missing, entered with bubblewrap, as root or
# as an ordinary user. Nothing in them is ever written to. Sourced after lib.sh.
# shellcheck disable=SC2034 # what is set is for those who call

# shellcheck source=cache.sh
. "$LAB/cache.sh"
# shellcheck source=prereq.sh
. "$LAB/prereq.sh"

# Files of the two kinds of user have different owners: not shared.
owner() { if is_root; then echo root; else echo user; fi; }

# need_buildroot: sets BUILDROOT.
need_buildroot() {
	need_bwrap
	BUILDROOT_KEY=$(hash_of "$(package_list buildroot)" "$(owner)" \
		"$(hash_files "$LAB/make-root" "$LAB/mmdebstrap-hook")")
	cached buildroot "$BUILDROOT_KEY" 5000 "the build root" "$LAB/make-root" buildroot trixie
	BUILDROOT=$ENTRY/root
}

# need_guestroot: sets GUESTROOT, a directory to compile in, and GUESTIMAGE, the
# file system that guests boot from.
need_guestroot() {
	need_buildroot
	GUESTROOT_KEY=$(hash_of "$(package_list guestroot)" "$(owner)" \
		"$(hash_files "$LAB/make-root" "$LAB/guest-boot")")
	cached guestroot "$GUESTROOT_KEY" 2500 "the guest's root" "$LAB/make-root" guestroot forky
	GUESTROOT=$ENTRY/root
	GUESTIMAGE=$ENTRY/root.erofs
}

# enter_args ROOT [share-pids]: sets ENTER to the bwrap command that enters it. The root
# directory itself is a tmpfs, so that anything can be mounted anywhere. Of the
# environment passes only what reaching the registries may need.
enter_args() {
	local name
	ENTER=(bwrap --die-with-parent --unshare-ipc --unshare-uts --hostname lab)
	[ "${2:-}" = share-pids ] || ENTER+=(--unshare-pid)
	is_root || ENTER+=(--unshare-user --uid 0 --gid 0)
	ENTER+=(--ro-bind "$1/usr" /usr --ro-bind "$1/etc" /etc --ro-bind "$1/var" /var
		--symlink usr/bin /bin --symlink usr/sbin /sbin
		--symlink usr/lib /lib --symlink usr/lib64 /lib64
		--dev /dev --proc /proc --tmpfs /tmp --tmpfs /run --tmpfs /var/tmp
		--dir /root --clearenv --setenv HOME /root
		--setenv PATH /usr/sbin:/usr/bin --setenv LC_ALL C.UTF-8
		--setenv TERM "${TERM:-dumb}")
	for name in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
		[ -e "$name" ] && [ -e "$1$name" ] && ENTER+=(--ro-bind "$(realpath "$name")" "$name")
	done
	for name in $(compgen -e); do
		case $name in
		*_proxy | *_PROXY | CARGO_HTTP_* | CARGO_NET_* | CARGO_SOURCE_* | PIP_INDEX_URL | PIP_EXTRA_INDEX_URL)
			ENTER+=(--setenv "$name" "${!name}")
			;;
		esac
	done
}

# have_space_for_all: says at once, and not half an hour later, when the cache's
# file system is too small for all that will be put there.
have_space_for_all() {
	[ ! -d "$CACHE/ccache" ] || return 0
	mkdir -p "$CACHE" 2>/dev/null ||
		die "cannot write to $CACHE; set GMEM_CACHE to a directory that can be written"
	need_space 15000 "the lab"
}
