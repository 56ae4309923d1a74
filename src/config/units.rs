//! Scalars that are quantities: durations, sizes, shares, counts, switches.

use std::time::Duration;

use serde_json::{Value, json};

use super::decode::Scalar;
use super::error::Problem;
use crate::plan::Fraction;

/// `250ms`, `5s`, `1m30s`; at most 5 digits a unit, as in Gateway API.
impl Scalar for Duration {
    const EXPECTED: &'static str = "a duration";

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || {
            let problem = Problem::new(format!("{text:?} is not a duration"));
            match text.parse::<f64>() {
                Ok(_) => problem.hint(format!("add a unit: {text}s, {text}ms")),
                Err(_) => problem.hint("write 250ms, 5s, 1m or 1m30s"),
            }
        };
        let mut rest = text;
        let mut total = Self::ZERO;
        while !rest.is_empty() {
            let (number, after) = digits(rest);
            let unit_length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_length);
            let milliseconds = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                _ => return Err(wrong()),
            };
            if number.is_empty() || number.len() > 5 {
                return Err(wrong());
            }
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = total.saturating_add(Self::from_millis(number * milliseconds));
            rest = after;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(total) }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms))+$", "examples": ["250ms", "5s", "1m"] })
    }
}

/// A number of bytes: `512B`, `64KiB`, `1MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

impl Scalar for Size {
    const EXPECTED: &'static str = "a size";

    fn parse(text: &str) -> Result<Self, Problem> {
        let (number, unit) = digits(text);
        let wrong = || Problem::new(format!("{text:?} is not a size"));
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "" => return Err(wrong().hint(format!("add a unit: {number}B, {number}KiB, {number}MiB"))),
            "K" | "KB" | "kB" | "k" | "kb" => return Err(wrong().hint(format!("write {number}KiB"))),
            "M" | "MB" | "m" | "mb" => return Err(wrong().hint(format!("write {number}MiB"))),
            _ => return Err(wrong().hint("write 512B, 64KiB or 1MiB")),
        };
        let number: usize = number.parse().map_err(|_| wrong().hint("write 512B, 64KiB or 1MiB"))?;
        match number.checked_mul(1 << shift) {
            Some(0) => Err(Problem::new("a size must be more than 0")),
            Some(bytes) if bytes <= isize::MAX as usize => Ok(Self(bytes)),
            _ => Err(Problem::new(format!("{text} is more than there can be"))),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$", "examples": ["64KiB", "1MiB"] })
    }
}

/// A share in percent, exact to 6 decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percent(pub(super) Fraction);

impl Scalar for Percent {
    const EXPECTED: &'static str = "a percentage";
    const UNQUOTED: bool = true;

    fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = || Problem::new(format!("{text:?} is not a percentage"));
        if let Some(number) = text.strip_suffix('%') {
            return Err(wrong().hint(format!("write {}", number.trim())));
        }
        let outside = || Problem::new(format!("{text} is not between 0 and 100"));
        let (whole, rest) = digits(text);
        let decimals = match rest.strip_prefix('.') {
            Some(decimals) if !decimals.is_empty() && digits(decimals).1.is_empty() => decimals,
            None if rest.is_empty() => "",
            _ if text.parse::<f64>().is_ok_and(|number| number < 0.0) => return Err(outside()),
            _ => return Err(wrong().hint("write a number such as 10 or 2.5")),
        };
        if whole.is_empty() {
            return Err(wrong().hint("write a number such as 10 or 2.5"));
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > 6 {
            return Err(Problem::new(format!("{text} has more than 6 decimals"))
                .hint("use `fraction` for shares as small as this"));
        }
        let scale = 10_u32.pow(decimals.len() as u32);
        let whole: u32 = whole.parse().map_err(|_| outside())?;
        let decimals: u32 = if decimals.is_empty() { 0 } else { decimals.parse().map_err(|_| wrong())? };
        let denominator = 100 * scale;
        match whole.checked_mul(scale).and_then(|scaled| scaled.checked_add(decimals)) {
            Some(numerator) if numerator <= denominator => Ok(Self(Fraction { numerator, denominator })),
            _ => Err(outside()),
        }
    }

    fn schema() -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 100 })
    }
}

/// A share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio(pub(super) f64);

impl Scalar for Ratio {
    const EXPECTED: &'static str = "a share from 0 to 1";
    const UNQUOTED: bool = true;

    fn parse(text: &str) -> Result<Self, Problem> {
        if text.ends_with('%') {
            return Err(
                Problem::new(format!("{text:?} is not a share from 0 to 1")).hint("write 0.5 for 50 %")
            );
        }
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
        match text.parse::<f64>() {
            Ok(share) if plain && (0.0..=1.0).contains(&share) => Ok(Self(share)),
            Ok(_) if plain => Err(Problem::new(format!("{text} is not between 0 and 1"))),
            _ => Err(Problem::new(format!("{text:?} is not a share from 0 to 1")).hint("write 0.5")),
        }
    }

    fn schema() -> Value {
        json!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

/// A whole number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole<const LEAST: u32, const MOST: u32>(pub(super) u32);

impl<const LEAST: u32, const MOST: u32> Scalar for Whole<LEAST, MOST> {
    const EXPECTED: &'static str = "a whole number";
    const UNQUOTED: bool = true;

    fn parse(text: &str) -> Result<Self, Problem> {
        if digits(text) != (text, "") {
            return Err(match text.parse::<f64>() {
                Ok(number) if number < 0.0 => outside(text, LEAST, MOST),
                _ => Problem::new(format!("{text:?} is not a whole number")),
            });
        }
        match text.parse() {
            Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => Err(outside(text, LEAST, MOST)),
        }
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

fn outside(text: &str, least: u32, most: u32) -> Problem {
    Problem::new(format!("{text} is not between {least} and {most}"))
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";
    const UNQUOTED: bool = true;

    fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => {
                let problem = Problem::new(format!("expected true or false, found {text:?}"));
                Err(match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => problem.hint("write true"),
                    "no" | "off" | "n" | "false" => problem.hint("write false"),
                    _ => problem,
                })
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

/// The digits that `text` begins with, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, milliseconds) in
            [("250ms", 250), ("5s", 5000), ("1m", 60_000), ("1m30s", 90_000), ("0s", 0), ("2h", 7_200_000)]
        {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "5 s", "5S", "123456s", "5s1", "5µs", "１s"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes) in [("1B", 1), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "0B", "64", "64kib", "64KB", "99999999999999999999MiB", "9999999999999GiB", "1.5MiB"]
        {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ratios_lie_between_0_and_1() {
        for (text, share) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1.0", 1.0)] {
            assert_eq!(Ratio::parse(text), Ok(Ratio(share)), "{text}");
        }
        for text in ["", "1.1", "-0.1", "50%", "half", "1e-3", "inf", "NaN", "0.1.1"] {
            assert!(Ratio::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        for (text, numerator, denominator) in [
            ("10", 10, 100),
            ("2.5", 25, 1000),
            ("2.50", 25, 1000),
            ("0", 0, 100),
            ("100", 100, 100),
            ("100.0", 100, 100),
            ("0.000001", 1, 100_000_000),
            ("99.999999", 99_999_999, 100_000_000),
        ] {
            let share = Percent(Fraction { numerator, denominator });
            assert_eq!(Percent::parse(text), Ok(share), "{text}");
        }
        for text in ["", "-1", "100.1", "101", "ten", "10%", "1e1", ".5", "5.", "0.0000001", "99999999999"] {
            assert!(Percent::parse(text).is_err(), "{text}");
        }
    }
}
