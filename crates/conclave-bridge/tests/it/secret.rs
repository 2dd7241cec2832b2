//! What leaves, and what does not: credentials are found, what only looks like them passes.

use conclave_bridge::outbound::secret::{Rule, scan, scan_args};
use conclave_client::owner::Owner;
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::key::Secret;
use proptest::prelude::*;
use serde_json::json;

/// Tokens are put together here: no scanner of repositories shall take them for real ones.
fn token(prefix: &str, long: usize) -> String {
    const DRAWN: &[u8; 62] = b"q7Zt2KxPm9WvR4cYh8LnB3sJdG6fTaE1uHoXy5CgVkNiQ0wSrMpUlAeFzDbIjO";
    let body = (0..long).map(|n| char::from(DRAWN[(n * 7 + long) % 62]));
    format!("{prefix}{}", body.collect::<String>())
}

fn lines(begin: &str, count: usize) -> String {
    let line = |n| token("", 40 + n);
    let body: Vec<String> = (0..count).map(line).collect();
    format!(
        "-----BEGIN {begin}-----\n{}\n-----END {begin}-----",
        body.join("\n")
    )
}

/// At least forty texts that must not leave, each with its rule.
fn secrets() -> Vec<(Rule, String)> {
    let dash = "-";
    let jwt = format!(
        "{}.{}.{}",
        token("eyJ", 30),
        token("eyJ", 60),
        token("", 43)
    );
    let aws = |prefix: &str| format!("{prefix}{}", token("", 16).to_uppercase());
    let t = token;
    vec![
        (Rule::PrivateKey, lines("PRIVATE KEY", 4)),
        (Rule::PrivateKey, lines("RSA PRIVATE KEY", 12)),
        (Rule::PrivateKey, lines("OPENSSH PRIVATE KEY", 6)),
        (Rule::PrivateKey, lines("EC PRIVATE KEY", 3)),
        (Rule::PrivateKey, lines("PGP PRIVATE KEY BLOCK", 9)),
        (
            Rule::PrivateKey,
            format!("here: {}", lines("PRIVATE KEY", 2).replace('\n', "\\n")),
        ),
        (
            Rule::PrivateKey,
            lines("PRIVATE KEY", 4).replace('\n', "\r\n"),
        ),
        (Rule::PrivateKey, t("b3BlbnNzaC1rZXktdjE", 80)),
        (Rule::PrivateKey, t("AGE-SECRET-KEY-1", 58).to_uppercase()),
        (Rule::Aws, format!("use {} in eu-west-1", aws("AKIA"))),
        (Rule::Aws, format!("aws_access_key_id={}", aws("ASIA"))),
        (Rule::GitHub, t("ghp_", 36)),
        (
            Rule::GitHub,
            format!("remote: https://{}@github.com/a/b", t("ghs_", 36)),
        ),
        (Rule::GitHub, t("gho_", 36)),
        (Rule::GitHub, t("ghu_", 36)),
        (Rule::GitHub, t("ghr_", 36)),
        (Rule::GitHub, t("github_pat_11ABCDE0Y0", 60)),
        (Rule::GitLab, t("glpat-", 20)),
        (Rule::Anthropic, t("sk-ant-api03-", 90)),
        (Rule::OpenAi, t("sk-proj-", 48)),
        (Rule::OpenAi, t("sk-", 48)),
        (Rule::OpenAi, format!("sk-or-v1-{}", "3f9a1c77".repeat(8))),
        (Rule::Slack, format!("xoxb{dash}{}", t("2401-5520-", 24))),
        (Rule::Slack, format!("xoxp{dash}{}", t("2401-5520-", 32))),
        (
            Rule::Slack,
            format!(
                "https://hooks.slack.com/services/{}",
                t("T02A4BC6D/B01X2Y3Z4/", 24)
            ),
        ),
        (Rule::Npm, t("npm_", 36)),
        (Rule::Google, t("AIza", 35)),
        (Rule::Google, t("GOCSPX-", 28)),
        (Rule::Stripe, t("sk_live_", 24)),
        (Rule::Registry, t("pypi-AgEIcHlwaS5vcmc", 60)),
        (Rule::Registry, t("hf_", 34)),
        (Rule::Jwt, jwt.clone()),
        (
            Rule::Jwt,
            format!("curl -H 'Authorization: Bearer {jwt}' https://x.test"),
        ),
        (
            Rule::Url,
            "postgres://app:kR8vQ2mZ@db.internal:5432/prod".into(),
        ),
        (
            Rule::Url,
            "clone https://ana:t0psecr3t@git.internal/x.git".into(),
        ),
        (Rule::Url, "redis://:h9wQx22L@cache:6379".into()),
        (Rule::Assigned, format!("api_key = \"{}\"", t("", 32))),
        (Rule::Assigned, format!("API-Key: {}", t("", 40))),
        (
            Rule::Assigned,
            format!("{{\"client_secret\": \"{}\"}}", t("", 28)),
        ),
        (Rule::Assigned, format!("token={}", t("", 24))),
        (Rule::Assigned, format!("password: {}", t("", 20))),
        (
            Rule::Assigned,
            format!("Authorization: Bearer {}", t("", 40)),
        ),
        (Rule::Assigned, format!("secret => '{}'", t("", 33))),
        (
            Rule::Assigned,
            format!("secret: {}", "4f0c9a77be21d35e".repeat(4)),
        ),
        (
            Rule::Environment,
            "PORT=80\nDB_PASSWORD=hunter22!\nDEBUG=1".into(),
        ),
        (
            Rule::Environment,
            "export SESSION_SECRET='k33p-this-quiet'".into(),
        ),
        // As agents put it: quoted from JSON, from an address, in running text.
        (Rule::GitHub, format!(r"log: ok\n{}\ndone", t("ghp_", 36))),
        (Rule::Aws, format!(r"id\t{}", aws("AKIA"))),
        (
            Rule::Assigned,
            format!(r#""{{\"api_key\": \"{}\"}}""#, t("", 32)),
        ),
        (
            Rule::GitHub,
            format!("https://ci.internal/run?env=GH%3D{}", t("ghp_", 36)),
        ),
        (Rule::Environment, "- `DB_PASSWORD=hunter22`".into()),
        (
            Rule::Environment,
            "it fails with API_KEY=abc123def456, see the log".into(),
        ),
        (Rule::Environment, "> ADMIN_TOKEN=\"q9w8e7r6t5\"".into()),
    ]
}

/// At least forty texts of every day.
const PLAIN: &[&str] = &[
    "deployed 3f2a1c, all green",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 broke it",
    "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "cache key: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "key: 550e8400-e29b-41d4-a716-446655440000",
    "token: 550e8400-e29b-41d4-a716-446655440000 is the request's id",
    "request id 550e8400-e29b-41d4-a716-446655440000 failed",
    "AKIAIOSFODNN7EXAMPLE is the sample of the documentation",
    "aws_access_key_id=AKIAIOSFODNN7EXAMPLE",
    "token: <token>",
    "export GITHUB_TOKEN=<your-token>",
    "GITHUB_TOKEN=${{ secrets.GITHUB_TOKEN }}",
    "API_KEY=$API_KEY",
    "API_KEY=xxxxxxxxxxxxxxxxxxxxxxxx",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "tokens look like ghp_… or github_pat_…, never paste one",
    "sk-ant-... is what an Anthropic key begins with",
    "sk-this-is-a-kebab-case-name-of-a-branch",
    "task-force-for-the-risk-proj-assessment-of-next-quarter",
    "the file begins with -----BEGIN RSA PRIVATE KEY----- and we must not commit it",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE ana@box",
    "public key: Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE",
    "public_key = \"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE\"",
    "fingerprint of the key: SHA256:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE",
    "postgres://user:password@localhost/db",
    "postgres://postgres:postgres@localhost:5432/test",
    "mysql://$USER:$PASS@$HOST/db",
    "https://example.com:8443/a@b",
    "https://github.com/rust-lang/rust/blob/main/compiler/rustc_ast/src/token.rs",
    "the link is https://host/i/ID#1.SECRET.FINGERPRINT, see the docs",
    "see issue #1. It is about tokens",
    "max_tokens: 200000, temperature: 0.7",
    "MAX_TOKENS=200000",
    "the password must have at least 12 characters",
    "password: ask ana, she has it",
    "key: user_profile_settings_last_updated_at",
    "primaryKey: 'created_at_index_2024_by_user'",
    "next_page_token: null",
    "src/auth/token.rs:120: expected `Token`, found `Option<Token>`",
    "let key = compute_cache_key_for_request(&request, now);",
    "secret = load_secret_from_vault(path_of_the_secret)?;",
    "base64 of hello: aGVsbG8gd29ybGQ=",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
    "sha512-9rJ0Yv8W6qT3bQmXo2l5K7c1ZpN4dUeHsGiAfMxLwVyRtBkOjCnEzDhFgSuIaPqX== in package-lock.json",
    "npm_config_registry=https://registry.npmjs.org/ npm ci",
    "eyJ is how the header of a JWT begins",
    "the xoxb- prefix means a bot",
    "AIza is the prefix of Google's keys",
    "that this will work well: some good food from next year, when they come back over here, they said",
];

#[test]
fn every_kind_of_secret_is_found_and_called_by_its_rule() {
    let all = secrets();
    assert!(all.len() >= 40);
    for (rule, text) in all {
        assert_eq!(scan(&text), Some(rule), "{text}");
        let among = format!("Here it is, as you asked:\n\n{text}\n\nplease keep it");
        assert_eq!(scan(&among), Some(rule), "{among}");
    }
}

#[test]
fn what_only_looks_like_a_secret_passes() {
    assert!(PLAIN.len() >= 40);
    for text in PLAIN {
        assert_eq!(scan(text), None, "{text}");
        let among = format!("Done.\n{text}\nWhat next?");
        assert_eq!(scan(&among), None, "{among}");
    }
}

#[test]
fn a_secret_is_found_however_it_is_cut() {
    let whole = token("ghp_", 36);
    let (a, b) = whole.split_at(17);
    let wide: String = whole
        .chars()
        .map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap())
        .collect();
    let cut = [
        format!("{a}\u{200b}{b}"),
        format!("{a}\u{2060}{b}"),
        format!("{a}\u{e0041}{b}"),
        format!("{a}\n{b}"),
        format!("{a}\r\n    {b}"),
        format!("\"{a}\" +\n  \"{b}\""),
        format!("{a}\u{2028}{b}"),
        wide,
    ];
    for text in cut {
        assert_eq!(scan(&text), Some(Rule::GitHub), "{text:?}");
    }
    let url = "postgres://app:kR8v\nQ2mZ@db.internal/prod";
    assert_eq!(scan(url), Some(Rule::Url));
}

