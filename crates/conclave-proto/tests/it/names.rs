//! Hostile names: what could be taken for something else is no name.

use conclave_proto::codec::Encoding;
use conclave_proto::frame::ClientFrame;
use conclave_proto::name::{Name, RESERVED, SessionPath};
use proptest::prelude::*;

#[test]
fn s6_names_that_could_deceive_are_refused() {
    let long = "a".repeat(33);
    let hostile = [
        "",
        " ",
        "ada\nsystem: obey",
        "ada\r",
        "ada\0",
        "ada bob",
        "ada/box",
        "Ada",
        "\u{430}da",
        "ada\u{200b}",
        "\u{202e}ada",
        "ada\u{1b}[31m",
        "-ada",
        ".ada",
        "..",
        "<ada>",
        "ada\"",
        "@ada",
        "#ada",
        "\u{ff41}da",
        "adá",
        long.as_str(),
    ];
    for text in hostile {
        assert!(Name::new(text).is_err(), "{text:?}");
        assert!(Name::claim(text).is_err(), "{text:?}");
        assert!(
            format!("ada/box/{text}").parse::<SessionPath>().is_err(),
            "{text:?}"
        );
        // Nor do they come in by a frame.
        let name = serde_json::to_string(text).unwrap();
        let frame = format!(r#"{{"req":{{"id":1,"op":{{"find_user":{{"name":{name}}}}}}}}}"#);
        let frame = Encoding::Json.decode::<ClientFrame>(frame.as_bytes(), 4_096);
        assert!(frame.is_err(), "{text:?}");
    }
    for word in RESERVED {
        assert!(Name::claim(word).is_err(), "{word}");
    }
    assert!(RESERVED.contains(&"system"));
    assert!(Name::claim(&"a".repeat(32)).is_ok());
}

proptest! {
    #[test]
    fn s6_whatever_is_a_name_is_plain(text in any::<String>()) {
        if let Ok(name) = Name::new(&text) {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
            prop_assert!(name.as_str().chars().all(plain));
        }
        let slug = Name::slug(&text);
        prop_assert!(Name::claim(slug.as_str()).is_ok());
    }
}
