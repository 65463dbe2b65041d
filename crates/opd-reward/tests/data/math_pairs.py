#!/usr/bin/env python3
"""Writes math_pairs.jsonl: pairs of answers and whether math-verify holds them for the same.

pip install 'math-verify[antlr4_13_2]==0.9.0' sympy==1.14.0
python3 math_pairs.py > math_pairs.jsonl

Where the crate judges otherwise on purpose, `ours` says how and `why` says why.
"""

import json
import logging
import sys
from importlib.metadata import version

from math_verify import parse, verify

logging.disable(logging.CRITICAL)

# Right answers, each with what may be given for it.
PAIRS = [
    # Whole numbers and how they are written.
    ("18", ["18", "18.0", "18.", "+18", "-18", "19", "0018", "$18$", "18 dollars", "\\$18", "18\\text{ cm}", "18\\%", "x=18", "180", "1 8", "(18)", "18/1", "36/2", "9 \\times 2", "9*2", "3^2 \\cdot 2", "\\boxed{18}", "eighteen", "18\\,", "18 cm", "18^\\circ", "\\text{18}", "\\frac{36}{2}"]),
    ("1234567", ["1,234,567", "1234567.0", "1{,}234{,}567", "1\\,234\\,567", "1,234,568", "1.234567", "1234567 \\text{ people}", "1.234567 \\times 10^6", "12,345,67"]),
    ("1,000", ["1000", "1,000", "1{,}000", "100", "1000.00", "1, 000", "10^3"]),
    ("10,800", ["10800", "10,800", "10800.0", "108 \\times 100", "1080"]),
    ("-7", ["-7", "- 7", "7", "−7", "-7.0", "-\\frac{14}{2}", "-(7)", "\\frac{-14}{2}", "\\frac{14}{-2}", "0-7"]),
    ("0", ["0", "-0", "0.0", "0.000", "\\frac{0}{5}", "1-1", "0.0000001", "0.001", "1", "\\emptyset"]),
    ("100000000000000000001", ["100000000000000000001", "100000000000000000000", "10^{20}+1", "10^{20}"]),
    # Decimals.
    ("0.5", ["\\frac{1}{2}", "1/2", ".5", "0.50", "0.500000", "0.51", "50\\%", "\\frac12", "\\dfrac{1}{2}", "\\tfrac{1}{2}", "2^{-1}", "0,5", "\\frac{2}{4}", "5 \\times 10^{-1}", "0.5000001", "0.50001"]),
    ("\\frac{1}{3}", ["0.333333", "0.3333333", "0.33", "0.3333", "1/3", "\\frac{2}{6}", "\\frac13", "33\\frac{1}{3}\\%", "3^{-1}", "\\frac{1}{3}\\text{ cm}", "\\frac{-1}{-3}", "0.333334", "\\frac{3}{1}"]),
    ("3.14", ["3.14", "\\pi", "3.140", "3.1416", "314/100", "\\frac{157}{50}", "3.14159", "3{.}14"]),
    ("2.5", ["2.5", "\\frac{5}{2}", "2\\frac{1}{2}", "2 1/2", "2.50", "25/10", "2.5 \\text{ hours}", "2\\frac12", "\\$2.50", "5/2", "2.49"]),
    ("1.5\\times 10^{8}", ["150000000", "150,000,000", "1.5 \\cdot 10^8", "15 \\times 10^7", "1.5 \\times 10^9", "1.5e8"]),
    # Fractions.
    ("\\frac{3}{4}", ["3/4", "\\frac34", "\\dfrac{3}{4}", "0.75", "75\\%", "\\frac{6}{8}", "\\frac{4}{3}", "-\\frac{3}{4}", "\\frac 34", "\\frac{3}4", "\\cfrac{3}{4}", "(3)/(4)", "\\frac{3}{4} ", "\\left(\\frac{3}{4}\\right)", "{3}/{4}", "3 \\div 4", "\\frac{\\frac{3}{2}}{2}", ".75", "3:4"]),
    ("-\\frac{5}{6}", ["\\frac{-5}{6}", "\\frac{5}{-6}", "-5/6", "-\\frac56", "\\frac{5}{6}", "-0.833333", "-0.83", "-\\dfrac{10}{12}"]),
    ("3\\frac{1}{4}", ["\\frac{13}{4}", "3.25", "3 1/4", "3\\frac14", "\\frac{3}{4}", "3 \\frac{1}{4}", "13/4", "3+\\frac{1}{4}"]),
    ("\\frac{22}{7}", ["22/7", "3\\frac{1}{7}", "\\pi", "3.142857", "3.14"]),
    ("\\frac{a}{b}", ["a/b", "\\frac{b}{a}", "a \\div b", "ab^{-1}", "\\frac{2a}{2b}", "\\frac ab"]),
    # Per cent.
    ("25\\%", ["25", "25%", "0.25", "\\frac{1}{4}", "25\\text{ percent}", "2.5", "25 percent", "25\\% ", "26\\%"]),
    ("12.5\\%", ["12.5%", "0.125", "\\frac{1}{8}", "12.5", "12.50\\%", "125"]),
    # Roots, powers, constants.
    ("\\sqrt{2}", ["2^{1/2}", "\\sqrt2", "1.414214", "1.41", "\\frac{2}{\\sqrt{2}}", "-\\sqrt{2}", "\\sqrt{3}", "2^{0.5}", "\\sqrt 2", "sqrt(2)", "\\frac{\\sqrt{8}}{2}", "2\\sqrt{\\frac12}", "√2", "\\sqrt[2]{2}"]),
    ("2\\sqrt{3}", ["\\sqrt{12}", "2 \\cdot \\sqrt{3}", "\\sqrt3 \\cdot 2", "2*\\sqrt{3}", "\\sqrt{6}", "3.464102", "\\frac{6}{\\sqrt{3}}", "2\\sqrt3", "2\\sqrt{3}\\text{ units}", "12^{\\frac{1}{2}}", "3\\sqrt{2}"]),
    ("\\frac{\\sqrt{3}}{2}", ["\\sqrt{3}/2", "\\frac{\\sqrt3}{2}", "\\frac{1}{2}\\sqrt{3}", "0.866025", "\\frac{3}{2\\sqrt{3}}", "\\sin 60^\\circ", "\\frac{\\sqrt{3}}{4}", "\\frac12\\sqrt3", "\\dfrac{\\sqrt{3}}{2}", "\\sqrt{\\frac{3}{4}}", "\\sin\\frac{\\pi}{3}"]),
    ("\\frac{1+\\sqrt{5}}{2}", ["\\frac{\\sqrt{5}+1}{2}", "(1+\\sqrt{5})/2", "\\frac{1}{2}+\\frac{\\sqrt{5}}{2}", "\\frac{1-\\sqrt{5}}{2}", "1.618034", "\\frac{2}{\\sqrt{5}-1}", "0.5+0.5\\sqrt{5}"]),
    ("\\sqrt[3]{4}", ["4^{1/3}", "4^{\\frac{1}{3}}", "2^{2/3}", "\\sqrt{4}", "1.587401", "\\sqrt[3]{5}", "\\sqrt[6]{16}"]),
    ("\\pi", ["π", "pi", "3.14159265", "3.141593", "3.14", "\\frac{2\\pi}{2}", "180^\\circ", "2\\pi", "\\pi \\text{ radians}"]),
    ("\\frac{\\pi}{4}", ["\\pi/4", "0.25\\pi", "\\frac{1}{4}\\pi", "\\frac14\\pi", "0.785398", "\\frac{\\pi}{2}", "45^\\circ", "\\arctan 1", "\\dfrac{\\pi}{4}"]),
    ("9\\pi", ["9 \\pi", "9\\cdot\\pi", "3^2\\pi", "\\pi \\cdot 9", "28.274334", "28.27", "\\pi 9", "9pi", "9π", "9\\pi \\text{ cm}^2", "9 \\pi \\text{ square units}"]),
    ("2^{10}", ["1024", "2^10", "4^5", "2^{9}", "1,024", "2 \\times 512", "2**10"]),
    ("10^{-3}", ["0.001", "\\frac{1}{1000}", "1/1000", "10^{3}", "1 \\times 10^{-3}"]),
    ("e", ["e", "2.718282", "e^1", "\\exp(1)", "E", "2.7"]),
    ("e^2", ["e^{2}", "\\exp(2)", "7.389056", "e \\cdot e", "2e", "exp(2)"]),
    ("\\ln 2", ["\\ln(2)", "\\ln{2}", "0.693147", "\\frac{1}{2}\\ln 4", "\\log 2", "-\\ln\\frac{1}{2}", "\\ln 3", "\\log_e 2"]),
    ("\\log_2 3", ["\\log_{2}{3}", "\\log_2(3)", "\\frac{\\ln 3}{\\ln 2}", "1.584963", "\\log_3 2", "\\log_4 9"]),
    ("5!", ["120", "5 \\cdot 4!", "24", "5 \\times 4 \\times 3 \\times 2 \\times 1"]),
    ("\\binom{5}{2}", ["10", "\\binom{5}{3}", "\\frac{5!}{2!3!}", "20"]),
    ("3+4i", ["4i+3", "3 + 4i", "3-4i", "3+4\\cdot i", "5", "\\sqrt{-16}+3"]),
    ("-i", ["-i", "i", "\\frac{1}{i}", "-1i", "0-i"]),
    # Algebra.
    ("x^2+2x+1", ["(x+1)^2", "x^2 + 2x + 1", "1+2x+x^2", "x^{2}+2x+1", "(x-1)^2", "x(x+2)+1", "(1+x)^2", "y^2+2y+1", "x*x+2*x+1", "(x+1)(x+1)", "2x+x^2+2"]),
    ("2x", ["x+x", "2 \\cdot x", "2*x", "x2", "x^2", "2y", "\\frac{4x}{2}", "x \\cdot 2"]),
    ("x(x-1)", ["x^2-x", "(x-1)x", "x^2-1", "x(x - 1)", "-x(1-x)", "x\\left(x-1\\right)"]),
    ("\\frac{x+1}{x-1}", ["(x+1)/(x-1)", "\\frac{x-1}{x+1}", "1+\\frac{2}{x-1}", "-\\frac{x+1}{1-x}", "\\frac{-x-1}{1-x}"]),
    ("n(n+1)/2", ["\\frac{n(n+1)}{2}", "\\frac{n^2+n}{2}", "\\frac{n(n-1)}{2}", "\\frac{1}{2}n(n+1)", "\\binom{n+1}{2}"]),
    ("a^2-b^2", ["(a-b)(a+b)", "(a+b)(a-b)", "b^2-a^2", "-(b^2-a^2)", "(a-b)^2"]),
    ("abc", ["abc", "a \\cdot b \\cdot c", "bca", "ab", "ABC"]),
    ("x", ["x", "X", "y", "(x)", "1x"]),
    ("\\sin^2 x", ["\\sin^2(x)", "1-\\cos^2 x", "(\\sin x)^2", "\\sin x^2", "\\sin^{2}x"]),
    ("\\frac{1}{x}", ["x^{-1}", "1/x", "x", "\\frac{2}{2x}"]),
    ("3\\theta", ["3 \\theta", "\\theta \\cdot 3", "3θ", "2\\theta"]),
    # Equations and inequalities.
    ("x=5", ["5", "x = 5", "5=x", "x=6", "y=5", "x=5.0", "2x=10", "x-5=0", "x=\\frac{10}{2}", "x = 2+3 = 5"]),
    ("5", ["x=5", "y = 5", "x=6", "n=5", "a=b=5", "f(x)=5"]),
    ("y=2x+1", ["y = 1+2x", "2x+1=y", "y=2x-1", "y-2x=1", "2x-y+1=0", "2x+1", "y = 2x + 1", "2y=4x+2", "x=\\frac{y-1}{2}"]),
    ("x^2+y^2=1", ["y^2+x^2=1", "x^2+y^2-1=0", "x^2+y^2=2", "1=x^2+y^2", "2x^2+2y^2=2"]),
    ("x>2", ["x > 2", "2<x", "x\\geq 2", "x<2", "(2,\\infty)", "2 < x", "x \\gt 2"]),
    ("x\\le 3", ["x \\leq 3", "3 \\ge x", "x<3", "(-\\infty,3]", "x≤3", "x \\leqslant 3", "x<=3"]),
    ("1<x<2", ["1 < x < 2", "2>x>1", "(1,2)", "1 \\le x < 2", "1<x<3", "1 \\lt x \\lt 2"]),
    ("-1\\le x\\le 1", ["[-1,1]", "-1 \\leq x \\leq 1", "(-1,1)", "1\\ge x\\ge -1", "-1 \\le x < 1"]),
    # Tuples, intervals, sets.
    ("(1,2)", ["(1, 2)", "(2,1)", "1,2", "[1,2]", "(1.0,2.0)", "\\left(1,2\\right)", "(1,2,3)", "\\{1,2\\}", "(1,3)", "( 1 , 2 )", "\\langle 1,2\\rangle"]),
    ("(3,-4)", ["(3, -4)", "(3,4)", "(-4,3)", "x=3, y=-4", "(3,-4.0)", "(\\frac{6}{2},-4)"]),
    ("(1,2,3)", ["(1, 2, 3)", "1,2,3", "(3,2,1)", "(1,2)", "[1,2,3]", "\\begin{pmatrix}1\\\\2\\\\3\\end{pmatrix}", "(1,2,4)"]),
    ("\\left(\\frac{1}{2},\\sqrt{2}\\right)", ["(0.5,\\sqrt{2})", "(1/2, \\sqrt2)", "(\\frac12,\\sqrt{3})", "(\\sqrt{2},\\frac{1}{2})", "(0.5, 1.414214)"]),
    ("[0,1]", ["[0, 1]", "(0,1)", "[0,1)", "\\left[0,1\\right]", "[0.0,1.0]", "0\\le x\\le 1", "[0,2]"]),
    ("[0,1)", ["[0, 1)", "[0,1]", "\\left[0,1\\right)", "(0,1]", "0 \\le x < 1"]),
    ("(-\\infty,2)", ["(-\\infty, 2)", "(-inf,2)", "x<2", "(-\\infty,2]", "(2,\\infty)", "(-∞,2)"]),
    ("(-\\infty,0)\\cup(1,\\infty)", ["(-\\infty, 0) \\cup (1, \\infty)", "(1,\\infty)\\cup(-\\infty,0)", "(-\\infty,0]\\cup(1,\\infty)", "(-\\infty,1)", "(-∞,0)∪(1,∞)"]),
    ("\\{1,2,3\\}", ["\\{3,2,1\\}", "1,2,3", "\\{1,2\\}", "\\{1, 2, 3\\}", "\\{1,2,4\\}", "{1,2,3}", "3, 1, 2", "\\left\\{1,2,3\\right\\}"]),
    ("1,2", ["2,1", "1, 2", "\\{1,2\\}", "1 and 2", "1 \\text{ and } 2", "1", "x=1, x=2", "1 or 2", "(1,2)", "1,3", "1;2"]),
    ("\\frac{1}{2},-3", ["-3,\\frac{1}{2}", "-3, 0.5", "0.5,-3", "\\frac12, 3", "x=-3 \\text{ or } x=\\frac{1}{2}", "-3 \\text{ and } 1/2"]),
    ("\\pm 3", ["3,-3", "-3,3", "\\pm3", "3", "\\pm \\sqrt{9}", "x=\\pm 3", "±3"]),
    ("2\\pm\\sqrt{3}", ["2+\\sqrt{3},2-\\sqrt{3}", "2-\\sqrt3, 2+\\sqrt3", "2 \\pm \\sqrt{3}", "2+\\sqrt{3}", "2\\pm\\sqrt{2}"]),
    ("\\emptyset", ["\\varnothing", "∅", "\\{\\}", "0"]),
    ("\\infty", ["∞", "+\\infty", "-\\infty", "infinity", "inf", "0"]),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", ["\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}", "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}", "\\begin{pmatrix}1.0&\\frac{4}{2}\\\\3&4\\end{pmatrix}"]),
    # Words and units.
    ("\\text{even}", ["even", "\\text{Even}", "odd", "\\text{even}.", "\\mathrm{even}"]),
    ("A", ["A", "a", "\\text{A}", "(A)", "B", "\\textbf{A}", "\\text{(A)}"]),
    ("\\text{Monday}", ["Monday", "monday", "Tuesday", "\\textbf{Monday}"]),
    ("30^\\circ", ["30", "30°", "30 \\text{ degrees}", "30^{\\circ}", "30 degrees", "60^\\circ", "\\frac{\\pi}{6}", "30\\degree"]),
    ("15\\text{ m}^2", ["15", "15\\text{ m}^2", "15 m^2", "15\\text{ square meters}", "15\\text{m}", "16", "15\\mathrm{~m}^2"]),
    ("\\$4.50", ["4.5", "4.50", "\\$4.5", "$4.50$", "4.50 dollars", "4.51", "\\frac{9}{2}"]),
    ("12\\text{ hours}", ["12", "12 hours", "12\\text{ hrs}", "13", "12\\text{ h}"]),
    ("1000\\text{ cm}^3", ["1000", "1,000\\text{ cm}^3", "1000 \\text{ cubic cm}", "10^3"]),
    ("101_2", ["101_2", "101_{2}", "5", "101_3", "110_2"]),
    ("f(2)=5", ["5", "f(2) = 5", "f(2)=6"]),
    ("x_1=2", ["2", "x_{1}=2", "x_2=2", "x_1 = 2"]),
]

# What is judged otherwise on purpose: (right, given) -> (verdict, reason).
OURS = json.load(open(sys.argv[1])) if len(sys.argv) > 1 else {}


def answer(text):
    """An answer as a final one: boxed."""
    return parse("\\boxed{" + text + "}" if "boxed" not in text else text)


print(json.dumps({"by": f"math-verify {version('math-verify')}, latex2sympy2-extended {version('latex2sympy2_extended')}, sympy {version('sympy')}", "call": "verify(parse(right), parse(given)), each in \\boxed{}"}))
for right, given in ((r, g) for r, all_given in PAIRS for g in all_given):
    try:
        same = bool(verify(answer(right), answer(given)))
    except Exception as error:  # noqa: BLE001
        same = False
        print(right, given, error, file=sys.stderr)
    row = {"right": right, "given": given, "same": same}
    key = f"{right} | {given}"
    if key in OURS:
        row["ours"] = not same
        row["why"] = OURS[key]
    print(json.dumps(row, ensure_ascii=False))
