//! What an answer says.

/// A mathematical expression or collection.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Digits with at most one point.
    Number(String),
    Pi,
    Euler,
    Imaginary,
    Infinity,
    /// A variable, or several letters in a row.
    Symbol(String),
    /// Words.
    Text(String),
    Sum(Vec<Expr>),
    Product(Vec<Expr>),
    Negative(Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    Call(&'static str, Box<Expr>),
    /// Base and argument.
    Log(Box<Expr>, Box<Expr>),
    Factorial(Box<Expr>),
    Percent(Box<Expr>),
    /// `a \pm b`.
    PlusMinus(Box<Expr>, Box<Expr>),
    /// A function of one's own, as `f(x)`.
    Unknown(String, Vec<Expr>),
    /// `{1, 2}` or `1, 2`: in any order.
    Set(Vec<Expr>),
    /// `(1, 2)`; of two it may be an open interval.
    Tuple(Vec<Expr>),
    Interval(Interval),
    Union(Vec<Expr>),
    Matrix(Vec<Vec<Expr>>),
    /// `a < b <= c`: the first side, and each sign with the side behind it.
    Relation(Box<Expr>, Vec<(Order, Expr)>),
}

/// An interval that is not open at both ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) low: Box<Expr>,
    pub(super) high: Box<Expr>,
    pub(super) open: [bool; 2],
}

/// A sign between two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Order {
    pub(super) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }
}

impl Expr {
    pub(super) fn number(n: impl ToString) -> Self {
        Self::Number(n.to_string())
    }

    pub(super) fn quotient(above: Self, below: Self) -> Self {
        Self::Quotient(Box::new(above), Box::new(below))
    }

    pub(super) fn power(base: Self, exponent: Self) -> Self {
        Self::Power(Box::new(base), Box::new(exponent))
    }

    pub(super) fn is_collection(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Tuple(_) | Self::Interval(_) | Self::Union(_))
    }

    /// Letters that stand in a row or are multiplied, as one word.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Self::Symbol(letters) => Some(letters.to_lowercase()),
            Self::Text(text) => {
                let kept = text.chars().filter(|c| c.is_alphanumeric());
                Some(kept.collect::<String>().to_lowercase())
            }
            Self::Euler => Some("e".into()),
            Self::Imaginary => Some("i".into()),
            Self::Product(factors) => factors.iter().map(Self::word).collect(),
            _ => None,
        }
    }
}
