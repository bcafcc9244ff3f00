"""peers.py numpy | torch: a peer in Python as a contender of bench/compare.py; worker.h has the protocol.

Data and results are f32. NumPy runs batch norm's formulas as the tutorial writes them, with the temporaries that this makes.
PyTorch gets its outputs allocated beforehand where its interface takes them; backward has no such interface on the CPU,
so its results go to memory that earlier results left behind (compare.py keeps the allocator from giving it back).
"""

import gc
import math
import os
import sys
import time

import numpy as np

EPS = 1e-5
MOMENTUM = 0.1
SAMPLES_A_TURN = 2
SAMPLE_SECONDS = 200e-6  # as clnorm bench: a sample of short calls lasts about this long
CALLS_MAX = 256
LONG_SECONDS = 0.1  # a call that takes longer is its own sample, without one before it to wake threads
IDLE_PROBE, IDLE_SHARE, IDLE_WAIT_MAX = 100e-6, 0.25, 0.1


class NoSuchNorm(Exception):
    """A sentence about a case that a peer has no normalization for."""


class NumPy:
    """The tutorial's batch norm on (m, c) rows; channels-first is the same over other axes."""

    def __init__(self):
        self.label = f"NumPy {np.__version__}"

    def begin(self, layout, sizes, norm, inputs, sets):
        if norm["norm"] != "batch":
            raise NoSuchNorm("the tutorial has batch norm alone")
        memory = (
            (sizes[0], sizes[1], math.prod(sizes[2:])) if layout == "ncs" else (math.prod(sizes) // sizes[1], sizes[1])
        )
        self.axes = (0, 2) if layout == "ncs" else (0,)
        self.m = math.prod(sizes) // sizes[1]
        column = (1, sizes[1], 1) if layout == "ncs" else (sizes[1],)
        self.x = [inputs["x"].reshape(memory).copy() for _ in range(sets)]
        self.dy = [inputs["dy"].reshape(memory).copy() for _ in range(sets)]
        self.weight, self.bias, self.running_mean, self.running_var = (
            inputs[name].reshape(column).copy() for name in ("weight", "bias", "running_mean", "running_var")
        )
        self.running = self.running_mean, self.running_var
        self.saved = None

    def reset(self):
        self.running_mean, self.running_var = self.running

    def train(self, i):
        x = self.x[i]
        mu = np.mean(x, axis=self.axes, keepdims=True)
        var = np.var(x, axis=self.axes, keepdims=True)
        std = np.sqrt(var + EPS)
        x_norm = (x - mu) / std
        y = self.weight * x_norm + self.bias
        self.running_mean = (1 - MOMENTUM) * self.running_mean + MOMENTUM * mu
        self.running_var = (1 - MOMENTUM) * self.running_var + MOMENTUM * var
        self.saved = (x_norm, mu, var, std)
        return {"y": y}

    def infer(self, i):
        x_norm = (self.x[i] - self.running_mean) / np.sqrt(self.running_var + EPS)
        return {"y": self.weight * x_norm + self.bias}

    def backward(self, i):
        x, dout = self.x[i], self.dy[i]
        x_norm, mu, var, std = self.saved
        dgamma = np.sum(dout * x_norm, axis=self.axes)
        dbeta = np.sum(dout, axis=self.axes)
        dx_norm = dout * self.weight
        dvar = np.sum(dx_norm * (x - mu) * (-0.5) * (var + EPS) ** (-1.5), axis=self.axes, keepdims=True)
        dmu = np.sum(dx_norm * (-1 / std), axis=self.axes, keepdims=True)
        dmu = dmu + dvar * np.sum(-2 * (x - mu), axis=self.axes, keepdims=True) / self.m
        dx = dx_norm / std + dvar * 2 * (x - mu) / self.m + dmu / self.m
        return {"dx": dx, "dweight": dgamma, "dbias": dbeta}

    @staticmethod
    def flat(value):
        return np.ascontiguousarray(value, np.float32).reshape(-1)


class PyTorch:
    """A case's norm has calls of its own: train_group and so on."""

    def __init__(self):
        import torch

        self.torch = torch
        torch.set_grad_enabled(False)
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.label = f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"

    def begin(self, layout, sizes, norm, inputs, sets):
        torch = self.torch
        n, c, spatial = sizes[0], sizes[1], list(sizes[2:])
        if norm["norm"] == "rms":
            raise NoSuchNorm("it has no RMS norm with a bias")
        if norm["norm"] == "instance" and layout == "nsc":
            raise NoSuchNorm("it has no channels-last instance norm without a copy")
        self.norm = norm["norm"]
        for mode in ("train", "backward", *(["infer"] if self.norm in ("batch", "instance") else [])):
            setattr(self, mode, getattr(self, f"{mode}_{self.norm}"))
        self.groups = norm.get("groups")
        if self.norm == "layer":
            # The dimensions in the order of memory: the last ones are normalized.
            whole = [n, *spatial, c] if layout == "nsc" else [n, c, *spatial]
            self.normalized = whole[len(whole) - norm.get("dims", 1) :]
        # PyTorch knows channels-last tensors of 4 and 5 dimensions.
        if layout == "nsc" and len(spatial) == 1:
            spatial = [1, *spatial]

        def tensor(name):
            flat = torch.from_numpy(inputs[name]).clone()
            if self.norm == "layer":
                return flat.view(whole)
            if self.norm == "instance":
                return flat.view(1, n * c, *spatial)
            if layout == "nsc":
                return flat.view(n, *spatial, c).movedim(-1, 1)
            return flat.view(n, c, *spatial)

        self.x = [tensor("x") for _ in range(sets)]
        self.dy = [tensor("dy") for _ in range(sets)]
        self.y = [tensor("dy") for _ in range(sets)]
        self.dx = [None] * sets
        self.weight, self.bias, self.running_mean, self.running_var = (
            torch.from_numpy(inputs[name]).clone() for name in ("weight", "bias", "running_mean", "running_var")
        )
        if self.norm == "layer":
            self.weight, self.bias = self.weight.view(self.normalized), self.bias.view(self.normalized)
            self.dweight, self.dbias = torch.empty(self.normalized), torch.empty(self.normalized)
        self.sizes = n, c, math.prod(spatial)
        self.mean, self.rstd = torch.empty(0), torch.empty(0)
        self.unused = (torch.empty(0), torch.empty(0))
        self.forward = torch.native_batch_norm
        self.gradients = torch.ops.aten.native_batch_norm_backward.default
        self.channels_last = layout == "nsc" and self.norm != "layer"
        self.running = self.running_mean.clone(), self.running_var.clone()

    def reset(self):
        self.running_mean.copy_(self.running[0])
        self.running_var.copy_(self.running[1])

    def train_layer(self, i):
        out = {"out0": self.y[i], "out1": self.mean, "out2": self.rstd}
        self.torch.ops.aten.native_layer_norm.out(
            self.x[i], self.normalized, self.weight, self.bias, EPS, **out
        )
        return {"y": self.y[i]}

    def backward_layer(self, i):
        self.torch.ops.aten.native_layer_norm_backward.out(
            self.dy[i],
            self.x[i],
            self.normalized,
            self.mean,
            self.rstd,
            self.weight,
            self.bias,
            (True, True, True),
            out0=self.y[i],
            out1=self.dweight,
            out2=self.dbias,
        )
        return {"dx": self.y[i], "dweight": self.dweight, "dbias": self.dbias}

    def train_group(self, i):
        out = {"out0": self.y[i], "out1": self.mean, "out2": self.rstd}
        self.torch.ops.aten.native_group_norm.out(
            self.x[i], self.weight, self.bias, *self.sizes, self.groups, EPS, **out
        )
        return {"y": self.y[i]}

    def backward_group(self, i):
        self.dx[i], dweight, dbias = self.torch.ops.aten.native_group_norm_backward(
            self.dy[i], self.x[i], self.mean, self.rstd, self.weight, *self.sizes, self.groups, (True, True, True)
        )
        return {"dx": self.dx[i], "dweight": dweight, "dbias": dbias}

    def repeated(self):
        """Instance norm is batch norm of one sample of n·c channels, as torch.nn.functional.instance_norm does it."""
        return [v.repeat(self.sizes[0]) for v in (self.weight, self.bias, self.running_mean, self.running_var)]

    def train_instance(self, i):
        n, c, _ = self.sizes
        repeated = self.repeated()
        self.forward(self.x[i], *repeated, True, MOMENTUM, EPS, out=(self.y[i], self.mean, self.rstd))
        self.running_mean.copy_(repeated[2].view(n, c).mean(0))
        self.running_var.copy_(repeated[3].view(n, c).mean(0))
        return {"y": self.y[i]}

    def infer_instance(self, i):
        self.forward(self.x[i], *self.repeated(), False, MOMENTUM, EPS, out=(self.y[i], *self.unused))
        return {"y": self.y[i]}

    def backward_instance(self, i):
        n, c, _ = self.sizes
        weight = self.weight.repeat(n)
        self.dx[i], dweight, dbias = self.gradients(
            self.dy[i], self.x[i], weight, None, None, self.mean, self.rstd, True, EPS, (True, True, True)
        )
        return {"dx": self.dx[i], "dweight": dweight.view(n, c).sum(0), "dbias": dbias.view(n, c).sum(0)}

    def train_batch(self, i):
        self.forward(
            self.x[i],
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            True,
            MOMENTUM,
            EPS,
            out=(self.y[i], self.mean, self.rstd),
        )
        return {"y": self.y[i]}

    def infer_batch(self, i):
        self.forward(
            self.x[i],
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            False,
            MOMENTUM,
            EPS,
            out=(self.y[i], *self.unused),
        )
        return {"y": self.y[i]}

    def backward_batch(self, i):
        self.dx[i], dweight, dbias = self.gradients(
            self.dy[i],
            self.x[i],
            self.weight,
            self.running_mean,
            self.running_var,
            self.mean,
            self.rstd,
            True,
            EPS,
            (True, True, True),
        )
        return {"dx": self.dx[i], "dweight": dweight, "dbias": dbias}

    def flat(self, value):
        if value.dim() > 1 and self.channels_last:
            value = value.movedim(1, -1)
        return value.contiguous().view(-1).numpy()


def wait_idle():
    """Waits until no other thread of this process runs: pools spin for a while, and would slow down whoever is next."""
    start = time.perf_counter()
    while time.perf_counter() - start < IDLE_WAIT_MAX:
        begin, busy = time.perf_counter(), time.process_time()
        time.sleep(IDLE_PROBE)
        if time.process_time() - busy < IDLE_SHARE * (time.perf_counter() - begin):
            return


def weights_of(layout, sizes, norm):
    """Values of weight and bias: of layer and RMS norm the last dimensions in the order of memory, else the channels."""
    if norm["norm"] not in ("layer", "rms"):
        return sizes[1]
    whole = [sizes[0], *sizes[2:], sizes[1]] if layout == "nsc" else list(sizes)
    return math.prod(whole[len(whole) - norm.get("dims", 1) :])


class Worker:
    def __init__(self, peer):
        self.peer = peer
        self.folder = None
        self.calls = {}

    def case(self, sets, layout, shape, norm, folder):
        sizes = [int(size) for size in shape.split("x")]
        words = dict(word.split("=", 1) for word in norm.split(","))
        norm = {key: value if key == "norm" else int(value) for key, value in words.items()}
        elements, c = math.prod(sizes), weights_of(layout, sizes, norm)
        data = np.fromfile(os.path.join(folder, "inputs"), np.float32)
        ends = np.cumsum([elements, elements, c, c, c, c])
        names = ("x", "dy", "weight", "bias", "running_mean", "running_var")
        if data.size != ends[-1]:
            raise ValueError(f"{folder}/inputs has {data.size} values and must have {ends[-1]}")
        self.folder, self.calls, self.next = folder, {}, 0
        self.sets = max(1, int(sets))
        self.peer.begin(layout, sizes, norm, dict(zip(names, np.split(data, ends[:-1]), strict=True)), self.sets)
        gc.collect()
        return f"{self.sets}"

    def check(self, mode):
        self.peer.reset()
        if mode == "backward":
            self.peer.train(0)
        outputs = getattr(self.peer, mode)(0)
        with open(os.path.join(self.folder, "outputs"), "wb") as stream:
            for value in outputs.values():
                self.peer.flat(value).tofile(stream)
        return ""

    def run(self, function, calls):
        sets = [(self.next + i) % self.sets for i in range(calls)]
        self.next = (self.next + calls) % self.sets
        start = time.perf_counter()
        for i in sets:
            function(i)
        return (time.perf_counter() - start) / calls

    def time(self, mode):
        function = getattr(self.peer, mode)
        if mode not in self.calls:
            seconds = min(self.run(function, 1) for _ in range(2))
            self.calls[mode] = (max(1, min(CALLS_MAX, math.ceil(SAMPLE_SECONDS / seconds))), seconds > LONG_SECONDS)
        calls, long = self.calls[mode]
        if long:
            return f"{self.run(function, 1):.9g}"
        self.run(function, 1)
        return " ".join(f"{self.run(function, calls):.9g}" for _ in range(SAMPLES_A_TURN))

    def answer(self, line):
        command, _, rest = line.partition(" ")
        if command == "case" and rest.count(" ") >= 4:
            return self.case(*rest.split(" ", 4))
        if command in ("check", "time") and rest in ("train", "infer", "backward") and self.folder:
            return getattr(self, command)(rest)
        raise ValueError("the line is not a command of worker.h, or comes before a case")


def main():
    peers = {"numpy": NumPy, "torch": PyTorch}
    if len(sys.argv) != 2 or sys.argv[1] not in peers:
        sys.exit("usage: peers.py numpy | torch")
    try:
        worker = Worker(peers[sys.argv[1]]())
    except (ImportError, OSError) as error:
        print("error", " ".join(str(error).split()), flush=True)
        sys.exit(1)
    print("ready", worker.peer.label, flush=True)
    gc.disable()  # no pause inside a sample; cases collect
    for line in sys.stdin:
        try:
            reply = f"ok {worker.answer(line.rstrip())}".rstrip()
        except NoSuchNorm as error:
            reply = f"none {error}"
        except Exception as error:  # whatever a peer raises is told to compare.py, which tells the user
            reply = "error " + " ".join(f"{type(error).__name__}: {error}".split())
        wait_idle()
        print(reply, flush=True)


if __name__ == "__main__":
    main()
