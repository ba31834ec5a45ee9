#!/usr/bin/env bash
# Runs the tool beside Prometheus, Pushgateway, Alertmanager and node_exporter, and holds what they show against its results.
#
#   scripts/e2e-monitoring.sh      run every check; one line each, ok or FAILED; takes about a minute
#   scripts/e2e-monitoring.sh -h   this text
#
# Everything listens on free ports of 127.0.0.1, keeps its files in a folder under TMPDIR, and is gone in the end. The server
# under load is the simulator.
#
# Environment:
#   VLLM_LOADGEN     the binary (default: built from this repository)
#
# Needs python3, its standard library only, and of Debian and its like the packages prometheus, prometheus-pushgateway,
# prometheus-alertmanager and prometheus-node-exporter.
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

missing=
for need in prometheus:prometheus promtool:prometheus prometheus-pushgateway:prometheus-pushgateway \
    prometheus-alertmanager:prometheus-alertmanager amtool:prometheus-alertmanager \
    prometheus-node-exporter:prometheus-node-exporter; do
    command -v "${need%%:*}" >/dev/null || missing="$missing ${need##*:}"
done
[ -z "$missing" ] || die "something is missing; apt-get install --no-install-recommends$missing" 2

# --- the tool ---
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
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

# --- the others ---
work=$(mktemp -d)
pids=()
clean_up() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf -- "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# all are held open until every one is found, so that no two are the same
ports=$(python3 - 7 <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PY
)
read -r prometheus pushgateway alertmanager node simulator live receiver <<<"$ports"

# the examples of this repository, with these ports and without their patience
mkdir "$work/text"
cp "$root/configs/prometheus/rules.yml" "$work"
sed -e "s/localhost:9093/127.0.0.1:$alertmanager/; s/localhost:9091/127.0.0.1:$pushgateway/" \
    -e "s/localhost:9100/127.0.0.1:$node/; s/localhost:9464/127.0.0.1:$live/; s/localhost:8000/127.0.0.1:$simulator/" \
    -e "s/_interval: .*/_interval: 1s/" "$root/configs/prometheus/prometheus.yml" >"$work/prometheus.yml"
sed -e "s/localhost:5001/127.0.0.1:$receiver/; s/group_wait: .*/group_wait: 1s/; s/group_interval: .*/group_interval: 1s/" \
    "$root/configs/prometheus/alertmanager.yml" >"$work/alertmanager.yml"

# start NAME COMMAND...: in the background, its words in a file
start() {
    local name=$1
    shift
    (cd "$work" && exec "$@") >"$work/$name.log" 2>&1 &
    pids+=($!)
}
start simulator "$tool" simulate --port "$simulator" --model org/sim --fail 5% --seed 1
start pushgateway prometheus-pushgateway --web.listen-address="127.0.0.1:$pushgateway" --persistence.file=
start alertmanager prometheus-alertmanager --config.file=alertmanager.yml --storage.path=alerts \
    --web.listen-address="127.0.0.1:$alertmanager" --cluster.listen-address=
start node prometheus-node-exporter --web.listen-address="127.0.0.1:$node" --collector.disable-defaults \
    --collector.textfile --collector.textfile.directory=text
start prometheus prometheus --config.file=prometheus.yml --storage.tsdb.path=data \
    --web.listen-address="127.0.0.1:$prometheus"

# --- the checks ---
cat >"$work/checks.py" <<'PY'
import atexit, glob, http.server, json, os, re, signal, subprocess, sys, threading, time
import urllib.error, urllib.parse, urllib.request

TOOL, ROOT = sys.argv[1:3]
PROMETHEUS, PUSHGATEWAY, ALERTMANAGER, NODE, SIMULATOR, LIVE, RECEIVER = (
    f"http://127.0.0.1:{port}" for port in sys.argv[3:])
CONFIGS = ROOT + "/configs"
RUN = [TOOL, "-q", "--no-detail", "--no-csv", "--max-tokens", "8"]
# with a slash, as most models and scenarios of a --test-name have one
MODEL, TEST = "org/sim", "e2e/nightly"
SERIES = f'model="{MODEL}",test="{TEST}"'
# so that what is under way here is ended too
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
verdicts = []


