//! The command line as typed. Values are text here; what is wrong with them is told later, all at once.

use argh::{FromArgs, SubCommand};

use super::trend::TrendFlags;

/// Put load on an LLM server (vLLM, or anything that speaks the OpenAI API) and measure it truthfully: latency, TTFT,
/// TPOT, ITL, throughput, success rate, errors by kind.
#[derive(FromArgs, Debug, Default)]
#[argh(
    help_triggers("-h", "--help"),
    example = "Try it on the built-in simulated server:\n  {command_name} --simulate --threads 20 --completions 500",
    example = "Measure a server on this machine:\n  {command_name} --url http://localhost:8000 --threads 20 --completions 500",
    example = "Ten requests a second, whatever the server does:\n  {command_name} --request-rate 10 --duration 60s",
    example = "A rate that grows for a minute, or in steps:\n  {command_name} --ramp-up 1:50:60s\n  {command_name} --stages 10:30s,20:30s,40:30s",
    example = "Numbers of completions side by side:\n  {command_name} --compare 10 50 100 200 500",
    example = "Find the best number of threads:\n  {command_name} --concurrent-tests 5 10 20 50 --completions 100",
    example = "See whether a server has become slower:\n  {command_name} compare before.json after.json",
    example = "See how results went over time, and what changed them:\n  {command_name} trend results --by commit --html trend.html",
    example = "Find out how far this machine can be trusted to measure:\n  {command_name} selftest",
    example = "Run the scenarios of a config file, with a CSV over all of them:\n  {command_name} --config configs/benchmark_config.json --scenarios",
    note = "Values may be written --flag value or --flag=value; lists as 10 50 100 or 10,50,100.",
    note = "The API key comes from --api-key-file, VLLM_LOADGEN_API_KEY, the config file, OPENAI_API_KEY or VLLM_API_KEY, the first that there is.",
    error_code(1, "could not run, could not write, or no request succeeded"),
    error_code(2, "usage or configuration is wrong"),
    error_code(
        99,
        "a --threshold failed, a run was ended by --max-errors, --max-error-rate or --no-progress-timeout, or, with --strict, a run is INVALID or a threshold inconclusive"
    ),
    error_code(
        130,
        "interrupted; what was measured is written and marked (143 for SIGTERM, 129 for a hang-up, 153 for SIGXFSZ)"
    )
)]
pub struct Flags {
    /// server, such as http://host:8000, or full endpoint (default: http://localhost:63455/v1/chat/completions)
    #[argh(option, arg_name = "URL")]
    pub url: Option<String>,
    /// dialect, chat or completions, where the URL does not tell (default: chat)
    #[argh(option, arg_name = "NAME")]
    pub api: Option<String>,
    /// model to ask for (default: the one that /v1/models names)
    #[argh(option, arg_name = "NAME")]
    pub model: Option<String>,
    /// file that holds the API key; - for standard input
    #[argh(option, arg_name = "FILE")]
    pub api_key_file: Option<String>,
    /// send no key: neither that of the config file nor that of a variable
    #[argh(switch)]
    pub no_api_key: bool,
    /// header 'Name: value' for every request; may be repeated
    #[argh(option, arg_name = "K:V")]
    pub header: Vec<String>,
    /// longest time for a whole request, such as 90s (default: 1h)
    #[argh(option, arg_name = "TIME")]
    pub timeout: Option<String>,
    /// longest wait for the next byte of a reply (default: 5m)
    #[argh(option, arg_name = "TIME")]
    pub idle_timeout: Option<String>,
    /// longest time to connect (default: 10s)
    #[argh(option, arg_name = "TIME")]
    pub connect_timeout: Option<String>,

