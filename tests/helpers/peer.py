"""A small stand-in for nanoGPT's checkout, and what tests of the benchmarks have in common."""

import re
from collections.abc import Callable

from tests.helpers import runs

TEXT = runs.TEXT * 5
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 6, "dropout": 0.0}
# A checkout, whose model has one weight and moves the clock: by 500 s when it is called in
# evaluation, and by 1 s in training, but only when it is waited for, as a GPU does.
PEER = {
    "config/train_shakespeare_char.py": "fall = 0.001\n",
    "configurator.py": "options = dict(arg[2:].split('=') for arg in sys.argv[2:])\n",
    "data/shakespeare_char/prepare.py": """
import pathlib, requests
folder = pathlib.Path(__file__).parent
(folder / "meta.pkl").write_bytes((folder / "input.txt").read_bytes())
""",
    "model.py": """
import torch, types
clock, queue = [1.0], []
def wait():
    clock[0] += len(queue)
    queue.clear()
torch.cpu.synchronize = wait
class GPTConfig(types.SimpleNamespace):
    pass
class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.level = config, torch.nn.Parameter(torch.tensor(3.0))
    def forward(self, idx, targets):
        queue.append(1) if self.training else clock.append(clock.pop() + 500)
        place = torch.arange(idx.shape[1])
        dropout = 7.0 * self.training
        return None, (self.level + 0.01 * place + 0.1 * targets + 0.03 * idx).mean() + dropout
    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.SGD(self.parameters(), learning_rate)
    def get_num_params(self):
        return 1234
""",
    "train.py": """
import os, sys, time, torch, model
exec(open(sys.argv[1]).read())
exec(open("configurator.py").read())
assert os.path.getsize("data/shakespeare_char/meta.pkl") == 2000
time.perf_counter = lambda: model.clock[0]
gpt, x = model.GPT(model.GPTConfig(block_size=int(options["block_size"]))), torch.zeros(1, 1)
for step in range(int(options["max_iters"]) + 1):
    if step % int(options["eval_interval"]) == 0:
        gpt.eval()
        for _ in range(int(options["eval_iters"])):
            gpt(x, x)
        gpt.train()
        if step > 0 and options["always_save_checkpoint"] == "True":
            torch.save({"iter_num": step}, "ckpt.pt")
    gpt(x, x)
    gpt.level.data -= fall
""",
    "sample.py": """
import pickle, sys, tiktoken, torch
options = dict(arg[2:].split("=") for arg in sys.argv[1:])
saved = torch.load(options["out_dir"] + "/ckpt.pt")
meta = pickle.load(open(f"data/{saved['config']['dataset']}/meta.pkl", "rb"))
weight = saved["model"]["lm_head.weight"]
assert len(meta["itos"]) == saved["model_args"]["vocab_size"] == len(weight) > meta["stoi"]["A"]
assert (options["start"], options["max_new_tokens"], options["num_samples"]) == ("A", "1", "1")
""",
}


class Near:
    """A side in this process."""

    def __init__(self, make: Callable, *args: object) -> None:
        self.ask, self.startup, self.close = make(*args), 0.5, lambda: None


def cells(text: str) -> list[list[str]]:
    """The header and the rows of a table in Markdown whose columns are aligned."""
    lines = text.splitlines()
    assert len({tuple(i for i, char in enumerate(line) if char == "|") for line in lines}) == 1
    assert re.fullmatch(r"\| -+ (\| -+: )*\|", lines.pop(1))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
