//! Wrong files and the exact messages: `wrong_files.txt`.

use std::{env, fs, path::PathBuf};

use super::fixture::{BASE, Fixture, with};

/// A case of `wrong_files.txt`: `- ` are lines of the base that `+ ` lines replace, `$ ` sets a
/// variable, `> ` is the output.
#[derive(Default)]
struct Case {
    name: String,
    from: String,
    to: String,
    variables: Vec<(String, String)>,
    expected: String,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        let mut push = |into: fn(&mut Case) -> &mut String, rest: &str| {
            let into = into(cases.last_mut().unwrap());
            into.push_str(rest);
            into.push('\n');
        };
        match line.split_at_checked(2).unwrap_or((line, "")) {
            ("# ", name) => cases.push(Case { name: name.to_owned(), ..Case::default() }),
            ("- ", rest) => push(|case| &mut case.from, rest),
            ("+ ", rest) => push(|case| &mut case.to, rest),
            ("+", "") => push(|case| &mut case.to, ""),
            ("> ", rest) => push(|case| &mut case.expected, rest),
            ("$ ", rest) => {
                let (name, value) = rest.split_once('=').unwrap();
                cases.last_mut().unwrap().variables.push((name.to_owned(), value.to_owned()));
            }
            ("", "") => {}
            other => panic!("{other:?}"),
        }
    }
    cases
}

impl Case {
    fn file(&self) -> String {
        match self.from.as_str() {
            "" => format!("{BASE}{}", self.to),
            "*\n" => self.to.clone(),
            from => with(from, &self.to),
        }
    }

    fn output(&self, fixture: &Fixture) -> String {
        let variables: Vec<_> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let errors = fixture.load_with(&self.file(), &variables).err();
        format!("{}\n", errors.unwrap_or_else(|| format!("{}: accepted", self.name)))
    }

    fn write(&self, output: &str) -> String {
        let block = |mark: &str, text: &str| -> String {
            text.lines().map(|line| format!("{mark} {line}").trim_end().to_owned() + "\n").collect()
        };
        let variables: String =
            self.variables.iter().map(|(name, value)| format!("$ {name}={value}\n")).collect();
        [
            format!("# {}\n", self.name),
            block("-", &self.from),
            block("+", &self.to),
            variables,
            block(">", output),
        ]
        .concat()
    }
}

#[test]
fn t325_each_wrong_file_has_its_message() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/configuration/tests/wrong_files.txt");
    let (fixture, cases) = (Fixture::new(), cases(&fs::read_to_string(&path).unwrap()));
    assert!(cases.len() >= 60, "T325: {}", cases.len());
    #[expect(clippy::disallowed_methods, reason = "a test that writes its expectations on demand")]
    if env::var("TOKEN_BROKER_BLESS").is_ok() {
        let all: Vec<_> = cases.iter().map(|case| case.write(&case.output(&fixture))).collect();
        fs::write(path, all.join("\n")).unwrap();
        return;
    }
    for case in cases {
        let output = case.output(&fixture);
        assert_eq!(output, case.expected, "T325 {}", case.name);
        assert!(!output.contains("Zq7"), "T325 {}: a secret is shown", case.name);
    }
}
