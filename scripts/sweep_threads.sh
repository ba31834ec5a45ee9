#!/usr/bin/env bash
# Runs the tool once for each number of threads and joins the results in one CSV.
#
#   scripts/sweep_threads.sh [URL] [THREADS...] [-- FLAGS...]
#
#   URL       server to measure; with none, or 'simulate', the built-in simulated server
#   THREADS   numbers of threads (default: 1 2 4 8 16 32)
#   FLAGS     more flags for the tool, such as --max-tokens 64
#
# Environment:
#   COMPLETIONS    requests of each run (default: 200)
#   OUT            the CSV, which must not exist yet (default: results/sweep_<UTC>.csv)
#   VLLM_LOADGEN   the binary (default: vllm-loadgen of the PATH, else built from this repository)
#
# Examples:
#   scripts/sweep_threads.sh
#   COMPLETIONS=1000 scripts/sweep_threads.sh http://localhost:8000 8 16 32 64 -- --max-tokens 64 --ignore-eos
#
# A row is there as soon as its run is done. Reports and progress go to standard error, the path of the CSV to standard
# output. A run in which no request succeeded is noted, and the sweep goes on.
# Exit codes: 0 some run succeeded, 1 none did or nothing could be written, 2 usage or configuration is wrong.
set -euo pipefail

say() { printf 'sweep: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"; }
is_count() { [[ $1 =~ ^[1-9][0-9]*$ ]]; }

server=() counts=() flags=()
name='the simulated server'
case ${1:-} in
    -h | --help) usage; exit 0 ;;
    --) ;;
    '') [ $# -eq 0 ] || die "the URL is empty; write one, or simulate" 2 ;;
    -*) die "unknown flag '$1'; flags for the tool come after --, see -h" 2 ;;
    simulate) shift ;;
    *[!0-9]*) server=(--url "$1"); name=$1; shift ;;
esac
[ ${#server[@]} -gt 0 ] || server=(--simulate)
while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then shift; flags=("$@"); break; fi
    is_count "$1" || die "'$1' is not a number of threads; write a whole number above 0 (flags come after --)" 2
    counts+=("$1")
    shift
done
[ ${#counts[@]} -gt 0 ] || counts=(1 2 4 8 16 32)
completions=${COMPLETIONS:-200}
is_count "$completions" || die "COMPLETIONS '$completions': not a whole number above 0" 2

out=${OUT:-results/sweep_$(date -u +%Y%m%dT%H%M%SZ).csv}
mkdir -p -- "$(dirname -- "$out")"
[ ! -e "$out" ] || die "$out exists already; name another with OUT=, or remove it"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tool=${VLLM_LOADGEN:-$(command -v vllm-loadgen || true)}
if [ -z "$tool" ]; then
    say "building"
    (cd "$root" && cargo build --release --locked)
    target=${CARGO_TARGET_DIR:-target}
    case $target in /*) ;; *) target=$root/$target ;; esac
    tool=$target/release/vllm-loadgen
fi
command -v -- "$tool" >/dev/null || die "there is no program '$tool'; see VLLM_LOADGEN in -h" 2

work=$(mktemp -d)
succeeded=0 rows=0 failed=()
finish() {
    rm -rf -- "$work"
    if [ "$rows" -gt 0 ]; then
        say "$rows of ${#counts[@]} runs are in $out"
        printf '%s\n' "$out"
    else
        rm -f -- "$out"
    fi
}
: >"$out" || die "cannot write $out"
trap finish EXIT

for threads in "${counts[@]}"; do
    say "threads $threads, completions $completions, $name"
    csv=$work/row.csv code=0
    rm -f -- "$csv"
    "$tool" "${server[@]}" --threads "$threads" --completions "$completions" --csv "$csv" \
        ${flags[@]+"${flags[@]}"} >&2 || code=$?
    case $code in
        0) succeeded=$((succeeded + 1)) ;;
        1) failed+=("$threads"); say "the run with threads $threads failed (exit code 1); going on" ;;
        *) die "the run with threads $threads ended with exit code $code; stopping" "$code" ;;
    esac
    [ -s "$csv" ] || { say "no row for threads $threads: the run wrote no CSV"; continue; }
    head -n 1 "$csv" >"$work/header"
    if [ ! -s "$out" ]; then
        cp -- "$work/header" "$work/first"
        cat -- "$csv" >>"$out"
    elif cmp -s "$work/header" "$work/first"; then
        tail -n +2 "$csv" >>"$out" # the header is one line, whatever the cells of the rows hold
    else
        die "the columns of the run with threads $threads differ from those before; is the binary being replaced?"
    fi
    rows=$((rows + 1))
done

[ ${#failed[@]} -eq 0 ] || say "no request succeeded, or the run could not be made, with threads: ${failed[*]}"
[ "$succeeded" -gt 0 ] || die "every run failed"
