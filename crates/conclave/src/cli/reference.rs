//! Tests that docs/cli.md, README.md and every hint say what the program does.
//!
//! The tables of docs/cli.md are made from the command tree and the code table: `CONCLAVE_BLESS=1`
//! rewrites them. Examples are parsed by the parser that users meet.

use super::Cli;
use crate::error::{Exit, Own, exit_of};
use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};
use conclave_proto::reject::Code;
use std::path::{Path, PathBuf};

const EXITS: [(Exit, &str); 8] = [
    (Exit::Failure, "failed in a way no other code names"),
    (Exit::Usage, "the command line or an argument is wrong"),
    (
        Exit::NotFound,
        "it does not exist, or you may not know that it does",
    ),
    (Exit::Refused, "the server understood and refused"),
    (
        Exit::Unauthorised,
        "your key is not accepted, a server or user is not the pinned one, or compared digits differ",
    ),
    (Exit::Offline, "no connection, or no answer in time"),
    (
        Exit::Conflict,
        "something else has the name, the handle or the place",
    ),
    (Exit::Local, "keys, configuration or disk of this machine"),
];

#[test]
fn the_reference_has_every_command_option_and_code_and_nothing_else() {
    // In one test: both write the same page when it is made anew.
    check("commands", &commands());
    check("exit codes", &codes());
}

fn commands() -> String {
    let mut table = "| command | what it does | options |\n|---|---|---|\n".to_owned();
    let mut tree = Cli::command();
    tree.build();
    rows(&tree, "", &mut table);
    table
}

/// A row for each exit code, with every code that ends so.
fn codes() -> String {
    let mut table = "| exit | meaning | codes |\n|---|---|---|\n| 0 | done | |\n".to_owned();
    let mut listed = 0;
    for (exit, meaning) in EXITS {
        let own = Own::ALL.iter().filter(|own| own.exit() == exit);
        let wire = Code::ALL.iter().filter(|code| exit_of(code) == exit);
        let codes: Vec<_> = own
            .map(|own| format!("`{}`", own.as_str()))
            .chain(wire.map(|code| format!("`{code}`")))
            .collect();
        listed += codes.len();
        let codes = codes.join(", ");
        table.push_str(&format!("| {} | {meaning} | {codes} |\n", exit as u8));
    }
    assert_eq!(listed, Own::ALL.len() + Code::ALL.len());
    table
}

#[test]
fn the_command_lines_of_the_readme_and_the_docs_parse() {
    let mut parsed = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for args in text.split("```").skip(1).step_by(2).filter_map(shell) {
            for line in args.lines().flat_map(command_lines) {
                if let Err(error) = Cli::try_parse_from(&line) {
                    assert!(!error.use_stderr(), "{}: {line:?}: {error}", page.display());
                }
                parsed += 1;
            }
        }
    }
    assert!(parsed >= 4, "only {parsed} command lines were found");
}

#[test]
fn commands_that_texts_and_hints_mention_exist() {
    let mut texts: Vec<_> = pages()
        .iter()
        .map(|page| std::fs::read_to_string(page).unwrap())
        .collect();
    texts.extend(Code::ALL.iter().map(|code| code.hint().to_owned()));
    for source in sources() {
        texts.push(std::fs::read_to_string(source).unwrap());
    }
    let mut seen = 0;
    for span in texts.iter().flat_map(|text| text.lines()).flat_map(spans) {
        let words = words(span);
        if let Err(error) = Cli::try_parse_from(&words) {
            let placeholder = words
                .iter()
                .any(|word| word.len() > 1 && is_placeholder(word));
            let fine = match error.kind() {
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                | ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand => true,
                ErrorKind::InvalidValue | ErrorKind::ValueValidation => placeholder,
                _ => false,
            };
            assert!(fine, "`{span}`: {error}");
        }
        seen += 1;
    }
    assert!(seen > 20, "only {seen} were found");
}

#[test]
fn an_id_or_fingerprint_that_begins_with_a_hyphen_is_no_option() {
    let lines = [
        "conclave invite show -9Kx --json",
        "conclave invite revoke -9Kx --server https://chat.example",
        "conclave server trust https://chat.example --fingerprint -Kx",
    ];
    for line in lines {
        let parsed = Cli::try_parse_from(words(line));
        assert!(parsed.is_ok(), "{line}: {parsed:?}");
    }
}

