"""Line charts with logarithmic axes, as SVG. Nothing but strings."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 48, 52
# Okabe and Ito's colours, which people with any colour vision can tell apart; kindred's first, the limit's is grey and dashed.
COLORS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444", "#8c564b", "#7f7f00", "#17becf")
FONT = 'font-family="system-ui, sans-serif"'


def short(value):
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def short_bytes(value):
    for size, prefix in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if value >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def ticks(low, high):
    """1, 2, 5 of each decade where there are few decades, else the decades."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    found = [step * 10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for step in steps]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def chart(title, x_label, y_label, lines):
    """`lines`: name -> [(x, y)], kindred first, then "limit", then the peers. Both axes are logarithmic."""
    lines = {name: sorted(points) for name, points in lines.items() if points}
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points if y > 0]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low / 2, x_high * 2
    y_low, y_high = min(ys) / 1.3, max(ys) * 1.3

    def x_at(value):
        return LEFT + (math.log(value / x_low) / math.log(x_high / x_low)) * (WIDTH - LEFT - RIGHT)

    def y_at(value):
        return HEIGHT - BOTTOM - (math.log(value / y_low) / math.log(y_high / y_low)) * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">', f"<title>{escape(title)}</title>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="26" {FONT} font-size="16" font-weight="600">{escape(title)}</text>']

    def text(x, y, words, anchor="middle", more=""):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="12" fill="#333" text-anchor="{anchor}"{more}>{escape(words)}</text>')

    for value in ticks(y_low, y_high):
        out.append(f'<path d="M{LEFT} {y_at(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        text(LEFT - 8, y_at(value) + 4, short(value), "end")
    shown = sorted(set(xs))
    for value in shown if len(shown) <= 12 else shown[:: (len(shown) + 11) // 12]:
        out.append(f'<path d="M{x_at(value):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        text(x_at(value), HEIGHT - BOTTOM + 18, short_bytes(value) if x_label == "bytes" else short(value))
    out.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#333"/>')
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label)
    text(18, (TOP + HEIGHT - BOTTOM) / 2, y_label, "middle", f' transform="rotate(-90 18 {(TOP + HEIGHT - BOTTOM) / 2:.0f})"')

    kindreds = sum(name.startswith("kindred") for name in lines)
    own, others = iter(COLORS), iter(COLORS[max(1, kindreds):])
    for index, (name, points) in enumerate(lines.items()):
        color = "#888888" if name == "limit" else next(own if name.startswith("kindred") else others, "#000000")
        dash = ' stroke-dasharray="5 4"' if name == "limit" else ""
        wide = 3 if name.startswith("kindred") else 1.5
        drawn = [(x_at(x), y_at(y)) for x, y in points if y > 0]
        path = " ".join(f"{'M' if at == 0 else 'L'}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(drawn))
        out.append(f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{wide}"{dash}/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{wide + 1}" fill="{color}"/>' for x, y in drawn]
        y = TOP + 10 + 20 * index
        out.append(f'<path d="M{WIDTH - RIGHT + 12} {y}h22" stroke="{color}" stroke-width="{wide}"{dash}/>')
        text(WIDTH - RIGHT + 40, y + 4, name, "start")
    out.append("</svg>")
    return "\n".join(out) + "\n"
