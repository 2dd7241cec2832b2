//! What a person sees before anything works: help, mistakes, exit codes, pages.

use crate::world::Home;

const COMMANDS: [&str; 28] = [
    "up",
    "serve",
    "bridge",
    "key",
    "register",
    "machine",
    "join",
    "leave",
    "perm",
    "channel",
    "acl",
    "invite",
    "who",
    "kick",
    "ban",
    "unban",
    "bans",
    "user",
    "admin",
    "server",
    "list",
    "status",
    "send",
    "tail",
    "skill",
    "audit",
    "completions",
    "man",
];

#[test]
fn help_names_every_command() {
    let help = Home::new().run(&["--help"]).ok().stdout;
    for command in COMMANDS {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} is missing in:\n{help}"
        );
    }
}

#[test]
fn every_command_explains_itself_and_takes_json_and_a_directory() {
    for command in COMMANDS {
        let help = Home::new().run(&[command, "--help"]).ok().stdout;
        assert!(help.contains("Usage: conclave"), "{help}");
        assert!(
            help.contains("--json") && help.contains("--config-dir"),
            "{command}:\n{help}"
        );
    }
}

#[test]
fn an_unknown_command_is_a_usage_error_on_standard_error() {
    let outcome = Home::new().run(&["frobnicate"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("frobnicate"), "{outcome:?}");
}

#[test]
fn a_usage_error_is_one_object_for_programs() {
    Home::new()
        .run(&["frobnicate", "--json"])
        .refused(2, "usage");
}

#[test]
fn the_guide_is_printed_and_installed_where_agents_look() {
    let home = Home::new();
    let guide = home.run(&["skill"]).ok().stdout;
    assert!(guide.starts_with("---\nname: conclave\n"), "{guide}");
    let place = home.run(&["skill", "install", "--json"]).ok().json();
    let installed = std::fs::read_to_string(place["installed"].as_str().unwrap()).unwrap();
    assert_eq!(installed, guide);
}

#[test]
fn installing_the_guide_keeps_what_somebody_else_wrote_there() {
    let home = Home::new();
    let place = home.run(&["skill", "install", "--json"]).ok().json();
    let path = std::path::PathBuf::from(place["installed"].as_str().unwrap());
    std::fs::write(&path, "mine").unwrap();
    home.run(&["skill", "install"]).ok();
    assert_eq!(
        std::fs::read_to_string(path.with_extension("md.bak")).unwrap(),
        "mine"
    );
}

#[test]
fn completions_and_manual_pages_are_made_from_the_same_tree() {
    let home = Home::new();
    for (shell, mark) in [
        ("bash", "complete -F _conclave"),
        ("zsh", "#compdef conclave"),
        ("fish", "complete -c conclave"),
    ] {
        let script = home.run(&["completions", shell]).ok().stdout;
        assert!(
            script.contains(mark) && script.contains("recover"),
            "{shell}"
        );
    }
    assert!(home.run(&["man"]).ok().stdout.contains(".TH conclave"));
    let dir = home.file("pages");
    home.run(&["man", "--dir", &dir]).ok();
    assert!(std::fs::read_dir(dir).unwrap().count() > COMMANDS.len());
}

#[test]
fn bare_conclave_shows_status_and_help_and_starts_nothing() {
    let home = Home::new();
    let outcome = home.run(&[]).ok();
    assert!(outcome.stdout.contains("no server"), "{outcome:?}");
    assert!(outcome.stderr.contains("Usage: conclave"), "{outcome:?}");
    assert!(!home.path().exists(), "looking must not create anything");
}
