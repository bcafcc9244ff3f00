"""clnorm parity: both suites on every device, that it fails when it must, and its page in a headless browser.

usage: test_parity.py usage | short_suite | full_suite | injections | injections_devices | page
"""

import html.parser
import json
import os
import shutil
import subprocess
import sys
import tempfile

TOOL = os.environ["CLNORM_TOOL"]
WITH_OPENCL = os.environ["CLNORM_TEST_OPENCL"] == "1"
DEFAULT_DEVICES = "cpu,Portable Computing Language,rusticl,Intel(R) OpenCL" if WITH_OPENCL else "cpu"
DEVICES = os.environ.get("CLNORM_TEST_DEVICES") or DEFAULT_DEVICES
OUTPUTS = [
    "y", "mean", "var", "rstd", "running_mean", "running_var", "dx", "dweight", "dbias", "statistics_count",
    "statistics_mean", "statistics_var", "sums_count", "sums_dy", "sums_dy_xhat", "sum", "dz", "g_x", "g_dy",
    "g_weight",
]  # fmt: skip
NORMS = ["batch", "layer", "group", "instance", "rms"]


def check(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


def parity(*arguments, code):
    """Runs the program, which must end with the exit code."""
    command = [TOOL, "parity", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    check(
        result.returncode == code,
        f"{' '.join(command)}: exit code {result.returncode}, not {code}\n{result.stdout[-4000:]}{result.stderr}",
    )
    return result


def load(path):
    """The results, after the same check that `python -m json.tool` makes."""
    subprocess.run([sys.executable, "-m", "json.tool", path], stdout=subprocess.DEVNULL, check=True)
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def case_names(suite):
    return parity("--suite", suite, "--list", code=0).stdout.split()


def run_suite(suite, directory):
    path = os.path.join(directory, "parity.json")
    result = parity("--devices", DEVICES, "--suite", suite, "--json", path, code=0)
    print(result.stdout)
    results = load(path)
    names, wanted = case_names(suite), DEVICES.split(",")
    check(results["suite"] == suite and results["inject"] is None, "the head of the JSON file")
    check(len(results["devices"]) == len(wanted), f"{len(results['devices'])} devices for {wanted}")
    check(len({device["device"] for device in results["devices"]}) == len(wanted), "a device is there twice")
    for device in results["devices"]:
        check([r["case"] for r in device["results"]] == names, f"{device['device']}: not the cases of --list")
        check(all(r["pass"] for r in device["results"]), f"{device['device']}: a case failed")
        check(all(r["outputs"] for r in device["results"]), f"{device['device']}: a case has no output")
        check(sorted(device["summary"]) == sorted(OUTPUTS), f"{device['device']}: outputs {sorted(device['summary'])}")
    total = len(names) * len(wanted)
    check(results["passed"] == total and results["failed"] == 0, "the sums of the JSON file")
    check(result.stdout.splitlines()[-1] == f"{total} passed, 0 failed", "the last line")


def full_suite(directory):
    check(len(case_names("full")) >= 1500, "fewer than 1500 cases")
    run_suite("full", directory)


def short_suite(directory):
    run_suite("short", directory)


SPOILS = [output + kind for output in OUTPUTS for kind in ("", ":nan")]


def can_be_spoiled(result, output):
    """Has the case a finite value of the output?"""
    return output in result["outputs"] and result["outputs"][output]["finite"] > 0


def inject(devices, suite, part, spoil, path):
    """Runs with one value of an output spoiled: every case that has the output fails by it, and no other."""
    output = spoil.split(":")[0]
    arguments = ["--devices", devices, "--suite", suite, "--case", part, "--inject", spoil, "--json", path]
    result = parity(*arguments, code=1)
    results = load(path)
    check(results["inject"] == spoil and results["failed"] > 0, "the head of the JSON file")
    for device in results["devices"]:
        spoiled = [r for r in device["results"] if can_be_spoiled(r, output)]
        check(spoiled, f"{device['device']} {output}: no case")
        for r in device["results"]:
            where = f"{device['device']} {r['case']} with {spoil} spoiled"
            if r in spoiled:
                check(not r["pass"] and not r["outputs"][output]["pass"], f"{where} passed")
                worst = r["outputs"][output]["worst"]
                check(float(worst) > 1 if spoil == output else worst == "Infinity", f"{where}: error {worst}")
                check(f"FAILED {r['case']}: " in result.stdout, f"{where} is not told")
            else:
                check(r["pass"], f"{where} failed, which it does not have: {r['message']}")


def injections(directory):
    """Of each output one value is off by twice its tolerance, or is a NaN: in every case of the short suite, on the CPU."""
    for spoil in SPOILS:
        inject("cpu", "short", "_", spoil, os.path.join(directory, "parity.json"))
    print(f"{len(SPOILS)} ways to spoil an output: every spoiled case failed, no other did")


def injections_devices(directory):
    """The same on every device, in the cases of one small shape, which have all outputs but those of residuals."""
    residuals = {"sum": "before_layer_nc", "dz": "after_ncs_backward"}
    for spoil in SPOILS:
        part = residuals.get(spoil.split(":")[0], "_n5c4")
        inject(DEVICES, "full", part, spoil, os.path.join(directory, "parity.json"))
    print(f"{len(SPOILS)} ways to spoil an output on {DEVICES}: every spoiled case failed, no other did")


def usage_selection(names):
    """The values of an option part the cases, but for those that it says nothing of; and options are joined."""

    def listed(*options):
        return parity("--list", *options, code=0).stdout.split()

    for option, values in (
        ("--dtype", ["f32", "f16", "bf16"]),
        ("--y-dtype", ["f32", "f16", "bf16"]),
        ("--act", ["none", "relu", "leaky", "gelu", "silu"]),
        ("--residual", ["none", "after", "before"]),
    ):
        some = [listed(option, value) for value in values]
        check(sorted(sum(some, [])) == sorted(names), f"the cases of all values of {option} are not all cases")
    for options, part in (
        (["--act", "gelu"], "_gelu_"),
        (["--act", "leaky", "--slope", "0.25"], "leaky0.25_"),
        (["--groups", "3"], "group3_"),
        (["--normalized-dims", "2"], "_dims2"),
        (["--residual", "before"], "before_"),
        (["--dtype", "bf16", "--y-dtype", "f16"], "bf16_f16_"),
    ):
        check(listed(*options) == [name for name in names if part in name], f"{options} are not those with {part}")
    both = set(listed("--act", "silu")) & set(listed("--norm", "rms"))
    check(both and set(listed("--act", "silu", "--norm", "rms")) == both, "two options")


def usage(directory):
    """Wrong usage: one line on stderr, exit code 2, no file."""
    page = os.path.join(directory, "page.html")
    for arguments, sentence in (
        (["--suite", "long"], "--suite is 'long'"),
        (["--norm", "rows"], "--norm is 'rows'"),
        (["--inject", "z"], "--inject is 'z'"),
        (["--inject", "y:inf"], "--inject is 'y:inf'"),
        (["--inject", "dx", "--norm", "batch", "--case", "nc_train_n1c1_"], "none of the 1 cases has the output dx"),
        (["--inject", "running_mean", "--norm", "group"], "cases has the output running_mean"),
        (["--norm", "layer", "--case", "rms_nc_train"], "a case that the other options select"),
        (["--dtype", "f64"], "--dtype is 'f64'; it must be f32, f16 or bf16"),
        (["--groups", "0"], "--groups is '0'; it must be a whole number from 1"),
        (["--slope", "0.25"], "--slope is given; it goes with --act leaky alone"),
        (["--norm", "batch", "--groups", "2"], "no case of the suite has all that the options select"),
        (["--case", "no such case"], "--case is 'no such case'"),
        (["--devices", "no such device"], "no such device"),
        (["--devices", "cpu,,cpu"], "between commas"),
        (["--json", os.path.join(directory, "none", "x.json")], "cannot be written"),
        (["--wrong"], "--wrong"),
        (["operand"], "operand"),
    ):
        result = parity("--html", page, *arguments, code=2)
        check(result.stdout == "" and result.stderr.count("\n") == 1, f"{arguments}: {result.stderr}")
        check(sentence in result.stderr, f"{arguments}: {result.stderr}")
        check(os.listdir(directory) == [], f"{arguments} left {os.listdir(directory)}")
    result = parity("--devices", "cpu,cpu", "--norm", "batch", "--case", "nc_train_n1c1_", code=0)
    check(result.stdout.splitlines()[-1] == "1 passed, 0 failed", "a device named twice ran twice")
    names = parity("--list", "--suite", "full", code=0).stdout.split()
    for name, others in ((name, sum(name in other for other in names) - 1) for name in names):
        if others:
            break
    listed = parity("--list", "--suite", "full", "--case", name, code=0).stdout.split()
    check(others and listed == [name], f"--case {name}, a part of {others} other names, is {listed}")
    listed = parity("--list", "--suite", "full", "--case", name[:-1], code=0).stdout.split()
    check(listed == [n for n in names if name[:-1] in n], f"--case {name[:-1]} is {listed}")
    listed = [parity("--list", "--norm", norm, code=0).stdout.split() for norm in NORMS]
    check(sorted(sum(listed, [])) == sorted(names), "the cases of all norms are not all cases")
    named = (name.split("_n")[0].split("_") for some in listed[1:] for name in some)
    check(all(any(part.startswith(tuple(NORMS[1:])) for part in parts) for parts in named), "names of norms")
    usage_selection(names)
    result = parity("--help", code=0)
    check("--inject" in result.stdout and result.stderr == "", "--help")


class Page(html.parser.HTMLParser):
    """What is looked for in the page: the attributes of body, the cells of the rows of the table of cases."""

    def __init__(self):
        super().__init__()
        self.body, self.rows, self.external, self.in_cell, self.canvases = {}, [], [], False, 0

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "body":
            self.body = attributes
        if tag == "canvas":
            self.canvases += 1
        if tag == "tr":
            self.case = attributes.get("class") == "case"
            if self.case:
                self.rows.append([])
        if tag == "td" and self.case:
            self.rows[-1].append("")
            self.in_cell = True
        self.external += [v for k, v in attributes.items() if k in ("src", "href", "data") and v]

    def handle_endtag(self, tag):
        if tag == "td":
            self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data


def open_page(path, fragment, directory):
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    check(browser, "no Chromium: install Debian's package chromium")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={os.path.join(directory, 'profile')}", "--virtual-time-budget=60000", "--enable-logging=stderr",
        "--dump-dom", f"file://{path}{fragment}",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    check(result.returncode == 0, f"{browser}: exit code {result.returncode}: {result.stderr[-2000:]}")
    console = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    check(not console, f"the page logs {console}")
    found = Page()
    found.feed(result.stdout)
    check(found.body.get("data-errors") == "0", f"errors of the script: {found.body}")
    check(found.body.get("data-rows") == str(len(found.rows)), f"{len(found.rows)} rows, said to be {found.body}")
    check(not found.external, f"the page asks for {found.external}")
    return found


def page(directory):
    json_path, path = os.path.join(directory, "parity.json"), os.path.join(directory, "parity.html")
    files = ["--devices", DEVICES, "--suite", "short", "--json", json_path, "--html", path]
    parity(*files, "--inject", "mean", code=1)
    results = load(json_path)
    expected = [(d["device"], r["case"], r) for d in results["devices"] for r in d["results"]]

    found = open_page(path, "", directory)
    check([tuple(r[:2]) for r in found.rows] == [e[:2] for e in expected], "the rows are not the results")
    check([r[2] for r in found.rows] == ["pass" if e[2]["pass"] else "FAIL" for e in expected], "the column result")
    check(found.canvases == len(results["devices"]), f"{found.canvases} maps of where the errors sit")

    some = [e for e in expected if e[0] == expected[-1][0] and not e[2]["pass"] and "nsc_" in e[1]]
    found = open_page(path, f"#part=nsc_&result=failed&device={expected[-1][0]}", directory)
    check(0 < len(some) < len(expected), "the filter has nothing to do")
    check([tuple(r[:2]) for r in found.rows] == [e[:2] for e in some], "the filter shows other rows")

    found = open_page(path, "#output=y&sort=worst&down=1", directory)
    y = sorted((float(e[2]["outputs"]["y"]["worst"]) for e in expected if "y" in e[2]["outputs"]), reverse=True)
    shown = [float(row[4]) for row in found.rows]
    check(len(shown) == len(y), f"{len(shown)} rows of y, not {len(y)}")
    check(all(abs(a - b) <= 0.006 * b for a, b in zip(shown, y)), "the rows are not in order of the error of y")
    print(f"{len(expected)} rows, filtered {len(some)}, sorted {len(y)}; no error of the script, nothing external")


def main():
    functions = (usage, short_suite, full_suite, injections, injections_devices, page)
    tests = {function.__name__: function for function in functions}
    check(len(sys.argv) == 2 and sys.argv[1] in tests, f"name one of {', '.join(tests)}")
    with tempfile.TemporaryDirectory(prefix="clnorm-parity-") as directory:
        tests[sys.argv[1]](directory)


if __name__ == "__main__":
    main()
