# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the host must have, each said in one sentence when it is missing.
# Sourced after lib.sh.

# have_commands PACKAGE:COMMAND...: installs what is missing when that is
# possible, else says how.
have_commands() {
	local pair missing=()
	for pair; do
		command -v "${pair#*:}" >/dev/null || missing+=("${pair%%:*}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if is_root && command -v apt-get >/dev/null; then
		say "installing ${missing[*]} on this machine with apt-get"
		if ! step "apt-get install ${missing[*]}" "$CACHE/logs/apt.log" \
			sh -c 'apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"' \
			sh "${missing[@]}"; then
			die "could not install ${missing[*]}: is the package registry reachable?"
		fi
	else
		die "not installed here: ${missing[*]}; run: sudo apt-get install ${missing[*]}"
	fi
}

# To enter the roots.
need_bwrap() {
	[ "$(uname -m)" = x86_64 ] || die "the lab runs on x86-64 only, and this machine is $(uname -m)"
	have_commands bubblewrap:bwrap
	is_root || bwrap --unshare-user --uid 0 --gid 0 --ro-bind / / true 2>/dev/null ||
		die "this machine lets ordinary users have no user namespaces, so run as root," \
			"or allow them (sysctl kernel.unprivileged_userns_clone=1" \
			"or kernel.apparmor_restrict_unprivileged_userns=0)"
}

# To make the roots.
need_mmdebstrap() {
	local user
	have_commands mmdebstrap:mmdebstrap
	[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
		have_commands debian-archive-keyring:debian-archive-keyring.gpg
	if ! is_root; then
		have_commands uidmap:newuidmap
		user=$(id -un)
		grep -qs "^\($user\|$(id -u)\):" /etc/subuid ||
			die "mmdebstrap needs subordinate user ids; run: sudo usermod" \
				"--add-subuids 100000-165535 --add-subgids 100000-165535 $user"
	fi
}
