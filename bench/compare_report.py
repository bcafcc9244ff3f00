"""What bench/compare.py tells: medians of paired ratios, as Markdown, JSON and a plot."""

import json
import math
import os
import shutil
import statistics
import subprocess

LAYOUTS = {"nc": "(n, c)", "ncs": "channels-first", "nsc": "channels-last"}
PEERS = {"torch": "PyTorch", "onednn": "oneDNN", "numpy": "NumPy", "dlprimitives": "dlprimitives"}
# Name, colour and mark of a line in the plot; clnorm is drawn last, on top.
LOOKS = {"torch": ("#d9620f", 7), "onednn": ("#3a8f3a", 5), "numpy": ("#888888", 9), "dlprimitives": ("#8a4fbf", 13)}


DISTURBED = "other programs kept the processors busy meanwhile: the figures are not worth much"


def paired(numerators, denominators):
    """Median of the ratios within the rounds in which both took part; None if there is none."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True) if a is not None and b is not None]
    return statistics.median(ratios) if ratios else None


def result_rows(case, measured, contenders):
    """A flat object for every device of clnorm and mode of a case, as the JSON has them."""
    name, layout, sizes, norm = case
    rows = []
    for m in measured:
        for ours in (c for c in contenders if c.kind == "clnorm"):
            own = m["times"].get(ours.name)
            row = {"name": name, "layout": layout, "shape": list(sizes), "mode": m["mode"], "device": ours.device, **norm}
            if own:
                limit = m["limits"][ours.device]
                row.update(
                    clnorm_ms=1e3 * statistics.median(own),
                    limit_ms=1e3 * statistics.median(limit),
                    limit=m["ways"][ours.device],
                    ratio=paired(own, limit),
                    rounds=len(own),
                )
            row["peers"] = {}
            for peer in (c for c in contenders if c.kind != "clnorm" and c.device in (None, ours.device)):
                times = [t for t in m["times"].get(peer.name, []) if t is not None]
                if times and own:
                    row["peers"][peer.kind] = {
                        "ms": 1e3 * statistics.median(times),
                        "times_faster": paired(m["times"][peer.name], own),
                        "rounds": len(times),
                    }
            row["absent"] = list(m["absent"].values())
            row["failed"] = m["failed"]
            row["others"], row["disturbed"] = m["others"], m["disturbed"]
            rows.append(row)
    return rows


def ms(value):
    return f"{value:.3g}" if value < 0.1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def times(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def table(header, lines):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *lines])


def present_peers(rows):
    return [peer for peer in PEERS if any(peer in row["peers"] for row in rows)]


def call(row):
    """The mode, and of which norm if that is not batch norm."""
    return row["mode"] if row["norm"] == "batch" else f"{row['norm']} {row['mode']}"


def groups(rows):
    """(call, layout) and the rows of each that were timed."""
    found = {}
    for row in rows:
        if "ratio" in row:
            found.setdefault((call(row), row["layout"]), []).append(row)
    return found


def summary(rows):
    """Median over the shapes, and in brackets the worst."""
    peers = present_peers(rows)
    lines = []
    for (mode, layout), group in groups(rows).items():
        ratios = [row["ratio"] for row in group]
        cells = [mode, LAYOUTS[layout], f"{statistics.median(ratios):.2f} ({max(ratios):.2f})"]
        for peer in peers:
            faster = [row["peers"][peer]["times_faster"] for row in group if peer in row["peers"]]
            cells.append(f"{times(statistics.median(faster))} ({times(min(faster))})" if faster else "–")
        lines.append(cells)
    return table(["mode", "layout", "time / limit", *(f"× faster than {PEERS[peer]}" for peer in peers)], lines)


def details(rows):
    peers = present_peers(rows)
    header = ["shape", "layout", "mode", "limit ms", "clnorm ms", "time / limit"]
    lines = []
    for row in rows:
        if "ratio" not in row:
            continue
        shape = "×".join(map(str, row["shape"]))
        cells = [
            shape,
            LAYOUTS[row["layout"]],
            call(row),
            ms(row["limit_ms"]),
            ms(row["clnorm_ms"]),
            f"{row['ratio']:.2f}",
        ]
        for peer in peers:
            p = row["peers"].get(peer)
            cells.append(f"{ms(p['ms'])} (×{times(p['times_faster'])})" if p else "–")
        lines.append(cells)
    return table([*header, *(f"{PEERS[peer]} ms" for peer in peers)], lines)


def absences(rows, missing):
    """Every sentence about who was not measured, or not in peace, once, with where that was."""
    where = {}
    for row in rows:
        for sentence in row["absent"] + [DISTURBED] * row["disturbed"]:
            case = f"{row['name']} {row['layout']} {'x'.join(map(str, row['shape']))} {call(row)}"
            where.setdefault(sentence, dict.fromkeys([case]))[case] = None
    told = list(missing)
    for sentence, cases in where.items():
        first = next(iter(cases))
        told.append(f"{sentence} ({first}{f' and {len(cases) - 1} more' if len(cases) > 1 else ''})")
    return told


def markdown(result, picture):
    parts = [result["machine"] + " " + "; ".join(result["contenders"]) + "."]
    for device in dict.fromkeys(row["device"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["device"] == device]
        parts += [f"**{device}**: medians over the shapes, the worst shape in brackets.", summary(rows)]
        if device in picture:
            parts.append(f"![Times over the limit on {device}, {result['cases']}]({picture[device]})")
        parts += ["Every shape:", details(rows)]
    told = absences(result["rows"], result["missing"])
    if told:
        parts += ["Not measured, or not in peace:", "\n".join(f"- {sentence}" for sentence in told)]
    return "\n\n".join(parts) + "\n"


def replace_block(page, name, text):
    """The page with what is between its two marks of this name replaced; None if it has no such marks."""
    begin, end = f"<!-- compare.py {name}: begin -->\n", f"<!-- compare.py {name}: end -->"
    head, found, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    return f"{head}{begin}\n{text}\n{end}{tail}" if found and ended else None


def plot_script(rows, title):
    """gnuplot commands for an SVG: a panel a layout and mode, shapes across from large to small."""
    panels = groups(rows)
    layouts = list(dict.fromkeys(layout for _, layout in panels))
    modes = list(dict.fromkeys(mode for mode, _ in panels))
    peers = present_peers(rows)
    highest = max(
        [r["ratio"] for r in rows if "ratio" in r]
        + [p["ms"] / r["limit_ms"] for r in rows for p in r["peers"].values()]
    )
    width, height = 130 + 420 * len(modes), 115 + 320 * len(layouts)
    left, right, bottom, top = 80 / width, 1 - 15 / width, 95 / height, 1 - 75 / height
    lines = [
        f"set terminal svg size {width},{height} dynamic font 'DejaVu Sans,12' background rgb 'white' name 'comparison'",
        f"set multiplot layout {len(layouts)},{len(modes)} title {quote(title)} font ',15' "
        f"margins {left:.4f},{right:.4f},{bottom:.4f},{top:.4f} spacing {45 / width:.4f},{115 / height:.4f}",
        "set border 3 lc rgb '#555555'",
        "set grid ytics lc rgb '#dddddd' lt 1 lw 0.5",
        "set tics out nomirror scale 0.5",
        "set logscale y",
        f"set yrange [0.8:{10 ** math.ceil(math.log10(highest * 1.05)):g}]",
        "set xtics rotate by 45 right font ',9'",
        "unset key",
    ]
    for layout in layouts:
        for mode in modes:
            group = sorted(panels.get((mode, layout), []), key=lambda row: -math.prod(row["shape"]))
            if not group:
                lines.append("set multiplot next")
                continue
            lines += panel(group, f"{mode}, {LAYOUTS[layout]}", peers, key=(layout, mode) == (layouts[0], modes[0]))
    return "\n".join([*lines, "unset multiplot"]) + "\n"


def quote(text):
    return "'" + text.replace("'", "''") + "'"


def panel(group, title, peers, key):
    tics = ", ".join(f"{quote('×'.join(map(str, row['shape'])))} {i}" for i, row in enumerate(group))
    data, plots = [], []
    for kind in [*reversed(peers), "clnorm"]:
        points = []
        for i, row in enumerate(group):
            if kind == "clnorm":
                points.append(f"{i} {row['ratio']:.6g}")
            elif kind in row["peers"]:
                points.append(f"{i} {row['peers'][kind]['ms'] / row['limit_ms']:.6g}")
        if not points:
            continue
        colour, mark = LOOKS.get(kind, ("#1f6fb4", 7))
        data += [f"$d{len(plots)} << END", *points, "END"]
        width = 2.5 if kind == "clnorm" else 1.5
        plots.append(
            f"$d{len(plots)} using 1:2 with linespoints lw {width} pt {mark} ps 0.6 lc rgb '{colour}' "
            f"title {quote(PEERS.get(kind, 'clnorm'))}"
        )
    return [
        *data,
        "set key top left Left reverse horizontal samplen 2" if key else "unset key",
        f"set title {quote(title)}",
        f"set xrange [-0.5:{len(group) - 0.5}]",
        f"set xtics ({tics})",
        "plot 1 with lines dt 3 lw 1.5 lc rgb '#333333' title 'the limit', " + ", ".join(plots),
    ]


def write_plot(rows, title, path):
    """None, or a sentence about why there is no plot."""
    if not shutil.which("gnuplot"):
        return "There is no plot: gnuplot was not found (Debian: gnuplot-nox)"
    if not groups(rows):
        return "There is no plot: nothing was timed"
    script = f"set output {quote(path)}\n" + plot_script(rows, title)
    run = subprocess.run(["gnuplot"], input=script, capture_output=True, text=True, check=False)
    if run.returncode:
        return f"There is no plot: gnuplot failed: {' '.join(run.stderr.split())}"
    return None


def write(result, options, say):
    """comparison.json and comparison.md into options.out, the plots there too, or beside the page and its new block."""
    folder = options.out
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "comparison.json"), "w", encoding="utf-8") as stream:
        json.dump(result, stream, indent=1)
        stream.write("\n")
    pictures = {}
    images = os.path.join(os.path.dirname(options.page) or ".", "images") if options.page else folder
    for device in dict.fromkeys(row["device"] for row in result["rows"]):
        name = f"comparison-{result['cases']}-{''.join(c if c.isalnum() else '-' for c in device.lower())}.svg"
        os.makedirs(images, exist_ok=True)
        rows = [row for row in result["rows"] if row["device"] == device]
        problem = write_plot(
            rows, f"Time of a call over the limit: {result['cases']}, clnorm on {device}", os.path.join(images, name)
        )
        if problem:
            say(problem)
        else:
            pictures[device] = f"images/{name}" if options.page else name
    text = markdown(result, pictures)
    with open(os.path.join(folder, "comparison.md"), "w", encoding="utf-8") as stream:
        stream.write(text)
    if options.page:
        with open(options.page, encoding="utf-8") as stream:
            page = stream.read()
        with open(options.page, "w", encoding="utf-8") as stream:
            stream.write(replace_block(page, result["shapes"], text))
    return text
