//! What a value looks like: drawn at random, or written by a person.

/// Words that a real credential does not contain, and a sample does.
const SAMPLE: [&str; 14] = [
    "example",
    "placeholder",
    "redacted",
    "changeme",
    "dummy",
    "yourtoken",
    "your_",
    "your-",
    "xxxx",
    "****",
    "1234567890",
    "abcdefgh",
    "sample",
    "notreal",
];

/// Returns whether a value stands for another one: a sample, or of too few different characters.
pub(super) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let mut kinds: Vec<char> = lower.chars().collect();
    let all = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    let few = kinds.len() <= 3 || (all >= 16 && kinds.len() <= 5);
    few || SAMPLE.iter().any(|word| lower.contains(word))
}

/// Returns whether the end of a line could be the beginning of a token that goes on in the next one.
pub(super) fn may_go_on(last: &str) -> bool {
    let prefixes = [
        "akia", "asia", "gh", "glpat", "sk", "xox", "npm_", "aiza", "eyj", "age-", "hf_", "pypi",
    ];
    let lower = last.to_ascii_lowercase();
    let word = lower
        .rsplit(['"', '\'', '=', ':', '(', '`', '#'])
        .next()
        .unwrap_or_default();
    lower.contains("#1.") || lower.contains("://") || prefixes.iter().any(|p| word.starts_with(p))
}

/// The shortest value that is judged by its looks alone.
pub(super) const RANDOM_BYTES_MIN: usize = 20;

/// Returns whether a value looks drawn at random: long, with digits, its kinds of characters well mixed.
pub(super) fn is_random(value: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric();
    let chars: Vec<u8> = value.bytes().filter(plain).collect();
    let digits = chars.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = chars.len() - digits;
    let longest = value
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(str::len)
        .max();
    if chars.len() < RANDOM_BYTES_MIN || digits < 2 || letters < 4 || longest < Some(10) {
        return false;
    }
    let kind = |b: u8| (b.is_ascii_digit(), b.is_ascii_uppercase());
    let turns = chars.windows(2).filter(|two| match two {
        [a, b] => kind(*a) != kind(*b),
        _ => false,
    });
    turns.count() * 5 >= chars.len() && entropy(&chars) >= 3.2
}

/// Returns whether a value is a hash or an id: hexadecimal, or a UUID.
pub(super) fn is_hash(value: &str) -> bool {
    let value = value.rsplit(':').next().unwrap_or(value);
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// Bits a character, by how often each occurs.
fn entropy(chars: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for b in chars {
        counts[usize::from(*b)] += 1;
    }
    let all = f64::from(u32::try_from(chars.len()).unwrap_or(u32::MAX));
    let part = |count: &u32| {
        let p = f64::from(*count) / all;
        -p * p.log2()
    };
    counts.iter().filter(|count| **count > 0).map(part).sum()
}
