"""Plots as SVG: small, the same on every machine, and legible on a light and on a dark page."""

WIDTH, HEIGHT, LEFT, TOP = 860, 190, 60, 24
STYLE = (
    "<style>text{font:12px sans-serif;fill:#777}path{fill:none;stroke-width:1.5}.axis{stroke:#9998}"
    ".a{stroke:#3b82f6}.b{stroke:#f59e0b}.c{stroke:#ef4444;stroke-dasharray:5 4}.at{fill:#3b82f6}.bt{fill:#f59e0b}.ct{fill:#ef4444}</style>"
)


def panel(number, title, lines, top_value, end, ticks):
    """One diagram. `lines` are (class, label, [(x, y)]); `ticks` are (x, label)."""
    y0 = number * (HEIGHT + 50) + TOP
    parts = [f'<text x="{LEFT}" y="{y0 - 8}">{title}</text>']

    def at(x, y):
        return f"{LEFT + WIDTH * x / end:.1f},{y0 + HEIGHT - HEIGHT * min(y, top_value) / top_value:.1f}"

    for value in (0, top_value / 2, top_value):
        parts.append(f'<path class="axis" d="M{at(0, value)}L{at(end, value)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(at(0, value).split(",")[1]) + 4:.0f}" text-anchor="end">{value:,.0f}</text>')
    for x, label in ticks:
        parts.append(f'<text x="{float(at(x, 0).split(",")[0]):.0f}" y="{y0 + HEIGHT + 16}" text-anchor="middle">{label}</text>')
    for number, (style, label, points) in enumerate(lines):
        parts.append(f'<path class="{style}" d="M{"L".join(at(x, y) for x, y in points)}"/>')
        parts.append(f'<text class="{style}t" x="{LEFT + 200 + 190 * number}" y="{y0 - 8}">{label}</text>')
    return "\n".join(parts)


def page(panels):
    height = len(panels) * (HEIGHT + 50) + TOP
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}">{STYLE}\n' + "\n".join(panels) + "\n</svg>\n"


def stairs(changes, first, end):
    """The line of a number that changes at (time, from, to)."""
    points = [(0, first)]
    for time, before, after in changes:
        points += [(time, before), (time, after)]
    return [*points, (end, points[-1][1])]


def day(rows, changes):
    end = rows[-1][0]
    some = rows[::120]
    ticks = [(hour * 3600, f"{hour}:00") for hour in range(0, 25, 3)]
    clients = [("a", "clients", [(row[0], row[1]) for row in some])]
    pods = [("b", "pods", stairs(changes, 3, end))]
    # The fullest moment of every two minutes, so that no peak is lost between two points.
    peaks = [(start, max(row[3] for row in rows[start : start + 120])) for start in range(0, len(rows), 120)]
    fullest = [("a", "fullest pod", peaks), ("b", "target", [(0, 500), (end, 500)]), ("c", "limit of HAProxy", [(0, 1000), (end, 1000)])]
    return page([panel(0, "clients", clients, 10_000, end, ticks), panel(1, "pods", pods, 20, end, ticks), panel(2, "connections of a pod", fullest, 1_200, end, ticks)])


def record(rows, end):
    """The pods of the recorded autoscaler beside those of the model: rows of (time, seen, recorded, model)."""
    ticks = [(second, f"{second} s") for second in range(0, int(end) + 1, 10)]
    seen = [("a", "connections of a pod, as seen", [(row[0], row[1]) for row in rows])]
    pods = [("a", "recorded", step([(row[0], row[2]) for row in rows])), ("c", "model", step([(row[0], row[3]) for row in rows]))]
    return page([panel(0, "metric", seen, 40, end, ticks), panel(1, "pods", pods, 8, end, ticks)])


def step(points):
    line = points[:1]
    for (_, before), (time, after) in zip(points, points[1:]):
        line += [(time, before), (time, after)]
    return line