    /// PEM file with the certificates to trust, and no others (default: those of the system)
    #[argh(option, arg_name = "FILE")]
    pub cacert: Option<String>,
    /// PEM file with this client's certificate, for servers that ask for one; goes with --key
    #[argh(option, arg_name = "FILE")]
    pub cert: Option<String>,
    /// PEM file with the key of --cert
    #[argh(option, arg_name = "FILE")]
    pub key: Option<String>,
    /// do not check the server's certificate: anyone on the way can then read and change what is sent, keys too
    #[argh(switch)]
    pub insecure: bool,
    /// connect to ADDRESS where HOST:PORT is asked for, without name lookup; several with commas; may be repeated
    #[argh(option, arg_name = "HOST:PORT:ADDRESS")]
    pub resolve: Vec<String>,
    /// connect to this Unix socket instead of the URL's host and port
    #[argh(option, arg_name = "PATH")]
    pub unix_socket: Option<String>,
    /// HTTP proxy to open tunnels to the server, such as http://host:3128, or none (default: what http_proxy, https_proxy or all_proxy names, but for this machine and what no_proxy names)
    #[argh(option, arg_name = "URL")]
    pub proxy: Option<String>,

    /// threads, each with one request at a time (default: 20; at a rate, enough for 20 seconds of it, 64 to 1000; at inf, one a request up to 1000)
    #[argh(option, short = 't', arg_name = "N")]
    pub threads: Option<String>,
    /// the same as --threads
    #[argh(option, arg_name = "N")]
    pub concurrent: Option<String>,
    /// requests arrive at this rate per second, whatever the server does: an open loop; inf: all at once (default: closed loop)
    #[argh(option, short = 'r', arg_name = "R")]
    pub request_rate: Option<String>,
    /// an open loop whose rate grows from FROM to TO over TIME, such as 1:50:60s, then holds until --duration or --completions ends the run; without these it ends with the ramp
    #[argh(option, arg_name = "FROM:TO:TIME")]
    pub ramp_up: Option<String>,
    /// an open loop of one rate after another, such as 10:30s,20:30s; a rate of 0 is a pause; ends with the last
    #[argh(option, arg_name = "RATE:TIME...")]
    pub stages: Option<String>,
    /// how they arrive: poisson, constant or gamma (default: poisson)
    #[argh(option, arg_name = "NAME")]
    pub arrival: Option<String>,
    /// shape of gamma arrivals: 1 is Poisson, less is burstier (default: 1)
    #[argh(option, arg_name = "X")]
    pub burstiness: Option<String>,
    /// requests to make (default: 100, or as many as fit into --duration, --ramp-up or --stages)
    #[argh(option, short = 'n', arg_name = "N")]
    pub completions: Option<String>,
    /// start no request later than this after the first, such as 30s (default: no limit)
    #[argh(option, arg_name = "TIME")]
    pub duration: Option<String>,
    /// requests, or time such as 30s, to send first and leave out of the results (default: 0)
    #[argh(option, arg_name = "N|TIME")]
    pub warmup: Option<String>,
    /// requests, or time, to go on sending after the measured ones and leave out (default: 0)
    #[argh(option, arg_name = "N|TIME")]
    pub cooldown: Option<String>,
    /// give requests under way up this long after the last has started (default: never, and 10s after an interrupt)
    #[argh(option, arg_name = "TIME")]
    pub grace: Option<String>,
    /// send on at once where the server cannot be reached; a thread of a closed loop pauses for 10 ms and up to 1 s else
    #[argh(switch)]
    pub no_backoff: bool,
    /// count the requests that meet all of these, such as ttft:500ms tpot:50ms; of ttft, tpot, e2e, stall, response_ttft, response_e2e; a bare number is milliseconds
    #[argh(option, arg_name = "METRIC:TIME...")]
    pub goodput: Option<String>,
    /// end the run, with its report, at this many failures (default: no limit)
    #[argh(option, arg_name = "N")]
    pub max_errors: Option<String>,
    /// end it when a larger share than this fails, such as 5%, once 20 requests have ended (default: no limit)
    #[argh(option, arg_name = "SHARE")]
    pub max_error_rate: Option<String>,
    /// end it when requests are under way and for so long no token has come and none of them has ended (default: twice the --idle-timeout)
    #[argh(option, arg_name = "TIME")]
    pub no_progress_timeout: Option<String>,
    /// end it when not one byte of a reply has come for so long since it began, and none is waited for (default: 60s)
    #[argh(option, arg_name = "TIME")]
    pub no_reply_timeout: Option<String>,
    /// exit 99 unless a figure keeps its limit, such as ttft.p99<500ms, error_rate<1% or health=VALID; may be repeated
    #[argh(option, arg_name = "LIMIT")]
    pub threshold: Vec<String>,
    /// write the verdicts on the thresholds to this file, as JUnit XML
    #[argh(option, arg_name = "FILE")]
    pub junit: Option<String>,
    /// mark the run with a name and a value, such as commit=4f2a91c; may be repeated, the last of a name counts
    #[argh(option, arg_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// one run for each number of completions, side by side
    #[argh(option, arg_name = "N...")]
    pub compare: Option<String>,
    /// one run for each number of threads, with scaling efficiency and the best point
    #[argh(option, arg_name = "N...")]
    pub concurrent_tests: Option<String>,
    /// the same run so many times, with the seeds N, N+1 ...; per run, and with the spread over the runs (default: 1)
    #[argh(option, arg_name = "N")]
    pub runs: Option<String>,
    /// config file (default: benchmark_config.json, if it is in this folder)
    #[argh(option, short = 'c', arg_name = "FILE")]
    pub config: Option<String>,
    /// read no config file but one that --config names
    #[argh(switch)]
    pub no_config: bool,
    /// run every test scenario of the config file
    #[argh(switch)]
    pub scenarios: bool,

