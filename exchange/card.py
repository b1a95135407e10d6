"""The README.md of an exported folder: what the model is, how sure that is, and how it is used."""

from pathlib import Path

from data.laws import quoted
from system.checkpoint import Checkpoint

CARD = "README.md"
HEAD = """---
library_name: transformers
pipeline_tag: text-generation
---
"""
USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({title})
tokenizer = AutoTokenizer.from_pretrained({title})
text = tokenizer({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(**text, max_length={T})[0]))
```

Each character is one id, in this order, and others are refused:

    {chars}
"""
WINDOW = """The window has {T} places, {past}. These lines
write on, from the last {T} characters:

```python
import torch

idx = text.input_ids
for _ in range(100):
    idx = torch.cat((idx, model(idx[:, -{T}:]).logits[:, -1:].argmax(dim=-1)), dim=1)
print(tokenizer.decode(idx[0]))
```
"""
BATCHES = """No character stands for padding. For prompts of several lengths any one can,
and the attention mask says where it does:

```python
tokenizer.padding_side, tokenizer.pad_token = "left", {pad}
texts = tokenizer([{pad}, {prompt}], padding=True, return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**texts, max_new_tokens=1)))
```
"""
PAST = {  # what `generate` does when the window is full, by where a model has its positions from
    "learned": "and `generate` fails when it is full",
    "rotary": "past which `generate` goes on to distances that no training text had",
}
MOST = 200  # characters of the alphabet that are shown


def card(saved: Checkpoint, title: str, *sections: tuple[str, str]) -> str:
    """The text of the card of the model in `saved`, the name of whose folder is `title`.

    sections: of what is particular to it, each a heading, or none, and a text
    """
    chars, T = saved.chars, saved.model.block_size
    letter = next((char for char in chars if char.islower()), None)
    prompt = letter * 2 if letter else chars[0] + chars[-1]
    about = {
        "title": quoted(title),
        "T": T,
        "past": PAST[saved.model.position],
        "chars": quoted(chars[:MOST]) + (" ..." if len(chars) > MOST else ""),
        "prompt": quoted(prompt[: T - 1]),
        "pad": quoted(chars[-1]),
    }
    use = (("Use", USE), ("Past the window", WINDOW), ("Batches", BATCHES))
    parts = [f"{HEAD}\n# {title}\n"]
    for heading, text in (*sections, *((name, text.format(**about)) for name, text in use)):
        parts += [f"## {heading}\n"] if heading else []
        parts.append(text.strip("\n") + "\n")
    return "\n".join(parts)


def code(text: str) -> str:
    """A text set as code."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def trained(saved: Checkpoint) -> list[tuple[str, str]]:
    """What the card of a trained model says of its training, and of what it is without."""
    data, progress = saved.settings.get("data", {}), saved.progress
    names = data.get("dataset", "a text")
    names = ", ".join(Path(name).name for name in ([names] if isinstance(names, str) else names))
    loss = progress.get("best_loss", float("inf"))
    what = f"A character-level GPT, trained on {names}: {progress['step']:,} steps"
    if loss < float("inf"):
        what += f", `val_loss` {loss:.4f} nats per character"
        what += " together with its counts" if saved.counts else ""
    kept = {"optim": saved.settings.get("optim", {})}
    names = ("seed", "max_steps", "batch_size", "grad_accum", "dtype")
    train = saved.settings.get("train", {})
    kept["train"] = {name: train[name] for name in names if name in train}
    lines = [f"{part}.{name}={value}" for part in kept for name, value in kept[part].items()]
    left = ["what the optimizer remembers"]
    left += ["the counts beside it, so it is the trained model alone"] if saved.counts else []
    left += ["its teachers"] if saved.teachers else []
    sections = [("", f"{what}."), ("What stays behind", f"{', '.join(left)}.".capitalize())]
    return sections + ([("Settings", code("\n".join(lines)))] if lines else [])
