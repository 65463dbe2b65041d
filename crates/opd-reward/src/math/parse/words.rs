//! Words among the tokens.

use super::Token;

/// Functions that are known by name.
pub(super) const FUNCTIONS: [&str; 15] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
    "ln", "exp", "log",
];

/// Words for units that are left out behind a value.
const UNITS: [&str; 70] = [
    "cm", "mm", "km", "dm", "kg", "mg", "lb", "lbs", "ft", "in", "mi", "yd", "hr", "hrs", "min",
    "mins", "sec", "secs", "meter", "meters", "metre", "metres", "inch", "inches", "foot", "feet",
    "mile", "miles", "yard", "yards", "gram", "grams", "liter", "liters", "litre", "litres",
    "second", "seconds", "minute", "minutes", "hour", "hours", "day", "days", "week", "weeks",
    "month", "months", "year", "years", "degree", "degrees", "dollar", "dollars", "cent", "cents",
    "unit", "units", "square", "cubic", "mph", "kmh", "students", "apples", "points", "people",
    "ways", "books", "times", "pounds",
];

/// Takes rows of letters that mean something for what they mean.
pub(super) fn words(tokens: &mut Vec<Token>) {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let word: String = tokens[at..].iter().map_while(letter).collect();
        if word.len() < 2 {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let n = word.chars().count();
        let behind_value = operand(&out);
        let known = match word.to_lowercase().as_str() {
            "and" | "or" => Some(Token::Sign(',')),
            "pi" => Some(Token::Command("pi".into())),
            "sqrt" => Some(Token::Command("sqrt".into())),
            "frac" => Some(Token::Command("frac".into())),
            "infty" | "infinity" | "inf" | "oo" => Some(Token::Command("infty".into())),
            "percent" | "percentage" | "pct" if behind_value => Some(Token::Sign('%')),
            unit if behind_value && UNITS.contains(&unit) => Some(Token::Text(unit.to_owned())),
            name => FUNCTIONS.contains(&name).then(|| Token::Command(name.to_owned())),
        };
        match known {
            Some(token) => out.push(token),
            None => out.extend_from_slice(&tokens[at..at + n]),
        }
        at += n;
    }
    *tokens = out;
}

fn letter(token: &Token) -> Option<char> {
    match token {
        Token::Letter(c) => Some(*c),
        _ => None,
    }
}

/// Whether the last token ends a value.
pub(super) fn operand(tokens: &[Token]) -> bool {
    let last = tokens.iter().rev().find(|token| **token != Token::Space);
    match last {
        Some(Token::Number(_) | Token::Sign(')' | ']' | '}' | '%' | '|') | Token::Text(_)) => true,
        Some(Token::Command(name)) => name == "pi",
        _ => false,
    }
}

/// Whether words stand for a comma.
pub(super) fn connects(text: &str) -> bool {
    let word = text.trim().trim_matches(',').trim();
    word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or")
}
