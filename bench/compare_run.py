"""How bench/compare.py measures: contenders are processes (bench/peers/worker.h has their protocol), checked against
fp64 and then timed in turns."""

import glob
import math
import os
import select
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))
from peers import weights_of

MODES = ("train", "infer", "backward")
EPS = 1e-5
CHECK_VALUES = 1 << 22  # of larger tensors some channels are checked, each in full
ANSWER_SECONDS = 300
ROUNDS_MIN = 3
TURNS_MAX, WAITED_SHARE = 4, 0.05
ATTEMPTS, OTHERS_SHARE = 3, 0.1
U = 2.0**-24


class ContenderError(Exception):
    """A sentence about a contender that cannot go on with a case, or at all."""


class NoSuchCase(ContenderError):
    """A sentence about a case that a contender has no normalization for."""


class Contender:
    """A process that takes turns. kind: "clnorm", or the peer's name; device: of clnorm and peers that run on one."""

    def __init__(self, kind, command, device=None, environment=None):
        self.kind, self.device = kind, device
        self.name = f"{kind}@{device}" if device else kind
        self.pending = b""
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}
            )
        except OSError as error:
            raise ContenderError(f"{self.name} did not start: {error}") from error
        try:
            self.label = self.read("ready")
        except ContenderError:
            self.close()
            raise

    def read(self, expected):
        deadline = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self.pending:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                self.process.kill()
                raise ContenderError(f"{self.name} did not answer within {ANSWER_SECONDS} s")
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                raise ContenderError(f"{self.name} ended with exit code {self.process.wait()}")
            self.pending += more
        line, self.pending = self.pending.split(b"\n", 1)
        word, _, rest = line.decode("utf-8", "replace").partition(" ")
        if word == "none":
            raise NoSuchCase(f"{self.name}: {rest}")
        if word != expected:
            raise ContenderError(f"{self.name}: {rest if word == 'error' else line.decode('utf-8', 'replace')}")
        return rest

    def ask(self, line):
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise ContenderError(f"{self.name} has ended: {error}") from error
        return self.read("ok")

    def waited(self):
        """Seconds that its threads were ready to run and waited for a processor; 0 where the system does not tell."""
        total = 0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            try:
                with open(path, encoding="ascii") as stream:
                    total += int(stream.read().split()[1])
            except (OSError, IndexError):
                pass  # the thread has ended, or the kernel counts nothing
        return 1e-9 * total

    def used(self):
        """Processors' seconds that it has used."""
        try:
            with open(f"/proc/{self.process.pid}/stat", encoding="utf-8", errors="replace") as stream:
                return sum(map(int, stream.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            return 0.0

    def alive(self):
        return self.process.poll() is None

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


# ---- the reference


def make_inputs(sizes, c, seed):
    """x, dy, weight, bias, running_mean, running_var in f32: about 0 with variance 1; running_var at least 0.5. c: weights."""
    generator = np.random.default_rng(seed)
    elements = math.prod(sizes)
    inputs = [generator.standard_normal(count, np.float32) for count in (elements, elements, c, c, c, c)]
    inputs[5] = np.float32(0.5) + np.square(inputs[5])
    return inputs


def rows(flat, layout, sizes, channels):
    """The chosen channels of a tensor in memory order, as [channel, value] in fp64."""
    n, c, spatial = sizes[0], sizes[1], math.prod(sizes[2:])
    if layout == "ncs":
        chosen = flat.reshape(n, c, spatial)[:, channels].transpose(1, 0, 2)
    else:
        chosen = flat.reshape(n * spatial, c)[:, channels].T
    return chosen.reshape(len(channels), n * spatial).astype(np.float64)


class Expectation:
    """What a case must give: `expected`, of each mode a pair of values and tolerances an output; of which values `got`
    takes the same from an output, and `place` has a word for one."""

    def complaint(self, mode, outputs):
        """None, or a sentence about the first output that is off. outputs: as in FOLDER/outputs."""
        counts = [math.prod(self.sizes), *([self.weights] * 2 if mode == "backward" else [])]
        names = ["dx", "dweight", "dbias"] if mode == "backward" else ["y"]
        if outputs.size != sum(counts):
            return f"{outputs.size} values came back and must be {sum(counts)}"
        parts = np.split(outputs, np.cumsum(counts)[:-1])
        for name, part, (expected, tolerance) in zip(names, parts, self.expected[mode], strict=True):
            got = self.got(name, part)
            good = np.abs(got - expected) <= tolerance  # false for a NaN
            if not good.all():
                k, i = np.unravel_index(np.argmin(good), good.shape)
                return (
                    f"{name} of {self.place(name, k)} is {got[k, i]:.9g} where the fp64 reference has "
                    f"{expected[k, i]:.9g}, off by more than {tolerance[k, 0]:.3g}"
                )
        return None


class Reference(Expectation):
    """What a case of batch norm must give, in fp64 by the formulas of docs/math.md, for some channels, and how far off f32 may be.

    A peer may add up a channel's m values in any order, in chains too, whose rounding errors grow like a random walk:
    8u·(16 + √m) of the magnitude of the terms. That tells a wrong formula or layout; how accurate each is is not the
    question here.
    """

    def __init__(self, layout, sizes, inputs):
        self.layout, self.sizes = layout, sizes
        self.weights = c = sizes[1]
        m = math.prod(sizes) // c
        most = min(c, max(2, CHECK_VALUES // m))
        self.channels = np.unique(np.linspace(0, c - 1, most).astype(int))
        x, dy = (rows(flat, layout, sizes, self.channels) for flat in inputs[:2])
        weight, bias, running_mean, running_var = (v[self.channels, None].astype(np.float64) for v in inputs[2:])
        off = 8 * U * (16 + math.sqrt(m))
        mean = x.mean(axis=1, keepdims=True)
        rstd = 1 / np.sqrt(np.square(x - mean).mean(axis=1, keepdims=True) + EPS)
        x_hat = (x - mean) * rstd
        sums = dy.sum(axis=1, keepdims=True), (dy * x_hat).sum(axis=1, keepdims=True)
        terms = np.abs(dy) + np.abs(sums[0] / m) + np.abs(x_hat * sums[1] / m)
        frozen = (x - running_mean) / np.sqrt(running_var + EPS)

        def value(expected, magnitude):
            return expected, off * magnitude.max(axis=1, keepdims=True)

        self.expected = {
            "train": [value(x_hat * weight + bias, np.abs(x_hat * weight) + np.abs(bias))],
            "infer": [value(frozen * weight + bias, np.abs(frozen * weight) + np.abs(bias))],
            "backward": [
                value(weight * rstd * (dy - sums[0] / m - x_hat * sums[1] / m), np.abs(weight) * rstd * terms),
                value(sums[1], np.abs(dy * x_hat).sum(axis=1, keepdims=True)),
                value(sums[0], np.abs(dy).sum(axis=1, keepdims=True)),
            ],
        }

    def got(self, name, part):
        if name in ("y", "dx"):
            return rows(part, self.layout, self.sizes, self.channels)
        return part[self.channels, None].astype(np.float64)

    def place(self, name, k):
        return f"channel {self.channels[k]}"


class SamplesReference(Expectation):
    """The same of norms within a sample: layer, RMS, group and instance norm. Statistics groups are rows of a matrix; some
    are checked in y and dx, and all weights in dweight and dbias."""

    def __init__(self, layout, sizes, norm, inputs):
        self.layout, self.sizes, self.norm = layout, sizes, norm
        self.weights = weights = weights_of(layout, sizes, norm)
        x, dy = (self.matrix(flat) for flat in inputs[:2])
        length, count = x.shape[1], x.shape[0]
        weight, bias, running_mean, running_var = (v.astype(np.float64) for v in inputs[2:])
        self.rows = np.unique(np.linspace(0, count - 1, min(count, max(2, CHECK_VALUES // length))).astype(int))
        off, off_weights = (8 * U * (16 + math.sqrt(m)) for m in (length, x.size // weights))
        sums = [np.zeros(weights) for _ in range(4)]
        some = max(1, CHECK_VALUES // length)
        for begin in range(0, count, some):
            chosen = np.arange(begin, min(count, begin + some))
            x_hat, _ = self.normalized(x[chosen])
            g = dy[chosen].astype(np.float64)
            for total, terms in zip(sums, (g, g * x_hat, np.abs(g), np.abs(g) * (np.abs(x_hat) + 1)), strict=True):
                self.add(total, terms, chosen)
        x_hat, rstd = self.normalized(x[self.rows])
        w, b = self.spread(weight), self.spread(bias)
        g = dy[self.rows] * w
        mean_g, mean_gx = g.mean(axis=1, keepdims=True), (g * x_hat).mean(axis=1, keepdims=True)
        if norm["norm"] == "rms":
            mean_g = np.zeros_like(mean_g)
        terms = np.abs(g) + np.abs(mean_g) + np.abs(x_hat * mean_gx)

        def value(expected, magnitude):
            return expected, off * magnitude.max(axis=1, keepdims=True)

        self.expected = {
            "train": [value(x_hat * w + b, np.abs(x_hat * w) + np.abs(b))],
            "backward": [
                value(rstd * (g - mean_g - x_hat * mean_gx), rstd * terms),
                (sums[1][:, None], off_weights * sums[3][:, None]),
                (sums[0][:, None], off_weights * sums[2][:, None]),
            ],
        }
        if norm["norm"] == "instance":
            frozen = (x[self.rows] - self.spread(running_mean)) / np.sqrt(self.spread(running_var) + EPS)
            self.expected["infer"] = [value(frozen * w + b, np.abs(frozen * w) + np.abs(b))]

    def matrix(self, flat):
        """A tensor in memory order as [statistics group, value]; of group norm channel by channel."""
        if self.norm["norm"] in ("layer", "rms"):
            return flat.reshape(-1, self.weights)
        n, c, spatial = self.sizes[0], self.sizes[1], math.prod(self.sizes[2:])
        groups = self.norm.get("groups", c)
        if self.layout == "ncs":
            return flat.reshape(n * groups, c // groups * spatial)
        return np.ascontiguousarray(flat.reshape(n, spatial, c).transpose(0, 2, 1)).reshape(n * groups, -1)

    def channels(self, rows):
        """Of each value of these rows, which weight is its own: [row, channel of the group], or None where weights run along."""
        if self.norm["norm"] in ("layer", "rms"):
            return None
        groups = self.norm.get("groups", self.sizes[1])
        each = self.sizes[1] // groups
        return (rows[:, None] % groups) * each + np.arange(each)

    def spread(self, values):
        """The weights of the checked rows, value by value."""
        channels = self.channels(self.rows)
        if channels is None:
            return values[None, :]
        return np.repeat(values[channels], math.prod(self.sizes[2:]), axis=1)

    def add(self, total, terms, rows):
        channels = self.channels(rows)
        if channels is None:
            total += terms.sum(axis=0)
        else:
            np.add.at(total, channels, terms.reshape(*channels.shape, -1).sum(axis=2))

    def normalized(self, x):
        x = x.astype(np.float64)
        if self.norm["norm"] != "rms":
            x = x - x.mean(axis=1, keepdims=True)
        rstd = 1 / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + EPS)
        return x * rstd, rstd

    def got(self, name, part):
        values = self.matrix(part)[self.rows] if name in ("y", "dx") else part[:, None]
        return values.astype(np.float64)

    def place(self, name, k):
        return f"group {self.rows[k]}" if name in ("y", "dx") else f"weight {k}"


def reference_of(layout, sizes, norm, inputs):
    return Reference(layout, sizes, inputs) if norm["norm"] == "batch" else SamplesReference(layout, sizes, norm, inputs)


# ---- one case


def sample(contender, mode):
    """Seconds of a call: the best of the samples of one turn. A turn in which the contender waited for a processor,
    because something else ran there, is taken again; a few times, for a contender may have more threads than there are
    processors."""
    best = math.inf
    for _ in range(TURNS_MAX):
        waited, begin = contender.waited(), time.monotonic()
        best = min(best, *map(float, contender.ask(f"time {mode}").split()))
        if contender.waited() - waited <= WAITED_SHARE * (time.monotonic() - begin):
            break
    return best


def take_turns(contenders, mode, rounds, seconds):
    """A B C A B C …, each round beginning with another. Returns {name: [seconds or None a round]}, {device: [limit a
    round]} and {device: the limit's way}.

    A contender that has used up its share of the time sits out, once it has had ROUNDS_MIN turns.
    """
    times = {c.name: [] for c in contenders}
    limits = {c.device: [] for c in contenders if c.kind == "clnorm"}
    ways, spent, start = {}, dict.fromkeys(times, 0.0), time.monotonic()
    for done in range(rounds):
        if done >= ROUNDS_MIN and time.monotonic() - start > seconds:
            break
        first = done % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            begin = time.monotonic()
            sits_out = done >= ROUNDS_MIN and spent[contender.name] > seconds / len(contenders)
            try:
                if contender.kind == "clnorm":
                    # The limit comes before and after, and the faster one counts: a slow limit would flatter.
                    before, _, _ = contender.ask(f"limit {mode}").partition(" ")
                    times[contender.name].append(sample(contender, mode))
                    after, _, ways[contender.device] = contender.ask(f"limit {mode}").partition(" ")
                    limits[contender.device].append(min(float(before), float(after)))
                else:
                    times[contender.name].append(None if sits_out else sample(contender, mode))
                    spent[contender.name] += time.monotonic() - begin
            except ContenderError as error:
                error.contender = contender
                raise
    return times, limits, ways


def others_seconds(contenders):
    """Processors' seconds that went to anything but the contenders and this process, since the machine started."""
    with open("/proc/stat", encoding="ascii") as stream:
        user, nice, system, _, _, irq, softirq, steal = map(int, stream.readline().split()[1:9])
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - sum(c.used() for c in contenders) - time.process_time()


def take_quiet_turns(contenders, mode, options):
    """take_turns, again if others used much of the processors meanwhile; the quietest of a few, and how much it was."""
    best = None
    for _ in range(ATTEMPTS):
        begin, used = time.monotonic(), others_seconds(contenders)
        timed = take_turns(contenders, mode, options.rounds, options.seconds)
        share = max(0.0, (others_seconds(contenders) - used) / (time.monotonic() - begin))
        if best is None or share < best[1]:
            best = (timed, share)
        if share <= OTHERS_SHARE:
            break
    return best


def measure(contenders, case, options, tell):
    """One object a mode: "mode"; "times", "limits" and "ways" of take_turns; "others": how many processors others used,
    and "disturbed": was that much; "absent": {name: sentence}, and "failed": is any of these more than a case that a
    contender has no norm for."""
    _, layout, sizes, norm = case
    absent, broken = {}, False
    with tempfile.TemporaryDirectory(prefix="clnorm-compare-") as folder:
        inputs = make_inputs(sizes, weights_of(layout, sizes, norm), 1)
        with open(os.path.join(folder, "inputs"), "wb") as stream:
            for values in inputs:
                values.tofile(stream)
        reference = reference_of(layout, sizes, norm, inputs)
        words = ",".join(f"{key}={value}" for key, value in norm.items())
        shape = "x".join(map(str, sizes))
        sets = 1 if options.warm else 0
        ready = []
        for contender in contenders:
            try:
                if not contender.alive():
                    raise ContenderError(f"{contender.name} ended in an earlier case")
                told = int(contender.ask(f"case {sets} {layout} {shape} {words} {folder}"))
                sets = sets or told  # clnorm is the first, and knows the cache
                ready.append(contender)
            except ContenderError as error:
                absent[contender.name] = str(error)
                broken = broken or not isinstance(error, NoSuchCase)
        result = []
        for mode in options.modes:
            if mode not in reference.expected:
                continue  # layer, RMS and group norm do in training what they do in inference
            missing, good, failed = dict(absent), [], broken
            for contender in ready:
                try:
                    contender.ask(f"check {mode}")
                    wrong = reference.complaint(mode, np.fromfile(os.path.join(folder, "outputs"), np.float32))
                    if wrong:
                        raise ContenderError(f"{contender.name} is wrong: {wrong}")
                    good.append(contender)
                except ContenderError as error:
                    missing[contender.name] = str(error)
                    failed = True
            tell(mode)
            timed = None
            while timed is None:
                try:
                    timed = take_quiet_turns(good, mode, options)
                except ContenderError as error:
                    missing[error.contender.name] = str(error)
                    failed = True
                    good.remove(error.contender)
            (times, limits, ways), others = timed
            result.append(
                {
                    "mode": mode,
                    "others": others,
                    "disturbed": others > OTHERS_SHARE,
                    "times": times,
                    "limits": limits,
                    "ways": ways,
                    "absent": missing,
                    "failed": failed,
                }
            )
    return result
