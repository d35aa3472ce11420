"""The colours of the page as CSS variables: those of the pictures, for the light and the dark page.

A cell of the confusion matrix is coloured in steps between the page and a colour. Of black and
white the one is written on it that stands out more: whatever the colour, that is a contrast of
4.58 to 1 or more (WCAG 2.1 asks for 4.5), because the two contrasts multiply to 21.
"""

from __future__ import annotations

from minicnn.plot.style import Theme, contrast, theme
from minicnn.report.classes import LEVELS

BLACK, WHITE = "#000000", "#ffffff"


def variables(dark: bool) -> dict[str, str]:
    """Name -> colour, of the light page or the dark one.

    >>> variables(dark=False)["page"], variables(dark=True)["page"]
    ('#ffffff', '#14171c')
    """
    colors = theme(dark)
    found = {name: getattr(colors, name) for name in ("page", "text", "faint", "rule", "card")}
    found |= {"good": colors.good, "bad": colors.bad}
    for i in range(4):
        found[f"series-{i}"] = colors.series[i]
    for look, color in (("right", colors.good), ("wrong", colors.bad)):
        for level in range(1, LEVELS + 1):
            back = mixed(colors, color, level / LEVELS)
            found[f"{look}-{level}"] = back
            found[f"on-{look}-{level}"] = max((BLACK, WHITE), key=lambda c: contrast(c, back))
    return found


def mixed(colors: Theme, color: str, share: float) -> str:
    """A colour thinned with that of the page.

    >>> mixed(theme(), "#000000", 0.2)
    '#cccccc'
    """
    return "#" + "".join(f"{round(255 * part):02x}" for part in colors.tint(color, share))


def css() -> str:
    """The variables as rules: light by default and in print, dark where the reader has it so."""
    light, dark = (_rule(variables(dark)) for dark in (False, True))
    looks = "".join(
        f".matrix .{look}-{i}{{background:var(--{look}-{i});color:var(--on-{look}-{i})}}\n"
        for look in ("right", "wrong")
        for i in range(1, LEVELS + 1)
    )
    return f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}\n{looks}"


def _rule(found: dict[str, str]) -> str:
    return f":root{{{';'.join(f'--{name}:{color}' for name, color in found.items())}}}\n"
