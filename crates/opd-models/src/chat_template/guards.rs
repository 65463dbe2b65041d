//! Templates with checks of the values that the engine does not charge before it writes them.
//!
//! The engine charges a template for what it makes, but it writes lists whose items are shared, and
//! so may stand for far more than they hold, before it charges for the text. The operands of `~`, what
//! filters are given and what `set` keeps therefore pass a filter of [`super::bounds`] here.

/// Operators of one tag, and `elif`s of a template: each is a level of the engine's syntax tree.
const OPERATORS: usize = 500;

/// The filter for values that are written.
pub(super) const WRITTEN: &str = "__written";

/// The filter for values of variables.
pub(super) const KEPT: &str = "__kept";

/// The filter for values of a namespace.
pub(super) const HELD: &str = "__held";

/// Filters that write nothing, or check what they write.
const UNCHECKED: [&str; 7] = ["length", "count", "default", "d", "first", "last", "tojson"];

/// Words that end an operand of `~`.
const BETWEEN: [&str; 6] = ["in", "not", "and", "or", "if", "else"];

/// The template with its checks; what is too deep in it otherwise.
pub(super) fn guarded(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len() * 2);
    let (mut rest, mut elifs) = (source, 0);
    while let Some(open) = opening(rest) {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let kept = match tag.as_bytes()[1] {
            b'#' => tag[2..].find("#}").map_or(tag.len(), |end| end + 4),
            b'%' => raw(tag),
            _ => 0,
        };
        if kept > 0 {
            out.push_str(&tag[..kept]);
            rest = &tag[kept..];
            continue;
        }
        let mut writer = Tag::new(&mut out, tag.starts_with("{%"));
        rest = writer.write(tag)?;
        elifs += usize::from(writer.statement == "elif");
        if elifs > OPERATORS {
            return Err(format!("it has more than {OPERATORS} `elif`s"));
        }
    }
    Ok(out + rest)
}

/// Where the next tag or comment begins.
fn opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

/// Bytes of a block of raw text that begins here; 0 where none does.
fn raw(tag: &str) -> usize {
    let Some(mut rest) = behind(&tag[2..], "raw") else { return 0 };
    while let Some(open) = rest.find("{%") {
        rest = &rest[open + 2..];
        if let Some(end) = behind(rest, "endraw") {
            return tag.len() - end.len();
        }
    }
    tag.len()
}

/// What follows a tag that is a name alone.
fn behind<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let unsigned = |text: &'a str| text.strip_prefix(['-', '+']).unwrap_or(text);
    let inner = unsigned(tag).trim_ascii_start().strip_prefix(name)?;
    unsigned(inner.trim_ascii_start()).strip_prefix("%}")
}

/// What stands within one pair of brackets, or within the tag itself.
struct Level {
    /// Where the operand of a possible `~` begins in the output.
    operand: usize,
    /// Whether there is a `~` before it.
    joined: bool,
    /// Where an argument of a filter begins.
    argument: Option<usize>,
}

impl Level {
    fn new(operand: usize, argument: Option<usize>) -> Self {
        Self { operand, joined: false, argument }
    }
}

/// One tag as it is written anew.
struct Tag<'a, 'o> {
    out: &'o mut String,
    close: &'static str,
    statement: &'a str,
    /// The token before.
    last: &'a str,
    levels: Vec<Level>,
    operators: usize,
    /// Where the value of a `set` begins.
    value: Option<usize>,
    /// Whether it goes into a namespace.
    held: bool,
    /// Whether a filter's name was just written.
    filter: bool,
}

impl<'a, 'o> Tag<'a, 'o> {
    fn new(out: &'o mut String, block: bool) -> Self {
        let close = if block { "%}" } else { "}}" };
        let (levels, operators, value) = (Vec::new(), 0, None);
        let (statement, last) = ("", "");
        Self { out, close, statement, last, levels, operators, value, held: false, filter: false }
    }