/// A row for each command that can be run.
fn rows(command: &Command, path: &str, table: &mut String) {
    let made_by_clap = |name: &str| matches!(name, "help" | "version");
    for sub in command
        .get_subcommands()
        .filter(|sub| !made_by_clap(sub.get_name()))
    {
        let path = format!("{path} {}", sub.get_name()).trim().to_owned();
        if sub.has_subcommands() {
            rows(sub, &path, table);
        }
        if sub.is_subcommand_required_set() {
            continue;
        }
        let words: Vec<_> = sub.get_positionals().map(ToString::to_string).collect();
        let usage = format!("{path} {}", words.join(" "));
        let alias: String = sub
            .get_visible_aliases()
            .map(|alias| format!(" (`{alias}`)"))
            .collect();
        let options: Vec<_> = sub
            .get_arguments()
            .filter(|arg| !arg.is_positional() && !arg.is_global_set())
            .filter(|arg| !made_by_clap(arg.get_id().as_str()))
            .map(|arg| format!("`{}`", arg.to_string().replace("...", "")))
            .collect();
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let options = options.join(", ");
        let usage = usage.trim().replace("...", "…").replace('|', "\\|");
        table.push_str(&format!("| `{usage}`{alias} | {about} | {options} |\n"));
    }
}

/// Compares a generated part of docs/cli.md, or writes it.
fn check(part: &str, generated: &str) {
    let path = root().join("docs/cli.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let begin =
        format!("<!-- {part}: generated by `CONCLAVE_BLESS=1 cargo test -p conclave` -->\n");
    let end = format!("<!-- end of {part} -->");
    let (before, rest) = page.split_once(&begin).expect("the page has the part");
    let (found, after) = rest.split_once(&end).expect("the part ends");
    if std::env::var_os("CONCLAVE_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{begin}\n{generated}\n{end}{after}")).unwrap();
        return;
    }
    assert_eq!(
        found.trim(),
        generated.trim(),
        "docs/cli.md is stale: run this test with CONCLAVE_BLESS=1"
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.is_file()).collect();
    pages.extend([
        root().join("README.md"),
        root().join("crates/conclave/src/skill/SKILL.md"),
    ]);
    pages.retain(|page| page.extension().is_some_and(|ext| ext == "md"));
    pages
}

/// Where hints are written.
fn sources() -> Vec<PathBuf> {
    let cli = std::fs::read_dir(root().join("crates/conclave/src/cli")).unwrap();
    cli.map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("reference.rs"))
        .collect()
}

/// Returns the text of a fenced block of shell commands.
fn shell(block: &str) -> Option<&str> {
    block.strip_prefix("sh\n")
}

/// Returns what is between backticks in a line and begins with the program's name.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter(|span| {
        span.starts_with("conclave ") && !span.contains(['…', '|']) && !span.contains("COMMAND")
    })
}

fn is_placeholder(word: &str) -> bool {
    word.chars()
        .all(|c| c.is_ascii_uppercase() || c == '-' || c == ':')
}

/// Returns the command lines of this program in a line of shell.
fn command_lines(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let parts = words.split(|word| matches!(word.as_str(), "&&" | "|" | ";"));
    parts.filter_map(ours).collect()
}

fn ours(words: &[String]) -> Option<Vec<String>> {
    let after = |skip: usize| {
        let at = words.iter().position(|word| word == "--")?;
        words.get(at + 1 + skip..)
    };
    let has = |what: &str| words.iter().any(|word| word == what);
    let args = match words.first().map(String::as_str)? {
        "conclave" => words.get(1..)?,
        // Examples of other crates have arguments of their own.
        "cargo" if has("run") && !has("--example") => after(0)?,
        "claude" | "codex" | "gemini" => after(1)?,
        _ => return None,
    };
    let program = std::iter::once("conclave".to_owned());
    Some(program.chain(args.iter().cloned()).collect())
}

/// Splits as a shell does, as far as examples go: quotes, and comments to the end of the line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
