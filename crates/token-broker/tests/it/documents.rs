//! Compares the commands with the documents.

use std::{fs, path::Path, process::Command};

/// Returns the command and those below it, by the help that they print.
fn commands_below(path: &[String]) -> Vec<Vec<String>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
    let output = command.args(path).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{path:?}");
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return vec![path.to_vec()] };
    let names = list.lines().take_while(|line| line.starts_with("  "));
    // Longer lines are continued further to the right.
    let names = names.filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .flat_map(|name| commands_below(&[path, &[name.to_owned()]].concat()))
        .collect()
}

#[test]
fn each_command_is_in_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut documents = fs::read_to_string(root.join("README.md")).unwrap();
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let commands = commands_below(&[]);
    assert!(commands.len() > 15, "{commands:?}");
    assert!(commands.contains(&["grants", "add"].map(str::to_owned).to_vec()), "{commands:?}");
    for command in commands {
        let command = format!("token-broker {}", command.join(" "));
        // The demo is run from the sources.
        let of_cargo = command.replace("token-broker ", "token-broker -- ");
        let is_named = documents.contains(&command) || documents.contains(&of_cargo);
        assert!(is_named, "no document names `{command}`");
    }
}