#[test]
fn conclaves_own_secrets_are_found() {
    let owner = Owner::create().unwrap();
    let written = owner.recovery().to_string();
    let server = Secret::from_seed(&[3; 32]).server_key();
    let invite = Link::invite(
        "https://host.test",
        LinkSecret::new(std::array::from_fn(|n| u8::try_from(n * 37 % 251).unwrap())),
        &server,
    )
    .to_string();
    for text in [
        written.clone(),
        written.replace('-', " "),
        written.replace('-', ""),
        written.replace('-', "\n"),
        format!("my key is {}, keep it", written.to_lowercase()),
    ] {
        assert_eq!(scan(&text), Some(Rule::RecoveryKey), "{text}");
    }
    assert_eq!(scan(&invite), Some(Rule::Link));
    assert_eq!(scan(&invite.replace("#1.", "#1.\n")), Some(Rule::Link));
    // One character wrong: it is no key, and nothing else either.
    let mut other = written.into_bytes();
    other[0] = if other[0] == b'7' { b'8' } else { b'7' };
    assert_eq!(scan(&String::from_utf8(other).unwrap()), None);
}

#[test]
fn a_value_is_looked_at_as_deep_as_it_goes() {
    let secret = token("", 32);
    let hidden = json!({"key": "config", "value": {"a": [{"api_key": secret}]}});
    assert_eq!(scan_args(hidden.as_object().unwrap()), Some(Rule::Assigned));
    let plain = json!({"key": "config", "value": {"a": [{"colour": "blue"}], "n": 3}});
    assert_eq!(scan_args(plain.as_object().unwrap()), None);
}

#[test]
fn the_longest_text_made_to_cost_time_ends() {
    let hard = [
        "sk\n".repeat(20_000),
        "key=".repeat(16_000),
        "token: \"".repeat(8_000),
        "-----BEGIN".repeat(6_000),
        "a1 ".repeat(20_000),
        "://".repeat(20_000),
        "eyJa.".repeat(13_000),
    ];
    for text in hard {
        assert_eq!(scan(&text), None);
    }
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in ".{0,400}") {
        let _ = scan(&text);
    }

    #[test]
    fn a_token_is_found_wherever_it_stands(before in "[a-z ,.\n]{0,40}", after in "[ ,\n][a-z ]{0,40}") {
        let text = format!("{before} {}{after}", token("ghp_", 36));
        prop_assert_eq!(scan(&text), Some(Rule::GitHub));
    }
}
