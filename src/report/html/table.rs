//! Tables: a caption, a head and rows of cells, every one of them escaped.

use std::io::{self, Write};

use super::escape::Text;

/// What a table's columns after the first hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Numbers, set to the right.
    Numbers,
    /// Words, set to the left.
    Words,
}

/// Writes a table that can be scrolled where the page is too narrow for it. The first cell of a row is its head.
///
/// # Errors
/// Those of the writer.
pub fn write_table(
    caption: &str,
    columns: Columns,
    head: &[&str],
    rows: &[Vec<String>],
    out: &mut dyn Write,
) -> io::Result<()> {
    let class = if columns == Columns::Numbers { " class=\"numbers\"" } else { "" };
    writeln!(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">", Text(caption))?;
    writeln!(out, "<table{class}><caption>{}</caption>", Text(caption))?;
    if !head.is_empty() {
        write!(out, "<thead><tr>")?;
        head.iter().try_for_each(|name| write!(out, "<th scope=\"col\">{}</th>", Text(name)))?;
        writeln!(out, "</tr></thead>")?;
    }
    writeln!(out, "<tbody>")?;
    for row in rows {
        let Some((first, rest)) = row.split_first() else { continue };
        write!(out, "<tr><th scope=\"row\">{}</th>", Text(first))?;
        rest.iter().try_for_each(|cell| write!(out, "<td>{}</td>", Text(cell)))?;
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// Writes names and values, one below the other.
///
/// # Errors
/// Those of the writer.
pub fn write_pairs(caption: &str, pairs: &[(&str, String)], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = pairs.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
    write_table(caption, Columns::Words, &[], &rows, out)
}
