//! Whether two answers say the same.

use super::{
    expr::{Expr, Interval, Order},
    parse::parse,
    value::{Complex, Fraction, exact, value},
};

/// Places of variables at which two expressions are compared.
const ROUNDS: u32 = 4;

/// Whether `given` and `right` are the same answer, however they are written.
///
/// Read are LaTeX and plain text: numbers (separators of thousands, decimals, per cent), fractions
/// and mixed numbers, roots, powers, `pi`, `e`, `i`, functions, variables, equations and
/// inequalities, tuples, intervals, sets, unions, matrices, units and words. What cannot be read is
/// compared letter by letter.
///
/// ```text
/// both exact     the same fraction
/// one decimal    equal when both are rounded to 6 decimals
/// with letters   equal at 4 places, to 1e-11 of their size
/// ```
///
/// An equation `x = 5` stands for `5` where the other side is none. Time and memory grow with the
/// lengths alone; an answer of more than 2,000 characters is only compared letter by letter.
///
/// ```
/// use opd_reward::same_answer;
///
/// assert!(same_answer(r"\frac{1}{2}", "0.5") && same_answer("1,234", "1234"));
/// assert!(same_answer(r"2\sqrt{3}", r"\sqrt{12}") && !same_answer(r"2\sqrt{3}", r"\sqrt{6}"));
/// ```
///
/// Agrees with the package `math-verify` on the pairs of `tests/data/math_pairs.jsonl`, which name
/// every difference and its reason.
pub fn same_answer(given: &str, right: &str) -> bool {
    let (given, right) = (given.trim(), right.trim());
    if given.is_empty() || right.is_empty() {
        return false;
    }
    if plain(given) == plain(right) {
        return true;
    }
    [true, false].into_iter().any(|separated| {
        let (Some(given), Some(right)) = (parse(given, separated), parse(right, separated)) else {
            return false;
        };
        same(&expand(given), &expand(right))
    })
}

/// An answer as it is compared letter by letter: without white space but between words.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let parts = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        if parts(out.chars().next_back()) && parts(word.chars().next()) {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// Writes `a \pm b` as two answers.
fn expand(expr: Expr) -> Expr {
    match expr {
        Expr::PlusMinus(before, behind) => Expr::Set(vec![
            Expr::Sum(vec![*before.clone(), *behind.clone()]),
            Expr::Sum(vec![*before, Expr::Negative(behind)]),
        ]),
        Expr::Relation(first, rest) => match rest.as_slice() {
            [(Order::Equal, Expr::PlusMinus(before, behind))] => {
                let with = |sign: Expr| {
                    let side = Expr::Sum(vec![*before.clone(), sign]);
                    Expr::Relation(first.clone(), vec![(Order::Equal, side)])
                };
                Expr::Set(vec![with(*behind.clone()), with(Expr::Negative(behind.clone()))])
            }
            _ => Expr::Relation(first, rest),
        },
        other => other,
    }
}

fn same(given: &Expr, right: &Expr) -> bool {
    if given == right {
        return true;
    }
    let (given, right) = unwrapped(given, right);
    if given == right {
        return true;
    }
    match (given, right) {
        (Expr::Relation(a, rest_a), Expr::Relation(b, rest_b)) => {
            same_relation((a, rest_a), (b, rest_b))
        }
        (set, Expr::Relation(first, rest)) if set.is_collection() => {
            as_interval(first, rest).is_some_and(|interval| same(set, &interval))
        }
        (Expr::Relation(..), _) | (_, Expr::Relation(..)) => false,
        (Expr::Matrix(a), Expr::Matrix(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| in_order(a, b))
        }
        (Expr::Matrix(rows), vector) | (vector, Expr::Matrix(rows)) => match vector {
            Expr::Tuple(items) => {
                let column: Vec<Expr> = rows.concat();
                rows.iter().all(|row| row.len() == 1) && in_order(&column, items)
            }
            _ => false,
        },
        (a, b) if a.is_collection() || b.is_collection() => same_collection(a, b),
        (a, b) => same_value(a, b),
    }
}

