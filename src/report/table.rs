//! What all text for a console is made of: lines and tables that no text of a stranger breaks, and colours.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use crate::text::one_line;

/// Writes a line. A report may come from a file that somebody else wrote: all its text goes through here.
///
/// # Errors
/// Those of the writer.
pub(super) fn line(text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", one_line(text))
}

/// The text in the colour of this code (ECMA-48, SGR), where there are colours.
pub(super) fn painted(text: &str, code: &str, color: bool) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A table without rules, with this head and no row yet.
pub(super) fn table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

/// Writes a table, its first column to the left, the others to the right.
///
/// # Errors
/// Those of the writer.
pub(super) fn print_table(mut table: Table, out: &mut dyn Write) -> io::Result<()> {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().try_for_each(|row| line(&format!("  {}", row.trim_end()), out))
}
