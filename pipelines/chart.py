"""A small chart, drawn as SVG."""

from __future__ import annotations

import html

WIDTH, HEIGHT = 300, 190  # of the drawing, in pixels
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 8, 26  # margins; labels stand in the left and the lower one

Points = list[tuple[float | None, float | None]]
Scale = tuple[float, float, float, float]  # lowest x, width, lowest y, height, in data units


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
    points: dict[str, list[tuple[float, float]]] = {}
    for name, line in lines.items():
        points[name] = [(x, y) for x, y in line if x is not None and y is not None]
    everything = [point for known_points in points.values() for point in known_points]
    if not everything:
        return ""
    lowest_x, lowest_y = (min(values) for values in zip(*everything, strict=True))
    highest_x, highest_y = (max(values) for values in zip(*everything, strict=True))
    scale = (lowest_x, (highest_x - lowest_x) or 1, lowest_y, (highest_y - lowest_y) or 1)

    drawn = []
    for name, known_points in points.items():
        places = [_place(x, y, scale) for x, y in known_points]
        if not dots_only and len(places) > 1:
            drawn.append(_polyline(places, colour[name]))
        if dots_only or ticks:
            drawn += [_dot(place, colour[name]) for place in places]
    for y in (lowest_y, highest_y):
        height = _place(lowest_x, y, scale)[1]
        drawn.append(f"<text x='{LEFT - 4}' y='{height + 4}' text-anchor='end'>{y:.3g}</text>")
    if ticks:
        drawn += [_tick(_place(i, lowest_y, scale)[0], text) for i, text in enumerate(ticks)]
    elif dots_only:
        for x in (lowest_x, highest_x):
            drawn.append(_tick(_place(x, lowest_y, scale)[0], f"{x:.3g}"))
    legend = [f"<li style='--c:{colour[name]}'>{html.escape(name)}</li>" for name in points]
    caption = html.escape(title)
    return (
        f"<figure class=chart><figcaption>{caption}</figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{caption}'>"
        f"{''.join(drawn)}</svg>"
        f"<ul class=legend>{''.join(legend)}</ul></figure>"
    )


def _place(x: float, y: float, scale: Scale) -> tuple[float, float]:
    """The position of a point in the drawing, in pixels from its upper left corner."""
    lowest_x, x_span, lowest_y, y_span = scale
    across = (x - lowest_x) / x_span * (WIDTH - LEFT - RIGHT)
    up = (y - lowest_y) / y_span * (HEIGHT - BOTTOM - TOP)
    return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)


def _polyline(places: list[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x},{y}" for x, y in places)
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>"


def _dot(place: tuple[float, float], colour: str) -> str:
    return f"<circle cx='{place[0]}' cy='{place[1]}' r='3' fill='{colour}'/>"


def _tick(x: float, text: str) -> str:
    return f"<text x='{x}' y='{HEIGHT - 8}' text-anchor='middle'>{html.escape(text)}</text>"
