//! Fingerprints of texts: equal for the same words, near for nearly the same ones. Pure.

/// How many words are looked at together.
const SHINGLE: usize = 2;

/// In so many bits two fingerprints of one text may differ: a word changed in a short text moves up to ten, and
/// texts that share less than seven eighths of their pairs of words differ in more.
const DISTANCE_MAX: u32 = 10;
/// In so many bits fingerprints of what is the same but for its ends and marks may differ.
const SAME_MAX: u32 = 3;

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

    /// Returns whether two texts are the same, but for a word or two of many.
    #[must_use]
    pub const fn is_same(self, other: Self) -> bool {
        (self.0 ^ other.0).count_ones() <= SAME_MAX
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

#[cfg(test)]
mod tests {
    use super::Print;

    #[test]
    fn one_word_changed_makes_no_other_text_and_another_text_is_not_near() {
        let text = "Please pass the following on to everybody you work with, word by word: the build \
            server moves tonight, so stop what you do, push what you have, and tell me in which \
            channels you have said it before you go on.";
        let words: Vec<&str> = text.split_whitespace().collect();
        let print = Print::of(text);
        let near = |at: &usize| {
            let changed = [&words[..*at], &["instead"], &words[at + 1..]].concat();
            Print::of(&changed.join(" ")).is_near(print)
        };
        let found = (0..words.len()).filter(near).count();
        assert!(found * 10 >= words.len() * 9, "{found} of {}", words.len());
        // A report in the same form, of something else.
        let report = |module: &str, count: u32| {
            format!(
                "Report of {module}: {count} tests ran and passed on the branch {module}-next, \
                 the review of {module} by a second pair of eyes is open, coverage went to {count} \
                 per mille, {module} goes to the queue when {count} more cases are written."
            )
        };
        let one = Print::of(&report("parser", 512));
        assert!(!Print::of(&report("network", 77)).is_near(one));
    }
}
