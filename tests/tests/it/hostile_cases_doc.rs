//! Checks `docs/hostile-cases.md` against the code: each number in the code has a row, and each
//! test file of a row contains its number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Maps numbers to the text of their rows.
fn rows() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("docs/hostile-cases.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let number = line.strip_prefix("| ")?.split(' ').next()?;
        is_number(number).then(|| (number.to_owned(), line.to_owned()))
    });
    rows.collect()
}

/// Matches `A001` to `X38`.
fn is_number(word: &str) -> bool {
    let (group, digits) = word.split_at(word.len().min(1));
    let length = if group == "X" { 2 } else { 3 };
    group.bytes().all(|byte| (b'A'..=b'T').contains(&byte) || byte == b'X')
        && !group.is_empty()
        && digits.len() == length
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the numbers in a text.
fn numbers(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    words.map(str::to_ascii_uppercase).filter(|word| is_number(word))
}

/// Returns the numbers in the names and string literals of a file's tests. Comments do not count,
/// nor do helpers, which a test may not call.
fn tested_numbers(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    tests_in(source.parse().unwrap(), &mut found);
    found
}

/// Returns the numbers in a file's doc tests.
fn documented_numbers(source: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let mut found = BTreeSet::new();
    for line in source.lines().filter_map(|line| line.trim_start().strip_prefix("//")) {
        let line = line.trim_start_matches(['/', '!']).trim_start();
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            found.extend(numbers(line));
        }
    }
    found
}

fn tests_in(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let mut tokens = tokens.into_iter();
    let mut is_test = false;
    while let Some(token) = tokens.next() {
        match token {
            // `#[test]`, `#[tokio::test]`, `#[tokio::test(…)]`: the last segment of the path.
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let words = group
                    .stream()
                    .into_iter()
                    .take_while(|token| !matches!(token, TokenTree::Group(_)));
                is_test |= words.last().is_some_and(|word| word.to_string() == "test");
            }
            TokenTree::Ident(word) if is_test && word == "fn" => {
                is_test = false;
                if let Some(name) = tokens.next() {
                    found.extend(numbers(&name.to_string()));
                }
                for token in tokens.by_ref() {
                    let TokenTree::Group(body) = token else { continue };
                    texts_in(body.stream(), found);
                    if body.delimiter() == Delimiter::Brace {
                        break;
                    }
                }
            }
            TokenTree::Group(group) => tests_in(group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn texts_in(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => texts_in(group.stream(), found),
            // Byte strings do not count: `b"\x30"` names no row.
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                found.extend(numbers(&text).filter(|_| !text.starts_with('b')));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn a_rows_test_contains_its_number() {
    let rows = rows();
    assert!(rows.len() > 200, "{}", rows.len());
    let mut tested = 0;
    for (number, row) in &rows {
        let columns: Vec<_> = row.trim_end_matches(" |").rsplit(" | ").collect();
        let shown = columns[0];
        // Tests and their limits, or the reason why there are none.
        let reasons = ["later: step ", "open: ", "not built: "];
        if reasons.iter().any(|reason| shown.starts_with(reason)) {
            continue;
        }
        let files = shown.split("; ").next().unwrap();
        for file in files.split(", ") {
            let (is_doc, file) =
                file.strip_prefix("doc tests of ").map_or((false, file), |file| (true, file));
            let path = file.strip_prefix('`').and_then(|file| file.strip_suffix('`'));
            let path =
                path.unwrap_or_else(|| panic!("{number}: {file} is neither a test nor a step"));
            // This file contains all numbers and tests none of them.
            assert!(!path.ends_with("hostile_cases_doc.rs"), "{number}");
            let source = fs::read_to_string(root().join(path))
                .unwrap_or_else(|error| panic!("{number}: {path}: {error}"));
            let shown = if is_doc { documented_numbers(&source) } else { tested_numbers(&source) };
            assert!(shown.contains(number), "{number} is in no test of {path}");
        }
        tested += 1;
    }
    assert!(tested > 90, "{tested}");
}

#[test]
fn a_rows_measure_names_an_existing_file() {
    for (number, row) in rows() {
        let measure = row.trim_end_matches(" |").rsplit(" | ").nth(1).unwrap().to_owned();
        for path in measure.split('`').skip(1).step_by(2) {
            assert!(root().join(path).exists(), "{number}: {path}");
        }
    }
}

/// Rows for metrics and traces name tests as soon as one of these is a dependency.
#[test]
fn what_is_not_built_is_not_built() {
    let rows = rows();
    let not_built = rows.values().filter(|row| row.contains("| not built: "));
    assert_eq!(not_built.count(), 2);
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \""));
    for name in names {
        for exporter in ["opentelemetry", "metrics", "prometheus", "statsd"] {
            assert!(!name.starts_with(exporter), "a row for {name} is owed");
        }
    }
    // Controls: rows and names are read.
    assert!(lock.contains("name = \"tracing\"") && rows["R313"].contains("not built"));
}

#[test]
fn numbers_in_comments_and_helpers_do_not_count() {
    let source = r##"
        //! A001
        /// A002
        #[test]
        fn a003_is_one() { // A004
            let table = [("A005", 1), (r#"A006 too"#, 2)];
            assert!(table.is_empty(), "A007", b"A016 \x17");
        }
        #[tokio::test(start_paused = true)]
        async fn two() -> Result<(), ()> { run("A008") }
        fn helper() { run("A009") }
        mod tests { #[expect(lint, reason = "A010")] #[tokio::test] async fn a011() {} }
        proptest! { #[test] fn a012(text in "A013") {} }
        const A014: &str = "A015";
    "##;
    let expected = ["A003", "A005", "A006", "A007", "A008", "A011", "A012", "A013"];
    assert_eq!(tested_numbers(source), expected.map(str::to_owned).into());
}

#[test]
fn a_numbered_comment_has_a_row() {
    let rows = rows();
    let mut files = Vec::new();
    for folder in ["crates", "tests", "examples"] {
        sources(&root().join(folder), &mut files);
    }
    let mut led = 0;
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        for line in source.lines().filter_map(|line| line.trim_start().strip_prefix("// ")) {
            let Some((head, _)) = line.split_once(": ") else { continue };
            for number in head.split(", ").filter(|word| is_number(word)) {
                assert!(rows.contains_key(number), "{number} in {} leads nowhere", file.display());
                led += 1;
            }
        }
    }
    assert!(led > 20, "{led}");
}
