//! Functions, roots, brackets and matrices.

use super::{
    Parser, one,
    symbols::{binomial, letters_of},
    words::FUNCTIONS,
};
use crate::math::{
    expr::{Expr, Interval},
    token::Token,
};

impl Parser<'_> {
    pub(super) fn command(&mut self, name: &str) -> Option<Expr> {
        match name {
            "frac" => self.deeper(Self::fraction),
            "sqrt" => self.deeper(Self::root),
            "pi" => Some(Expr::Pi),
            "infty" => Some(Expr::Infinity),
            "emptyset" => Some(Expr::Set(Vec::new())),
            "{" => {
                let items = self.deeper(Self::items)?;
                self.takes_command("}").then_some(Expr::Set(items))
            }
            "boxed" | "fbox" => self.argument(),
            "binom" | "dbinom" | "tbinom" => {
                let (n, k) = (self.argument()?, self.argument()?);
                Some(binomial(n, k))
            }
            "log" | "lg" => {
                let base = match self.takes('_') {
                    true => self.argument()?,
                    false => Expr::number(10),
                };
                Some(Expr::Log(Box::new(base), Box::new(self.function_argument()?)))
            }
            "overline" | "vec" | "hat" | "bar" | "overrightarrow" | "widehat" | "mathbb"
            | "mathcal" => self.argument(),
            "lfloor" => self.between("rfloor", "floor"),
            "lceil" => self.between("rceil", "ceil"),
            "%" => None,
            name => match FUNCTIONS.iter().find(|known| **known == name) {
                Some(function) => self.function(function),
                None => letters_of(name),
            },
        }
    }

    pub(super) fn between(&mut self, close: &str, function: &'static str) -> Option<Expr> {
        let inner = self.deeper(Self::sum)?;
        self.takes_command(close).then_some(Expr::Call(function, Box::new(inner)))
    }

    /// `\sin^2 x` is `(\sin x)^2`, and `\sin^{-1}` the inverse.
    pub(super) fn function(&mut self, name: &'static str) -> Option<Expr> {
        let exponent = if self.takes('^') { Some(self.argument()?) } else { None };
        let argument = Box::new(self.function_argument()?);
        let inverse = exponent == Some(Expr::Negative(Box::new(Expr::number(1))));
        let call = match (name, inverse) {
            ("sin", true) => Expr::Call("arcsin", argument),
            ("cos", true) => Expr::Call("arccos", argument),
            ("tan", true) => Expr::Call("arctan", argument),
            _ => Expr::Call(name, argument),
        };
        Some(match exponent {
            Some(exponent) if !inverse => Expr::power(call, exponent),
            _ => call,
        })
    }

    /// A bracket, or the factors that follow: `\sin 2x`.
    pub(super) fn function_argument(&mut self) -> Option<Expr> {
        if matches!(self.peek(), Some(Token::Sign('('))) {
            return self.deeper(Self::atom);
        }
        let mut factors = vec![self.deeper(Self::power)?];
        while matches!(self.peek(), Some(Token::Letter(_) | Token::Number(_)))
            || matches!(self.peek(), Some(Token::Command(name)) if name == "pi" || name == "theta")
        {
            factors.push(self.deeper(Self::power)?);
        }
        Some(one(factors, Expr::Product))
    }

    pub(super) fn root(&mut self) -> Option<Expr> {
        let degree = match self.takes('[') {
            true => {
                let degree = self.sum()?;
                self.takes(']').then_some(degree)?
            }
            false => Expr::number(2),
        };
        let mut digits = String::new();
        let inner = match self.peek() {
            Some(Token::Number(number)) => {
                digits.push_str(number);
                self.at += 1;
                Expr::Number(digits)
            }
            _ => self.argument()?,
        };
        Some(Expr::power(inner, Expr::quotient(Expr::number(1), degree)))
    }

    /// What stands between round or square brackets.
    pub(super) fn bracket(&mut self, square: bool) -> Option<Expr> {
        let mut items = self.deeper(Self::items)?;
        let closed = match self.take()? {
            Token::Sign(')') => false,
            Token::Sign(']') => true,
            _ => return None,
        };
        match (items.len(), square, closed) {
            (1, false, false) | (1, true, true) => items.pop(),
            (_, false, false) => Some(Expr::Tuple(items)),
            (2, ..) => {
                let high = Box::new(items.pop()?);
                let low = Box::new(items.pop()?);
                Some(Expr::Interval(Interval { low, high, open: [!square, !closed] }))
            }
            (_, true, true) => Some(Expr::Tuple(items)),
            _ => None,
        }
    }

    pub(super) fn matrix(&mut self) -> Option<Expr> {
        let mut rows = vec![Vec::new()];
        loop {
            match self.peek()? {
                Token::End => {
                    self.at += 1;
                    rows.retain(|row: &Vec<Expr>| !row.is_empty());
                    return Some(Expr::Matrix(rows));
                }
                Token::Row => {
                    self.at += 1;
                    rows.push(Vec::new());
                }
                Token::Sign('&') => self.at += 1,
                _ => {
                    let cell = self.deeper(Self::sum)?;
                    rows.last_mut()?.push(cell);
                }
            }
        }
    }
}
