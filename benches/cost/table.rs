//! The table, in Markdown.

use crate::cases::{Goal, Row};

/// Begins the table: rows follow as they are measured.
pub fn open(turns: usize) {
    let cores = std::thread::available_parallelism().map_or("unknown".to_owned(), |n| n.to_string());
    println!("Medians of {turns} turns; {cores} cores; load average before: {}.\n", load());
    println!("| case | measure | floor | ours | ours ÷ floor | goal | met |");
    println!("| --- | --- | --: | --: | --: | --: | --- |");
}

/// Prints one row.
pub fn print(row: &Row) {
    let shown = |value: Option<f64>, digits| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
    let Row { case, measure, digits, .. } = *row;
    let (floor, ours) = (shown(row.floor, digits), shown(Some(row.ours), digits));
    let ratio = shown(row.ratio(), 2);
    println!("| {case} | {measure} | {floor} | {ours} | {ratio} | {} | {} |", row.goal(), row.verdict());
}

/// Ends the table.
pub fn close() {
    println!("\nLoad average after, which the cases themselves made: {}.", load());
}

/// The machine's load averages of 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_else(|_| "unknown".to_owned());
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.ours / floor)
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtMost(limit) => format!("≤ {limit}"),
            Goal::AtMostTimes(times) => format!("≤ {times} ×"),
            Goal::AtLeastTimes(times) => format!("≥ {times} ×"),
            Goal::Free => "–".to_owned(),
        }
    }

    fn verdict(&self) -> &'static str {
        let is_met = match (self.goal, self.ratio()) {
            (Goal::AtMost(limit), _) => self.ours <= limit,
            (Goal::AtMostTimes(times), Some(ratio)) => ratio <= times,
            (Goal::AtLeastTimes(times), Some(ratio)) => ratio >= times,
            _ => return "–",
        };
        if is_met { "yes" } else { "**no**" }
    }
}
