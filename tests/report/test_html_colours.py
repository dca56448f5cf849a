"""The colours of the pages: read out of the style sheet, in both schemes."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = (resources.files("migrator.report") / "templates/report.css").read_text("utf-8")
SCHEMES = ("light", "dark")
TONES = ("stored", "missing", "gone", "deleted", "failed", "pending", "count", "bytes", "saved")
MOODS = ("good", "warn", "bad", "calm")


def colours(scheme: str) -> dict[str, str]:
    """Return the variables of a scheme."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found if scheme == "light" else found | dict(re.findall(r"--([\w-]+): (#\w{6})", dark))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_formula() -> None:
    """Black on white has the greatest contrast there is."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_can_be_read(scheme: str) -> None:
    """Every text has a contrast of 4.5 or more to what is behind it."""
    found = colours(scheme)
    pairs = [(ink, "paper") for ink in ("ink", "dim", "link")]
    pairs += [(ink, "track") for ink in ("ink", "link")]
    pairs += [(mood, f"{mood}-bg") for mood in MOODS]
    pairs += [("ink", f"{mood}-bg") for mood in MOODS] + [("dim", "warn-bg"), ("link", "warn-bg")]
    for ink, ground in pairs:
        assert contrast(found[ink], found[ground]) >= 4.5, (ink, ground)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shapes_can_be_seen(scheme: str) -> None:
    """Every bar and every axis has a contrast of 3 or more to the page and to its track."""
    found = colours(scheme)
    for tone in (*TONES, "axis"):
        assert contrast(found[tone], found["paper"]) >= 3, tone
    for tone in TONES:
        assert contrast(found[tone], found["track"]) >= 3, tone


def test_every_tone_has_its_colour() -> None:
    """What a chart can ask for, the style sheet has; states have patterns besides colours."""
    parts = (resources.files("migrator.report") / "templates/parts.html").read_text("utf-8")
    for tone in TONES:
        assert f".t-{tone} {{ fill: var(--{tone}); }}" in STYLE
    for tone in ("missing", "gone", "deleted", "failed", "pending", "saved"):
        assert f'id="p-{tone}"' in parts


def test_no_colour_stands_outside_the_variables() -> None:
    """Every colour is a variable, so that both schemes and these tests know it; paper is white."""
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert re.findall(r"#[0-9a-f]{3,8}\b", rules) == ["#fff"]
