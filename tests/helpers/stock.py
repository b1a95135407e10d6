"""What transformers makes of exported folders: a script of its own, which imports nothing of ours.

    python -I stock.py jobs.json

jobs.json lists models: `folder`, `chars`, `places` of the window, length of the `shortest` context,
the `answers` to every context from there to a full window, in the order of itertools.product, the
`prompts` to continue, the `code` to run, and the `kernels` of attention to take. Prints what came
out of each, and how many contexts are answered wrong, by the way in which they are asked.
"""

import contextlib
import io
import itertools
import json
import sys
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

OURS = {"model", "system", "data", "exchange", "handmade", "proof", "generate", "tests"}
ROWS = 8192  # contexts at a time
WAYS = ("at once", "one by one", "generate with a cache", "generate without")
ENOUGH = 2000  # contexts; of more, each is asked in one of the ways, not in every one


class Asked:
    """A model, and what it is asked: contexts, a tensor (V^n, n) for each length n, and answers."""

    def __init__(self, job: dict) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(job["folder"])
        self.tokenizer = AutoTokenizer.from_pretrained(job["folder"])
        V, T = len(job["chars"]), job["places"]
        assert self.tokenizer.get_vocab() == {char: i for i, char in enumerate(job["chars"])}
        self.V, self.T, self.lengths = V, T, range(job["shortest"], T + 1)
        ids = torch.arange(V)
        self.contexts = [torch.cartesian_prod(*n * [ids]).view(-1, n) for n in self.lengths]
        self.answers = torch.tensor(job["answers"]).split([V**n for n in self.lengths])
        self.count = sum(map(len, self.answers))

    def wrong(self, logits: Tensor, answers: Tensor) -> int:
        """At how many places of logits (B, T, V) some other character is as likely."""
        answers = answers[..., None]
        right = logits.gather(-1, answers)
        others = logits.scatter(-1, answers, -torch.inf).amax(dim=-1, keepdim=True)
        return (~(right > others)).sum().item()

    def windows(self, part: slice) -> list[tuple[Tensor, Tensor]]:
        """Full windows, (B, T), which hold every shorter context, and what follows each place."""
        pairs = zip(self.lengths, self.answers, strict=True)
        wide = [answers.repeat_interleave(self.V ** (self.T - n)) for n, answers in pairs]
        found = self.contexts[-1][part], torch.stack(wide, dim=1)[part]
        return list(zip(*(each.split(ROWS) for each in found), strict=True))

    def at_once(self, part: slice = slice(None)) -> int:
        """Every place of full windows in one pass."""
        first, wrong = self.lengths[0] - 1, 0
        for idx, answers in self.windows(part):
            wrong += self.wrong(self.model(idx, use_cache=False).logits[:, first:], answers)
        return wrong

    def one_by_one(self, part: slice) -> int:
        """One place after the other, with a cache."""
        first, wrong = self.lengths[0] - 1, 0
        for idx, answers in self.windows(part):
            past, logits = None, []
            for place in idx.split(1, dim=1):
                out = self.model(place, past_key_values=past, use_cache=True)
                past = out.past_key_values
                logits.append(out.logits)
            wrong += self.wrong(torch.cat(logits, dim=1)[:, first:], answers)
        return wrong

    def generated(self, part: slice, pad: int, *, use_cache: bool) -> int:
        """Contexts of all lengths side by side, with `pad` on the left; one more is written."""
        pairs = list(zip(self.lengths, self.contexts, strict=True))
        padded = [F.pad(contexts, (self.T - n, 0), value=pad) for n, contexts in pairs]
        masks = [F.pad(torch.ones_like(contexts), (self.T - n, 0)) for n, contexts in pairs]
        mixed = torch.randperm(self.count, generator=torch.Generator().manual_seed(1))[part]
        idx, mask, answers = (torch.cat(each)[mixed] for each in (padded, masks, self.answers))
        how = {"max_new_tokens": 1, "pad_token_id": pad, "use_cache": use_cache}
        wrong = 0
        for rows in torch.arange(len(idx)).split(ROWS):
            new = self.model.generate(idx[rows], attention_mask=mask[rows], **how)
            wrong += (new[:, -1] != answers[rows]).sum().item()
        return wrong

    def every_way(self, kernels: list[str]) -> dict[str, int]:
        """How many contexts are answered wrong in each way; also in half the precision."""
        ways, found = list(itertools.product(kernels, WAYS)), {}
        for i, (kernel, way) in enumerate(ways):
            part = slice(i, None, len(ways)) if self.count > ENOUGH else slice(None)
            self.model.set_attn_implementation(kernel)
            assert self.model.config._attn_implementation == kernel
            if way.startswith("generate"):
                cached = way.endswith("cache")
                wrong = self.generated(part, 0 if cached else self.V - 1, use_cache=cached)
            else:
                wrong = self.at_once(part) if way == "at once" else self.one_by_one(part)
            found[f"{kernel}, {way}"] = wrong
        for dtype in (torch.bfloat16, torch.float16):
            self.model.to(dtype)
            part = slice(None, None, 8) if self.count > ENOUGH else slice(None)
            found[str(dtype)] = self.at_once(part)
        return found

    def text(self, prompt: str) -> str:
        """What `prompt` is continued to until the window is full, and one character more."""
        idx = self.tokenizer(prompt, return_tensors="pt")
        assert idx.keys() == {"input_ids", "attention_mask"}
        return self.tokenizer.decode(self.model.generate(**idx, max_length=self.T + 1)[0])


@torch.inference_mode()
def answer(job: dict) -> dict:
    """All that is asked of one model."""
    found = {"contexts": 0, "printed": run(job.get("code", ""))}
    if "log_probs" in job:
        model = AutoModelForCausalLM.from_pretrained(job["folder"])
        said = model(torch.tensor(job["windows"])).logits.double().log_softmax(dim=-1)
        return {**found, "off": (said - torch.tensor(job["log_probs"])).abs().max().item()}
    asked = Asked(job)
    texts = [asked.text(prompt) for prompt in job["prompts"]]
    return {
        **found,
        "contexts": asked.count,
        "texts": texts,
        "wrong": asked.every_way(job["kernels"]),
    }


def run(code: str) -> str:
    """What `code` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # past_key_values will be called otherwise one day
    jobs = json.loads(Path(sys.argv[1]).read_bytes())
    answers = [answer(job) for job in jobs]
    print(json.dumps({"answers": answers, "ours": sorted(OURS & sys.modules.keys())}))
