//! Powers, units, numbers, letters and groups.

use super::{
    Parser,
    symbols::{subscript, text_atom},
    words::{connects, operand},
};
use crate::math::{expr::Expr, token::Token};

impl Parser<'_> {
    pub(super) fn power(&mut self) -> Option<Expr> {
        self.deeper(|this| {
            let mut base = this.atom()?;
            loop {
                if this.takes('!') {
                    base = Expr::Factorial(Box::new(base));
                } else if this.takes('%') || this.percent() {
                    base = Expr::Percent(Box::new(base));
                } else if this.takes('^') {
                    if !this.takes_degree() {
                        base = Expr::power(base, this.argument()?);
                    }
                } else if this.takes('_') {
                    let index = this.argument()?;
                    base = subscript(base, index)?;
                } else if !(this.takes('\'') || this.takes_command("circ") || this.unit()) {
                    return Some(base);
                }
            }
        })
    }

    /// `\circ` or `{\circ}` behind `^`.
    pub(super) fn takes_degree(&mut self) -> bool {
        let start = self.at;
        let braced = self.takes('{');
        if self.takes_command("circ") && (!braced || self.takes('}')) {
            // Degrees of temperature.
            if let Some(Token::Letter('C' | 'F')) = self.tokens.get(self.at) {
                self.at += 1;
            }
            return true;
        }
        self.at = start;
        false
    }

    /// `\text{percent}`.
    pub(super) fn percent(&mut self) -> bool {
        let Some(Token::Text(text)) = self.peek() else { return false };
        let is = ["percent", "percentage", "pct", "%", "\\%"].contains(&text.trim());
        self.at += usize::from(is);
        is
    }

    /// A unit behind a value, with its power.
    pub(super) fn unit(&mut self) -> bool {
        let start = self.at;
        let Some(Token::Text(text)) = self.peek() else { return false };
        if connects(text) || !operand(&self.tokens[..start]) {
            return false;
        }
        self.at += 1;
        let behind = self.at;
        if self.takes('^') && self.argument().is_none() {
            self.at = behind;
        }
        // `\text{m}/\text{s}`
        let slash = self.at;
        if self.takes('/') && !(matches!(self.peek(), Some(Token::Text(_)))) {
            self.at = slash;
        }
        true
    }

    /// One token or a group, as behind `^` or `\frac`.
    pub(super) fn argument(&mut self) -> Option<Expr> {
        self.skip();
        match self.tokens.get(self.at)? {
            Token::Sign('{') => {
                self.at += 1;
                let inner = self.deeper(Self::sum)?;
                self.takes('}').then_some(inner)
            }
            Token::Sign('(') => self.atom(),
            Token::Sign('-') => {
                self.at += 1;
                Some(Expr::Negative(Box::new(self.deeper(Self::atom)?)))
            }
            _ => self.deeper(Self::atom),
        }
    }

    /// One digit or a group, as behind `\frac`: `\frac12` is a half.
    pub(super) fn part(&mut self, digits: &mut String) -> Option<Expr> {
        if digits.is_empty()
            && let Some(Token::Number(number)) = self.peek()
        {
            digits.push_str(number);
            self.at += 1;
        }
        let Some(first) = digits.chars().next() else { return self.argument() };
        digits.remove(0);
        Some(Expr::number(first))
    }

    pub(super) fn fraction(&mut self) -> Option<Expr> {
        let mut digits = String::new();
        let above = self.part(&mut digits)?;
        let below = match digits.len() {
            0 => self.part(&mut digits)?,
            _ => Expr::number(std::mem::take(&mut digits)),
        };
        // The rest of `\frac{1}23` is a factor.
        let fraction = Expr::quotient(above, below);
        Some(if digits.is_empty() {
            fraction
        } else {
            Expr::Product(vec![fraction, Expr::number(digits)])
        })
    }

    pub(super) fn atom(&mut self) -> Option<Expr> {
        match self.take()? {
            Token::Number(digits) => Some(Expr::Number(digits)),
            Token::Letter(c) => Some(self.letters(c)),
            Token::Text(text) => Some(text_atom(&text)),
            Token::Sign('(') => self.bracket(false),
            Token::Sign('[') => self.bracket(true),
            Token::Sign('{') => {
                // A group that only holds things together.
                let inner = self.deeper(Self::list)?;
                self.takes('}').then_some(inner)
            }
            Token::Sign('|') => {
                let inner = self.deeper(Self::sum)?;
                self.takes('|').then_some(Expr::Call("abs", Box::new(inner)))
            }
            Token::Begin => self.matrix(),
            Token::Command(name) => self.command(&name),
            _ => None,
        }
    }

    /// Letters in a row; `f(x)` is a function of one's own.
    pub(super) fn letters(&mut self, first: char) -> Expr {
        let mut word = String::from(first);
        while let Some(Token::Letter(c)) = self.tokens.get(self.at) {
            let power = self.tokens.get(self.at + 1) == Some(&Token::Sign('^'));
            if power || word.len() > 40 {
                break;
            }
            word.push(*c);
            self.at += 1;
        }
        match word.as_str() {
            "i" => return Expr::Imaginary,
            "e" => return Expr::Euler,
            _ => {}
        }
        let named = ["f", "g", "h", "P", "p"].contains(&word.as_str());
        if named && self.tokens.get(self.at) == Some(&Token::Sign('(')) {
            let start = self.at;
            self.at += 1;
            if let Some(arguments) = self.deeper(Self::items)
                && self.takes(')')
            {
                return Expr::Unknown(word, arguments);
            }
            self.at = start;
        }
        Expr::Symbol(word)
    }
}
