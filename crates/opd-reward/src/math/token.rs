//! LaTeX and plain text into tokens; what only changes how an answer looks is left out.

/// Longest answer that is read, in characters.
pub(super) const LONGEST: usize = 2000;

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Digits with at most one point, without separators of thousands.
    Number(String),
    /// A letter, as it stands.
    Letter(char),
    /// `\name`.
    Command(String),
    /// `\text{..}` and the like.
    Text(String),
    /// A sign or bracket.
    Sign(char),
    /// `\begin{..}` of a matrix.
    Begin,
    /// `\end{..}`.
    End,
    /// `\\` within a matrix.
    Row,
    /// White space between what stands before and behind.
    Space,
}

/// Commands that only move things about.
const SPACING: [&str; 33] = [
    "left",
    "right",
    "middle",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "displaystyle",
    "textstyle",
    "limits",
    "quad",
    "qquad",
    "enspace",
    "thinspace",
    "mleft",
    "mright",
    "nobreakspace",
    "bf",
    "rm",
    "it",
    "scriptstyle",
    "boldsymbol",
    "hspace*",
    "medspace",
    "thickspace",
    "mathop",
    "ensuremath",
];

/// Commands whose argument is text.
const TEXT: [&str; 15] = [
    "text",
    "mbox",
    "hbox",
    "textbf",
    "textit",
    "textrm",
    "texttt",
    "textsf",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "operatorname",
    "textnormal",
    "mathtt",
];

/// Tokens of `text`; `None` if it is too long or a bracket of a command is missing.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    if text.chars().count() > LONGEST {
        return None;
    }
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        match c {
            '\\' => at = command(&chars, at + 1, &mut out)?,
            '0'..='9' => at = number(&chars, at, &mut out),
            '.' if chars.get(at + 1).is_some_and(char::is_ascii_digit) => {
                at = number(&chars, at, &mut out);
            }
            c if c.is_whitespace() || c == '~' => {
                out.push(Token::Space);
                at += 1;
            }
            '$' | '€' | '£' | '¥' | '₹' | '₽' | '"' | '°' | '`' => at += 1,
            c if c.is_alphabetic() && !c.is_ascii() => {
                out.push(greek(c));
                at += 1;
            }
            c if c.is_ascii_alphabetic() => {
                out.push(Token::Letter(c));
                at += 1;
            }
            c => {
                symbol(c, &mut out);
                at += 1;
            }
        }
    }
    Some(out)
}

/// Signs that have a spelling in LaTeX.
fn symbol(c: char, out: &mut Vec<Token>) {
    let spelled = match c {
        '−' | '–' | '—' => return out.push(Token::Sign('-')),
        '×' | '·' | '⋅' | '∙' | '∗' => return out.push(Token::Sign('*')),
        '÷' | '∕' => return out.push(Token::Sign('/')),
        '∞' => "infty",
        '≤' => "le",
        '≥' => "ge",
        '≠' => "ne",
        '≈' => "approx",
        '±' => "pm",
        '∪' => "cup",
        '∩' => "cap",
        '∅' => "emptyset",
        '√' => "sqrt",
        '∈' => "in",
        '½' => return fraction("1", "2", out),
        '¼' => return fraction("1", "4", out),
        '¾' => return fraction("3", "4", out),
        '²' => return power("2", out),
        '³' => return power("3", out),
        c => return out.push(Token::Sign(c)),
    };
    out.push(Token::Command(spelled.to_owned()));
}

fn fraction(above: &str, below: &str, out: &mut Vec<Token>) {
    out.push(Token::Command("frac".into()));
    out.extend([Token::Sign('{'), Token::Number(above.into()), Token::Sign('}')]);
    out.extend([Token::Sign('{'), Token::Number(below.into()), Token::Sign('}')]);
}

fn power(of: &str, out: &mut Vec<Token>) {
    out.extend([Token::Sign('^'), Token::Number(of.into())]);
}

fn greek(c: char) -> Token {
    match c {
        'π' => Token::Command("pi".into()),
        'θ' => Token::Command("theta".into()),
        'α' => Token::Command("alpha".into()),
        'β' => Token::Command("beta".into()),
        'λ' => Token::Command("lambda".into()),
        c => Token::Letter(c),
    }
}

