//! Debian's ordering of package versions (deb-version(7)).

use std::cmp::Ordering;

/// Orders two versions as `dpkg --compare-versions` does.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (epoch_a, upstream_a, revision_a) = split(a);
    let (epoch_b, upstream_b, revision_b) = split(b);
    digits(epoch_a, epoch_b)
        .then_with(|| part(upstream_a, upstream_b))
        .then_with(|| part(revision_a, revision_b))
}

/// Epoch, upstream version and revision; an absent revision compares as the empty one.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Alternating runs of non-digits and digits.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = run(a, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = run(b, |c| !c.is_ascii_digit());
        let (number_a, next_a) = run(rest_a, |c| c.is_ascii_digit());
        let (number_b, next_b) = run(rest_b, |c| c.is_ascii_digit());
        let order = text(text_a, text_b).then_with(|| digits(number_a, number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

fn run(s: &str, member: impl Fn(char) -> bool) -> (&str, &str) {
    s.split_at(s.find(|c| !member(c)).unwrap_or(s.len()))
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn text(a: &str, b: &str) -> Ordering {
    let rank = |c: Option<char>| match c {
        Some('~') => (0, '~'),
        None => (1, '\0'),
        Some(c) if c.is_ascii_alphabetic() => (2, c),
        Some(c) => (3, c),
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        let order = rank(x).cmp(&rank(y));
        if order.is_ne() || x.is_none() {
            return order;
        }
    }
}

/// Numbers of any length.
fn digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kernels() {
        let mut versions = [
            "6.12.117-1~deb12u1",
            "6.12.9-1~deb12u1",
            "6.12.117-1",
            "6.12.12-1~bpo12+1",
            "6.12~rc7-1~exp1",
            "6.12.117-1~deb12u2",
        ];
        versions.sort_by(|a, b| compare(a, b));
        assert_eq!(
            versions,
            [
                "6.12~rc7-1~exp1",
                "6.12.9-1~deb12u1",
                "6.12.12-1~bpo12+1",
                "6.12.117-1~deb12u1",
                "6.12.117-1~deb12u2",
                "6.12.117-1",
            ]
        );
    }

    fn dpkg(a: &str, relation: &str, b: &str) -> bool {
        Command::new("dpkg")
            .args(["--compare-versions", a, relation, b])
            .status()
            .unwrap()
            .success()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn agrees_with_dpkg(
            a in "([0-2]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?",
            b in "([0-2]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,4})?",
        ) {
            let relation = match compare(&a, &b) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            prop_assert!(dpkg(&a, relation, &b), "{} {} {}", a, relation, b);
        }

        #[test]
        fn arbitrary_text_is_antisymmetric(a in "\\PC{0,12}", b in "\\PC{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
