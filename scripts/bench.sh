#!/usr/bin/env bash
# Measures what vllm-loadgen costs beside a bare socket client, and prints one Markdown table with the goals.
#
#   scripts/bench.sh                       every case, 5 turns each (about 12 minutes)
#   scripts/bench.sh --quick               every case, 2 turns each (about 5 minutes)
#   scripts/bench.sh stream-200 flat-out   these cases; the beginning of a name stands for all that begin so
#   scripts/bench.sh events                nanoseconds an event of a stream, without any socket
#   scripts/bench.sh -h                    this text
#
# Cases: stream-20 stream-200 stream-1000 stream-4000 flat-out small-20 small-64 rate-1000 rate-10000 launch
# launch-plain. Progress goes to standard error. Wants a machine that does nothing else.
set -euo pipefail

usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"; }

bench=cost
words=()
for word in "$@"; do
    case $word in
        -h | --help) usage; exit 0 ;;
        events) bench=events ;;
        --quick) words+=("$word") ;;
        -*) printf "bench: unknown flag '%s'; see scripts/bench.sh -h\n" "$word" >&2; exit 2 ;;
        *) words+=("$word") ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo bench --quiet --locked --bench "$bench" -- ${words[@]+"${words[@]}"}