    /// Writes the tag; what follows it. What the engine refuses is left as it is.
    fn write(&mut self, tag: &'a str) -> Result<&'a str, String> {
        let start = 2 + usize::from(matches!(tag.as_bytes().get(2), Some(b'-' | b'+')));
        self.out.push_str(&tag[..start]);
        self.levels.push(Level::new(self.out.len(), None));
        let mut rest = &tag[start..];
        loop {
            let inner = rest.trim_ascii_start();
            self.out.push_str(&rest[..rest.len() - inner.len()]);
            rest = inner;
            let unsigned = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            if rest.is_empty() || (self.levels.len() == 1 && unsigned.starts_with(self.close)) {
                break;
            }
            let token = &rest[..token(rest)];
            rest = &rest[token.len()..];
            if !self.token(token, rest) {
                self.out.push_str(token);
                self.out.push_str(rest);
                return Ok("");
            }
            self.last = token;
            if self.operators > OPERATORS {
                return Err(format!("a tag has more than {OPERATORS} operators"));
            }
        }
        self.end_operand();
        if let Some(value) = self.value {
            wrap(self.out, value, if self.held { HELD } else { KEPT });
        }
        let end = rest.find(self.close).map_or(rest.len(), |at| at + 2);
        self.out.push_str(&rest[..end]);
        Ok(&rest[end..])
    }

    /// Writes one token; whether the brackets are still in order.
    fn token(&mut self, token: &'a str, rest: &str) -> bool {
        let outermost = self.levels.len() == 1;
        let filter = std::mem::take(&mut self.filter);
        match token {
            "(" | "[" | "{" => {
                self.operators += 1;
                self.out.push_str(token);
                let start = self.out.len();
                let argument = (filter && token == "(").then_some(start);
                self.levels.push(Level::new(start, argument));
            }
            ")" | "]" | "}" => {
                if outermost {
                    return false;
                }
                self.end_argument();
                self.levels.pop();
                self.out.push_str(token);
            }
            "~" => {
                self.operators += 1;
                self.join();
            }
            "," | ":" | "=" => {
                self.end_operand();
                if token == "," {
                    self.end_argument();
                }
                self.begin(token);
                let start = self.out.len();
                if let Some(level) = self.levels.last_mut().filter(|_| token != ":") {
                    level.argument = level.argument.map(|_| start);
                }
                if token == "=" && outermost && self.statement == "set" {
                    self.value = Some(start);
                }
            }
            "<" | ">" | "<=" | ">=" | "==" | "!=" => {
                self.operators += 1;
                self.end_operand();
                self.begin(token);
            }
            "+" | "-" => {
                self.operators += 1;
                match self.operand().is_empty() {
                    true => self.out.push_str(token),
                    false => {
                        self.end_operand();
                        self.begin(token);
                    }
                }
            }
            "|" => {
                self.operators += 1;
                let name = rest.trim_ascii_start();
                if !UNCHECKED.contains(&&name[..word(name)]) {
                    self.out.push('|');
                    self.out.push_str(WRITTEN);
                }
                self.out.push('|');
            }
            _ if word(token) > 0 => self.word(token),
            _ => {
                let literal =
                    token.starts_with(['\'', '"']) || token.as_bytes()[0].is_ascii_digit();
                self.operators += usize::from(!literal);
                self.held |= token == "." && self.value.is_none();
                self.out.push_str(token);
            }
        }
        true
    }

    fn word(&mut self, token: &'a str) {
        let outermost = self.levels.len() == 1;
        let ends = match token {
            _ if self.last == "." => false,
            "not" => self.last != "is",
            "recursive" => outermost && self.statement == "for",
            "as" | "import" | "ignore" | "with" | "without" => {
                outermost && matches!(self.statement, "include" | "import" | "from")
            }
            _ => BETWEEN.contains(&token),
        };
        if self.statement.is_empty() && self.close == "%}" {
            self.statement = token;
            self.begin(token);
        } else if self.last == "|" || (self.statement == "filter" && self.last == "filter") {
            self.filter = true;
            self.out.push_str(token);
        } else if ends {
            self.operators += 1;
            self.end_operand();
            self.begin(token);
        } else {
            self.operators += usize::from(token == "is");
            self.out.push_str(token);
        }
    }

    /// The operand so far.
    fn operand(&self) -> &str {
        self.levels.last().map_or("", |level| self.out[level.operand..].trim_ascii())
    }

    /// Writes a token behind which an operand begins.
    fn begin(&mut self, token: &str) {
        self.out.push_str(token);
        let start = self.out.len();
        if let Some(level) = self.levels.last_mut() {
            level.operand = start;
        }
    }

    /// Writes a `~`.
    fn join(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.joined = true;
        }
        self.end_operand();
        self.begin("~");
        if let Some(level) = self.levels.last_mut() {
            level.joined = true;
        }
    }