    /// what to ask, @FILE for what is in a file, - for standard input, @@TEXT for a text that begins with @ (default: a story about a robot learning to paint)
    #[argh(option, short = 'p', arg_name = "TEXT")]
    pub prompt: Option<String>,
    /// a switch with a value, as it is made of --ignore-eos=false
    #[argh(option, hidden_help)]
    pub off: Vec<String>,
    /// begin every prompt with a salt of its own, so that no prefix cache can answer it
    #[argh(switch)]
    pub unique_prompts: bool,
    /// keep what the model says: in the record log, and with the single requests in the JSON
    #[argh(switch)]
    pub save_responses: bool,
    /// take a reply that was cut at its token limit (finish_reason is length) for a failure
    #[argh(switch)]
    pub fail_on_length: bool,
    /// longest reply in tokens (default: 256)
    #[argh(option, arg_name = "N")]
    pub max_tokens: Option<String>,
    /// sampling temperature (default: the server's)
    #[argh(option, arg_name = "X")]
    pub temperature: Option<String>,
    /// make every reply --max-tokens long
    #[argh(switch)]
    pub ignore_eos: bool,
    /// more fields for the request's body, as a JSON object; they win over ours
    #[argh(option, arg_name = "JSON")]
    pub extra_body: Option<String>,
    /// ask for whole replies instead of streams; then there is no TTFT, TPOT or ITL
    #[argh(switch)]
    pub no_stream: bool,
    /// ask the server to count the tokens of every event, for exact ITL
    #[argh(switch)]
    pub continuous_usage: bool,
    /// see each segment of a reply as the kernel does, so that times are right however late this client reads: auto, on or off; takes CAP_NET_RAW, which root and most containers have (default: auto, where it is permitted)
    #[argh(option, arg_name = "WHEN")]
    pub keeper: Option<String>,
    /// run this client's threads before others, so that it reads and sends in time: auto, normal or high; takes CAP_SYS_NICE, which root has (default: auto, high for threads that have to wait for a core, where it is permitted)
    #[argh(option, arg_name = "NAME")]
    pub client_priority: Option<String>,
    /// before each run, find out the client's own share in its times: one request shows the server's pace, and up to 10 s of the same load go to a simulated server that logs the truth
    #[argh(switch)]
    pub calibrate: bool,
    /// set a limit of the client's verdict on itself, such as lag_p99=5ms,50ms: DEGRADED above the first value, INVALID above the second; may be repeated
    #[argh(option, arg_name = "LIMIT")]
    pub health_limit: Vec<String>,
    /// exit 99 also when a run is INVALID (this client, not the server, made its figures) or a threshold is inconclusive
    #[argh(switch)]
    pub strict: bool,
    /// source of all that is random (default: fresh, and recorded)
    #[argh(option, arg_name = "N")]
    pub seed: Option<String>,

