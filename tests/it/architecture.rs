//! Which room may use which, and which package is at home where. The picture is in `docs/architecture.md`: a new arrow
//! changes both in one commit.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, lowest first. A room uses itself and the levels before its own; rooms of one level do not meet.
const LEVELS: &[&[&str]] = &[
    &["clock", "error", "random", "secret", "stats", "text", "units"],
    &["priority"],
    &["arrivals", "failure", "heartbeat", "keeper", "scrape"],
    &["wire"],
    &["record"],
    &["backend", "observe", "summary", "workload"],
    &["health"],
    &["plan"],
    &["analysis", "engine", "sim"],
    &["accuracy"],
    &["report"],
    &["rebuild", "selftest", "watch"],
    &["benchmark", "cli"],
    &["calibration"],
    &["app"],
    &["main"],
];

/// Arrows that the levels would allow and that must not be.
const NEVER: &[(&str, &[&str])] = &[
    (
        "accuracy",
        &["analysis", "backend", "engine", "health", "observe", "plan", "summary", "wire", "workload"],
    ),
    ("analysis", &["backend", "observe", "wire", "workload"]),
    ("calibration", &["analysis", "cli", "observe", "report", "selftest", "summary", "watch", "workload"]),
    ("cli", &["analysis", "backend", "engine", "observe", "record", "summary", "watch", "workload"]),
    ("engine", &["health", "summary", "workload"]),
    ("health", &["backend", "observe", "record", "wire", "workload"]),
    ("observe", &["clock", "failure", "record", "wire"]),
    ("rebuild", &["analysis", "backend", "engine", "failure", "observe", "sim", "wire", "workload"]),
    ("report", &["backend", "engine", "sim", "wire", "workload"]),
    (
        "sim",
        &[
            "backend", "error", "failure", "health", "observe", "plan", "record", "summary", "wire",
            "workload",
        ],
    ),
    (
        "selftest",
        &["analysis", "backend", "engine", "observe", "plan", "record", "summary", "wire", "workload"],
    ),
    ("summary", &["wire"]),
    ("watch", &["engine", "health", "plan", "record", "report", "summary", "wire", "workload"]),
    ("wire", &["clock"]),
    ("workload", &["clock"]),
];

/// Where each package of `Cargo.toml` is used; empty for those that any room may use.
const PACKAGES: &[(&str, &[&str])] = &[
    ("argh", &["cli"]),
    ("base64", &["backend", "report", "summary"]),
    ("comfy_table", &["report"]),
    ("crossbeam_channel", &["clock", "engine", "selftest", "sim"]),
    ("csv", &["report"]),
    ("env_logger", &["main"]),
    ("flate2", &["rebuild", "report", "sim"]),
    ("hdrhistogram", &["summary"]),
    ("httparse", &["backend", "sim"]),
    ("indicatif", &["report"]),
    ("jiff", &["clock"]),
    ("log", &[]),
    ("memchr", &["cli", "observe", "wire"]),
    ("nix", &["backend", "health", "keeper", "selftest", "sim"]),
    ("parking_lot", &["backend", "clock", "engine", "heartbeat", "keeper", "report", "sim", "watch"]),
    ("rand", &["random", "selftest", "sim", "workload"]),
    ("rand_chacha", &["random", "sim"]),
    ("rand_distr", &["arrivals"]),
    ("rayon", &["summary"]),
    ("rustls", &["backend"]),
    ("rustls_native_certs", &["backend"]),
    ("serde", &[]),
    ("serde_json", &[]),
    ("sha2", &["plan"]),
    ("signal_hook", &["main"]),
    ("socket2", &["keeper"]),
    ("tempfile", &["report", "selftest"]),
    ("thiserror", &["error"]),
    ("thread_priority", &["priority"]),
    ("ureq", &["backend"]),
];

const ADVICE: &str =
    "write it without, or change tests/it/architecture.rs and docs/architecture.md in the same commit";

