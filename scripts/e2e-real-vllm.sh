#!/usr/bin/env bash
# Runs the tool against a real vLLM server and holds its figures against the server's own counters.
#
#   scripts/e2e-real-vllm.sh       run every check; one line each, ok or FAILED
#   scripts/e2e-real-vllm.sh -h    this text
#
# Environment:
#   VLLM_URL         the server (default: http://127.0.0.1:63455); nobody else may use it meanwhile
#   VLLM_SERVE       program that starts one where none answers: with no argument it returns when the server is healthy,
#                    with 'stop' it stops it; a server that it started is stopped in the end
#   VLLM_KEYED_URL   a server with --api-key, to check what a wrong key gives (default: not checked)
#   VLLM_LOADGEN     the binary (default: built from this repository)
#
# Needs python3, its standard library only.
# Exit codes: 0 all is well, 1 a check failed, 2 nothing to check with.
set -euo pipefail

say() { printf 'e2e: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"; }

case ${1:-} in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'; see -h" 2 ;;
esac
command -v python3 >/dev/null || die "there is no python3; the checks are made with it" 2

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
url=${VLLM_URL:-http://127.0.0.1:63455}
url=${url%%/v1*} url=${url%/}

# --- the server ---
healthy() {
    python3 - "$url/health" <<'PY' 2>/dev/null
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=5)
PY
}

started='' work=''
clean_up() {
    [ -z "$work" ] || rm -rf -- "$work"
    [ -z "$started" ] || "$VLLM_SERVE" stop >&2 || say "$VLLM_SERVE stop failed"
}
trap clean_up EXIT

if ! healthy && [ -n "${VLLM_SERVE:-}" ]; then
    say "starting a server with $VLLM_SERVE"
    started=yes
    "$VLLM_SERVE" >&2 || die "$VLLM_SERVE failed" 2
fi
if ! healthy; then
    port=${url##*:}
    case $port in '' | *[!0-9]*) port=63455 ;; esac
    say "no healthy server at $url ($url/health does not answer). Start one, and wait until it is up:"
    say "    vllm serve MODEL --port $port"
    die "or name a server with VLLM_URL, or a program that starts one with VLLM_SERVE; see -h" 2
fi

# --- the tool ---
tool=${VLLM_LOADGEN:-}
if [ -z "$tool" ]; then
    say "building"
    (cd "$root" && cargo build --release --locked)
    target=${CARGO_TARGET_DIR:-target}
    case $target in /*) ;; *) target=$root/$target ;; esac
    tool=$target/release/vllm-loadgen
fi
tool=$(command -v -- "$tool") || die "there is no program '${VLLM_LOADGEN:-$tool}'; see VLLM_LOADGEN in -h" 2
case $tool in /*) ;; *) tool=$PWD/$tool ;; esac

# --- the checks; in a folder of their own, so that no config file of this one takes part ---
work=$(mktemp -d)
cat >"$work/checks.py" <<'PY'
import json, os, re, subprocess, sys, time, urllib.request

TOOL, URL, KEYED_URL = sys.argv[1:4]
THREADS, COMPLETIONS, MAX_TOKENS = 8, 64, 32
TOKENS = COMPLETIONS * MAX_TOKENS
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
verdicts = []


def check(what, got, want):
    good = got == want
    verdicts.append(good)
    print(f"{'ok    ' if good else 'FAILED'} {what}: {got}" + ("" if good else f", expected {want}"), flush=True)


def scrape():
    """The server's counters, summed over their labels."""
    text = opener.open(URL + "/metrics", timeout=30).read().decode()
    sums = {}
    for name, value in re.findall(r"^(vllm:\w+)(?:\{.*\})? (\S+)", text, re.M):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums


class Deltas:
    """What the server counted from here to settle()."""

    def __init__(self):
        self.before = scrape()

    def settle(self, requests):
        # the server counts a little after it has replied
        deadline = time.monotonic() + 10
        while True:
            self.after = scrape()
            if (self.of("vllm:request_success_total") or 0) >= requests or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        time.sleep(0.5)  # whatever is too much shall show as well
        self.after = scrape()

    def of(self, name):
        return self.after[name] - self.before.get(name, 0.0) if name in self.after else None

    def count(self, name):
        delta = self.of(name)
        return delta if delta is None else round(delta)

    def mean_ms(self, *names):
        for name in names:
            total, count = self.of(name + "_sum"), self.of(name + "_count")
            if count:
                return 1000 * total / count
        return None


def run(name, url, *flags, key=None):
    """Exit code and JSON of a run; an empty one where it wrote none."""
    print(f"--- {name}", flush=True)
    path = name.replace(" ", "-") + ".json"
    command = [TOOL, "--url", url, "--output", path, *flags]
    env = dict(os.environ, **({"VLLM_LOADGEN_API_KEY": key} if key else {}))
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
        code, said = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        code, said = "none: still running after 15 minutes", ""
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        print(f"no JSON of the run: {error}; the tool said:\n{said.strip()[-2000:]}", flush=True)
        report = {}
    return code, report


def get(report, *keys):
    for key in keys:
        try:
            report = report[key]
        except (KeyError, IndexError, TypeError):
            return None
    return report


def load(name, *flags):
    """A run under load, and whether client and server count the same."""
    deltas = Deltas()
    code, report = run(name, URL, "--threads", str(THREADS), "--completions", str(COMPLETIONS),
                       "--max-tokens", str(MAX_TOKENS), "--ignore-eos", *flags)
    deltas.settle(COMPLETIONS)
    read = get(report, "summary", "tokens", "input")
    check("exit code", code, 0)
    check("summary.requests.succeeded", get(report, "summary", "requests", "succeeded"), COMPLETIONS)
    check("summary.tokens.output", get(report, "summary", "tokens", "output"), TOKENS)
    check("server's vllm:request_success_total", deltas.count("vllm:request_success_total"), COMPLETIONS)
    check("server's vllm:generation_tokens_total", deltas.count("vllm:generation_tokens_total"), TOKENS)
    check("server's vllm:prompt_tokens_total is summary.tokens.input", deltas.count("vllm:prompt_tokens_total"),
          read if read else "a number in summary.tokens.input")
    return report, deltas


def refused(name, url, kind, *flags, key=None):
    """A run that the server refuses, request by request."""
    code, report = run(name, url, "--completions", "4", *flags, key=key)
    error = get(report, "summary", "errors", 0)
    check("exit code", code, 1)
    check("summary.requests.succeeded", get(report, "summary", "requests", "succeeded"), 0)
    check("errors[0].kind", get(error, "kind"), kind)
    message = get(error, "example")
    check("the server's message is told", bool(message), True)
    print(f"       {message}", flush=True)


def side_by_side(report, deltas):
    server = {
        "ttft_ms": deltas.mean_ms("vllm:time_to_first_token_seconds"),
        "itl_ms": deltas.mean_ms("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "e2e_ms": deltas.mean_ms("vllm:e2e_request_latency_seconds"),
    }
    text = lambda value: "-" if value is None else f"{value:.2f}"
    print(f"       {'mean, ms':<10}{'client':>12}{'server':>12}")
    for name, label in (("ttft_ms", "TTFT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E")):
        client = get(report, "summary", "latency", name, "mean")
        print(f"       {label:<10}{text(client):>12}{text(server[name]):>12}", flush=True)


side_by_side(*load("streams"))
load("whole replies", "--no-stream")
refused("unknown model", URL, "http_404", "--model", "no-such-model")
if KEYED_URL:
    # with a model, since the list of models wants the key as well
    refused("wrong key", KEYED_URL, "http_401", "--model", "any", key="wrong")
else:
    print("--- wrong key: not checked, VLLM_KEYED_URL is not set")

failed = verdicts.count(False)
print(f"{len(verdicts) - failed} ok, {failed} FAILED")
sys.exit(1 if failed else 0)
PY
say "checking $tool against $url"
(cd "$work" && python3 checks.py "$tool" "$url" "${VLLM_KEYED_URL:-}")
