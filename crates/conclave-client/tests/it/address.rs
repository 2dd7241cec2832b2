//! Whom a target means: a table.

use conclave_client::address::{Area, Part, Seat, To, Unresolved, is_mentioned, mentions, resolve};
use conclave_proto::name::SessionPath;

fn path(text: &str) -> SessionPath {
    text.parse().unwrap()
}

fn seat(text: &str, groups: &[&str]) -> Seat {
    Seat {
        path: path(text),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
    }
}

fn area(key: u8, name: &str, server: usize, seats: Vec<Seat>) -> Area<u8> {
    Area {
        key,
        name: name.into(),
        exact: format!("{name}~0{key}"),
        server,
        me: Some(path("ada/box/api")),
        seats,
    }
}

/// Home `#ops`, `#dev` beside it, and another server's `#ops`.
fn areas() -> Vec<Area<u8>> {
    vec![
        area(
            1,
            "ops",
            0,
            vec![
                seat("ada/box/api", &["reviewers", "own"]),
                seat("ada/desk/docs", &[]),
                seat("bob/box/web", &["eng/backend", "reviewers"]),
                seat("eve/box/ui", &["eng"]),
            ],
        ),
        area(
            2,
            "dev",
            0,
            vec![
                seat("bob/box/web", &["leads"]),
                seat("bob/box/shell", &[]),
                seat("carl/mac/ui", &["english"]),
            ],
        ),
        area(3, "ops", 1, vec![seat("dan/mac/far", &[])]),
    ]
}

/// What targets come to, in short: `1:everybody>n`, `1:eng+x>n` or a path.
fn means(targets: &[&str]) -> Result<Vec<String>, Unresolved> {
    let targets: Vec<To> = targets.iter().map(|text| text.parse().unwrap()).collect();
    let parts = resolve(&targets, &areas(), Some(0))?;
    let short = |part: Part<u8>| match part {
        Part::Channel {
            key,
            to,
            recipients,
            ..
        } => {
            let to: Vec<&str> = to.iter().map(|group| group.as_str()).collect();
            let to = if to.is_empty() {
                "everybody".into()
            } else {
                to.join("+")
            };
            let who: Vec<String> = recipients
                .iter()
                .map(|path| path.handle.to_string())
                .collect();
            format!("{key}:{to}>{}", who.join(","))
        }
        Part::Session { server, path } => format!("{path}@{server:?}"),
    };
    Ok(parts.into_iter().map(short).collect())
}

#[test]
fn every_form_means_whom_it_says_and_each_place_once() {
    let table: &[(&[&str], &[&str])] = &[
        (&["docs"], &["ada/desk/docs@Some(0)"]),
        // A user with one session here, beside oneself.
        (&["ada"], &["ada/desk/docs@Some(0)"]),
        // The home channel goes before the others: there eve's is the only `ui`.
        (&["ui"], &["eve/box/ui@Some(0)"]),
        (&["bob"], &["bob/box/web@Some(0)"]),
        (&["carl"], &["carl/mac/ui@Some(0)"]),
        (&["far"], &["dan/mac/far@Some(1)"]),
        (&["bob/box/web"], &["bob/box/web@Some(0)"]),
        // Nobody has to be there for its mailbox to be.
        (&["zoe/box/gone"], &["zoe/box/gone@None"]),
        (&["@reviewers"], &["1:reviewers>web"]),
        (&["@eng"], &["1:eng>web,ui"]),
        (&["@eng/backend"], &["1:eng/backend>web"]),
        (&["#dev"], &["2:everybody>web,shell,ui"]),
        (&["#dev@leads"], &["2:leads>web"]),
        (&["#ops~03"], &["3:everybody>far"]),
        (&["#dev~02"], &["2:everybody>web,shell,ui"]),
        (&["#dev@all"], &["2:everybody>web,shell,ui"]),
        (&["*"], &["1:everybody>docs,web,ui"]),
        (&["@all"], &["1:everybody>docs,web,ui"]),
        (&["@eng", "@reviewers"], &["1:eng+reviewers>web,ui"]),
        (&["@eng", "*", "@eng/backend"], &["1:everybody>docs,web,ui"]),
        (&["#dev@leads", "@eng"], &["2:leads>web", "1:eng>web,ui"]),
        (
            &["bob", "bob/box/web", "web", "@eng"],
            &["1:eng>web,ui", "bob/box/web@Some(0)"],
        ),
    ];
    for (targets, wanted) in table {
        assert_eq!(means(targets).unwrap(), *wanted, "{targets:?}");
    }
}

