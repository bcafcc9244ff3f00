"""The program `clnorm demo` as a user sees it: program.py PROGRAM usage | digits DEVICE | random DEVICE."""

import csv
import html.parser
import os
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

PROGRAM, KIND, *REST = sys.argv[1:]
PICTURES = ["histograms-before", "histograms-after", "loss"]
NETWORKS = ("0", "1")  # without, with batch norm
EPOCHS = ("1", "2", "3", "4")


def demo(*options, **more):
    return subprocess.run([PROGRAM, "demo", *options], capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)


def require(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


def require_refused(code, words, *options, **more):
    done = demo(*options, **more)
    require(done.returncode == code, f"{options} gave {done.returncode}, not {code}: {done.stderr}")
    require(done.stderr.count("\n") == 1 and done.stderr.endswith("\n"), f"{options}: not one line: {done.stderr!r}")
    require(done.stdout == "", f"{options}: printed {done.stdout!r}")
    for word in words:
        require(word in done.stderr, f"{options}: '{word}' is not in {done.stderr!r}")


def usage(folder):
    out = os.path.join(folder, "out")
    run = ["covariate-shift", "--device", "cpu", "--seeds", "1"]
    require_refused(2, ["covariate-shift"])
    require_refused(2, ["gradient-shift"], "gradient-shift", "--out", out)
    require_refused(2, ["--out"], *run)
    require_refused(2, ["--data", "letters", "digits", "random"], *run, "--data", "letters", "--out", out)
    for seeds in ("0", "-1", "101"):
        require_refused(2, ["--seeds", seeds], "covariate-shift", "--seeds", seeds, "--out", out)
    require_refused(2, ["many"], "covariate-shift", "--seeds", "many", "--out", out)
    require_refused(2, ["--colour"], *run, "--colour", "--out", out)
    require_refused(2, ["operand"], *run, "--out", out, "operand")
    require_refused(2, ["no such device"], "covariate-shift", "--device", "no such device", "--out", out)
    require(not os.path.exists(out), "a wrong command made the folder")

    file = os.path.join(folder, "file")
    open(file, "w").close()
    require_refused(2, ["--out", file], *run, "--out", file)
    require_refused(2, ["--out", file], *run, "--out", os.path.join(file, "below"))

    without = dict(os.environ, PATH=os.path.join(folder, "empty"))
    require_refused(1, ["gnuplot", "installed"], *run, "--out", out, env=without)
    require(os.listdir(out) == [], "something was written without gnuplot")

    # A gnuplot that fails half-way leaves no picture and no page.
    tools = os.path.join(folder, "tools")
    os.mkdir(tools)
    with open(os.path.join(tools, "gnuplot"), "w") as script:
        script.write('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho half > loss.svg.new\necho "no room\nleft" >&2\nexit 3\n')
    os.chmod(script.name, 0o755)
    broken = dict(os.environ, PATH=tools + os.pathsep + os.environ["PATH"])
    require_refused(1, ["gnuplot", "3", "no room left"], *run, "--out", out, env=broken)
    left = sorted(os.listdir(out))
    require(not any(name.endswith((".svg", ".png", ".html", ".new")) for name in left), f"left behind: {left}")

    for options in (["--help"], ["covariate-shift", "--help"]):
        done = demo(*options)
        require(done.returncode == 0 and "--seeds" in done.stdout and "example" in done.stdout, f"{options}: {done}")


class Page(html.parser.HTMLParser):
    """Fails on tags that do not match and on anything that is fetched from elsewhere."""

    EMPTY = {"meta", "br", "link", "img"}

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)
        require(tag not in ("script", "link", "img", "iframe"), f"the page has a <{tag}>")
        for name, value in attributes:
            fetched = name in ("href", "xlink:href", "src") and not value.startswith("#")
            require(not fetched, f"the page needs {name}={value}")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            require(self.open and self.open.pop() == tag, f"</{tag}> closes nothing")

    def handle_data(self, data):
        self.text += data


def table(folder, name):
    with open(os.path.join(folder, name), newline="") as file:
        return list(csv.DictReader(file))


