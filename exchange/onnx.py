"""A GPT as an ONNX file: ids (B, T) int64 -> logits (B, T, V) float32.

    weights     those of the state dict, under their names
    inputs      ids; B is free, and T up to the window
    metadata    each value as JSON, which any string survives

What is written has been run: a file that computes something else gets no name.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exchange.folder import optional
from exchange.graph import OPSET, REQUIREMENTS, Graph, gpt
from model import GPT, GPTConfig
from system.errors import Fault, UserError
from system.files import clear_temporary, write_whole

IR = 8  # the layout of the file, as old as OPSET; onnx would take its newest
LARGEST = 2**31 - 2**24  # bytes of weights: protobuf ends at 2 GiB, and nodes take some
TOLERANCE = 1e-4  # of logits, or of their share of the largest where that is above 1


def contents(model: GPT, metadata: dict[str, Any]) -> bytes:
    """The content of the file that computes what `model` does. Raises UserError.

    metadata: what else stands in it, each value as JSON
    """
    size = 4 * model.parameter_count()
    if size > LARGEST:
        raise UserError(
            f"the weights take {size:,} bytes, and an ONNX file holds at most {LARGEST:,}; export "
            "a smaller model"
        )
    g = Graph(model)
    make, kinds = g.onnx.helper, g.onnx.TensorProto
    result = make.make_node("Identity", [gpt(g, model)], ["logits"])
    ids = make.make_tensor_value_info("ids", kinds.INT64, ["B", "T"])
    logits = make.make_tensor_value_info("logits", kinds.FLOAT, ["B", "T", model.config.vocab_size])
    nodes, weights = [*g.nodes.values(), result], [*g.weights.values()]
    file = make.make_model(
        make.make_graph(nodes, "GPT", [ids], [logits], weights),
        opset_imports=[make.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="handmade-gpt",
        doc_string=f"ids (B, T) -> logits (B, T, V), T up to {model.config.block_size}",
    )
    make.set_model_props(file, {name: json.dumps(value) for name, value in metadata.items()})
    return file.SerializeToString()


class Running(nn.Module):
    """The file at `path` in onnxruntime, with `GPT`'s interface: idx (B, T) -> logits (B, T, V).

    Raises UserError where onnxruntime cannot run it, with its version.
    """

    def __init__(self, path: Path, config: GPTConfig) -> None:
        super().__init__()
        self.config, runtime = config, optional("onnxruntime", REQUIREMENTS)
        self.name = f"onnxruntime {runtime.__version__}"
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is said once, below
        try:
            self.session = runtime.InferenceSession(path, options)
        except Exception as error:  # of an operator, a version, a damaged file
            reason = str(error).strip().rstrip(".").rpartition(". ")[2][:200]  # its last sentence
            raise UserError(
                f"{self.name} cannot run a file of opset {OPSET} ({reason}); install a newer one "
                f"with: pip install --upgrade -r {REQUIREMENTS}"
            ) from error

    def forward(self, idx: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(["logits"], {"ids": idx.numpy()})[0])


@torch.inference_mode()
def check(running: Running, model: GPT) -> float:
    """The largest difference of the logits on random contexts of several lengths, always the same.

    Raises Fault where it is more than TOLERANCE.
    """
    generator, N = torch.Generator().manual_seed(1), model.config.block_size
    worst = 0.0
    for B, T in itertools.product((1, 3), sorted({1, min(2, N), (N + 1) // 2, N})):
        idx = torch.randint(model.config.vocab_size, (B, T), generator=generator)
        ours, theirs = model(idx), running(idx)
        scale = ours.abs().max().clamp(min=1)
        worst = max(worst, ((theirs - ours).abs().max() / scale).item())
    if not worst <= TOLERANCE:  # NaN, too
        raise Fault(
            f"in {running.name} the logits are off by {worst:.1e}, and {TOLERANCE:.0e} is allowed; "
            f"install another one with: pip install --upgrade -r {REQUIREMENTS}"
        )
    return worst


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise UserError where the file `path` is not to be written."""
    if path.is_dir():
        raise UserError(f"--to {path} is a folder; name a file, such as mine.onnx")
    if path.exists() and not overwrite:
        raise UserError(f"--to {path} is there already; name another file, or say --overwrite")


def write(
    path: Path,
    model: GPT,
    metadata: dict[str, Any],
    prove: Callable[[Running], str] | None = None,
) -> str:
    """Write what `model` computes to `path`, once onnxruntime has run it: what that found, in a
    line.

    prove: what else is to be found out about the file. Nothing is written where it raises.
    Raises UserError, and Fault where the file computes something else or cannot be written.
    """
    found = []

    def examine(file: Path) -> None:
        running = Running(file, model.config)
        found.append(f"logits in {running.name} as here to {check(running, model):.0e}")
        if prove is not None:
            found.append(prove(running))

    optional("onnxruntime", REQUIREMENTS)  # first, before a large file is made
    clear_temporary(path)
    write_whole(path, contents(model, metadata), examine)
    return "; ".join(found)