/// Takes `x = 5` for `5` where the other side is no equation.
fn unwrapped<'a>(given: &'a Expr, right: &'a Expr) -> (&'a Expr, &'a Expr) {
    let equation = |expr: &'a Expr| match expr {
        Expr::Relation(first, rest) if rest.iter().all(|(order, _)| *order == Order::Equal) => {
            rest.last().map(|(_, last)| (first.as_ref(), last))
        }
        _ => None,
    };
    match (equation(given), equation(right)) {
        (Some((_, last)), None) => (last, right),
        (None, Some((first, last)))
            if first.word().is_some() || matches!(first, Expr::Unknown(..)) =>
        {
            (given, last)
        }
        _ => (given, right),
    }
}

type Chain<'a> = (&'a Expr, &'a [(Order, Expr)]);

fn same_relation((a, rest_a): Chain<'_>, (b, rest_b): Chain<'_>) -> bool {
    // Of a chain of equations the ends count.
    if let (Some((Order::Equal, end_a)), Some((Order::Equal, end_b))) =
        (rest_a.last(), rest_b.last())
        && (rest_a.len() > 1 || rest_b.len() > 1)
    {
        return same_link((a, Order::Equal, end_a), (b, Order::Equal, end_b));
    }
    let forward = links((a, rest_a));
    let other = links((b, rest_b));
    if forward.len() != other.len() {
        return false;
    }
    let backward = other.iter().rev().map(|(x, order, y)| (*y, order.flipped(), *x));
    forward.iter().zip(&other).all(|(a, b)| same_link(*a, *b))
        || forward.iter().zip(backward).all(|(a, b)| same_link(*a, b))
}

type Link<'a> = (&'a Expr, Order, &'a Expr);

fn links<'a>((first, rest): Chain<'a>) -> Vec<Link<'a>> {
    let mut before = first;
    let mut links = Vec::new();
    for (order, side) in rest {
        links.push((before, *order, side));
        before = side;
    }
    links
}

/// Whether the difference of the sides is the same but for a factor: a positive one, or a negative
/// one with the sign turned round.
fn same_link((a, order_a, b): Link<'_>, (c, order_c, d): Link<'_>) -> bool {
    if order_a == order_c && same(a, c) && same(b, d) {
        return true;
    }
    let difference = |x: &Expr, y: &Expr, round| {
        Some(value(x, round)?.minus(value(y, round)?)).filter(|v| v.is_finite())
    };
    let mut ratio: Option<f64> = None;
    for round in 0..ROUNDS {
        let (Some(one), Some(other)) = (difference(a, b, round), difference(c, d, round)) else {
            return false;
        };
        if other.size() < 1e-12 || one.size() < 1e-12 {
            return false;
        }
        let Complex(re, im) = one.over(other);
        if im.abs() > 1e-9 || ratio.is_some_and(|held| (held - re).abs() > 1e-9 * held.abs()) {
            return false;
        }
        ratio = Some(re);
    }
    // What is solved for a variable may only be turned round: 2x = 10 is no answer to x = 5.
    let variable = |side: &Expr| side.word().is_some() || matches!(side, Expr::Unknown(..));
    let known = |side: &Expr| value(side, 0).is_some_and(|v| Some(v) == value(side, 1));
    let solved =
        order_c == Order::Equal && ((variable(c) && known(d)) || (variable(d) && known(c)));
    if solved && ratio.is_some_and(|ratio| (ratio.abs() - 1.0).abs() > 1e-9) {
        return false;
    }
    let turned = ratio.is_some_and(|ratio| ratio < 0.0);
    let equation = matches!(order_a, Order::Equal | Order::NotEqual);
    order_a == if turned && !equation { order_c.flipped() } else { order_c }
}

/// `1 < x <= 2` as an interval of its variable.
fn as_interval(first: &Expr, rest: &[(Order, Expr)]) -> Option<Expr> {
    let open = |order: Order| matches!(order, Order::Less | Order::Greater);
    let variable = |expr: &Expr| matches!(expr, Expr::Symbol(_) | Expr::Unknown(..));
    let interval = |low: Expr, high: Expr, open: [bool; 2]| match open {
        [true, true] => Expr::Tuple(vec![low, high]),
        open => Expr::Interval(Interval { low: low.into(), high: high.into(), open }),
    };
    let least = || Expr::Negative(Expr::Infinity.into());
    match rest {
        [(order, side)] => {
            let (order, bound) = match (variable(first), variable(side)) {
                (true, false) => (*order, side),
                (false, true) => (order.flipped(), first),
                _ => return None,
            };
            match order {
                Order::Less | Order::LessEqual => {
                    Some(interval(least(), bound.clone(), [true, open(order)]))
                }
                Order::Greater | Order::GreaterEqual => {
                    Some(interval(bound.clone(), Expr::Infinity, [open(order), true]))
                }
                _ => None,
            }
        }
        [(one, middle), (two, last)] if variable(middle) => match (one, two) {
            (Order::Less | Order::LessEqual, Order::Less | Order::LessEqual) => {
                Some(interval(first.clone(), last.clone(), [open(*one), open(*two)]))
            }
            (Order::Greater | Order::GreaterEqual, Order::Greater | Order::GreaterEqual) => {
                Some(interval(last.clone(), first.clone(), [open(*two), open(*one)]))
            }
            _ => None,
        },
        _ => None,
    }
}

