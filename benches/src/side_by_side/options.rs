//! Options of the command line.

use std::path::PathBuf;

use super::Outcome;

pub(crate) const USAGE: &str = "\
side-by-side: the cost of the layers, as ratios to a bare proxy on this machine

  cargo run --release --bin side-by-side -- [OPTIONS]

  --quick         about a minute on an idle machine: fewer turns and requests
  --only CASE     only cases whose name begins like this (small, small-32, large, list, events,
                  growth, steady, memory)
  --turns N       turns of each case
  --threads N     threads per proxy (default 1)
  --dir DIR       folder of the audit files (default: that of the program); a real disk, not tmpfs
  --markdown      the tables of docs/performance.md on standard output
  --svg FILE      write the chart of docs/performance.md to this file
  --json          one JSON object on standard output
";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) json: bool,
    pub(crate) markdown: bool,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) only: Option<String>,
    pub(crate) turns: usize,
    pub(crate) threads: usize,
    pub(crate) dir: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read(arguments: &[String]) -> Outcome<Self> {
        let mut options = Self {
            quick: false,
            json: false,
            markdown: false,
            svg: None,
            only: None,
            turns: 0,
            threads: 1,
            dir: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--markdown" => options.markdown = true,
                "--svg" => options.svg = Some(value()?.into()),
                "--only" => options.only = Some(value()?.clone()),
                "--turns" => options.turns = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--dir" => options.dir = Some(value()?.into()),
                _ => return Err(format!("unknown option {argument}\n\n{USAGE}").into()),
            }
        }
        if options.turns == 0 {
            options.turns = if options.quick { 5 } else { 9 };
        }
        Ok(options)
    }

    /// Whether a case of this name is wanted.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| case.starts_with(only.as_str()))
    }
}
