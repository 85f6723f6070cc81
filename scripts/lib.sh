# SPDX-License-Identifier: GPL-2.0
# Shared by all scripts here; sourced, not run.
# Variables are for those who source this.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
CACHE_TOP=${COHBUF_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cohbuf}
JOBS=${COHBUF_JOBS:-$(nproc)}

die() {
	echo "cohbuf: error: $*" >&2
	exit 1
}

note() {
	echo "cohbuf: $*" >&2
}

# packages: the package list without comments.
packages() {
	grep -v '^#' "$SRC/scripts/packages"
}

# The host itself serves where it is Debian 13 with every package; its trees
# hold its own paths, so they live apart from those of the build root.
host_is_root() {
	local version=''
	[[ ${COHBUF_NO_HOST:-} != 1 && -r /etc/os-release ]] || return 1
	# shellcheck source=/dev/null
	version=$(. /etc/os-release && echo "${ID:-}-${VERSION_ID:-}")
	[[ $version == debian-13 ]] || return 1
	# shellcheck disable=SC2046
	dpkg-query -W $(packages) >/dev/null 2>&1
}

if host_is_root; then
	CACHE=$CACHE_TOP/host
	ROOT=/
	R_SRC=$SRC
	R_CACHE=$CACHE
else
	CACHE=$CACHE_TOP
	# By what it is made of, and by how.
	ROOT=$CACHE/root-$(cat <(packages) "$SRC/scripts/setup-buildroot" | sha256sum | cut -c1-12)
	R_SRC=/cohbuf
	R_CACHE=/cache
fi

in_root() {
	"$SRC/scripts/in-root" "$@"
}

# Kernel series: all that are supported, the preferred one first, and the one of
# this run, which COHBUF_SERIES names.
mapfile -t ALL_SERIES < <(grep -v '^#' "$SRC/scripts/kernel-series")
SERIES=${COHBUF_SERIES:-${ALL_SERIES[0]}}
[[ " ${ALL_SERIES[*]} " == *" $SERIES "* ]] ||
	die "kernel series '$SERIES' is not supported: say one of ${ALL_SERIES[*]} (scripts/kernel-series)"

declare -A lock_held=()
# end_together: for scripts with background jobs, which ignore Ctrl-C by themselves.
end_together() {
	trap 'trap - INT TERM; kill 0' INT TERM
}

# await PID...: of background jobs, all of them, so that none is left behind when one
# fails. Fails then.
await() {
	local pid failed=0
	for pid; do
		wait "$pid" || failed=1
	done
	return "$failed"
}

# forget_old PATTERN: removes trees of the cache that nobody used for two weeks;
# whoever uses one touches it. By name alone: what is in a tree has dates of its own.
forget_old() {
	local tree
	# shellcheck disable=SC2086
	for tree in "$CACHE"/$1; do
		[[ -d $tree ]] || continue
		find "$tree" -maxdepth 0 -mtime +14 -exec rm -rf {} +
	done
}

# lock NAME: held until this script ends; a second run waits here.
lock() {
	mkdir -p "$CACHE/lock"
	[[ -z ${lock_held[$1]:-} ]] || return 0
	lock_held[$1]=1
	exec {lock_fd}>"$CACHE/lock/$1"
	if ! flock -w 2 "$lock_fd"; then
		note "$1: another run is at it, waiting"
		flock "$lock_fd"
	fi
}

# run_step NAME WHAT CMD...: runs CMD with its output in a log, and prints one
# line when it is done. CMD may leave the size of a download in $STEP_SIZE.
run_step() {
	local name=$1 what=$2 start=$SECONDS log size
	shift 2
	log=$CACHE/log/$name.log
	[[ $SERIES == "${ALL_SERIES[0]}" ]] || log=$CACHE/log/$SERIES/$name.log
	mkdir -p "${log%/*}"
	STEP_SIZE=$log.size
	export STEP_SIZE
	rm -f "$STEP_SIZE"
	[[ -t 2 ]] && printf '       %s: %s ...\r' "$name" "$what" >&2
	# Not in an if: bash would ignore "set -e" within CMD.
	set +e
	(
		set -e
		"$@"
	) >"$log" 2>&1 </dev/null
	local status=$?
	set -e
	if ((status)); then
		{
			echo "cohbuf: $name failed ($what); the end of $log:"
			tail -n 30 "$log"
		} >&2
		exit 1
	fi
	size=$(cat "$STEP_SIZE" 2>/dev/null || true)
	printf '%4d s %s: %s%s\n' $((SECONDS - start)) "$name" "$what" \
		"${size:+ ($size downloaded)}" >&2
}

