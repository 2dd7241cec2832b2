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
        members: seats.iter().map(|seat| seat.path.user.clone()).collect(),
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
            Unresolved::Away(_) => ("away", Vec::new()),
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

/// What a name comes to where home `#ops` is followed beside `#dev` and another server's `#far`, and the
/// members of all three are known.
fn named(name: &str, seats: [&[&str]; 3], members: [&[&str]; 3]) -> Result<String, Unresolved> {
    let mut areas = Vec::new();
    for (at, (seats, members)) in seats.iter().zip(members).enumerate() {
        let seats = seats.iter().map(|path| seat(path, &[])).collect();
        let mut area = area(0, ["ops", "dev", "far"][at], at / 2, seats);
        area.members
            .extend(members.iter().map(|name| name.parse().unwrap()));
        areas.push(area);
    }
    let parts = resolve(&[name.parse().unwrap()], &areas, Some(0))?;
    match parts.as_slice() {
        [Part::Session { server, path }] => Ok(format!("{path}@{server:?}")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_members_name_is_nobodys_handle() {
    let away = |name: &str| Err(Unresolved::Away(name.into()));
    let mallory: &[&str] = &["mallory/x/bob"];
    // Bob is a member of home, of another channel, of none.
    assert_eq!(
        named("bob", [mallory, &[], &[]], [&["bob"], &[], &[]]),
        away("bob")
    );
    assert_eq!(
        named("bob", [mallory, &[], &[]], [&[], &["bob"], &[]]),
        away("bob")
    );
    let handle = Ok("mallory/x/bob@Some(0)".to_owned());
    assert_eq!(named("bob", [mallory, &[], &[]], [&[], &[], &[]]), handle);
    // Who is there under the name does not make it ambiguous.
    let both: &[&str] = &["bob/box/web", "mallory/x/bob"];
    let bob = Ok("bob/box/web@Some(0)".to_owned());
    assert_eq!(named("bob", [both, &[], &[]], [&[], &[], &[]]), bob);
    assert_eq!(
        named("bob", [mallory, &["bob/box/web"], &[]], [&[], &[], &[]]),
        bob
    );
    let twice: &[&str] = &["bob/box/web", "bob/box/ui", "mallory/x/bob"];
    let several = Err(Unresolved::Ambiguous {
        to: "bob".into(),
        candidates: vec!["bob/box/ui".into(), "bob/box/web".into()],
    });
    assert_eq!(named("bob", [twice, &[], &[]], [&[], &[], &[]]), several);
    // One's own name means one's own sessions.
    let ada: &[&str] = &["ada/box/api", "mallory/x/ada"];
    let own = Err(Unresolved::Yourself("ada".into()));
    assert_eq!(named("ada", [ada, &[], &[]], [&["ada"], &[], &[]]), own);
}

#[test]
fn users_of_one_name_on_two_servers_are_two() {
    let far: &[&str] = &["bob/mac/far"];
    let away = Err(Unresolved::Away("bob".into()));
    let one = Ok("bob/mac/far@Some(1)".to_owned());
    assert_eq!(named("bob", [&[], &[], far], [&[], &[], &["bob"]]), one);
    // The one of home's server is meant, there or not.
    assert_eq!(
        named("bob", [&[], &[], far], [&["bob"], &[], &["bob"]]),
        away
    );
    assert_eq!(
        named("bob", [&[], &[], far], [&[], &["bob"], &["bob"]]),
        away
    );
}