/// A number from `at` on; where it ends.
///
/// `1,234,567`, `1 234` and `1{,}234` are one number where every group after the first has three
/// digits.
fn number(chars: &[char], mut at: usize, out: &mut Vec<Token>) -> usize {
    let digits = |from: usize| chars[from..].iter().take_while(|c| c.is_ascii_digit()).count();
    let first = digits(at);
    let mut text: String = chars[at..at + first].iter().collect();
    at += first;
    if (1..=3).contains(&first) && !text.starts_with('0') {
        while let Some((skip, group)) = group(&chars[at..]) {
            text.push_str(&group);
            at += skip;
        }
    }
    if chars.get(at) == Some(&'.') && chars.get(at + 1).is_some_and(char::is_ascii_digit) {
        let n = digits(at + 1);
        text.push('.');
        text.extend(&chars[at + 1..at + 1 + n]);
        at += 1 + n;
    } else if chars.get(at) == Some(&'.') && first > 0 {
        // A full stop, or the point of `5.`.
        at += 1;
    }
    out.push(Token::Number(text));
    at
}

/// A separator and three digits, and no fourth: how many characters, and the digits.
fn group(chars: &[char]) -> Option<(usize, String)> {
    const SEPARATORS: [&str; 5] = ["{,}", ",\\!", "\\,", ",", "\\ "];
    let separator =
        SEPARATORS.iter().find(|s| s.chars().enumerate().all(|(i, c)| chars.get(i) == Some(&c)))?;
    let skip = separator.chars().count();
    let digits: String = chars[skip..].iter().take_while(|c| c.is_ascii_digit()).take(4).collect();
    (digits.len() == 3).then_some((skip + 3, digits))
}

/// What follows a backslash.
fn command(chars: &[char], at: usize, out: &mut Vec<Token>) -> Option<usize> {
    let name: String = chars[at..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
    let behind = at + name.len();
    if name.is_empty() {
        match chars.get(at) {
            Some('\\') => out.push(Token::Row),
            Some('%') => out.push(Token::Sign('%')),
            Some('{') => out.push(Token::Command("{".into())),
            Some('}') => out.push(Token::Command("}".into())),
            Some('|') => out.push(Token::Sign('|')),
            Some('$' | '(' | ')' | '[' | ']') => {}
            Some(_) => out.push(Token::Space),
            None => {}
        }
        return Some(at + 1);
    }
    if SPACING.contains(&name.as_str()) {
        // `\left.` has no bracket.
        let bare = ["left", "right"].contains(&name.as_str()) && chars.get(behind) == Some(&'.');
        return Some(behind + usize::from(bare));
    }
    if TEXT.contains(&name.as_str()) {
        let start = behind + chars[behind..].iter().take_while(|c| c.is_whitespace()).count();
        if chars.get(start) != Some(&'{') {
            return Some(behind);
        }
        let end = closing(chars, start)?;
        out.push(Token::Text(chars[start + 1..end].iter().collect()));
        return Some(end + 1);
    }
    match name.as_str() {
        "begin" | "end" => {
            let open = chars.get(behind) == Some(&'{');
            let mut end = if open { closing(chars, behind)? } else { return None };
            out.push(if name == "begin" { Token::Begin } else { Token::End });
            // The columns of an array.
            if name == "begin" && chars.get(end + 1) == Some(&'{') {
                end = closing(chars, end + 1)?;
            }
            return Some(end + 1);
        }
        "dfrac" | "tfrac" | "cfrac" => out.push(Token::Command("frac".into())),
        "cdot" | "times" | "ast" => out.push(Token::Sign('*')),
        "div" => out.push(Token::Sign('/')),
        "lbrace" => out.push(Token::Command("{".into())),
        "rbrace" => out.push(Token::Command("}".into())),
        "lvert" | "rvert" | "vert" | "mid" => out.push(Token::Sign('|')),
        "lt" => out.push(Token::Sign('<')),
        "gt" => out.push(Token::Sign('>')),
        "leq" | "leqslant" => out.push(Token::Command("le".into())),
        "geq" | "geqslant" => out.push(Token::Command("ge".into())),
        "neq" => out.push(Token::Command("ne".into())),
        "varnothing" => out.push(Token::Command("emptyset".into())),
        "lbrack" => out.push(Token::Sign('[')),
        "rbrack" => out.push(Token::Sign(']')),
        "imath" => out.push(Token::Letter('i')),
        "degree" => {}
        _ => out.push(Token::Command(name)),
    }
    Some(behind)
}

/// Where the bracket that opens at `open` closes.
pub(super) fn closing(chars: &[char], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in chars.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}