    /// start a simulated server in this process and measure that
    #[argh(switch)]
    pub simulate: bool,
    /// how it behaves, such as ttft=80ms,itl=12ms,slots=16,fail=5%,fault=reset=5 (implies --simulate)
    #[argh(option, arg_name = "K=V,...")]
    pub behavior: Option<String>,

    /// write a JSON file for each run into --output-dir
    #[argh(switch)]
    pub save: bool,
    /// write the JSON of the one run to this file
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<String>,
    /// folder for files (default: results); implies --save
    #[argh(option, arg_name = "DIR")]
    pub output_dir: Option<String>,
    /// write a CSV with a row for each run
    #[argh(option, arg_name = "FILE")]
    pub csv: Option<String>,
    /// write a page with verdicts, numbers, charts and manifest of all runs: one HTML file that needs nothing else
    #[argh(option, arg_name = "FILE")]
    pub html: Option<String>,
    /// write tables of all runs as Markdown, for pull requests and $GITHUB_STEP_SUMMARY
    #[argh(option, arg_name = "FILE")]
    pub markdown: Option<String>,
    /// write the results of all runs as metrics for Prometheus, such as for node_exporter's textfile collector
    #[argh(option, arg_name = "FILE")]
    pub prom_out: Option<String>,
    /// serve the metrics of the running runs there, such as 127.0.0.1:9464, until one scrape after the end or 15s
    #[argh(option, arg_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// push the same to this Pushgateway once at the end, such as http://host:9091, with user:password@ before the host if need be
    #[argh(option, arg_name = "URL")]
    pub pushgateway: Option<String>,
    /// where a result is bad (a --threshold that failed, an early end for failures, no success; INVALID under --strict), POST a JSON object there
    #[argh(option, arg_name = "URL")]
    pub alert_webhook: Option<String>,
    /// likewise tell this Alertmanager, such as http://host:9093
    #[argh(option, arg_name = "URL")]
    pub alertmanager: Option<String>,
    /// what to call the test in metrics, their label test (default: the scenario's name, or default)
    #[argh(option, arg_name = "NAME")]
    pub test_name: Option<String>,
    /// write no CSV where several runs would make one unasked
    #[argh(switch)]
    pub no_csv: bool,
    /// write when each request is due, as a CSV, before the one run of an open loop
    #[argh(option, arg_name = "FILE")]
    pub schedule_out: Option<String>,
    /// keep every request of the one run in this file as it ends, one JSON line each, compressed if it ends in .gz; with --save there is one for each run
    #[argh(option, arg_name = "FILE")]
    pub record_log: Option<String>,
    /// write the JSON that vllm bench serve --save-result writes, of the one run, to this file
    #[argh(option, arg_name = "FILE")]
    pub vllm_json: Option<String>,
    /// leave the single requests out of the JSON, and keep no record log that --record-log does not name
    #[argh(switch)]
    pub no_detail: bool,
    /// replace files that exist
    #[argh(switch)]
    pub overwrite: bool,
    /// do not read the server's /metrics before and after
    #[argh(switch)]
    pub no_server_metrics: bool,

    /// accepted and true anyway: requests are always synchronous, on threads
    #[argh(switch)]
    pub sync: bool,
    /// show no progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// log what goes on to standard error; -vv logs more; RUST_LOG is honoured
    #[argh(switch, short = 'v')]
    pub verbose: u8,
    /// print version and commit
    #[argh(switch, short = 'V')]
    pub version: bool,

    #[argh(subcommand)]
    pub command: Option<Subcommand>,
}