def check_histograms(folder):
    rows, activations = table(folder, "histograms.csv"), table(folder, "activations.csv")
    require(len(activations) == 2 * 4 * 2 and len(rows) == 50 * len(activations), "histograms are missing")
    for panel in activations:
        key = {name: panel[name] for name in ("seed", "batch_norm", "before_epoch", "activation")}
        bins = [row for row in rows if all(row[name] == value for name, value in key.items())]
        require(len(bins) == 50, f"{key}: {len(bins)} bins")
        require((bins[0]["bin_low"], bins[-1]["bin_high"]) == ("-5", "5"), f"{key}: not from -5 to 5")
        inside = sum(int(row["count"]) for row in bins)
        outside = int(panel["below"]) + int(panel["above"]) + int(panel["nan"])
        require(inside + outside == int(panel["values"]) == 100 * 256, f"{key}: the bins do not hold every value")
        mean, deviation = float(panel["mean"]), float(panel["standard_deviation"])
        below_zero = sum(int(row["count"]) for row in bins[:25]) + int(panel["below"])
        if panel["activation"] == "after":
            require(below_zero == 0 and int(panel["zero"]) > 0, f"{key}: not what ReLU gives")
        elif panel["batch_norm"] == "1" and panel["before_epoch"] == "1":
            # Weight 1 and bias 0 still: each of 256 units has mean 0, and variance 1 but for eps or if it is constant.
            require(abs(mean) < 1e-5 and abs(deviation - 1) < 1e-2, f"{key}: mean {mean}, deviation {deviation}")
    before = [p for p in activations if p["batch_norm"] == "0" and p["activation"] == "before"]
    after = [p for p in activations if p["batch_norm"] == "0" and p["activation"] == "after"]
    require([p["before_epoch"] for p in before] == list(EPOCHS), "not one panel an epoch")
    require(len({p["mean"] for p in before}) == 4 and len({p["mean"] for p in after}) == 4,
            "the epochs have the same activations")


def run(folder, data, device):
    out = os.path.join(folder, "some", "out put")
    done = demo("covariate-shift", "--data", data, "--device", device, "--seeds", "1", "--out", out)
    print(done.stdout)
    require(done.returncode == 0, f"exit code {done.returncode}: {done.stderr}")
    require(done.stderr == "", f"said {done.stderr!r} though stderr is no terminal")

    names = {"losses.csv", "histograms.csv", "activations.csv", "histograms.gp", "loss.gp", "report.html"}
    names |= {f"{name}.{kind}" for name in PICTURES for kind in ("svg", "png")}
    names |= {"accuracies.csv"} if data == "digits" else set()
    require(set(os.listdir(out)) == names, f"the folder holds {sorted(os.listdir(out))}")
    for name in PICTURES:
        root = xml.etree.ElementTree.parse(os.path.join(out, name + ".svg")).getroot()
        require(root.tag.endswith("svg") and len(list(root.iter())) > 100, f"{name}.svg is no picture")
        with open(os.path.join(out, name + ".png"), "rb") as file:
            head = file.read(24)
        require(head[:8] == b"\x89PNG\r\n\x1a\n", f"{name}.png is no PNG")
        width, height = struct.unpack(">II", head[16:])
        require(width >= 1000 and height >= 500, f"{name}.png is {width} by {height}")

    losses = {network: [float(row["loss"]) for row in table(out, "losses.csv")
                        if row["seed"] == "0" and row["batch_norm"] == network] for network in NETWORKS}
    for network in NETWORKS:
        require(len(losses[network]) == 200, f"network {network} has {len(losses[network])} losses")
        require(losses[network][-1] < losses[network][0], f"network {network} has learnt nothing")
    require(losses["1"][-1] < losses["0"][-1], "batch norm did not help")
    check_histograms(out)

    with open(os.path.join(out, "report.html"), encoding="utf-8") as file:
        text = file.read()
    page = Page()
    page.feed(text)
    require(page.open == [], f"never closed: {page.open}")
    require(page.seen.count("svg") == 3, f"{page.seen.count('svg')} pictures in the page")
    require("{{" not in text, "a value of the page was not filled in")
    ids = [part.split('"')[0] for part in text.replace("'", '"').split(' id="')[1:]]
    require(len(ids) == len(set(ids)), "two elements of the page have one id")
    for loss in (losses[n][i] for n in NETWORKS for i in (0, -1)):
        require(f"{loss:.3f}" in page.text, f"the page does not tell the loss {loss:.3f}")

    if data == "digits":
        accuracy = {row["batch_norm"]: float(row["accuracy"]) for row in table(out, "accuracies.csv")}
        require(accuracy["1"] > 0.9, f"accuracy {accuracy['1']} with batch norm")
        require(accuracy["0"] < accuracy["1"], f"accuracy {accuracy['0']} without batch norm")
        for value in accuracy.values():
            require(f"{value:.4f}" in page.text and f"{value:.4f}" in done.stdout, f"accuracy {value} is told nowhere")


with tempfile.TemporaryDirectory() as scratch:
    usage(scratch) if KIND == "usage" else run(scratch, KIND, *REST)
