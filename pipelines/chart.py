"""A small chart, drawn as SVG."""

from __future__ import annotations

import html


def chart(
    title: str,
    lines: dict[str, list],
    colour: dict[str, str],
    ticks: list[str] | None = None,
    dots_only: bool = False,
) -> str:
    """A small drawing of points joined by lines."""
    width, height, left, low, top = 300, 190, 42, 26, 8
    known = {
        m: [(x, y) for x, y in points if x is not None and y is not None]
        for m, points in lines.items()
    }
    every = [p for points in known.values() for p in points]
    if not every:
        return ""
    (x0, x1), (y0, y1) = ((min(v), max(v)) for v in zip(*every, strict=True))
    x_span, y_span = (x1 - x0) or 1, (y1 - y0) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (x - x0) / x_span * (width - left - 10)
        return round(across, 1), round(height - low - (y - y0) / y_span * (height - low - top), 1)

    drawn = []
    for method, points in known.items():
        places = [at(*p) for p in points]
        if not dots_only and len(places) > 1:
            path = " ".join(f"{x},{y}" for x, y in places)
            drawn.append(
                f"<polyline points='{path}' fill='none' stroke='{colour[method]}' stroke-width='1.6'/>"
            )
        if dots_only or ticks:
            drawn += [
                f"<circle cx='{x}' cy='{y}' r='3' fill='{colour[method]}'/>" for x, y in places
            ]
    labels = [
        f"<text x='{left - 4}' y='{at(x0, y)[1] + 4}' text-anchor='end'>{y:.3g}</text>"
        for y in (y0, y1)
    ]
    if ticks:
        labels += [
            f"<text x='{at(i, y0)[0]}' y='{height - 8}' text-anchor='middle'>{t}</text>"
            for i, t in enumerate(ticks)
        ]
    elif dots_only:
        labels += [
            f"<text x='{at(x, y0)[0]}' y='{height - 8}' text-anchor='middle'>{x:.3g}</text>"
            for x in (x0, x1)
        ]
    legend = "".join(f"<li style='--c:{colour[m]}'>{html.escape(m)}</li>" for m in known)
    name = html.escape(title)
    return (
        f"<figure class=chart><figcaption>{name}</figcaption>"
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{name}'>{''.join(drawn)}{''.join(labels)}</svg>"
        f"<ul class=legend>{legend}</ul></figure>"
    )
