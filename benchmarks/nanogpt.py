"""The peer: nanoGPT (github.com/karpathy/nanoGPT), used from a checkout and never copied.

Its names occur only here.
"""

import importlib.util
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from data.corpus import Corpus
from model import GPT
from system.errors import UserError

RECIPE = "config/train_shakespeare_char.py"
PREPARE = "data/shakespeare_char/prepare.py"
PARTS = ("train.py", "sample.py", "model.py", "configurator.py", RECIPE, PREPARE)
# what its README gives for a machine without a GPU, less the options on evaluation
CPU_RECIPE = (
    *("--device=cpu", "--compile=False", "--dropout=0.0", "--batch_size=12", "--block_size=64"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000"),
)
# our settings with its structure
STRUCTURE = {"position": "learned", "activation": "gelu", "shift": 0.0, "tie_weights": True}


def check(path: Path | None) -> None:
    """Raise UserError unless `path` is None or a checkout."""
    missing = [part for part in PARTS if path and not (path / part).is_file()]
    if missing:
        raise UserError(
            f"--nanogpt {path} has no {missing[0]}; "
            "give the folder that git clone github.com/karpathy/nanoGPT made"
        )


def copy(path: Path, folder: Path) -> None:
    """The parts of the checkout that are run, in `folder`, so that the checkout stays as it is."""
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path / part, folder / part)


def load(path: Path) -> ModuleType:
    """Its model.py, under a name that is not ours."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(path: Path, shape: dict[str, int | float]) -> nn.Module:
    """Its GPT of a shape that both name alike: n_layer, n_head, n_embd, block_size, ..."""
    module = load(path)
    return module.GPT(module.GPTConfig(bias=False, **shape))


def training(
    path: Path,
    shape: dict[str, int | float],
    corpus: Corpus,
    batch_size: int,
    place: torch.device,
    *,
    compiled: bool,
) -> tuple[nn.Module, Callable[[], None]]:
    """Its model and one step of training as its train.py makes them."""
    model = build(path, shape).to(place)
    model.train()
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), place.type)
    forward, context = model, torch.autocast(place.type, torch.bfloat16, place.type == "cuda")
    if compiled:
        forward = torch.compile(model)
    block_size = shape["block_size"]

    def step() -> None:
        starts = torch.randint(len(corpus.train) - block_size, (batch_size, 1))
        window = corpus.train[(starts + torch.arange(block_size + 1)).to(corpus.train.device)]
        window = window.to(place, torch.long)  # (B, T + 1)
        with context:
            _, loss = forward(window[:, :-1].contiguous(), window[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return model, step


def weights(ours: GPT) -> dict[str, Tensor]:
    """The weights of our GPT (learned positions, gelu, tied, no biases) under its names."""
    renamed = {
        "transformer.wte.weight": ours.wte.weight,
        "transformer.wpe.weight": ours.wpe.weight,
        "transformer.ln_f.weight": ours.ln_f.weight,
        "lm_head.weight": ours.lm_head.weight,
    }
    for i, block in enumerate(ours.blocks):
        heads = block.attn.heads
        qkv = [getattr(head, part).weight for part in ("query", "key", "value") for head in heads]
        renamed |= {
            f"transformer.h.{i}.ln_1.weight": block.ln_1.weight,
            f"transformer.h.{i}.attn.c_attn.weight": torch.cat(qkv),
            f"transformer.h.{i}.attn.c_proj.weight": block.attn.proj.weight,
            f"transformer.h.{i}.ln_2.weight": block.ln_2.weight,
            f"transformer.h.{i}.mlp.c_fc.weight": block.ffwd.up.weight,
            f"transformer.h.{i}.mlp.c_proj.weight": block.ffwd.down.weight,
        }
    return {name: weight.detach() for name, weight in renamed.items()}


def sample_command(path: Path, folder: Path, ours: GPT) -> tuple[list[str], Path]:
    """How its sample.py writes one character with our weights, saved in `folder`, and where.

    The tokenizer of GPT-2, which it imports but has no use for here, need not be installed.
    """
    copy(path, folder)
    config = ours.config
    names = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "dropout", "bias")
    shape = {name: getattr(config, name) for name in names}
    saved = {"model": weights(ours), "model_args": shape, "config": {"dataset": "shakespeare_char"}}
    (folder / "run").mkdir()
    torch.save(saved, folder / "run/ckpt.pt")
    chars = dict(enumerate(map(chr, range(48, 48 + config.vocab_size))))
    meta = {"itos": chars, "stoi": {char: i for i, char in chars.items()}}
    (folder / PREPARE).with_name("meta.pkl").write_bytes(pickle.dumps(meta))
    code = (
        "import runpy, sys, types; sys.modules.setdefault('tiktoken', types.ModuleType('tiktoken'))"
        "; sys.path[0] = '.'; runpy.run_path('sample.py', run_name='__main__')"
    )
    options = ["--out_dir=run", "--num_samples=1", "--max_new_tokens=1", "--start=A"]
    options += ["--device=cpu", "--dtype=float32"]
    return [sys.executable, "-c", code, *options], folder