# fetch_debs DIR PACKAGE...: Debian packages into DIR, as the root has it, by way of
# DIR.tmp; apt checks each against the signed index. For run_step.
fetch_debs() {
	local dir=$1
	shift
	in_root bash -euc '
		dir=$1 size=$2
		shift 2
		rm -rf "$dir.tmp"
		mkdir -p "$dir.tmp"
		cd "$dir.tmp"
		# The lists in the root are as old as the root until someone asks again.
		apt-get -q download "$@" || { apt-get -q update; apt-get -q download "$@"; }
		du -shc -- *.deb | sed -n "s/[[:space:]]total//p" >"$size"
		rm -rf "$dir"
		mv "$dir.tmp" "$dir"
	' fetch "$dir" "$R_CACHE/${STEP_SIZE#"$CACHE/"}" "$@"
}

# check_arch ARCH
check_arch() {
	case $1 in
	amd64 | arm64) ;;
	*) die "architecture '$1': say amd64 or arm64" ;;
	esac
}

# arches [ARCH]: the list that ARCH=amd64|arm64|both stands for.
arches() {
	case ${1:-both} in
	both) echo amd64 arm64 ;;
	amd64 | x86_64 | x86) echo amd64 ;;
	arm64 | aarch64) echo arm64 ;;
	*) die "ARCH=$1: say amd64, arm64 or both" ;;
	esac
}

# load_kernel: what setup-kernel selected of this series, as PKGVER, ABI (without
# the architecture), KERNEL (its directory in the cache) and R_KERNEL.
load_kernel() {
	[[ -f $CACHE/kernel/selected-$SERIES ]] ||
		die "no kernel of series $SERIES yet: run scripts/setup, with COHBUF_SERIES=$SERIES"
	# shellcheck source=/dev/null
	. "$CACHE/kernel/selected-$SERIES"
	KERNEL=$CACHE/kernel/$PKGVER
	R_KERNEL=$R_CACHE/kernel/$PKGVER
}

# hash_of FILE...: of names and contents, directories walked.
hash_of() {
	find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum |
		sha256sum | cut -c1-12
}

# tools_hash: of all that the userspace workspace is built from. Paths in the
# sources reach the module's policy and the uapi headers.
tools_hash() {
	(
		cd "$SRC"
		find tools tests/bench/Cargo.toml tests/bench/src tests/vm tests/host tests/importer src include \
			\( -name target -prune -o -type f -print0 \) |
			LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12
	)
}

# in_tools CMD...: runs CMD in the userspace workspace. One target directory
# serves all checkouts, so that the crates it depends on are built once. Cargo
# goes by time stamps, which say nothing across checkouts: what was built from
# other sources of ours is forgotten first.
in_tools() {
	local target=$CACHE/build/target hash
	hash=$(tools_hash)
	lock tools
	if [[ $(cat "$target/.sources" 2>/dev/null) != "$hash" ]]; then
		mkdir -p "$target"
		find "$target" -type d -path '*/.fingerprint/cohbuf*' -prune -exec rm -rf {} +
		echo "$hash" >"$target/.sources"
	fi
	in_root env CARGO_TARGET_DIR="$R_CACHE/build/target" \
		bash -euc 'cd "$0" && exec "$@"' "$R_SRC/tools" "$@"
}

# own_configs debug|bench: where the settings are that a kernel of our own is made from.
own_configs() {
	case $1 in
	debug) echo tests/kunit ;;
	bench) echo tests/bench ;;
	*) die "kernel '$1': say debug or bench" ;;
	esac
}

# own_config ARCH debug|bench: those settings; a series may have some of its own.
own_config() {
	local configs only
	configs=$SRC/$(own_configs "$2")
	only=$configs/linux-$SERIES.config
	cat "$configs/common.config" "$configs/$1.config"
	[[ ! -f $only ]] || cat "$only"
}

# own_dir ARCH debug|bench: name of its directory, keyed by what it is made from.
own_dir() {
	echo "$2-$1-$(own_config "$1" "$2" | grep -v '^#.*[.]$' | sha256sum | cut -c1-12)"
}

# kdir_name ARCH stock|debug|bench
kdir_name() {
	case $2 in
	stock) echo "kdir-$1" ;;
	debug | bench) own_dir "$1" "$2" ;;
	*) die "kernel '$2': say stock, debug or bench" ;;
	esac
}

# kmake_args ARCH stock|debug|bench: what make needs for that kernel, one a line.
kmake_args() {
	local arch=$1
	[[ $arch == amd64 ]] && arch=x86_64
	echo "ARCH=$arch"
	if [[ $2 != stock ]]; then
		echo LLVM=1
	else
		# The compiler that made the stock kernel, by its own word.
		local cc
		cc=$(sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\) .*/\1/p' "$KERNEL/stock-$1/config")
		[[ $cc == *gcc* ]] || die "stock $1 kernel: compiler '$cc' is unknown"
		echo "CC=$cc"
		echo "CROSS_COMPILE=${cc%gcc*}"
	fi
}
