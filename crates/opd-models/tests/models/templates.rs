//! What a chat template can make an untrusting reader hold: each of these ends in little memory.

use std::fs;

use opd_models::{ChatTemplate, Message};

use crate::fuzz::peak;

/// Most memory that a template may take, in KiB.
const BOUND: u64 = 512 << 10;

/// What a template writes, or why it is refused.
fn rendered(source: &str) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
    let template = ChatTemplate::load(dir.path()).map_err(|error| error.to_string())?;
    template.render(&[Message::user("x")]).map_err(|error| error.to_string())
}

/// `what` behind a list of `2^40` numbers, or `2^20` of them at twenty levels each.
fn shared(what: &str) -> String {
    format!(
        "{{% set ns = namespace(x=[1]) %}}{{% for i in range(40) %}}{{% set ns.x = [ns.x, ns.x] %}}\
         {{% endfor %}}{what}"
    )
}

/// `what` behind a list `x` of lists of lists.., which a variable may just hold: `2^19` numbers.
fn held(what: &str) -> String {
    format!("{{% set x = [7] %}}{}{what}", "{% set x = [x, x] %}".repeat(18))
}

#[test]
fn memory_is_bounded() {
    let cases = [
        // Values whose parts are shared.
        shared("{{ ns.x }}"),
        shared("{{ ns.x | tojson }}"),
        shared("{{ ns.x ~ '' }}"),
        shared("{% set ns.y = {'a': ns.x, 'b': ns.x} %}{{ ns }}"),
        "{% set a = (1,) %}".to_owned() + &"{% set a = (a, a) %}".repeat(40) + "{{ a }}",
        "{% set a = [1] %}".to_owned() + &"{% set a = a + a %}".repeat(40) + "{{ a ~ '' }}",
        "{% set a = [1] %}".to_owned() + &"{% set a = a | zip(a) | list %}".repeat(40) + "{{ a }}",
        "{% set a = [1] %}".to_owned() + &"{% set a = dict(x=a, y=a) %}".repeat(40) + "{{ a }}",
        "{% macro f(x, n) %}{% if n %}{{ f([x, x], n - 1) }}{% else %}{{ x ~ x }}{% endif %}\
         {% endmacro %}{{ f([1], 40) }}"
            .to_owned(),
        held("{{ x ~ x ~ x ~ x }}"),
        held("{{ [x] * 10000 }}"),
        held("{{ ([x] * 10000) ~ '' }}"),
        held("{{ [x] * 10000 | length ~ ([x] * 10000) | string }}"),
        held("{{ ([x] * 10000) | upper }}"),
        held("{{ ['', [x] * 10000] | join }}"),
        held("{{ 'a' | replace('a', [x] * 10000) }}"),
        held("{{ '%s' | format([x] * 10000) }}"),
        held("{{ '%s%s%s%s%s%s%s%s' | format(x, x, x, x, x, x, x, x) }}"),
        held("{{ '{0}{0}{0}{0}{0}{0}{0}{0}'.format([x] * 10000) }}"),
        held("{{ ['a'] | map('format', [x] * 10000) | list }}"),
        held("{{ ', '.join([[x] * 10000]) }}"),
        held("{{ raise_exception([x] * 10000) }}"),
        held("{{ 'a' is startingwith([x] * 10000) }}"),
        held("{% filter replace('a', [x] * 10000) %}a{% endfilter %}"),
        // Texts that grow.
        "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}".to_owned(),
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}".to_owned(),
        "{{ ('b' * 10000000).join(range(100000)) }}".to_owned(),
        "{{ range(100000) | join('b' * 10000000) }}".to_owned(),
        "{{ ('a,' * 30000000).split(',') | length }}".to_owned(),
        "{{ ('a ' * 30000000).split() | length }}".to_owned(),
        "{{ ('a\\n' * 30000000).splitlines() | length }}".to_owned(),
        "{{ 'a' * 1000000000000 }}".to_owned(),
        "{{ [1] * 100000000 }}".to_owned(),
        "{{ '%1000000000d' | format(1) }}".to_owned(),
        "{{ '%*d' | format(1000000000, 1) }}".to_owned(),
        "{{ '%.1000000000f' | format(1.5) }}".to_owned(),
        "{{ '{:1000000000}'.format(1) }}".to_owned(),
        "{{ '{:{}}'.format(1, 1000000000) }}".to_owned(),
        "{{ ('{:100000}' * 100000).format(1) }}".to_owned(),
        "{{ 'a\\nb' | indent(1000000000) }}".to_owned(),
        "{{ [[[[1]]]] | tojson(indent=1000000000) }}".to_owned(),
        "{{ range(100000) | list | tojson(separators=['a' * 10000000, ':']) }}".to_owned(),
        "{{ ('\\x01' * 30000000) | tojson }}".to_owned(),
        "{{ ['\\x01' * 30000000] }}".to_owned(),
        "{{ ['\\x01' * 30000000] ~ '' }}".to_owned(),
        "{{ range(1000000000000) | list }}".to_owned(),
        "{{ [1] | batch(1000000000, 0) | list }}".to_owned(),
        "{{ [1] | slice(1000000000, 0) | list }}".to_owned(),
        "{{ strftime_now('%c' * 10000000) }}".to_owned(),
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}\
         {% endfor %}{{ ns.x }}"
            .to_owned(),
        "{% set x %}{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}{{ x }}"
            .to_owned(),
    ];
    for source in cases {
        let before = peak();
        let outcome = rendered(&source);
        let shown = source.get(source.len().saturating_sub(100)..).unwrap_or(&source);
        assert!(peak() < before + BOUND, "{shown}: {} KiB, {before} before", peak());
        if let Ok(text) = outcome {
            assert!(text.len() < 64 << 20, "{shown}: {} bytes", text.len());
        }
    }
}

