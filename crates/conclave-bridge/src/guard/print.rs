//! Fingerprints of texts: equal for the same words, near for nearly the same ones. Pure.

/// How many words are looked at together.
const SHINGLE: usize = 3;

/// In so many bits two fingerprints of one text may differ.
const DISTANCE_MAX: u32 = 3;

/// The most words that count; what comes behind them changes nothing.
const WORDS_MAX: usize = 12_000;

/// A 64-bit similarity hash over groups of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print(u64);

impl Print {
    /// Takes a text's fingerprint: of its letters and digits alone, in any case.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let words: Vec<u64> = words(text).take(WORDS_MAX).collect();
        let mut votes = [0_i32; 64];
        let mut vote = |hash: u64| {
            for (bit, count) in votes.iter_mut().enumerate() {
                *count += if hash >> bit & 1 == 1 { 1 } else { -1 };
            }
        };
        match words.len() {
            0..SHINGLE => vote(words.iter().fold(0, |all, word| mix(all ^ word))),
            _ => words.windows(SHINGLE).for_each(|group| {
                vote(
                    group
                        .iter()
                        .fold(0, |all, word| mix(all.rotate_left(7) ^ word)),
                );
            }),
        }
        let bits = votes.iter().enumerate();
        Self(bits.fold(0, |all, (bit, count)| all | u64::from(*count > 0) << bit))
    }

    /// Returns whether two texts are nearly the same.
    #[must_use]
    pub const fn is_near(self, other: Self) -> bool {
        (self.0 ^ other.0).count_ones() <= DISTANCE_MAX
    }
}

/// Returns how many characters of a text count for its fingerprint.
#[must_use]
pub fn weight(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

/// Returns a hash of each word; a character of a script without blanks is a word.
fn words(text: &str) -> impl Iterator<Item = u64> {
    let is_word_alone = |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}');
    let mut letters = text.chars().flat_map(char::to_lowercase).peekable();
    std::iter::from_fn(move || {
        while letters.next_if(|c| !c.is_alphanumeric()).is_some() {}
        let first = letters.next()?;
        let mut hash = mix(u64::from(u32::from(first)));
        if is_word_alone(first) {
            return Some(hash);
        }
        while let Some(next) = letters.next_if(|c| c.is_alphanumeric() && !is_word_alone(*c)) {
            hash = mix(hash.rotate_left(5) ^ u64::from(u32::from(next)));
        }
        Some(hash)
    })
}

/// Spreads every bit over all others.
const fn mix(value: u64) -> u64 {
    let mut v = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    v = (v ^ (v >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    v = (v ^ (v >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    v ^ (v >> 31)
}
