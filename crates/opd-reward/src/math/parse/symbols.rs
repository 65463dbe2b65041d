//! Names as expressions.

use crate::math::expr::Expr;

/// `n (n - 1) .. / k!` where `k` is a small number, and factorials elsewhere.
pub(super) fn binomial(n: Expr, k: Expr) -> Expr {
    let less = |by: Expr| Expr::Sum(vec![n.clone(), Expr::Negative(Box::new(by))]);
    let factorial = |of: Expr| Expr::Factorial(Box::new(of));
    let few = match &k {
        Expr::Number(digits) => digits.parse::<u32>().ok().filter(|k| *k <= 20),
        _ => None,
    };
    match few {
        Some(count) => {
            let above = (0..count).map(|i| less(Expr::number(i))).collect();
            Expr::quotient(Expr::Product(above), factorial(k))
        }
        None => {
            let rest = less(k.clone());
            Expr::quotient(factorial(n), Expr::Product(vec![factorial(k), factorial(rest)]))
        }
    }
}

/// A Greek letter or another command as a variable.
pub(super) fn letters_of(name: &str) -> Option<Expr> {
    const GREEK: [&str; 24] = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "ell",
        "Delta",
    ];
    // One variable: its letters are no factors.
    GREEK.contains(&name).then(|| Expr::Unknown(name.to_owned(), Vec::new()))
}

pub(super) fn text_atom(text: &str) -> Expr {
    let text = text.trim();
    let single = text.len() == 1 && text.chars().all(char::is_alphabetic);
    if single {
        return Expr::Symbol(text.to_owned());
    }
    match text.parse::<f64>() {
        Ok(_) if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => Expr::number(text),
        _ => Expr::Text(text.to_owned()),
    }
}

/// `x_1`: one variable; `123_4`: a number in another base, as one word.
pub(super) fn subscript(base: Expr, index: Expr) -> Option<Expr> {
    let shown = |expr: &Expr| match expr {
        Expr::Number(digits) => Some(digits.clone()),
        Expr::Symbol(letters) => Some(letters.clone()),
        other => other.word(),
    };
    Some(Expr::Unknown(format!("{}_{}", shown(&base)?, shown(&index)?), Vec::new()))
}