/// Recursion of the engine's own ends before the stack does.
#[test]
fn depth_is_bounded() {
    let chain = |item: &str, n| format!("{{{{ 1{} }}}}", item.repeat(n));
    let elifs = "{% elif x %}".repeat(100_000);
    let nested = |n| {
        format!(
            "{{% set ns = namespace(x=[]) %}}{{% for i in range({n}) %}}{{% set ns.x = [ns.x] %}}\
             {{% endfor %}}fine"
        )
    };
    for (source, expected) in [
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(), "recursion"),
        (nested(100_000), "nested more than 128 deep"),
        (chain(".a", 100_000), "500 operators"),
        (chain("+1", 100_000), "500 operators"),
        (chain("|abs", 100_000), "500 operators"),
        (chain(" if 1 else 1", 100_000), "500 operators"),
        (chain(" is true", 100_000), "500 operators"),
        (format!("{{% if x %}}{elifs}{{% endif %}}"), "500 `elif`s"),
        ("{{ ".to_owned() + &"[".repeat(100_000), "500 operators"),
        ("{{ ".to_owned() + &"[".repeat(400), "recursion"),
        (chain("|string", 4).replace('1', "[1, 2"), "chat_template.jinja"),
        (
            "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".to_owned(),
            "a namespace cannot be kept within another value",
        ),
        (
            "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns }}".to_owned(),
            "a namespace cannot be kept within another value",
        ),
    ] {
        let shown = source.get(..60).unwrap_or(&source);
        let error = rendered(&source).expect_err(shown);
        assert!(error.contains(expected), "{shown}: {error}");
    }
    assert_eq!(rendered(&nested(100)).as_deref(), Ok("fine"));
    assert_eq!(rendered(&chain("+1", 499)).as_deref(), Ok("500"));
    for item in [".a", "|abs", " if 1 else 1", " is true", "()", "[0:]"] {
        // Close to the limit: whether it is an error or not, there is stack for it.
        let _ = rendered(&chain(item, 240));
    }
    let _ = rendered(&format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(500)));
    // A list that is cut anew each time is one list.
    let cut = "{% set ns = namespace(x=[1, 2]) %}{% for i in range(20000) %}\
               {% set ns.x = ns.x[0:] %}{% endfor %}{{ ns.x }}";
    assert_eq!(rendered(cut).as_deref(), Ok("[1, 2]"));
}

/// Checks change nothing of what a template within the bounds writes; Jinja2 3.1 writes the same.
#[test]
fn what_is_within_bounds_is_written_as_ever() {
    for (source, expected) in [
        ("{{ [1, 'a'] ~ 'b' ~ 2 * 3 ~ -1 ~ (true if 0 else none) }}", "[1, 'a']b6-1None"),
        ("{{ 'a' ~ 'b' == 'ab' and 1 is not none ~ 'x' }}", "Truex"),
        (
            "{% set ns = namespace(l=[]) %}{% set ns.l = ns.l + [1] %}{% set ns.l = ns.l + [2] %}{{ ns.l }}",
            "[1, 2]",
        ),
        (
            "{{ ', '.join(['a', 'b']) }}{{ 'aXbX'.replace('X', '--') }}{{ 'aXbX'.replace('X', '', 1) }}",
            "a, ba--b--abX",
        ),
        (
            "{{ 'a,b'.split(',') }}{{ ' a b '.split() }}{{ 'a\\nb'.splitlines() }}",
            "['a', 'b']['a', 'b']['a', 'b']",
        ),
        (
            "{{ '%5.1f|%s|%%' | format(1.5, [1]) }}{{ '{:>4}{x}'.format(7, x='y') }}",
            "  1.5|[1]|%   7y",
        ),
        (
            "{% filter upper | replace('A', 'b') %}a{% endfilter %}{% set x | upper %}q{% endset %}{{ x }}",
            "bQ",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('-') }}",
            "x",
        ),
        (
            "{{ {'a': {'b': 'c' ~ 'd'}}['a']['b'] }}{{ 'abc'[::-1] }}{{ [1, 2, 3][1:] }}",
            "cdcba[2, 3]",
        ),
        ("{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}", "a1"),
        (
            "{%- set a, b = 1, 'z' -%} {{ a }}{{ b }}{% raw %}{{ a ~ b }}{% endraw %}{# {{ ~ #}",
            "1z{{ a ~ b }}",
        ),
        (
            "{% macro f(x, y='d' ~ 1) %}{{ x ~ y }}{% endmacro %}{{ f('c') }}{{ f('c', y='e' ~ 2) }}",
            "cd1ce2",
        ),
        (
            "{{ '\\'~' ~ \"~\\\"\" }}{{ 0x1e - 5 }}{{ 1e+1 ~ 'x' if 'a' ~ 'b' in 'cab' else 'no' }}",
            "'~~\"2510.0x",
        ),
    ] {
        assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
    }
}