    fn end_operand(&mut self) {
        if let Some(level) = self.levels.last_mut()
            && std::mem::take(&mut level.joined)
        {
            wrap(self.out, level.operand, WRITTEN);
        }
    }

    fn end_argument(&mut self) {
        self.end_operand();
        if let Some(argument) = self.levels.last().and_then(|level| level.argument) {
            wrap(self.out, argument, WRITTEN);
        }
    }
}

/// Bytes of the name that a text begins with.
fn word(text: &str) -> usize {
    let starts = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    if !text.as_bytes().first().is_some_and(starts) {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// Bytes of the token that a text begins with.
fn token(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes[0] {
        quote @ (b'\'' | b'"') => {
            let mut escaped = false;
            let end = bytes[1..].iter().position(|byte| {
                let ends = !escaped && *byte == quote;
                escaped = !escaped && *byte == b'\\';
                ends
            });
            end.map_or(text.len(), |end| end + 2)
        }
        b'0'..=b'9' => number(bytes),
        _ if matches!(bytes.get(..2), Some(b"//" | b"**" | b"==" | b"!=" | b">=" | b"<=")) => 2,
        _ => match word(text) {
            0 => text.chars().next().map_or(1, char::len_utf8),
            length => length,
        },
    }
}

/// Bytes of a number up to its point: what stands behind that may be an attribute.
fn number(bytes: &[u8]) -> usize {
    let based = matches!(bytes.get(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B'));
    let mut before = b'0';
    let part = |byte: &&u8| {
        let signed = !based && matches!(before, b'e' | b'E') && matches!(byte, b'+' | b'-');
        before = **byte;
        signed || byte.is_ascii_alphanumeric() || **byte == b'_'
    };
    bytes.iter().take_while(part).count()
}

/// Puts a filter behind what is written since `start`, unless that is nothing or a literal.
fn wrap(out: &mut String, start: usize, filter: &str) {
    let start = out.len() - out[start..].trim_ascii_start().trim_start_matches('*').len();
    let text = out[start..].trim_ascii_end();
    if text.is_empty() || token(text) == text.len() && word(text) == 0 {
        return;
    }
    let end = start + text.len();
    out.insert_str(end, &format!(")|{filter}"));
    out.insert(start, '(');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_or_kept_is_checked() {
        for (source, expected) in [
            ("{{ a.b }} ~ {# ~ #}", "{{ a.b }} ~ {# ~ #}"),
            ("{{ a ~ '~' ~ -b*2 if c }}", "{{ (a)|__written ~ '~' ~ (-b*2)|__written if c }}"),
            ("{{- f(x ~ y) -}}", "{{- f((x)|__written ~ (y)|__written) -}}"),
            ("{{ a == b ~ c }}", "{{ a == (b)|__written ~ (c)|__written }}"),
            ("{{ x is not defined ~ y }}", "{{ (x is not defined)|__written ~ (y)|__written }}"),
            ("{{ x | trim | length }}", "{{ x |__written| trim | length }}"),
            (
                "{{ x|join(y, attribute=z) }}",
                "{{ x|__written|join((y)|__written, attribute=(z)|__written) }}",
            ),
            ("{%- set n.x = [n.x, 1] %}", "{%- set n.x = ([n.x, 1])|__held %}"),
            ("{% set x = a, b -%}", "{% set x = (a, b)|__kept -%}"),
            ("{% set x = 1 %}{% set y %}~{% endset %}", "{% set x = 1 %}{% set y %}~{% endset %}"),
            ("{% filter indent(w) %}", "{% filter indent((w)|__written) %}"),
            ("{% raw %}{{ a ~ b }}{% endraw %}", "{% raw %}{{ a ~ b }}{% endraw %}"),
            (
                "{% for x in y ~ z recursive %}",
                "{% for x in (y)|__written ~ (z)|__written recursive %}",
            ),
            ("{{ {'a': b ~ 1e-5}['a'] }}", "{{ {'a': (b)|__written ~ 1e-5}['a'] }}"),
        ] {
            assert_eq!(guarded(source).as_deref(), Ok(expected));
        }
    }
}
