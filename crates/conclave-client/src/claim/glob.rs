//! Patterns of repository paths, and whether two of them can mean the same file. Pure.
//!
//! `*` and `?` stay within a part of a path, `**` is any number of parts. What fits a directory fits all
//! that is below it.

/// Returns whether some path fits both patterns.
#[must_use]
pub fn overlaps(a: &str, b: &str) -> bool {
    let a: Vec<&str> = a.split('/').collect();
    let b: Vec<&str> = b.split('/').collect();
    // `row[j]`: what is left of `a` and `b[j..]` have a path in common. At the end of either one
    // everything below fits.
    let mut row = vec![true; b.len() + 1];
    for part in a.iter().rev() {
        let mut next = vec![true; b.len() + 1];
        for (j, other) in b.iter().enumerate().rev() {
            let (skip_a, skip_b) = (at(&row, j), at(&next, j + 1));
            let fits = match (*part, *other) {
                ("**", _) | (_, "**") => skip_a || skip_b,
                (part, other) => at(&row, j + 1) && parts_overlap(part, other),
            };
            if let Some(place) = next.get_mut(j) {
                *place = fits;
            }
        }
        row = next;
    }
    at(&row, 0)
}

/// Returns the parts that a pattern begins with in so many words: whatever fits it begins with them.
pub fn fixed(pattern: &str) -> impl Iterator<Item = &str> {
    let parts = pattern.split('/');
    parts.take_while(|part| !part.contains(['*', '?']))
}

/// Returns whether some name fits both parts of patterns.
fn parts_overlap(a: &str, b: &str) -> bool {
    let b: Vec<char> = b.chars().collect();
    let a: Vec<char> = a.chars().collect();
    // At the end of `a` only stars may be left of `b`.
    let mut row = vec![true; b.len() + 1];
    for j in (0..b.len()).rev() {
        let fits = at(&row, j + 1) && b.get(j) == Some(&'*');
        if let Some(place) = row.get_mut(j) {
            *place = fits;
        }
    }
    for mine in a.iter().rev() {
        let mut next = vec![at(&row, b.len()) && *mine == '*'; b.len() + 1];
        for (j, other) in b.iter().enumerate().rev() {
            let fits = match (*mine, *other) {
                ('*', _) | (_, '*') => at(&row, j) || at(&next, j + 1),
                (x, y) => at(&row, j + 1) && (x == y || x == '?' || y == '?'),
            };
            if let Some(place) = next.get_mut(j) {
                *place = fits;
            }
        }
        row = next;
    }
    at(&row, 0)
}

fn at(row: &[bool], n: usize) -> bool {
    row.get(n).copied().unwrap_or(false)
}
