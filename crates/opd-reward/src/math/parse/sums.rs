//! Relations, sums and products.

use super::{Parser, one, words::connects};
use crate::math::{
    expr::{Expr, Order},
    token::Token,
};

impl Parser<'_> {
    pub(super) fn relation(&mut self) -> Option<Expr> {
        let first = self.union()?;
        let mut rest = Vec::new();
        while let Some(order) = self.order() {
            rest.push((order, self.union()?));
        }
        if rest.is_empty() {
            return Some(first);
        }
        Some(Expr::Relation(Box::new(first), rest))
    }

    pub(super) fn order(&mut self) -> Option<Order> {
        let order = match self.peek()? {
            Token::Sign('=') => Order::Equal,
            Token::Sign('<') => Order::Less,
            Token::Sign('>') => Order::Greater,
            Token::Command(name) => match name.as_str() {
                "le" => Order::LessEqual,
                "ge" => Order::GreaterEqual,
                "ne" => Order::NotEqual,
                "approx" | "in" | "equiv" => Order::Equal,
                _ => return None,
            },
            _ => return None,
        };
        self.at += 1;
        match (order, self.tokens.get(self.at)) {
            (Order::Less, Some(Token::Sign('='))) => {
                self.at += 1;
                Some(Order::LessEqual)
            }
            (Order::Greater, Some(Token::Sign('='))) => {
                self.at += 1;
                Some(Order::GreaterEqual)
            }
            (order, _) => Some(order),
        }
    }

    pub(super) fn union(&mut self) -> Option<Expr> {
        let mut parts = vec![self.sum()?];
        while self.takes_command("cup") {
            parts.push(self.sum()?);
        }
        if parts.len() == 1 { parts.pop() } else { Some(Expr::Union(parts)) }
    }

    pub(super) fn sum(&mut self) -> Option<Expr> {
        self.deeper(|this| {
            let mut terms = vec![this.product()?];
            loop {
                if this.takes('+') {
                    terms.push(this.product()?);
                } else if this.takes('-') {
                    terms.push(Expr::Negative(Box::new(this.product()?)));
                } else if this.takes_command("pm") || this.takes_command("mp") {
                    let before = one(std::mem::take(&mut terms), Expr::Sum);
                    let behind = this.product()?;
                    terms.push(Expr::PlusMinus(Box::new(before), Box::new(behind)));
                } else {
                    return Some(one(terms, Expr::Sum));
                }
            }
        })
    }

    pub(super) fn product(&mut self) -> Option<Expr> {
        if self.takes('-') {
            return Some(Expr::Negative(Box::new(self.deeper(Self::product)?)));
        }
        if self.takes('+') {
            return self.deeper(Self::product);
        }
        if self.takes_command("pm") {
            let behind = self.deeper(Self::product)?;
            return Some(Expr::PlusMinus(Box::new(Expr::number(0)), Box::new(behind)));
        }
        let mut factors = vec![self.mixed()?];
        loop {
            if self.takes('*') {
                if self.takes('*') {
                    let exponent = self.signed()?;
                    let base = factors.pop()?;
                    factors.push(Expr::power(base, exponent));
                } else {
                    factors.push(self.signed()?);
                }
            } else if self.takes('/') || self.takes(':') {
                let above = one(std::mem::take(&mut factors), Expr::Product);
                factors.push(Expr::quotient(above, self.signed()?));
            } else if self.takes_command("pmod") || self.takes_command("bmod") {
                return None;
            } else if self.goes_on() {
                factors.push(self.mixed()?);
            } else {
                return Some(one(factors, Expr::Product));
            }
        }
    }

    /// A factor that may have a sign.
    pub(super) fn signed(&mut self) -> Option<Expr> {
        if self.takes('-') {
            return Some(Expr::Negative(Box::new(self.deeper(Self::signed)?)));
        }
        self.mixed()
    }

    /// A factor, or a whole number with a fraction behind it.
    pub(super) fn mixed(&mut self) -> Option<Expr> {
        let start = self.at;
        let whole = self.power()?;
        let Expr::Number(digits) = &whole else { return Some(whole) };
        if digits.contains('.') || self.at != start + 1 + self.spaces(start) {
            return Some(whole);
        }
        let behind = self.at;
        if matches!(self.peek(), Some(Token::Command(name)) if name == "frac") {
            let fraction = self.power()?;
            let plain = matches!(&fraction, Expr::Quotient(above, below)
                if matches!((above.as_ref(), below.as_ref()), (Expr::Number(_), Expr::Number(_))));
            if plain {
                return Some(Expr::Sum(vec![whole, fraction]));
            }
            self.at = behind;
            return Some(whole);
        }
        // 2 1/2
        let rest: Vec<&Token> = self.tokens[behind.min(self.tokens.len())..]
            .iter()
            .filter(|t| **t != Token::Space)
            .take(4)
            .collect();
        if let [Token::Number(above), Token::Sign('/'), Token::Number(below), rest @ ..] =
            rest.as_slice()
            && !matches!(rest, [Token::Sign('^')])
        {
            let fraction = Expr::quotient(Expr::number(above), Expr::number(below));
            for _ in 0..3 {
                self.take();
            }
            return Some(Expr::Sum(vec![whole, fraction]));
        }
        Some(whole)
    }

    /// White space at `at`.
    pub(super) fn spaces(&self, at: usize) -> usize {
        self.tokens[at..].iter().take_while(|token| **token == Token::Space).count()
    }

    /// Whether a factor follows without a sign.
    pub(super) fn goes_on(&mut self) -> bool {
        let number = matches!(self.tokens.get(self.at.wrapping_sub(1)), Some(Token::Number(_)));
        match self.peek() {
            // `1 8` is no product.
            Some(Token::Number(_)) => !number,
            Some(Token::Text(text)) => !connects(text),
            Some(Token::Letter(_)) => true,
            Some(Token::Sign(sign)) => matches!(sign, '(' | '{' | '['),
            Some(Token::Command(name)) => {
                !["le", "ge", "ne", "approx", "in", "equiv", "cup", "cap", "pm", "mp", "}"]
                    .contains(&name.as_str())
            }
            _ => false,
        }
    }
}
