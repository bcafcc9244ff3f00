"""The norms in NumPy."""

import numpy as np

NORMS = ["batch", "layer", "group", "instance", "rms"]  # by clnorm_norm and reference_norm


class Norm:
    """A norm in NumPy, on a tensor as [samples, channels, positions] or (layer and RMS norm) as rows: statistics over `axes`, weights along
    `along`; wide: of values a group or a weight, shaped to go with the tensor."""

    def __init__(self, norm, layout, n, c, s, groups=2, length=1):
        self.norm, self.rows = norm, norm in ("layer", "rms")
        self.n, self.c, self.s, self.groups, self.length = n, c, s, groups, length
        self.last = layout == "nsc" and not self.rows
        if self.rows:
            self.shape, self.axes, self.others = (n * c * s // length, length), (1,), (0,)
        else:
            self.shape = (n, groups, c // groups, s) if norm == "group" else (n, 1, c, s)
            self.axes = {"batch": (0, 1, 3), "group": (2, 3), "instance": (3,)}[norm]
            self.others = (0, 3)
        self.weights = length if self.rows else c

    def tensor(self, flat):
        if self.last:
            flat = flat.reshape(self.n, self.s, self.c).transpose(0, 2, 1)
        return flat.reshape(self.shape)

    def flat(self, tensor):
        if self.last:
            tensor = tensor.reshape(self.n, self.c, self.s).transpose(0, 2, 1)
        return tensor.reshape(-1)

    def weight(self, values):
        return values.reshape([1 if i in self.others else size for i, size in enumerate(self.shape)])

    def statistics(self, x):
        mean = 0 * x.mean(self.axes, keepdims=True) if self.norm == "rms" else x.mean(self.axes, keepdims=True)
        return mean, ((x - mean) ** 2).mean(self.axes, keepdims=True)

    def gradients(self, x, dy, weight, mean, rstd, frozen):
        """dx, dweight, dbias, and the three magnitudes of the contract's bounds, each of all elements or weights."""
        xhat, g = (x - mean) * rstd, weight * dy
        by_mean = 0 if frozen or self.norm == "rms" else g.mean(self.axes, keepdims=True)
        by_var = 0 if frozen else xhat * (g * xhat).mean(self.axes, keepdims=True)
        terms = (np.abs(g) + np.abs(by_mean) + np.abs(by_var)).max(self.axes, keepdims=True)
        wide = np.abs(xhat) + (self.norm in ("layer", "group"))
        values = [(dy * xhat).sum(self.others), dy.sum(self.others), (np.abs(dy) * wide).sum(self.others)]
        values = [value.reshape(-1) for value in (*values, np.abs(dy).sum(self.others))]
        return (rstd * (g - by_mean - by_var), *values[:2]), (rstd * terms * np.ones(x.shape), *values[2:])
