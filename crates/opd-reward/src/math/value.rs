//! Values of expressions: exact fractions where they fit, and complex numbers.

use super::expr::Expr;

/// A fraction in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fraction {
    above: i128,
    below: i128,
}

impl Fraction {
    fn new(above: i128, below: i128) -> Option<Self> {
        if below == 0 {
            return None;
        }
        let (mut a, mut b) = (above.unsigned_abs(), below.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let divisor = i128::try_from(a.max(1)).ok()?;
        let sign = if below < 0 { -1 } else { 1 };
        Some(Self { above: sign * (above / divisor), below: sign.checked_mul(below / divisor)? })
    }

    pub(super) fn is_zero(self) -> bool {
        self.above == 0
    }

    fn of(digits: &str) -> Option<Self> {
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let all: String = [whole, decimals].concat();
        let above = if all.is_empty() { 0 } else { all.parse().ok()? };
        Self::new(above, 10i128.checked_pow(u32::try_from(decimals.len()).ok()?)?)
    }

    fn add(self, other: Self) -> Option<Self> {
        let above = self.above.checked_mul(other.below)?;
        let above = above.checked_add(other.above.checked_mul(self.below)?)?;
        Self::new(above, self.below.checked_mul(other.below)?)
    }

    fn mul(self, other: Self) -> Option<Self> {
        Self::new(self.above.checked_mul(other.above)?, self.below.checked_mul(other.below)?)
    }

    fn div(self, other: Self) -> Option<Self> {
        Self::new(self.above.checked_mul(other.below)?, self.below.checked_mul(other.above)?)
    }

    fn pow(self, exponent: Self) -> Option<Self> {
        if exponent.below != 1 || exponent.above.abs() > 400 {
            return None;
        }
        let n = exponent.above.unsigned_abs() as u32;
        let raised = Self::new(self.above.checked_pow(n)?, self.below.checked_pow(n)?)?;
        if exponent.above < 0 { Self::new(1, 1)?.div(raised) } else { Some(raised) }
    }
}

/// The value of an expression of numbers alone, if it is a fraction that fits.
pub(super) fn exact(expr: &Expr) -> Option<Fraction> {
    match expr {
        Expr::Number(digits) => Fraction::of(digits),
        Expr::Negative(inner) => Fraction::new(-1, 1)?.mul(exact(inner)?),
        Expr::Sum(terms) => {
            terms.iter().try_fold(Fraction::new(0, 1)?, |sum, term| sum.add(exact(term)?))
        }
        Expr::Product(factors) => {
            factors.iter().try_fold(Fraction::new(1, 1)?, |all, factor| all.mul(exact(factor)?))
        }
        Expr::Quotient(above, below) => exact(above)?.div(exact(below)?),
        Expr::Power(base, exponent) => exact(base)?.pow(exact(exponent)?),
        Expr::Percent(inner) => exact(inner)?.div(Fraction::new(100, 1)?),
        Expr::Factorial(inner) => {
            let of = exact(inner)?;
            let n = (of.below == 1 && (0..=33).contains(&of.above)).then_some(of.above)?;
            Fraction::new((1..=n).product(), 1)
        }
        _ => None,
    }
}

/// A complex number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Complex(pub(super) f64, pub(super) f64);

impl Complex {
    const ONE: Self = Self(1.0, 0.0);

    pub(super) fn size(self) -> f64 {
        self.0.hypot(self.1)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0, self.1 - other.1)
    }

    fn times(self, other: Self) -> Self {
        Self(self.0 * other.0 - self.1 * other.1, self.0 * other.1 + self.1 * other.0)
    }

    pub(super) fn over(self, other: Self) -> Self {
        let size = other.0 * other.0 + other.1 * other.1;
        let Self(re, im) = self.times(Self(other.0, -other.1));
        Self(re / size, im / size)
    }

    fn exp(self) -> Self {
        let size = self.0.exp();
        Self(size * self.1.cos(), size * self.1.sin())
    }

    fn ln(self) -> Self {
        Self(self.size().ln(), self.1.atan2(self.0))
    }

