"""`model.py` once more, in its order, as the nodes of an ONNX graph.

The functions take names of values in place of tensors. The operators are those of OPSET, which
runtimes have had since 2022; newer ones would shut them out. (torch.onnx.export takes a package
more and some hundred times as long, and keeps in the file where on the disk each operator was
written.)
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from exchange.folder import optional
from model import GPT, Block, FeedForward, MultiHeadAttention

OPSET = 17
REQUIREMENTS = "requirements-onnx.txt"


class Graph:
    """The weights and the nodes, in the order in which they are computed.

    Its methods return the name of a value. What is computed already is not computed again.
    """

    def __init__(self, model: GPT) -> None:
        self.onnx, self.config = optional("onnx", REQUIREMENTS), model.config
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.nodes: dict[str, Any] = {}  # by what they compute
        self.weights: dict[str, Any] = {}  # by name

    def weight(self, values: Tensor, name: str = "") -> str:
        """A parameter, under its name in the state dict, or a constant, under `name`."""
        name = name or self.names[id(values)]
        if name not in self.weights:
            array = values.detach().cpu().numpy()
            self.weights[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def constant(self, value: float | list[int]) -> str:
        """A number, or a list of them, as an input of a node."""
        return self.weight(torch.tensor(value), f"constant_{value}")

    def ops(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        """The values that the operator `kind` computes."""
        key = f"{kind} {inputs} {attributes}"
        if key not in self.nodes:
            names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
            self.nodes[key] = self.onnx.helper.make_node(kind, inputs, names, **attributes)
        return list(self.nodes[key].output)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The one value that the operator `kind` computes."""
        return self.ops(kind, *inputs, **attributes)[0]


def linear(g: Graph, x: str, *layers: nn.Linear) -> str:
    """Layers side by side: x (B, T, n) -> (B, T, all that they write)."""
    weights = [g.weight(layer.weight) for layer in layers]
    y = g.op("MatMul", x, g.op("Transpose", g.op("Concat", *weights, axis=0)))
    if layers[0].bias is None:
        return y
    return g.op("Add", y, g.op("Concat", *(g.weight(layer.bias) for layer in layers), axis=0))


def norm(g: Graph, x: str, layer: nn.LayerNorm) -> str:
    """x (B, T, C) -> (B, T, C)."""
    parts = [g.weight(p) for p in (layer.weight, layer.bias) if p is not None]
    return g.op("LayerNormalization", x, *parts, axis=-1, epsilon=layer.eps)


def places(g: Graph) -> str:
    """0 to T - 1, by which tables are read: where T is past their end, the runtime says so."""
    zero, one = g.constant(0), g.constant(1)
    return g.op("Range", zero, g.op("Gather", g.op("Shape", "ids"), one), one)


def future(g: Graph) -> str:
    """Which places come after one: (T, T)."""
    column = g.op("Unsqueeze", places(g), g.constant([1]))
    return g.op("Less", column, places(g))


def rotated(g: Graph, x: str, attn: MultiHeadAttention) -> str:
    """Channel pairs, turned by the angle of their place: x (B, H, T, D) -> (B, H, T, D)."""
    rotate = attn.heads[0].rotate
    cos, sin = (
        g.op("Gather", g.weight(table, name), places(g))
        for name, table in (("cos", rotate.cos), ("sin", rotate.sin))
    )
    left, right = g.ops("Split", x, outputs=2, axis=-1)
    turned = g.op("Concat", right, left, axis=-1)
    return g.op("Add", g.op("Mul", x, cos), g.op("Mul", turned, sin))


def attention(g: Graph, x: str, attn: MultiHeadAttention) -> str:
    """x (B, T, C) -> (B, T, C)."""
    H, D = g.config.n_head, g.config.head_size
    parts = []
    for kind in ("query", "key", "value"):
        part = linear(g, x, *(getattr(head, kind) for head in attn.heads))  # (B, T, H * D)
        part = g.op("Reshape", part, g.constant([0, 0, H, D]))
        parts.append(g.op("Transpose", part, perm=[0, 2, 1, 3]))  # (B, H, T, D)
    q, k, v = parts
    if g.config.position == "rotary":
        q, k = rotated(g, q, attn), rotated(g, k, attn)
    q = g.op("Div", q, g.constant(math.sqrt(D)))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))  # (B, H, T, T)
    scores = g.op("Where", future(g), g.constant(-math.inf), scores)
    y = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)  # (B, H, T, D)
    y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.constant([0, 0, H * D]))
    return linear(g, y, attn.proj)


def gelu_tanh(g: Graph, x: str) -> str:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    cubic = g.op("Mul", g.constant(0.044715), g.op("Mul", x, g.op("Mul", x, x)))
    inner = g.op("Mul", g.constant(math.sqrt(2 / math.pi)), g.op("Add", x, cubic))
    share = g.op("Add", g.constant(1.0), g.op("Tanh", inner))
    return g.op("Mul", g.op("Mul", g.constant(0.5), x), share)


def gelu(g: Graph, x: str) -> str:
    """x / 2 (1 + erf(x / sqrt(2)))."""
    share = g.op("Add", g.constant(1.0), g.op("Erf", g.op("Div", x, g.constant(math.sqrt(2)))))
    return g.op("Mul", g.op("Mul", g.constant(0.5), x), share)


def relu2(g: Graph, x: str) -> str:
    """max(x, 0)^2."""
    positive = g.op("Relu", x)
    return g.op("Mul", positive, positive)


ACTIVATIONS = {"gelu_tanh": gelu_tanh, "gelu": gelu, "relu2": relu2}


def feed_forward(g: Graph, x: str, ffwd: FeedForward) -> str:
    """x (B, T, C) -> (B, T, C)."""
    return linear(g, ACTIVATIONS[g.config.activation](g, linear(g, x, ffwd.up)), ffwd.down)


def shifted(g: Graph, x: str) -> str:
    """The first channels from the place before, zero at the first place: (B, T, C) -> the same."""
    n = round(g.config.shift * g.config.n_embd)
    if not n:
        return x
    moved, kept = g.ops("Split", x, g.constant([n, g.config.n_embd - n]), outputs=2, axis=-1)
    moved = g.op("Pad", moved, g.constant([0, 1, 0, 0, -1, 0]))
    return g.op("Concat", moved, kept, axis=-1)


def block(g: Graph, x: str, layer: Block) -> str:
    """x (B, T, C) -> (B, T, C)."""
    read = shifted(g, norm(g, x, layer.ln_1))
    x = g.op("Add", x, attention(g, read, layer.attn))
    read = shifted(g, norm(g, x, layer.ln_2))
    return g.op("Add", x, feed_forward(g, read, layer.ffwd))


def gpt(g: Graph, model: GPT) -> str:
    """ids (B, T) -> logits (B, T, V)."""
    x = g.op("Gather", g.weight(model.wte.weight), "ids")  # (B, T, C)
    if g.config.position == "learned":
        x = g.op("Add", x, g.op("Gather", g.weight(model.wpe.weight), places(g)))
    for layer in model.blocks:
        x = block(g, x, layer)
    return linear(g, norm(g, x, model.ln_f), model.lm_head)