/// The rest.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Subcommand {
    /// The simulator alone.
    Simulate(Simulate),
    /// Results again.
    Report(ReportFlags),
    /// Results for other programs.
    Export(ExportFlags),
    /// Results against others.
    Compare(CompareFlags),
    /// Results over time.
    Trend(TrendFlags),
    /// The measurer measured.
    Selftest(Selftest),
}

impl Subcommand {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Simulate(_) => Simulate::COMMAND.name,
            Self::Report(_) => ReportFlags::COMMAND.name,
            Self::Export(_) => ExportFlags::COMMAND.name,
            Self::Compare(_) => CompareFlags::COMMAND.name,
            Self::Trend(_) => TrendFlags::COMMAND.name,
            Self::Selftest(_) => Selftest::COMMAND.name,
        }
    }
}

/// Show saved results again, or make the report of a record log, also of a run that was killed.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "report",
    help_triggers("-h", "--help"),
    example = "The report of a run that was killed, as text and as JSON:\n  {command_name} results/run.jsonl --output run.json",
    example = "Two runs side by side, with charts:\n  {command_name} before.json after.json --html report.html",
    example = "Would last night's run keep this limit?\n  {command_name} nightly.json --threshold 'ttft.p99<500ms'",
    error_code(
        1,
        "a file cannot be read or written; when judging, also where no request of a run succeeded"
    ),
    error_code(2, "usage is wrong"),
    error_code(
        99,
        "with --threshold, --strict or --junit: a threshold failed or a run was ended early by a limit of its own; with --strict also where one is inconclusive or a run is INVALID"
    )
)]
pub struct ReportFlags {
    /// results (JSON) or record logs (JSONL, may be compressed); several are shown side by side
    #[argh(positional, arg_name = "FILE")]
    pub files: Vec<String>,
    /// write the JSON of the one report to this file
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<String>,
    /// write a CSV with a row for each report
    #[argh(option, arg_name = "FILE")]
    pub csv: Option<String>,
    /// write the JSON that vllm bench serve --save-result writes, of the one report, to this file
    #[argh(option, arg_name = "FILE")]
    pub vllm_json: Option<String>,
    /// write a page with verdicts, numbers, charts and manifest of all reports: one HTML file that needs nothing else
    #[argh(option, arg_name = "FILE")]
    pub html: Option<String>,
    /// write tables of all reports as Markdown
    #[argh(option, arg_name = "FILE")]
    pub markdown: Option<String>,
    /// write all reports as metrics for Prometheus
    #[argh(option, arg_name = "FILE")]
    pub prom_out: Option<String>,
    /// hold the results to this limit, such as ttft.p99<500ms, in the place of those they were measured under; exit 99 unless it is kept; may be repeated
    #[argh(option, arg_name = "LIMIT")]
    pub threshold: Vec<String>,
    /// exit as the runs would have: 99 where a threshold failed; and with this also where one is inconclusive or a run is INVALID
    #[argh(switch)]
    pub strict: bool,
    /// write the verdicts on the thresholds to this file, as JUnit XML; exit 99 where one failed
    #[argh(option, arg_name = "FILE")]
    pub junit: Option<String>,
    /// leave the single requests of a record log out of the JSON
    #[argh(switch)]
    pub no_detail: bool,
    /// replace files that exist
    #[argh(switch)]
    pub overwrite: bool,
    /// log what goes on to standard error
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Write saved results for other programs: as OpenMetrics with the time at which each run ended, to fill a history into Prometheus.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "export",
    help_triggers("-h", "--help"),
    example = "A history of results into the blocks of a Prometheus:\n  {command_name} --openmetrics history.om results/\n  promtool tsdb create-blocks-from openmetrics history.om /var/lib/prometheus"
)]
pub struct ExportFlags {
    /// results (JSON), record logs (JSONL, may be compressed), or folders of them
    #[argh(positional, arg_name = "FILE|DIR")]
    pub files: Vec<String>,
    /// write them to this file as OpenMetrics; - for standard output
    #[argh(option, arg_name = "FILE")]
    pub openmetrics: Option<String>,
    /// replace a file that exists
    #[argh(switch)]
    pub overwrite: bool,
    /// log what goes on to standard error
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Compare results with others of the same plan: what is better, what is worse, and whether chance could do it. One run against one by their 95% intervals; four or more a side by a Mann-Whitney test over the runs, which sees more.
#[derive(FromArgs, Debug, Default)]
#[argh(
    subcommand,
    name = "compare",
    help_triggers("-h", "--help"),
    example = "One run against one:\n  {command_name} before.json after.json",
    example = "Five against five, best made in turn, before and after:\n  {command_name} --base before/*.json --new after/*.json --markdown summary.md",
    error_code(2, "usage is wrong, or the plans differ and --force was not given"),
    error_code(99, "a metric is worse; with --strict also where one is inconclusive or a run is INVALID")
)]
pub struct CompareFlags {
    /// results (JSON) or record logs: the base and the new one; with --new, all of them are base
    #[argh(positional, arg_name = "FILE")]
    pub files: Vec<String>,
    /// results to compare with, one or more
    #[argh(option, arg_name = "FILE")]
    pub base: Vec<String>,
    /// results that are judged, one or more
    #[argh(option, arg_name = "FILE")]
    pub new: Vec<String>,
    /// what to compare, one or more, such as ttft.p99 (default: ttft.p50 ttft.p95 itl.p95 e2e.p95 output_tokens_per_s error_rate)
    #[argh(option, arg_name = "NAME")]
    pub metric: Vec<String>,
    /// changes up to this share are taken for none (default: 10%)
    #[argh(option, arg_name = "SHARE")]
    pub tolerance: Option<String>,
    /// compare although the plans differ
    #[argh(switch)]
    pub force: bool,
    /// exit 99 also where a metric is inconclusive or a run is INVALID
    #[argh(switch)]
    pub strict: bool,
    /// write the comparison to this file, as JSON
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<String>,
    /// write it as Markdown, such as for $GITHUB_STEP_SUMMARY
    #[argh(option, arg_name = "FILE")]
    pub markdown: Option<String>,
    /// write it as JUnit XML
    #[argh(option, arg_name = "FILE")]
    pub junit: Option<String>,
    /// write the new figures for github-action-benchmark, times to this file (customSmallerIsBetter), rates to one with -bigger in its name (customBiggerIsBetter)
    #[argh(option, arg_name = "FILE")]
    pub github_benchmark: Option<String>,
    /// write the new figures for Bencher (BMF)
    #[argh(option, arg_name = "FILE")]
    pub bencher: Option<String>,
    /// where a metric is worse (or, under --strict, inconclusive, or a run INVALID), POST a JSON object there
    #[argh(option, arg_name = "URL")]
    pub alert_webhook: Option<String>,
    /// likewise tell this Alertmanager, such as http://host:9093
    #[argh(option, arg_name = "URL")]
    pub alertmanager: Option<String>,
    /// replace files that exist
    #[argh(switch)]
    pub overwrite: bool,
    /// log what goes on to standard error
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Measure this tool on this machine: runs against a simulated server that logs what it really did, and how far off TTFT, ITL and E2E are, what a token costs, how much memory it takes. Takes about 45 seconds.
#[derive(FromArgs, Debug, Default)]
#[argh(
    subcommand,
    name = "selftest",
    help_triggers("-h", "--help"),
    example = "As many streams as your runs will have, at the pace of your server:\n  {command_name} --streams 50,500 --tokens 200 --gap 25ms",
    example = "The same beside other work on this machine:\n  {command_name} --streams 50,500 --busy 4 --stops",
    error_code(1, "a number of streams could not be run, or not as planned"),
    error_code(2, "usage is wrong")
)]
pub struct Selftest {
    /// streams at once, a run for each number (default: 1,20,200,1000,4000)
    #[argh(option, arg_name = "N,...")]
    pub streams: Option<String>,
    /// tokens of each reply (default: 32)
    #[argh(option, arg_name = "N")]
    pub tokens: Option<String>,
    /// time between the tokens of a stream; the first takes five times as long (default: 10ms, or 50us a stream if that is longer)
    #[argh(option, arg_name = "TIME")]
    pub gap: Option<String>,
    /// requests of each stream (default: as many as take 6 seconds, at least 2)
    #[argh(option, arg_name = "N")]
    pub requests: Option<String>,
    /// keep so many threads busy meanwhile, as other work on the client's machine would (default: 0)
    #[argh(option, arg_name = "N")]
    pub busy: Option<String>,
    /// stop the client's process now and then, for 50 to 500ms
    #[argh(switch)]
    pub stops: bool,
    /// as of a run: auto, on or off (default: auto)
    #[argh(option, arg_name = "WHEN")]
    pub keeper: Option<String>,
    /// as of a run: auto, normal or high (default: auto)
    #[argh(option, arg_name = "NAME")]
    pub client_priority: Option<String>,
    /// write the figures to this file, as JSON
    #[argh(option, short = 'o', arg_name = "FILE")]
    pub output: Option<String>,
    /// replace a file that exists
    #[argh(switch)]
    pub overwrite: bool,
    /// show no progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// log what goes on to standard error
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}

