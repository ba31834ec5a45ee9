#!/usr/bin/env bash
# Measures how often `vllm-loadgen compare` calls a server worse that is the same (false alarms), and how often one that
# is 10 % or 20 % slower (power), on the simulated server. Prints the figures as a table.
#
#   scripts/gate-power.sh [PAIRS] [REQUESTS]     (default: 200 pairs of runs of 300 requests)
#
# Each is judged with a tolerance of 10 % and of 5 %. A pair is one run against one. The base runs are also compared five against five. Each run has a seed of its own, on both
# sides of the wire. Takes about 8 minutes with the defaults. Needs a release build (made where there is none) and jq.
# BINARY names another build, KEEP a folder in which the results stay.
set -euo pipefail

die() { printf 'gate-power: %s\n' "$*" >&2; exit 1; }
case ${1:-} in
    -h | --help) awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"; exit 0 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pairs=${1:-200} requests=${2:-300}
[[ $pairs =~ ^[1-9][0-9]*$ && $requests =~ ^[1-9][0-9]*$ ]] || die "PAIRS and REQUESTS are whole numbers above 0"
command -v jq >/dev/null || die "there is no jq; install it"
binary=${BINARY:-target/release/vllm-loadgen}
[ -x "$binary" ] || cargo build --release --locked
folder=${KEEP:-$(mktemp -d)}
[ -n "${KEEP:-}" ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"

# run NAME TTFT ITL SEED: one run of a server of that pace
run() {
    local file=$folder/$1.json
    [ -s "$file" ] && return
    "$binary" -q --simulate --behavior "ttft=$2,itl=$3,jitter=25%,output-tokens=0,seed=$4" --seed "$4" \
        -n "$requests" -t 10 --max-tokens 8 --no-detail --no-server-metrics -o "$file" >/dev/null
}

# verdicts NAME BASE… -- NEW…: for each tolerance a line "TOLERANCE:NAME metric verdict" a metric, and one for the worst
verdicts() {
    local name=$1 base=() new=() one
    shift
    while [ "$1" != -- ]; do base+=("$folder/$1.json"); shift; done
    shift
    for one in "$@"; do new+=("$folder/$one.json"); done
    judged 10% "$name"
    judged 5% "$name"
}

# judged TOLERANCE NAME: the same of the caller's base and new
judged() {
    local tolerance=$1 name=$1:$2 code=0
    "$binary" compare --base "${base[@]}" --new "${new[@]}" --tolerance "$tolerance" \
        --metric ttft.p50 ttft.p95 itl.p95 e2e.p95 e2e.mean output_tokens_per_s \
        --output "$folder/verdict.json" --overwrite >/dev/null || code=$?
    [ $code = 0 ] || [ $code = 99 ] || die "compare ended with $code"
    jq -r --arg name "$name" '(.metrics[] | "\($name) \(.metric) \(.verdict)"), "\($name) any \(.verdict)"' \
        "$folder/verdict.json"
}

printf 'machine: %s cores, load average before %s\n' "$(nproc)" "$(cut -d' ' -f1-3 /proc/loadavg)"
for ((i = 1; i <= pairs; i++)); do
    # in turn, so that whatever changes on the machine hits all alike
    run "base-$i" 10ms 500us "$i"
    run "same-$i" 10ms 500us "$((100000 + i))"
    run "slow10-$i" 11ms 550us "$((200000 + i))"
    run "slow20-$i" 12ms 600us "$((300000 + i))"
done
printf 'machine: load average after %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
{
    for ((i = 1; i <= pairs; i++)); do
        verdicts one:same "base-$i" -- "same-$i"
        verdicts one:+10% "base-$i" -- "slow10-$i"
        verdicts one:+20% "base-$i" -- "slow20-$i"
    done
    for ((i = 1; i + 4 <= pairs; i += 5)); do
        five=($(seq "$i" $((i + 4))))
        verdicts five:same "${five[@]/#/base-}" -- "${five[@]/#/same-}"
        verdicts five:+10% "${five[@]/#/base-}" -- "${five[@]/#/slow10-}"
        verdicts five:+20% "${five[@]/#/base-}" -- "${five[@]/#/slow20-}"
    done
} >"$folder/verdicts.txt"
printf 'verdicts: %s requests a run; tolerance, runs a side and server are in the first column\n\n' "$requests"
awk '
    { count[$1 " " $2 " " $3]++; all[$1 " " $2]++; if (!seen[$1 " " $2]++) order[++n] = $1 " " $2 }
    END {
        printf "%-14s %-20s %6s %8s %8s %13s %8s\n", "runs", "metric", "pairs", "worse", "better", "inconclusive", "same"
        for (i = 1; i <= n; i++) {
            split(order[i], part, " ")
            printf "%-14s %-20s %6d", part[1], part[2], all[order[i]]
            printf " %7.1f%%", 100 * count[order[i] " worse"] / all[order[i]]
            printf " %7.1f%%", 100 * count[order[i] " better"] / all[order[i]]
            printf " %12.1f%%", 100 * count[order[i] " inconclusive"] / all[order[i]]
            printf " %7.1f%%\n", 100 * count[order[i] " same"] / all[order[i]]
        }
    }' <(sort -s -t: -k1,1Vr "$folder/verdicts.txt")