fn same_collection(given: &Expr, right: &Expr) -> bool {
    match (given, right) {
        (Expr::Interval(a), Expr::Interval(b)) => {
            a.open == b.open && same(&a.low, &b.low) && same(&a.high, &b.high)
        }
        // An open interval of two is read as a pair.
        (Expr::Tuple(a), Expr::Tuple(b)) => in_order(a, b),
        (Expr::Union(a), Expr::Union(b)) | (Expr::Set(a), Expr::Set(b)) => in_any_order(a, b),
        (Expr::Tuple(a), Expr::Set(b)) | (Expr::Set(a), Expr::Tuple(b)) => in_order(a, b),
        (Expr::Set(one), other) | (other, Expr::Set(one)) => match one.as_slice() {
            [one] => same(one, other),
            _ => false,
        },
        _ => false,
    }
}

fn in_order(a: &[Expr], b: &[Expr]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

fn in_any_order(a: &[Expr], b: &[Expr]) -> bool {
    let mut left: Vec<&Expr> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(|a| {
            let at = left.iter().position(|b| same(a, b));
            at.map(|at| left.swap_remove(at)).is_some()
        })
}

fn same_value(given: &Expr, right: &Expr) -> bool {
    if let (Some(a), Some(b)) = (given.word(), right.word())
        && a == b
    {
        return true;
    }
    if let (Some(a), Some(b)) = (endless(given), endless(right)) {
        return a == b;
    }
    // 9% and 9 are alike where both are whole.
    let inner = |expr: &'_ Expr| match expr {
        Expr::Percent(inner) => inner.as_ref().clone(),
        other => other.clone(),
    };
    let percent = matches!(given, Expr::Percent(_)) != matches!(right, Expr::Percent(_));
    let (a, b) = (inner(given), inner(right));
    if percent && whole(&a) && whole(&b) {
        return exact(&a) == exact(&b);
    }
    let zero = |expr: &Expr| exact(expr).is_some_and(Fraction::is_zero);
    let decimal = (decimal(given) || decimal(right)) && !zero(given) && !zero(right);
    if !decimal && let (Some(a), Some(b)) = (exact(given), exact(right)) {
        return a == b;
    }
    let mut compared = 0;
    for round in 0..ROUNDS {
        let (Some(a), Some(b)) = (value(given, round), value(right, round)) else { return false };
        if !a.is_finite() || !b.is_finite() {
            continue;
        }
        let near = match decimal {
            true => to_six(a.0) == to_six(b.0) && to_six(a.1) == to_six(b.1),
            false => a.minus(b).size() <= 1e-11 * (a.size().max(b.size())).max(1e-3),
        };
        if !near {
            return false;
        }
        compared += 1;
    }
    compared > 0
}

/// `-1` and `1` for the infinities.
fn endless(expr: &Expr) -> Option<i32> {
    match expr {
        Expr::Infinity => Some(1),
        Expr::Negative(inner) => endless(inner).map(|sign| -sign),
        Expr::Sum(terms) => match terms.as_slice() {
            [Expr::Number(zero), rest] if zero == "0" => endless(rest),
            _ => None,
        },
        _ => None,
    }
}

fn whole(expr: &Expr) -> bool {
    match expr {
        Expr::Number(digits) => !digits.contains('.'),
        Expr::Negative(inner) => whole(inner),
        _ => false,
    }
}

/// Whether an answer is a decimal number, which may be rounded.
fn decimal(expr: &Expr) -> bool {
    match expr {
        Expr::Number(digits) => digits.contains('.'),
        Expr::Negative(inner) | Expr::Percent(inner) => decimal(inner),
        _ => false,
    }
}

fn to_six(value: f64) -> f64 {
    (value * 1e6).round_ties_even()
}
