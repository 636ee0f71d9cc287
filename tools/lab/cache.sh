# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The cache: directories $CACHE/KIND-KEY, where KEY is a hash of all that went
# into one. Sourced after lib.sh.
#
# An entry is built in $CACHE/tmp under an exclusive lock and renamed into
# place: it is there whole or not at all, and of two runs that want it one
# builds while the other waits. All clones of a user share the cache.

# remove DIR: also when some directory in it may not be written to.
remove() {
	[ -e "$1" ] || return 0
	rm -rf -- "$1" 2>/dev/null || {
		chmod -R u+rwX -- "$1"
		rm -rf -- "$1"
	}
}

# need_space MIB WHAT: fails when the cache's file system has less.
need_space() {
	local free
	free=$(df -Pm "$CACHE" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$1" ] ||
		die "$2 needs $1 MiB of free space in $CACHE, and there are $free MiB;" \
			"free some, or set GMEM_CACHE to a directory on a larger file system"
}

# Temporary directories of runs that were killed: nobody holds their lock.
sweep() {
	local dir name fd
	for dir in "$CACHE"/tmp/*; do
		[ -e "$dir" ] || continue
		name=${dir##*/}
		exec {fd}>"$CACHE/locks/${name%.*}"
		if flock -n "$fd"; then remove "$dir"; fi
		exec {fd}>&-
	done
}

# prune KIND: keeps the three entries of a kind used last, and any of the last
# day: an entry in use is younger than that.
prune() {
	local dir
	find "$CACHE" -maxdepth 1 -name "$1-????????????????" -printf '%T@ %p\n' |
		sort -rn | tail -n +4 | while read -r _ dir; do
		if [ -n "$(find "$dir" -maxdepth 0 -mmin +1440)" ]; then remove "$dir"; fi
	done
}

# cached KIND KEY MIB TITLE BUILDER...: sets ENTRY to the entry's path. If it is
# not there, BUILDER, a command, is called with a fresh directory to fill as one
# more argument.
cached() {
	local kind=$1 name=$1-$2 space=$3 title=$4 fd tmp stale status=0
	shift 4
	ENTRY=$CACHE/$name
	if [ ! -d "$ENTRY" ]; then
		mkdir -p "$CACHE/tmp" "$CACHE/locks" ||
			die "cannot write to $CACHE; set GMEM_CACHE to a directory that can be written"
		exec {fd}>"$CACHE/locks/$name"
		if ! flock -n "$fd"; then
			say "another run is making $title; waiting for it"
			flock "$fd"
		fi
		if [ ! -d "$ENTRY" ]; then
			sweep
			prune "$kind"
			need_space "$space" "$title"
			tmp=$CACHE/tmp/$name.$$
			for stale in "$CACHE/tmp/$name".*; do remove "$stale"; done
			mkdir "$tmp"
			in_background "$@" "$tmp"
			wait "$STEP_PID" || status=$?
			STEP_PID=
			if [ "$status" != 0 ]; then
				remove "$tmp"
				die "could not make $title"
			fi
			mv -T "$tmp" "$ENTRY"
		fi
		exec {fd}>&-
	fi
	touch "$ENTRY" 2>/dev/null || true
}
