//! `docs/hostile-cases.md` and the code hold each other: a number in the code stands there, and a test that is named there has the number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Number to the text of its row.
fn rows() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("docs/hostile-cases.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let number = line.strip_prefix("| ")?.split(' ').next()?;
        is_number(number).then(|| (number.to_owned(), line.to_owned()))
    });
    rows.collect()
}

/// `A001` to `X38`.
fn is_number(word: &str) -> bool {
    let (group, digits) = word.split_at(word.len().min(1));
    let length = if group == "X" { 2 } else { 3 };
    group.bytes().all(|byte| (b'A'..=b'T').contains(&byte) || byte == b'X')
        && !group.is_empty()
        && digits.len() == length
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The numbers in a source, in comments, texts and names of tests.
fn numbers(source: &str) -> BTreeSet<String> {
    source
        .split(|character: char| !character.is_ascii_alphanumeric())
        .map(str::to_ascii_uppercase)
        .filter(|word| is_number(word))
        .collect()
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
fn a_row_that_names_a_test_is_in_that_test() {
    let rows = rows();
    assert!(rows.len() > 200, "{}", rows.len());
    let mut tested = 0;
    for (number, row) in &rows {
        let Some(test) = row.trim_end_matches(" |").rsplit(" | ").next().filter(|test| test.starts_with('`')) else {
            continue;
        };
        for file in test.split(", ").map(|file| file.trim_matches('`')) {
            let source =
                fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{number}: {file}: {error}"));
            assert!(numbers(&source).contains(number), "{number} is not in {file}");
        }
        tested += 1;
    }
    assert!(tested > 90, "{tested}");
}

#[test]
fn a_comment_that_begins_with_a_number_leads_to_a_row() {
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