    fn pow(self, exponent: Self) -> Self {
        if exponent.1 == 0.0 && exponent.0.fract() == 0.0 && exponent.0.abs() <= 1024.0 {
            let n = exponent.0.abs() as u32;
            let raised = (0..n).fold(Self::ONE, |all, _| all.times(self));
            return if exponent.0 < 0.0 { Self::ONE.over(raised) } else { raised };
        }
        match self {
            Self(0.0, 0.0) if exponent.0 > 0.0 => self,
            Self(re, 0.0) if re > 0.0 && exponent.1 == 0.0 => Self(re.powf(exponent.0), 0.0),
            _ => self.ln().times(exponent).exp(),
        }
    }

    fn real(self) -> Option<f64> {
        (self.1.abs() <= 1e-12 * (1.0 + self.0.abs())).then_some(self.0)
    }

    pub(super) fn is_finite(self) -> bool {
        self.0.is_finite() && self.1.is_finite()
    }
}

/// The value with variables at the places of `round`; `None` for what is no number.
pub(super) fn value(expr: &Expr, round: u32) -> Option<Complex> {
    let of = |expr: &Expr| value(expr, round);
    Some(match expr {
        Expr::Number(digits) => Complex(digits.parse().ok()?, 0.0),
        Expr::Pi => Complex(std::f64::consts::PI, 0.0),
        Expr::Euler => Complex(std::f64::consts::E, 0.0),
        Expr::Imaginary => Complex(0.0, 1.0),
        Expr::Infinity => Complex(f64::INFINITY, 0.0),
        Expr::Symbol(letters) => {
            letters.chars().fold(Complex::ONE, |all, c| all.times(place(&c.to_string(), round)))
        }
        Expr::Unknown(name, arguments) => {
            let mut spelled = name.clone();
            for argument in arguments {
                spelled.push_str(&format!("({:?})", of(argument)?));
            }
            place(&spelled, round)
        }
        Expr::Sum(terms) => terms.iter().try_fold(Complex(0.0, 0.0), |sum, term| {
            let term = of(term)?;
            Some(Complex(sum.0 + term.0, sum.1 + term.1))
        })?,
        Expr::Product(factors) => {
            factors.iter().try_fold(Complex::ONE, |all, factor| Some(all.times(of(factor)?)))?
        }
        Expr::Negative(inner) => {
            let Complex(re, im) = of(inner)?;
            Complex(-re, -im)
        }
        Expr::Quotient(above, below) => of(above)?.over(of(below)?),
        Expr::Power(base, exponent) => of(base)?.pow(of(exponent)?),
        Expr::Percent(inner) => of(inner)?.over(Complex(100.0, 0.0)),
        Expr::Log(base, argument) => of(argument)?.ln().over(of(base)?.ln()),
        Expr::Factorial(inner) => {
            let n = of(inner)?.real().filter(|n| n.fract() == 0.0 && (0.0..=170.0).contains(n))?;
            Complex((1..=n as u32).map(f64::from).product(), 0.0)
        }
        Expr::Call(name, argument) => call(name, of(argument)?)?,
        _ => return None,
    })
}

fn call(name: &str, argument: Complex) -> Option<Complex> {
    match name {
        "abs" => return Some(Complex(argument.size(), 0.0)),
        "exp" => return Some(argument.exp()),
        "ln" => return Some(argument.ln()),
        _ => {}
    }
    let x = argument.real()?;
    let y = match name {
        "sin" => x.sin(),
        "cos" => x.cos(),
        "tan" => x.tan(),
        "cot" => 1.0 / x.tan(),
        "sec" => 1.0 / x.cos(),
        "csc" => 1.0 / x.sin(),
        "arcsin" => x.asin(),
        "arccos" => x.acos(),
        "arctan" => x.atan(),
        "sinh" => x.sinh(),
        "cosh" => x.cosh(),
        "tanh" => x.tanh(),
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        _ => return None,
    };
    Some(Complex(y, 0.0))
}

/// Where a variable stands in a round: between 0.3 and 2.7 in size, of either sign but for round 0.
fn place(name: &str, round: u32) -> Complex {
    let mut state =
        0xcbf2_9ce4_8422_2325_u64 ^ u64::from(round).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in name.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state ^= state >> 29;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 32;
    let size = 0.3 + 2.4 * ((state >> 11) as f64 / (1u64 << 53) as f64);
    Complex(if round > 0 && state & 1 == 1 { -size } else { size }, 0.0)
}
