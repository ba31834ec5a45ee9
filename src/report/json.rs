//! A report as JSON: `{schema, tool, …, plan, environment, health, summary, requests?}`, described in `docs/json.md`.

use std::io::{self, Write};

use super::{DetailLog, Report};

/// Writes the report, and with `detail` a line for each request under `requests`.
///
/// # Errors
/// Those of the writer, and of reading the details back.
pub fn write_json(report: &Report, detail: Option<&mut DetailLog>, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    let Some(detail) = detail else {
        return writeln!(out, "{text}");
    };
    // the details may not fit into memory: they are put in before the closing brace
    let open = text.strip_suffix("\n}").unwrap_or(&text);
    write!(out, "{open},\n  \"requests\": [")?;
    detail.copy_rows(out)?;
    out.write_all(b"\n  ]\n}\n")
}
