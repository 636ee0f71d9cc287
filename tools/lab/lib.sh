# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What every lab script shares: where things are, how to speak to the user,
# how a long step shows its progress. Sourced, never run.

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$LAB/../.." && pwd)
BUILD=$TOP/build
CACHE=${GMEM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gmem_vm}
export LAB TOP BUILD CACHE
export LC_ALL=C.UTF-8

say() { printf 'lab: %s\n' "$*" >&2; }
die() {
	printf 'lab: error: %s\n' "$*" >&2
	exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# hash_of WORD...: one short name for everything the words say.
hash_of() { printf '%s\0' "$@" | sha256sum | cut -c1-16; }

# hash_files FILE...: the same for what the files say (not for their names).
hash_files() { cat -- "$@" /dev/null | sha256sum | cut -c1-16; }

# package_list NAME: packages/NAME without its comments, separated by commas.
package_list() {
	sed 's/#.*//' "$LAB/packages/$1" | tr -s ' \t\n' ',' | sed 's/^,//; s/,$//'
}

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# The last line of a log that has something in it, without escapes, cut to fit.
last_line() {
	tail -c 2000 "$1" 2>/dev/null | tr '\r' '\n' | sed 's/\x1b\[[0-9;]*[A-Za-z]//g' |
		tr -cd '[:print:]\n' | grep -v '^ *$' | tail -n 1 | cut -c1-"$2" || true
}

# step TITLE LOG COMMAND...: runs a command with its output in LOG, and shows
# that it lives: on a terminal one line that updates itself, else a line every
# half minute. When it fails, says so with the end of the log.
step() {
	local title=$1 log=$2 start=$SECONDS next=30 pid status=0 width
	shift 2
	mkdir -p "$(dirname "$log")"
	in_background "$@" >"$log" 2>&1
	pid=$STEP_PID
	while kill -0 "$pid" 2>/dev/null; do
		if [ -t 2 ]; then
			width=$(($(tput cols 2>/dev/null || echo 80) - ${#title} - 16))
			printf '\r\033[K  %s  %s  %s' "$title" "$(clock $((SECONDS - start)))" \
				"$(last_line "$log" $((width > 10 ? width : 10)))" >&2
		elif [ $((SECONDS - start)) -ge $next ]; then
			printf '  %s  %s  %s\n' "$title" "$(clock $((SECONDS - start)))" \
				"$(last_line "$log" 100)" >&2
			next=$((SECONDS - start + 30))
		fi
		sleep 0.3
	done
	wait "$pid" || status=$?
	STEP_PID=
	[ -t 2 ] && printf '\r\033[K' >&2
	if [ "$status" != 0 ]; then
		printf '  %s  failed after %s (status %d); the end of its log:\n' \
			"$title" "$(clock $((SECONDS - start)))" "$status" >&2
		tail -n 25 "$log" | sed 's/^/    /' >&2
		printf '  the whole log: %s\n' "$log" >&2
		return "$status"
	fi
	printf '  %s  %s\n' "$title" "$(clock $((SECONDS - start)))" >&2
}

# in_background COMMAND...: starts it in a process group of its own, so that all
# of it can be ended; sets STEP_PID.
STEP_PID=
in_background() {
	set -m
	"$@" </dev/null &
	STEP_PID=$!
	set +m
}

# Interrupted: end the step under way, so that nothing goes on unseen.
stop_step() {
	if [ -n "$STEP_PID" ]; then kill -TERM -- "-$STEP_PID" 2>/dev/null || true; fi
}
trap 'stop_step; exit 130' INT
trap 'stop_step; exit 143' TERM HUP
