"""A small chart, drawn as SVG."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 190  # of the drawing, in pixels
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 8, 26  # margins; labels stand in the left and the lower one

Points = list[tuple[float | None, float | None]]
Point = tuple[float, float]


def chart(
    title: str,
    lines: dict[str, Points],
    colour: dict[str, str],
    ticks: list[str] | None = None,
    dots_only: bool = False,
) -> str:
    """Draw points (x, y) joined by lines, as a <figure>; an empty text if there is no point.

    lines: name → points; a point with None is left out. colour: name → colour. ticks: texts at
    x = 0, 1, … below the drawing. dots_only: draw dots and no lines.
    """
    points = {name: _known(line) for name, line in lines.items()}
    everything: list[Point] = []
    for known_points in points.values():
        everything += known_points
    if not everything:
        return ""
    axes = Axes.around(everything)
    drawn: list[str] = []
    for name, known_points in points.items():
        positions = [axes.position(point) for point in known_points]
        if not dots_only and len(positions) > 1:
            drawn.append(_polyline(positions, colour[name]))
        if dots_only or ticks:
            drawn += [_dot(position, colour[name]) for position in positions]
    drawn += _labels(axes, ticks, dots_only)
    caption = html.escape(title)
    return (
        f"<figure class=chart><figcaption>{caption}</figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{caption}'>"
        f"{''.join(drawn)}</svg>"
        f"<ul class=legend>{_legend(points, colour)}</ul></figure>"
    )


@dataclass(frozen=True)
class Axes:
    """The range of x and y that the drawing shows."""

    left: float
    right: float
    lowest: float
    highest: float

    @classmethod
    def around(cls, points: list[Point]) -> Axes:
        """The axes that just hold all points."""
        xs = [x for x, _ in points]
        ys = [y for _, y in points]
        return cls(min(xs), max(xs), min(ys), max(ys))

    def position(self, point: Point) -> Point:
        """The position of a point in the drawing, in pixels from its upper left corner."""
        x, y = point
        width = (self.right - self.left) or 1
        height = (self.highest - self.lowest) or 1
        across = (x - self.left) / width * (WIDTH - LEFT - RIGHT)
        up = (y - self.lowest) / height * (HEIGHT - BOTTOM - TOP)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)


def _known(line: Points) -> list[Point]:
    """The points that have both numbers."""
    known = []
    for x, y in line:
        if x is not None and y is not None:
            known.append((x, y))
    return known


def _labels(axes: Axes, ticks: list[str] | None, dots_only: bool) -> list[str]:
    """The numbers beside the drawing and below it."""
    labels = []
    for y in (axes.lowest, axes.highest):
        _, height = axes.position((axes.left, y))
        labels.append(f"<text x='{LEFT - 4}' y='{height + 4}' text-anchor='end'>{y:.3g}</text>")
    below: list[tuple[float, str]] = []
    if ticks:
        below = list(enumerate(ticks))
    elif dots_only:
        below = [(axes.left, f"{axes.left:.3g}"), (axes.right, f"{axes.right:.3g}")]
    for x, text in below:
        across, _ = axes.position((x, axes.lowest))
        labels.append(_tick(across, text))
    return labels


def _legend(names: Iterable[str], colour: dict[str, str]) -> str:
    items = ""
    for name in names:
        items += f"<li style='--c:{colour[name]}'>{html.escape(name)}</li>"
    return items


def _polyline(positions: list[Point], colour: str) -> str:
    path = " ".join(f"{x},{y}" for x, y in positions)
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>"


def _dot(position: Point, colour: str) -> str:
    x, y = position
    return f"<circle cx='{x}' cy='{y}' r='3' fill='{colour}'/>"


def _tick(x: float, text: str) -> str:
    return f"<text x='{x}' y='{HEIGHT - 8}' text-anchor='middle'>{html.escape(text)}</text>"
