//! The launcher's own words on its command line.
#![forbid(unsafe_code)]

use std::ffi::OsString;

pub(super) const USAGE: &str =
    "usage: fairslice-launch [--unit NAME] [--strict] [--argv0 NAME] [--] COMMAND [ARGUMENT…]";
pub(super) const HELP: &str = "\
Runs COMMAND as the service it is: in the policy's slice, with the policy's OOM score.

  --unit NAME   the service; else the unit of this process's cgroup, else COMMAND's file name
  --strict      do not run COMMAND when it cannot be as the policy says
  --argv0 NAME  what COMMAND is told its name is, instead of COMMAND
  --help        show this
  --version     show the version

Exit status: COMMAND's own; 2 usage, 203 COMMAND cannot be executed, and with --strict
206 OOM score, 218 capabilities, 219 cgroup. See fairslice-launch(1).";

/// What is to be run, and how.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) unit: Option<String>,
    pub(super) strict: bool,
    pub(super) argv0: Option<OsString>,
    pub(super) program: OsString,
    /// The program's arguments, without its name.
    pub(super) rest: Vec<OsString>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Request {
    Run(Arguments),
    Help,
    Version,
}

pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Request, lexopt::Error> {
    use lexopt::Arg::{Long, Short, Value};
    let (mut unit, mut strict, mut argv0) = (None, false, None);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("unit") => {
                unit = Some(parser.value()?.into_string().map_err(lexopt::Error::NonUnicodeValue)?);
            }
            Long("strict") => strict = true,
            Long("argv0") => argv0 = Some(parser.value()?),
            Short('h') | Long("help") => return Ok(Request::Help),
            Short('V') | Long("version") => return Ok(Request::Version),
            Value(program) => {
                let rest = parser.raw_args()?.collect();
                return Ok(Request::Run(Arguments { unit, strict, argv0, program, rest }));
            }
            unknown => return Err(unknown.unexpected()),
        }
    }
    Err("no COMMAND".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Request, lexopt::Error> {
        super::parse(lexopt::Parser::from_args(arguments))
    }

    fn run(arguments: &[&str]) -> Arguments {
        match parse(arguments) {
            Ok(Request::Run(arguments)) => arguments,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn the_commands_arguments_are_its_own() {
        let parsed = run(&["--strict", "--unit=local-fs", "--argv0", "-a", "/bin/a", "--strict", "--", "-x"]);
        assert_eq!((parsed.strict, parsed.unit.as_deref()), (true, Some("local-fs")));
        assert_eq!(parsed.argv0.as_deref(), Some("-a".as_ref()));
        assert_eq!(parsed.program, "/bin/a");
        assert_eq!(parsed.rest, ["--strict", "--", "-x"]);
        assert_eq!(run(&["--", "--strict"]).program, "--strict");
        assert_eq!(run(&["a", "--help"]).rest, ["--help"]);
        for wrong in [&[][..], &["--"], &["--strict"], &["--unit"], &["--argv0"], &["--nonsense", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
