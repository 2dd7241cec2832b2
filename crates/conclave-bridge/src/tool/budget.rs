//! What fits into what an agent can spend: headers of everything first, then bodies of the newest. Pure.

/// How one message is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With its body.
    Whole,
    /// As a line that says what it is.
    Header,
    /// Not at all; only counted.
    Left,
}

/// What one message costs, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// As a header.
    pub header: usize,
    /// With its body.
    pub whole: usize,
}

/// Decides how messages are shown, oldest first, for at most `budget` bytes. The newest has a header
/// whatever that costs: who spends too little learns at least that there is something.
#[must_use]
pub fn plan(costs: &[Cost], budget: usize) -> Vec<Form> {
    let mut forms = vec![Form::Left; costs.len()];
    let mut left = budget;
    for (at, (form, cost)) in forms.iter_mut().zip(costs).rev().enumerate() {
        if at > 0 && cost.header > left {
            break;
        }
        left = left.saturating_sub(cost.header);
        *form = Form::Header;
    }
    for (form, cost) in forms.iter_mut().zip(costs).rev() {
        let more = cost.whole.saturating_sub(cost.header);
        if *form == Form::Header && more <= left {
            left -= more;
            *form = Form::Whole;
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::Form::{Header, Left, Whole};
    use super::*;

    fn planned(wholes: &[usize], budget: usize) -> Vec<Form> {
        let cost = |&whole| Cost { header: 10, whole };
        let costs: Vec<Cost> = wholes.iter().map(cost).collect();
        plan(&costs, budget)
    }

    #[test]
    fn the_newest_that_fit_are_whole_and_the_others_are_named_as_far_as_that_goes() {
        let table: [(&[usize], usize, &[Form]); 8] = [
            (&[], 100, &[]),
            (&[50, 50], 100, &[Whole, Whole]),
            (&[50, 50], 99, &[Header, Whole]),
            (&[50, 50, 500], 100, &[Header, Whole, Header]),
            (&[500, 50, 50], 70, &[Header, Header, Whole]),
            (&[50, 50, 50], 20, &[Left, Header, Header]),
            (&[50, 50], 0, &[Left, Header]),
            // A short one costs no more with its body.
            (&[5, 5], 20, &[Whole, Whole]),
        ];
        for (wholes, budget, forms) in table {
            assert_eq!(planned(wholes, budget), forms, "{wholes:?} for {budget}");
        }
    }
}