def check(what, good, why=""):
    verdicts.append(bool(good))
    print(f"{'ok    ' if good else 'FAILED'} {what}" + (f": {why}" if why and not good else ""), flush=True)


def heading(text):
    print(f"--- {text}", flush=True)


def get(url, data=None, method=None):
    request = urllib.request.Request(url, data=data, method=method)
    return opener.open(request, timeout=10).read().decode()


def until(seconds, condition):
    """What the condition gives, as soon as that is true, or when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except (OSError, ValueError):
            found = None
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.3)


def query(expr):
    answer = json.loads(get(PROMETHEUS + "/api/v1/query?" + urllib.parse.urlencode({"query": expr})))
    return answer["data"]["result"]


def value(expr):
    """The one value of an expression; None where there is none or more than one."""
    found = query(expr)
    return float(found[0]["value"][1]) if len(found) == 1 else None


def program(what, *words, stdin=None, want=0):
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=120)
    said = (done.stdout + done.stderr).strip()
    if what:
        check(what, done.returncode == want, f"exit {done.returncode}: {said[-1500:]}")
    return done


def run(what, *flags, want):
    return program(what, *RUN, *flags, want=want)


def samples(text):
    """Name, labels and value of each sample."""
    for line in text.splitlines():
        match = re.fullmatch(r'(\w+)(?:\{(.*)\})? (\S+)', line)
        if match and not line.startswith("#"):
            yield match[1], match[2] or "", float(match[3])


# --- who is told: a receiver of web hooks ---
received = []


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received.append((self.path, json.loads(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[-1])), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()


def notified(name, status, path="/on-call", test=TEST):
    """Whether Alertmanager has told the receiver of this alert, with this status."""
    for at, body in list(received):
        if at == path and "alerts" in body:
            for alert in body["alerts"]:
                labels = alert["labels"]
                if (labels["alertname"], labels["test"], alert["status"]) == (name, test, status):
                    return True
    return False


def firing():
    alerts = json.loads(get(PROMETHEUS + "/api/v1/alerts"))["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


# --- the dashboard ---
dashboard = json.load(open(CONFIGS + "/grafana/dashboard.json"))
rows, row = {}, None
for panel in dashboard["panels"]:
    if panel["type"] == "row":
        row = rows.setdefault(panel["title"].split(" ")[0], [])
    else:
        row.append(panel)


def substituted(expr):
    # '$__rate_interval' is at least four scrapes
    for name, text in (("$__rate_interval", "8s"), ("$model", re.escape(MODEL).replace("\\", "\\\\")), ("$test", ".*")):
        expr = expr.replace(name, text)
    return expr


def panels_show(row):
    for panel in rows[row]:
        empty = []
        for target in panel["targets"]:
            expr = substituted(target["expr"])
            # of a run that has failures only now and then, a rate may have to be waited for
            found = until(5, lambda: [one for one in query(expr) if one["value"][1] != "NaN"])
            if not found:
                empty.append(expr)
        check(f"panel {panel['title']!r} has series", not empty, f"none of {empty}")


heading("the files of configs/")
program("promtool check rules", "promtool", "check", "rules", CONFIGS + "/prometheus/rules.yml")
program("promtool test rules", "promtool", "test", "rules", CONFIGS + "/prometheus/rules_test.yml")
program("promtool check config", "promtool", "check", "config", CONFIGS + "/prometheus/prometheus.yml")
program("amtool check-config", "amtool", "check-config", CONFIGS + "/prometheus/alertmanager.yml")

heading("all servers are up")
for name, url in [("simulator", SIMULATOR + "/health"), ("pushgateway", PUSHGATEWAY + "/-/ready"),
                  ("alertmanager", ALERTMANAGER + "/-/ready"), ("node", NODE + "/metrics"),
                  ("prometheus", PROMETHEUS + "/-/ready")]:
    up = until(30, lambda: get(url) is not None)
    check(name, up, open(name + ".log").read()[-1000:] if not up else "")
if not all(verdicts):
    sys.exit(1)

heading("a run while it goes on")
said = open("first-run.log", "w+")
first = subprocess.Popen(
    [*RUN, "--url", SIMULATOR, "--request-rate", "20", "--duration", "25s", "--arrival", "constant", "--seed", "1",
     "--test-name", TEST, "--label", "commit=4f2a91c", "--goodput", "ttft:10s",
     "--threshold", "error_rate<1%", "--threshold", "requests_per_s>1",
     "--metrics-listen", LIVE.split("//")[1], "--prom-out", "text/nightly.prom", "--pushgateway", PUSHGATEWAY,
     "-o", "bad.json"], stdout=said, stderr=said)
atexit.register(first.kill)
text = until(20, lambda: get(LIVE + "/metrics"))
check("the endpoint answers", text)
shown = until(20, lambda: query(f'rate(vllm_loadgen_requests_total{{{SERIES},outcome="failed"}}[8s]) > 0'))
check("Prometheus has the rate of failures", shown)
program("promtool check metrics, of the live endpoint", "promtool", "check", "metrics", stdin=get(LIVE + "/metrics"))
panels_show("While")
check("all that was of a run that went on", first.poll() is None, "it had ended: this machine is too slow")
first.wait(timeout=120)

heading("its result, by every route")
check("the run ends with 99", first.returncode == 99, f"{first.returncode}: {open(said.name).read()[-1000:]}")
report = json.load(open("bad.json"))
summary, requests = report["summary"], report["summary"]["requests"]
print(f"       {requests['succeeded']} succeeded, {requests['failed']} failed", flush=True)
text = open("text/nightly.prom").read()
program("promtool check metrics, of the text file", "promtool", "check", "metrics", stdin=text)
expected = list(samples(text))


def differing(job):
    wrong = []
    for name, labels, want in expected:
        got = value(f'{name}{{job="{job}",{labels}}}')
        if got != want:
            wrong.append(f"{name}{{{labels}}} is {got}, expected {want}")
    return wrong


for route, job in (("Pushgateway", "vllm-loadgen"), ("node_exporter", "node")):
    until(20, lambda: query(f'vllm_loadgen_run_info{{job="{job}",{SERIES},instance!="{LIVE.split("//")[1]}"}}'))
    where = f'{job}",instance="' if route == "Pushgateway" else job
    wrong = differing(where)
    check(f"{len(expected)} values through the {route}", expected and not wrong, "; ".join(wrong[:3]))
p99 = summary["latency"]["ttft_ms"]["p99"] / 1000
got = value(f'vllm_loadgen_run_ttft_seconds{{job="node",{SERIES},quantile="0.99"}}')
check("p99 of TTFT is that of the JSON", got is not None and abs(got - p99) < 1e-12, f"{got}, {p99}")
# a target that is gone is stale at once, so what it showed last is looked for in the past
counted = {outcome: until(15, lambda: value(
    f'sum(max_over_time(vllm_loadgen_requests_total{{{SERIES},outcome="{outcome}"}}[5m])) == {requests[outcome]}'))
    for outcome in ("succeeded", "failed")}
check("the last scrape has all requests", counted == {name: requests[name] for name in counted}, f"{counted}")
at_server = value(f'sum(max_over_time(vllm:request_success_total{{model_name="{MODEL}"}}[5m]))')
check("the server has counted the same", at_server == requests["succeeded"], f"{at_server}")
tokens = value(f'sum(max_over_time(vllm_loadgen_output_tokens_total{{{SERIES}}}[5m]))')
server_tokens = value(f'max_over_time(vllm:generation_tokens_total{{model_name="{MODEL}"}}[5m])')
check("tokens of client and server are equal", tokens == server_tokens, f"{tokens}, {server_tokens}")
panels_show("Results")

heading("the rules")
bad = {"VllmLoadgenThresholdFailed", "VllmLoadgenErrors"}
found = until(20, lambda: firing() if bad <= firing() else None) or firing()
# whether the client is VALID is this machine's affair
check("what is bad fires and nothing else", found - {"VllmLoadgenClientInvalid"} == bad, f"{sorted(found)}")
for name in sorted(bad):
    check(f"{name} reaches the receiver", until(30, lambda: notified(name, "firing")), f"{received}"[:500])
try:
    get(PUSHGATEWAY + "/metrics/job/vllm-loadgen/test/broken", b"a_metric 1 1000\n", "PUT")
    refused = False
except urllib.error.HTTPError as error:
    refused = error.code == 400
check("the Pushgateway refuses a metric with a time", refused)
check("VllmLoadgenPushFailed fires", until(20, lambda: "VllmLoadgenPushFailed" in firing()), f"{firing()}")
check("and is told to the team", until(30, lambda: notified("VllmLoadgenPushFailed", "firing", "/team", "broken")))
run("a good run of the same test ends with 0", "--simulate", "--model", MODEL, "-n", "400", "--test-name", TEST,
    "--threshold", "error_rate<1%", "--prom-out", "text/nightly.prom", "--overwrite", "--pushgateway", PUSHGATEWAY,
    "-o", "good.json", want=0)
check("both alerts are over", until(30, lambda: not bad & firing()), f"{sorted(firing())}")
for name in sorted(bad):
    check(f"the receiver knows that {name} is over", until(30, lambda: notified(name, "resolved")))

heading("alerts of the tool itself")
words = ["--url", SIMULATOR, "-n", "50", "--test-name", "direct", "--threshold", "requests_per_s<0.001"]
told = run("a broken threshold ends with 99", *words, "--alert-webhook", RECEIVER + "/hook/secret",
           "--alertmanager", ALERTMANAGER, want=99)
check("both are said to be told", told.stderr.count("alert sent to ") == 2, told.stderr)
check("and the path of the web hook is not said", "secret" not in told.stderr + told.stdout)
hooked = [body for path, body in received if path == "/hook/secret"]
check("the web hook has one message with its text", len(hooked) == 1 and "requests_per_s<0.001" in hooked[0]["text"],
      f"{hooked}")
alerts = program(None, "amtool", "--alertmanager.url", ALERTMANAGER, "alert", "query", "test=direct", "-o", "json")
names = [alert["labels"]["alertname"] for alert in json.loads(alerts.stdout or "[]")]
check("amtool shows the alert", names == ["VllmLoadgenThresholdFailed"], f"{names} {alerts.stderr}")
check("Alertmanager tells the receiver",
      until(30, lambda: notified("VllmLoadgenThresholdFailed", "firing", test="direct")))
program("compare of a result that is worse ends with 99", TOOL, "compare", "good.json", "bad.json", "--force",
        "--metric", "error_rate", "--alertmanager", ALERTMANAGER, want=99)
alerts = program(None, "amtool", "--alertmanager.url", ALERTMANAGER, "alert", "query", "VllmLoadgenRegression")
check("and amtool shows that too", "VllmLoadgenRegression" in alerts.stdout, alerts.stdout + alerts.stderr)
told = run("nobody to tell changes no exit code", *words, "--alertmanager", "http://127.0.0.1:1", want=99)
check("and is a warning", "warning: " in told.stderr and "http://127.0.0.1:1" in told.stderr, told.stderr)
pushed = run("nobody to push to is a failure", "--url", SIMULATOR, "-n", "5", "--pushgateway", "http://127.0.0.1:1",
             want=1)

heading("a history of results")
program("export --openmetrics", TOOL, "export", "--openmetrics", "history.om", "bad.json", "good.json")
program("promtool tsdb create-blocks-from openmetrics", "promtool", "tsdb", "create-blocks-from", "openmetrics",
        "history.om", "blocks")
blocks = glob.glob("blocks/*/meta.json")
check("there is a block", blocks)
# it wants a log of what is not yet in a block
os.mkdir("blocks/wal")
dump = program(None, "promtool", "tsdb", "dump", "blocks").stdout
lines = [line for line in dump.splitlines() if '"vllm_loadgen_run_error_ratio"' in line]
values = sorted(float(line.rsplit("} ", 1)[1].split(" ")[0]) for line in lines)
share = requests["failed"] / (requests["failed"] + requests["succeeded"])
check("with the error ratio of both runs", len(values) == 2 and values[0] == 0 and abs(values[1] - share) < 1e-12,
      f"{lines}")

failed = verdicts.count(False)
print(f"{len(verdicts) - failed} ok, {failed} FAILED")
sys.exit(1 if failed else 0)
PY
say "checking $tool"
# in a folder of their own, so that no config file of this one takes part; in the background, so that a signal is heeded
(cd "$work" && exec python3 checks.py "$tool" "$root" "$prometheus" "$pushgateway" "$alertmanager" "$node" \
    "$simulator" "$live" "$receiver") &
checks=$!
pids+=("$checks")
code=0
wait "$checks" || code=$?
exit "$code"