#[test]
fn a_room_uses_only_rooms_below_it() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (line, used) in file.rooms_used() {
            let here = format!("{}:{line}", file.shown);
            match verdict(&file.room, &used) {
                Ok(()) => {}
                Err(why) => wrong.push(format!("{here}: {} uses crate::{used}: {why}", file.room)),
            }
        }
        for line in file.lines_with(file.way_out()) {
            let (here, way_out) = (format!("{}:{line}", file.shown), file.way_out());
            wrong.push(format!(
                "{here}: {way_out} leaves the room; write crate::ROOM, so that the arrow shows"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_room_has_its_level() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs is there");
    let mut in_code: Vec<_> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    in_code.push("main");
    in_code.sort_unstable();
    let mut in_levels = LEVELS.concat();
    in_levels.sort_unstable();
    assert_eq!(
        in_code, in_levels,
        "src/lib.rs against LEVELS: give a new room its level here and in docs/architecture.md"
    );
}

#[test]
fn a_package_is_used_only_where_it_is_at_home() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (package, rooms) in PACKAGES.iter().filter(|(_, rooms)| !rooms.is_empty()) {
            if rooms.contains(&file.room.as_str()) {
                continue;
            }
            let homes = rooms.join(", ");
            wrong.extend(file.lines_with_package(package).into_iter().map(|line| {
                format!("{}:{line}: {} uses {package}, at home in {homes}; {ADVICE}", file.shown, file.room)
            }));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_package_has_its_home() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml is there");
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("there are dependencies");
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    let mut in_manifest: Vec<_> = names.map(|(name, _)| name.trim().replace('-', "_")).collect();
    in_manifest.sort_unstable();
    let in_table: Vec<_> = PACKAGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        in_manifest, in_table,
        "Cargo.toml against PACKAGES: say here which rooms use a new package, in order"
    );
}

#[test]
fn the_document_has_the_same_lists() {
    let path = root().join("docs/architecture.md");
    let document = fs::read_to_string(path).expect("docs/architecture.md is there");
    let levels = LEVELS.iter().map(|rooms| rooms.join(" | "));
    let never = NEVER.iter().map(|(room, others)| format!("{room}: {}", others.join(", ")));
    let homes = PACKAGES.iter().filter(|(_, rooms)| !rooms.is_empty());
    let homes = homes.map(|(package, rooms)| format!("{package}: {}", rooms.join(", ")));
    let missing: Vec<_> = levels
        .chain(never)
        .chain(homes)
        .filter(|want| document.lines().all(|line| line.trim() != want))
        .collect();
    assert!(missing.is_empty(), "docs/architecture.md lacks these lines:\n{}\n", missing.join("\n"));
}

#[test]
fn only_the_clock_reads_the_time() {
    let mut wrong = Vec::new();
    for file in sources().into_iter().filter(|file| file.room != "clock") {
        for call in ["Instant::now", "SystemTime::now"] {
            let lines = file.lines_with(call).into_iter();
            wrong.extend(
                lines.map(|line| format!("{}:{line}: {call}; ask a crate::clock::Clock", file.shown)),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn verdict(room: &str, used: &str) -> Result<(), String> {
    let level = |room: &str| LEVELS.iter().position(|rooms| rooms.contains(&room));
    let own = level(room).ok_or_else(|| format!("{room} has no level; give it one in LEVELS"))?;
    let theirs = level(used).ok_or_else(|| format!("{used} is no room; name the room that it is from"))?;
    let is_forbidden = NEVER.iter().any(|(from, to)| *from == room && to.contains(&used));
    match room == used || (theirs < own && !is_forbidden) {
        true => Ok(()),
        false if theirs < own => Err(format!("{room} must not know {used}; {ADVICE}")),
        false => Err(format!("{used} is not below {room}; {ADVICE}")),
    }
}

/// One file of the program, without what only tests see.
struct Source {
    /// The path from the repository's root.
    shown: String,
    room: String,
    /// Whether the file is its room's first, so that `super` is the crate.
    is_first: bool,
    code: String,
}

impl Source {
    fn rooms_used(&self) -> Vec<(usize, String)> {
        let prefix = if self.room == "main" { "vllm_loadgen::" } else { "crate::" };
        let mut used = Vec::new();
        for at in words(&self.code, prefix) {
            let rest = &self.code[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => group_heads(group),
                None => vec![identifier(rest)],
            };
            used.extend(names.into_iter().map(|name| (self.line(at), name.to_owned())));
        }
        used
    }

    /// The path that would reach another room past `crate::`.
    fn way_out(&self) -> &'static str {
        if self.is_first { "super::" } else { "super::super::" }
    }

    fn lines_with(&self, text: &str) -> Vec<usize> {
        words(&self.code, text).map(|at| self.line(at)).collect()
    }

    /// Lines with `package::…`, `use package;` or `use package as …`; `self::package::…` is another thing.
    fn lines_with_package(&self, package: &str) -> Vec<usize> {
        let is_use = |at: usize| {
            let (before, after) = (&self.code[..at], &self.code[at + package.len()..]);
            let is_named =
                after.starts_with("::") || (before.ends_with("use ") && !after.starts_with(is_word));
            let is_inner = before.strip_suffix("::").is_some_and(|before| before.ends_with(is_word));
            is_named && !is_inner
        };
        words(&self.code, package).filter(|at| is_use(*at)).map(|at| self.line(at)).collect()
    }

    fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `src` but `lib.rs`, which is a table of contents, and modules named `tests`.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    gather(&src, &mut paths);
    paths.sort();
    let sources: Vec<_> = paths.iter().filter_map(|path| source(&src, path)).collect();
    assert!(sources.len() > 20, "the files of src were not found");
    sources
}

fn gather(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            gather(&path, paths);
        } else if path.extension().is_some_and(|e| e == "rs") {
            paths.push(path);
        }
    }
}

fn source(src: &Path, path: &Path) -> Option<Source> {
    let within = path.strip_prefix(src).expect("found under src").with_extension("");
    let parts: Vec<_> = within.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts == ["lib"] || parts.contains(&"tests".to_owned()) {
        return None;
    }
    let text = fs::read_to_string(path).expect("source files are text");
    Some(Source {
        shown: format!("src/{}.rs", parts.join("/")),
        room: parts[0].clone(),
        is_first: parts.len() == 1 || parts[1] == "mod",
        code: without_tests(&without_prose(&text)),
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `text` begins as a word of its own.
fn words<'a>(code: &'a str, text: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(text).map(|(at, _)| at).filter(|at| !code[..*at].ends_with(is_word))
}

fn identifier(code: &str) -> &str {
    &code[..code.find(|c| !is_word(c)).unwrap_or(code.len())]
}

/// The first names of `a::{b, c}, d}`: `a` and `d`.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut heads, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(identifier(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// Comments, strings and characters made blank; lines stay where they are.
fn without_prose(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let prose = prose_len(rest);
        if prose > 0 {
            code.push_str(&blank(&rest[..prose]));
        } else {
            code.push(c);
        }
        rest = &rest[prose.max(c.len_utf8())..];
    }
    code
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// How long the comment, string or character is that `code` begins with; 0 if with none.
fn prose_len(code: &str) -> usize {
    let to = |end: &str, from: usize| code[from..].find(end).map_or(code.len(), |at| from + at + end.len());
    let hashes = code.strip_prefix('r').map(|raw| raw.len() - raw.trim_start_matches('#').len());
    let mut chars = code.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('/'), Some('/'), _) => code.find('\n').unwrap_or(code.len()),
        (Some('/'), Some('*'), _) => to("*/", 2),
        (Some('"'), ..) => string_len(code),
        (Some('\''), Some('\\'), Some(escaped)) => to("'", 2 + escaped.len_utf8()),
        (Some('\''), Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => match hashes {
            Some(n) if code[1 + n..].starts_with('"') => to(&format!("\"{}", "#".repeat(n)), n + 2),
            _ => 0,
        },
    }
}

fn string_len(code: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Items behind `#[cfg(test)]` made blank.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let end = at + MARK.len() + item_len(&rest[at + MARK.len()..]);
        out.push_str(&rest[..at]);
        out.push_str(&blank(&rest[at..end]));
        rest = &rest[end..];
    }
    out + rest
}

/// Up to the semicolon or the closing brace of the item that `code` begins with.
fn item_len(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn the_reader_of_sources_sees_code_only() {
    let text = "use crate::{a::{b, c}, d};\n// crate::no\nlet s = \"crate::no {\"; let c = '{'; x::<'a>();\n\
                #[cfg(test)]\nmod tests {\n    use crate::no;\n}\nlet r = r#\"crate::no \" {\"#; crate::e::f();\n";
    let code = without_tests(&without_prose(text));
    let file = Source { shown: String::new(), room: "a".to_owned(), is_first: true, code };
    let used: Vec<_> = file.rooms_used();
    let want = [(1, "a"), (1, "d"), (8, "e")].map(|(line, room)| (line, room.to_owned()));
    assert_eq!(used, want);
}

#[test]
fn packages_are_told_from_modules_of_the_same_name() {
    let lines = |code: &str| {
        let file =
            Source { shown: String::new(), room: String::new(), is_first: true, code: code.to_owned() };
        file.lines_with_package("csv").len()
    };
    for code in ["csv::Writer", "::csv::Writer", "use csv;", "use csv as c;"] {
        assert_eq!(lines(code), 1, "{code}");
    }
    for code in ["mod csv;", "self::csv::write()", "my_csv::x", "csv.flush()"] {
        assert_eq!(lines(code), 0, "{code}");
    }
}

#[test]
fn arrows_go_down_only() {
    assert!(verdict("wire", "failure").is_ok() && verdict("wire", "wire").is_ok());
    for (room, used) in
        [("failure", "wire"), ("backend", "observe"), ("engine", "summary"), ("wire", "Error")]
    {
        assert!(verdict(room, used).is_err(), "{room} uses {used}");
    }
}