#[test]
fn what_fits_nobody_or_several_says_what_is_there() {
    let table: &[(&str, &str, &[&str])] = &[
        ("@reviwers", "not_found", &["@reviewers"]),
        // Only the sender carries it, or only a longer name does.
        ("@own", "not_found", &["@eng"]),
        ("@en", "not_found", &["@eng"]),
        ("#dev@eng", "not_found", &["@english", "@leads"]),
        ("@web", "not_found", &["bob/box/web"]),
        ("#dve", "not_found", &["#dev"]),
        ("#ops", "ambiguous", &["#ops~01", "#ops~03"]),
        ("wbe", "not_found", &["bob/box/web"]),
        ("dev", "not_found", &["#dev"]),
        ("api", "yourself", &[]),
        ("ada/box/api", "yourself", &[]),
    ];
    for (target, kind, candidates) in table {
        let error = means(&["docs", target]).unwrap_err();
        let (got, all) = match &error {
            Unresolved::NotFound { candidates, .. } => ("not_found", candidates.clone()),
            Unresolved::Ambiguous { candidates, .. } => ("ambiguous", candidates.clone()),
            Unresolved::Yourself(_) => ("yourself", Vec::new()),
            Unresolved::NoHome(_) => ("no_home", Vec::new()),
        };
        assert_eq!(got, *kind, "{target}: {error}");
        for wanted in *candidates {
            assert!(all.iter().any(|name| name == wanted), "{target}: {all:?}");
        }
    }
    // Without a home channel nothing is picked.
    let all = ["@eng".parse().unwrap()];
    assert_eq!(
        resolve(&all, &areas(), None).unwrap_err(),
        Unresolved::NoHome("@eng".into())
    );
    // In the home channel both of carl and eve would be a `ui`.
    let mut twins = areas();
    let carl = twins[1].seats[2].clone();
    twins[0].seats.push(carl);
    let ui = ["ui".parse().unwrap()];
    let both = vec!["carl/mac/ui".to_owned(), "eve/box/ui".to_owned()];
    assert_eq!(
        resolve(&ui, &twins, Some(0)).unwrap_err(),
        Unresolved::Ambiguous {
            to: "ui".into(),
            candidates: both
        }
    );
}

#[test]
fn what_is_no_target_is_refused() {
    for text in [
        "",
        "@",
        "#",
        "a b",
        "Bob",
        "a/b",
        "a/b/c/d",
        "@all/x",
        "#Ops",
        "#ops@",
        "@a/b/c/d/e",
    ] {
        assert!(text.parse::<To>().is_err(), "{text:?}");
    }
    for text in ["*", "bob", "a/b/c", "@eng/x", "#ops", "#ops~01", "#ops@eng"] {
        assert_eq!(
            text.parse::<To>().unwrap().to_string(),
            text.replace('*', "@all")
        );
    }
}

#[test]
fn a_text_mentions_handles_and_sessions_and_nothing_else() {
    let table: &[(&str, &[&str])] = &[
        ("@web look", &["web"]),
        ("see (@web), @bob/box/web.", &["web", "bob/box/web"]),
        ("mail bob@example.org", &[]),
        ("@web @web @web", &["web"]),
        ("@Bob @ @. @a/b @-x", &[]),
        ("é@web", &[]),
        ("done.@web-", &["web"]),
    ];
    for (text, wanted) in table {
        assert_eq!(mentions(text), *wanted, "{text}");
    }
    let many: String = (0..40).map(|n| format!("@n{n} ")).collect();
    assert_eq!(mentions(&many).len(), 16);
    let web = path("bob/box/web");
    for (word, means) in [
        ("web", true),
        ("bob/box/web", true),
        ("bob", false),
        ("we", false),
    ] {
        assert_eq!(is_mentioned(&[word.to_owned()], &web), means, "{word}");
    }
}
