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
pub(crate) fn table(head: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

/// Writes a table, its first column to the left, the others to the right.
///
/// # Errors
/// Those of the writer.
pub(super) fn print_table(mut table: Table, out: &mut dyn Write) -> io::Result<()> {
    set_to_the_right(&mut table, 1);
    print(&table, out)
}

/// Writes a table with all of its columns to the right.
///
/// # Errors
/// Those of the writer.
pub(crate) fn print_table_to_the_right(mut table: Table, out: &mut dyn Write) -> io::Result<()> {
    set_to_the_right(&mut table, 0);
    print(&table, out)
}

/// Sets all columns but the first so many to the right.
fn set_to_the_right(table: &mut Table, but: usize) {
    for column in table.column_iter_mut().skip(but) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn print(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    table.lines().try_for_each(|row| line(&format!("  {}", row.trim_end()), out))
}