/// Run the simulated server alone, until it is interrupted: OpenAI chat and completions, /health, /v1/models, /metrics.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "simulate",
    help_triggers("-h", "--help"),
    example = "A server that is slower under load:\n  {command_name} --port 8000 --ttft 80ms --itl 12ms --slots 16",
    example = "A server that resets 5 of 100 connections and leaves 1 waiting:\n  {command_name} --fault reset=5 --fault stall=1"
)]
pub struct Simulate {
    /// port to listen on; 0 takes a free one (default: 8000)
    #[argh(option, arg_name = "N")]
    pub port: Option<String>,
    /// address to listen on (default: 127.0.0.1)
    #[argh(option, arg_name = "IP")]
    pub host: Option<String>,
    /// name of the model (default: simulated-model)
    #[argh(option, arg_name = "NAME")]
    pub model: Option<String>,
    /// time to first token of a lone request (default: 40ms)
    #[argh(option, arg_name = "TIME")]
    pub ttft: Option<String>,
    /// time between tokens of a lone request (default: 5ms)
    #[argh(option, arg_name = "TIME")]
    pub itl: Option<String>,
    /// spread of both, as a share of the mean, such as 10% (default: 10%)
    #[argh(option, arg_name = "SHARE")]
    pub jitter: Option<String>,
    /// requests served at once; the rest queue (default: 64)
    #[argh(option, arg_name = "N")]
    pub slots: Option<String>,
    /// how much each further running request slows all down (default: 2%)
    #[argh(option, arg_name = "SHARE")]
    pub slowdown: Option<String>,
    /// mean length of a reply in tokens; 0 always takes the client's limit (default: 64)
    #[argh(option, arg_name = "N")]
    pub output_tokens: Option<String>,
    /// tokens in one event of a stream (default: 1)
    #[argh(option, arg_name = "N")]
    pub tokens_per_event: Option<String>,
    /// share of requests answered with status 500 (default: 0%)
    #[argh(option, arg_name = "SHARE")]
    pub fail: Option<String>,
    /// do something wrong or odd to a percentage of requests, such as reset=5 or stall=0.5; may be repeated; a wrong KIND lists all
    #[argh(option, arg_name = "KIND=PERCENT")]
    pub fault: Vec<String>,
    /// file that holds a key which clients must send
    #[argh(option, arg_name = "FILE")]
    pub api_key_file: Option<String>,
    /// source of all that is random (default: 0)
    #[argh(option, arg_name = "N")]
    pub seed: Option<String>,
    /// log what goes on to standard error
    #[argh(switch, short = 'v')]
    pub verbose: u8,
}
