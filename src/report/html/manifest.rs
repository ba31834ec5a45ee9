//! All that it takes to know what a run was, and to make it again.

use std::io::{self, Write};

use super::escape::Text;
use super::table::{Columns, write_pairs, write_table};
use crate::plan::shown_labels;
use crate::report::Report;
use crate::units::{show_count, significant};

/// Writes the manifest of a run: what was asked of whom, by which build, on which machine, under which limits.
///
/// # Errors
/// Those of the writer.
pub fn write_manifest(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<h3>Manifest</h3>")?;
    write_pairs("What was run, and where", &facts(report), out)?;
    checks(report, out)?;
    let prompt = &report.plan.prompt;
    block("Prompt", prompt, out)?;
    block("The rest of the plan, as in the JSON", &plan(report)?, out)
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let (plan, environment, health) = (&report.plan, &report.environment, &report.health);
    let unknown = || "unknown".to_owned();
    let count = |n: Option<u64>| n.map_or_else(unknown, show_count);
    let mut facts = vec![
        ("Tool", format!("{} {} (commit {})", report.tool.name, report.tool.version, report.tool.commit)),
        ("Started", report.started.clone()),
        ("Ended", report.ended.clone()),
        ("Run id", plan.run_id.clone()),
        ("Server", plan.server.endpoint.shown()),
        ("Model", plan.request.model.clone()),
        ("Load", plan.load.to_string()),
        ("Seed", plan.seed.to_string()),
        ("Plan hash", plan.hash.clone()),
    ];
    if !plan.labels.is_empty() {
        facts.push(("Labels", shown_labels(&plan.labels)));
    }
    let network = plan.server.network.told();
    if !network.is_empty() {
        facts.push(("Network", network.join("; ")));
    }
    if let Some(schedule) = &report.schedule {
        facts.push(("Schedule hash", format!("{} ({} requests)", schedule.hash, show_count(schedule.count))));
    }
    if let Some(source) = &plan.key_source {
        facts.push(("API key", format!("from {source}")));
    }
    facts.extend([
        ("Platform", environment.platform.clone()),
        ("Kernel", environment.kernel.clone().unwrap_or_else(unknown)),
        ("Cores", count(environment.cores.map(|cores| cores as u64))),
        ("Limit of open files", count(environment.open_files_limit)),
    ]);
    if let Some((user, system)) = health.cpu_user_s.zip(health.cpu_system_s) {
        facts.push(("CPU time of this client", format!("{} s", significant(user + system))));
    }
    if let Some(bytes) = health.peak_rss_bytes {
        facts.push(("Peak memory of this client", format!("{} MB", significant(bytes as f64 / 1e6))));
    }
    if let Some(calibration) = &report.calibration {
        facts.push((
            "Calibration",
            format!("replay of {} tokens: {}", calibration.replay.tokens, calibration.replay.load),
        ));
    }
    facts
}

fn checks(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let rows = report.health.checks.iter().map(|checked| {
        let show = |value| checked.unit.show(value);
        vec![
            checked.check.name().to_owned(),
            checked.value.map_or("unknown".to_owned(), show),
            show(checked.degraded_above),
            show(checked.invalid_above),
            checked.verdict.name().to_owned(),
        ]
    });
    let head = ["check", "found", "DEGRADED above", "INVALID above", "verdict"];
    write_table("What the client's verdict rests on", Columns::Numbers, &head, &rows.collect::<Vec<_>>(), out)
}

fn block(title: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    const SHOWN: usize = 20_000;
    let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
    let cut = if end < text.len() { "\n… (cut; the JSON has all of it)" } else { "" };
    writeln!(
        out,
        "<details open><summary>{title}</summary><pre tabindex=\"0\">{}{cut}</pre></details>",
        Text(&text[..end])
    )
}

/// The plan without what is shown beside it: the prompt, and the limits of the client's verdict.
fn plan(report: &Report) -> io::Result<String> {
    let mut plan = serde_json::to_value(&report.plan)?;
    if let Some(fields) = plan.as_object_mut() {
        fields.retain(|name, _| name != "prompt" && name != "health_limits");
    }
    Ok(serde_json::to_string_pretty(&plan)?)
}
