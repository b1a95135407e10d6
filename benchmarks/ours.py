"""Our side of the benchmarks: the trainer that train.py would build."""

from collections.abc import Sequence
from pathlib import Path

import torch

import train
from data import corpus
from data.corpus import Corpus
from system import checkpoint, config, device
from system.settings import Config
from training.parallel import ALONE
from training.start import find_run, prepare
from training.trainer import Trainer

SETTINGS = "tiny_shakespeare.yaml"
STEPS_ALONE = "train.minutes=null"  # what is compared takes the same steps everywhere


def settings(overrides: Sequence[str], name: str) -> Config:
    """The settings of the main job with some of them changed, on the device called `name`."""
    use_gpu = device.is_large(device.pick(name))
    return config.load(config.find(SETTINGS), [STEPS_ALONE, *overrides], use_gpu=use_gpu)


def trainer(overrides: Sequence[str], name: str, folder: Path | None = None) -> Trainer:
    """A run of the main job with some settings changed, before its first step. Saves nothing.

    name: of the device, or auto; folder: where the run may have been saved, to go on from there
    """
    argv = ["--config", SETTINGS, "--device", name, STEPS_ALONE, *overrides]
    argv += [f"train.out_dir={folder}"] if folder else []
    argv += ["--resume" if folder and (folder / checkpoint.LAST).is_file() else "--overwrite"]
    args, place = train.parser().parse_args(argv), device.pick(name)
    device.keep_memory()
    run_settings, folder = find_run(args, use_gpu=device.is_large(place))
    run = prepare(args, run_settings, folder, place)
    run.connect(ALONE)
    return run


def text(place: torch.device, block_size: int) -> Corpus:
    """Tiny Shakespeare on the device."""
    return corpus.load(corpus.DataConfig(), block_size, place, chars=None, scratch=Path("unused"))
