//! From tokens to an expression.

mod atoms;
mod commands;
mod sums;
mod symbols;
mod words;

use self::words::{connects, words};
use super::{
    expr::Expr,
    token::{Token, tokens},
};

/// Nesting of brackets, fractions and powers.
const DEPTH: usize = 40;

/// Reads an answer; `separated`: whether `1,234` is one number.
pub(super) fn parse(text: &str, separated: bool) -> Option<Expr> {
    let spaced;
    let text = match separated {
        true => text,
        false => {
            spaced = text.replace(',', ", ");
            &spaced
        }
    };
    let text = text.trim().trim_end_matches(['.', ',', ';', ':', '?']);
    let mut tokens = tokens(text)?;
    words(&mut tokens);
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    let list = parser.list()?;
    parser.skip();
    (parser.at == parser.tokens.len()).then_some(list)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn skip(&mut self) {
        while self.tokens.get(self.at) == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<&Token> {
        self.skip();
        self.tokens.get(self.at)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: char) -> bool {
        let is = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(is);
        is
    }

    fn takes_command(&mut self, name: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Command(held)) if held == name);
        self.at += usize::from(is);
        is
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let result = if self.depth > DEPTH { None } else { inner(self) };
        self.depth -= 1;
        result
    }

    /// Answers with commas between them; several are a set.
    fn list(&mut self) -> Option<Expr> {
        let mut items = self.items()?;
        match items.len() {
            0 => None,
            1 => items.pop(),
            _ => Some(Expr::Set(items)),
        }
    }

    fn items(&mut self) -> Option<Vec<Expr>> {
        let mut items = Vec::new();
        loop {
            while self.comma() {}
            if self.ends() {
                return Some(items);
            }
            items.push(self.relation()?);
            if !self.comma() {
                return Some(items);
            }
        }
    }

    fn comma(&mut self) -> bool {
        let word = matches!(self.peek(), Some(Token::Text(text)) if connects(text));
        self.at += usize::from(word);
        word || self.takes(',') || self.takes(';')
    }

    /// Whether nothing or a closing bracket follows.
    fn ends(&mut self) -> bool {
        match self.peek() {
            None | Some(Token::Sign(')' | ']' | '}')) => true,
            Some(Token::Command(name)) => name == "}",
            _ => false,
        }
    }
}

fn one(mut items: Vec<Expr>, many: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match items.len() {
        1 => items.remove(0),
        _ => many(items),
    }
}
