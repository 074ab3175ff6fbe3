"""How the page writes what it is given: numbers as figures only, text that cannot hide what it says."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jinja2
import pytest

from dtx_assets.machinery.report.render import CompiledTemplates, age, environment

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)


def rendered(template: str, **values: object) -> str:
    return environment().from_string(template).render(**values)


def test_a_figure_says_what_it_is_of():
    assert rendered("{{ count(n, 'read', 'letter') }}", n=1234) == "<span data-figure='read letter'>1,234</span>"
    assert rendered("{{ count(n, 'read') }}", n=None) == "<span data-figure='read'>–</span>"
    assert rendered("{{ count(n, 'read', tag='tspan') }}", n=0) == "<tspan data-figure='read'>0</tspan>"
    assert rendered("{{ duration(n, 'took') }}", n=4.5) == "<span data-figure='took'>4.5 s</span>"
    assert rendered("{{ moment(n, 'now') }}", n=NOW) == "<span data-figure='now'>2026-05-03 12:00 UTC</span>"


def test_the_name_of_a_figure_cannot_break_out_of_its_element():
    shown = rendered("{{ count(n, name) }}", n=1, name="a'><b>\u202e")
    assert shown == "<span data-figure='a&#39;&gt;&lt;b&gt;\\u202e'>1</span>"


@pytest.mark.parametrize("value", [3, 0.5, NOW, True])
def test_a_number_without_a_name_is_refused(value):
    with pytest.raises(TypeError, match="is shown without a name"):
        rendered("{{ value }}", value=value)


@pytest.mark.parametrize(
    ("part", "shown"),
    [(None, "–"), (0, "0.0 %"), (0.0004, "< 0.1 %"), (0.125, "12.5 %"), (0.9999, "> 99.9 %"), (1, "100.0 %")],
)
def test_a_share_that_rounds_to_nothing_or_to_all_says_so(part, shown):
    text = rendered("{{ share(part, 'it') }}", part=part)
    assert text == f"<span data-figure='it'>{shown.replace('<', '&lt;').replace('>', '&gt;')}</span>"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "now"), (59, "now"), (60, "1 min"), (3_599, "59 min"), (3_600, "1 h"), (172_799, "47 h"), (172_800, "2 days")],
)
def test_an_age_is_told_in_one_unit(seconds, shown):
    assert age(NOW, NOW - timedelta(seconds=seconds)) == shown
    assert age(NOW, None) == "never"


def test_signs_that_would_hide_text_are_spelt_out():
    assert rendered("{{ text }}", text="a\u202eb\x00<") == "a\\u202eb\\u0000&lt;"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("set `status: <b>` in it", "set <code>status: &lt;b&gt;</code> in it"),
        ("`a` and `b\u202e`", "<code>a</code> and <code>b\\u202e</code>"),
        ("none <i>", "none &lt;i&gt;"),
        ("one ` alone <i>", "one ` alone &lt;i&gt;"),
    ],
)
def test_what_stands_between_backticks_is_code(text, shown):
    assert rendered("{{ text|coded }}", text=text) == shown


def test_a_name_of_several_parts_breaks_between_them():
    assert rendered("{{ name|breakable }}", name="A/b<i>/c") == "A/<wbr>b&lt;i&gt;/<wbr>c"


def test_templates_are_compiled_once_where_bytecode_may_be_written(tmp_path, monkeypatch):
    """To compile those of the page takes longer than to make it; elsewhere each process does, and nothing fails."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    compiled: list[str] = []
    real = jinja2.Environment._compile
    monkeypatch.setattr(
        jinja2.Environment, "_compile", lambda self, source, name: compiled.append(name) or real(self, source, name)
    )

    def once_more() -> int:
        before = len(compiled)
        jinja = environment.__wrapped__()
        assert jinja.get_template("macros.html.j2").module.table  # type: ignore[attr-defined]
        return len(compiled) - before

    assert [once_more(), once_more()] == [1, 1], "there is no directory to keep them in"
    Path(CompiledTemplates().directory).mkdir(parents=True)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert [once_more(), once_more()] == [1, 1]
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert [once_more(), once_more()] == [1, 0]
