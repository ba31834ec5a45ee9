#!/usr/bin/env bash
# Builds the static binary: one file that needs no library and runs on any Linux of its architecture.
#
#   scripts/build-static.sh [TARGET]
#
#   TARGET   x86_64-unknown-linux-musl or aarch64-unknown-linux-musl (default: this machine's)
#
# Needs cargo with rustup, and a C compiler that builds for musl: musl-gcc, which is installed through apt-get where
# that is there and the user is root. The other architecture needs a cross compiler, such as aarch64-linux-gnu-gcc.
# The binary holds no path of the machine that built it. Its own path goes to stdout, all else to stderr.
set -euo pipefail

say() { printf 'build-static: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
misused() { say "$*; see -h"; exit 2; }
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"; }
first_of() { local c; for c in "$@"; do command -v "$c" >/dev/null && { echo "$c"; return; }; done; return 1; }

case ${1:-} in -h | --help) usage; exit 0 ;; esac
[ $# -le 1 ] || misused "one target at a time"
[ "$(uname -s)" = Linux ] || die "this builds on Linux only"
host=$(uname -m)
[ "$host" != arm64 ] || host=aarch64
target=${1:-$host-unknown-linux-musl}
case $target in
    x86_64-unknown-linux-musl | aarch64-unknown-linux-musl) arch=${target%%-*} ;;
    *) misused "'$target': not a known target; write x86_64-unknown-linux-musl or aarch64-unknown-linux-musl" ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
command -v cargo >/dev/null || die "there is no cargo; install Rust from https://rustup.rs"

# --- the C compiler, for the C in ring; and the linker, where it is not the machine's own ---
lower=${target//-/_}
upper=$(printf '%s' "$lower" | tr '[:lower:]' '[:upper:]')
if [ "$arch" = "$host" ]; then
    if ! command -v musl-gcc >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "installing musl-tools"
        apt-get -q update >&2
        DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends musl-tools >&2
    fi
    # as the compiler of C only: as a linker it cannot make Rust's static executables
    cc=$(first_of musl-gcc "$arch-linux-musl-gcc") ||
        die "there is no musl-gcc; install it (Debian's package is musl-tools)"
else
    cc=$(first_of "$arch-linux-musl-gcc" "$arch-linux-gnu-gcc") ||
        die "building for $arch on $host needs $arch-linux-musl-gcc or $arch-linux-gnu-gcc; install one" \
            "(Debian's package is gcc-${arch//_/-}-linux-gnu)"
    linker=CARGO_TARGET_${upper}_LINKER
    export "$linker=${!linker:-$cc}"
fi
compiler=CC_$lower
export "$compiler=${!compiler:-$cc}"

# --- Rust's standard library for the target ---
has_std() { compgen -G "$(rustc --print target-libdir --target "$target")/libstd-*.rlib" >/dev/null; }
if ! has_std; then
    command -v rustup >/dev/null || die "this Rust has no library for $target, and there is no rustup to add it"
    rustup target add "$target" >&2
fi

# --- the build, with no path of this machine in it ---
cargo fetch --locked --target "$target" >&2
cargo_home=${CARGO_HOME:-$HOME/.cargo}
separator=$'\x1f' # what cargo wants between flags that may hold spaces
flags=${CARGO_ENCODED_RUSTFLAGS:-}
add() { flags+=${flags:+$separator}$1; }
map() { add "--remap-path-prefix=$1=$2"; }
if [ -z "$flags" ]; then
    read -ra words <<<"${RUSTFLAGS:-}"
    for word in ${words[@]+"${words[@]}"}; do add "$word"; done
fi
# the last that fits wins, so the narrower ones come later
map "$root" vllm-loadgen
map "$(rustc --print sysroot)/lib/rustlib/src/rust" rust
map "$cargo_home" cargo
for sources in "$cargo_home"/registry/src/*; do map "$sources" crates; done
export CARGO_ENCODED_RUSTFLAGS=$flags
say "building for $target with $(rustc --version)"
cargo build --release --locked --target "$target" >&2
out=${CARGO_TARGET_DIR:-target}
case $out in /*) ;; *) out=$root/$out ;; esac
binary=$out/$target/release/vllm-loadgen

# --- the proof ---
if command -v readelf >/dev/null; then
    heads=$(readelf -lWd "$binary")
    if grep -qE '\(NEEDED\)|^ *INTERP' <<<"$heads"; then die "$binary is not static: it wants a loader or a library"; fi
elif command -v file >/dev/null; then
    file -b "$binary" | grep -qE 'static(ally|-pie) linked' || die "$binary is not static: $(file -b "$binary")"
elif [ "$arch" = "$host" ]; then
    said=$(ldd "$binary" 2>&1 || true)
    grep -qE 'statically linked|not a (valid )?dynamic' <<<"$said" || die "$binary is not static: $said"
else
    die "needs readelf or file to check that $binary is static"
fi
for path in "$root" "$cargo_home"; do
    [ "$path" != / ] || continue
    if LC_ALL=C grep -aqF -- "$path/" "$binary"; then die "$binary holds the path $path"; fi
done
if [ "$arch" = "$host" ]; then
    version=$("$binary" --version) || die "$binary does not run"
    say "static: $version"
else
    say "static; not run, as it is for $arch and this is $host"
fi
size=$(wc -c <"$binary")
say "$((size)) bytes: $binary"
printf '%s\n' "$binary"
