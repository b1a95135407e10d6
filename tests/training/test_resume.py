"""A run that is stopped and resumed is the run that was never stopped, bit for bit."""

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import train
from tests.helpers import ROOT
from tests.helpers.posix import needs_posix
from tests.helpers.runs import RUN, TEXT, contents, exact, forge, records, sha256, state

TRAIN = ROOT / "train.py"


STOPS = {
    "at the first step": {"at": "training.trainer.Trainer.update", "after": True},
    "in the first part of a batch": {"at": "training.objective.cross_entropy", "nth": 5},
    "at an evaluation": {"at": "training.evaluation.losses"},
    "between evaluations": {"at": "training.trainer.Trainer.update", "nth": 6, "after": True},
    "at the last step but one": {"at": "training.trainer.Trainer.update", "nth": 9, "after": True},
    "at the last step": {"at": "training.trainer.Trainer.update", "nth": 10, "after": True},
}


@pytest.mark.parametrize("settings", ["optim.optimizer=adamw", "optim.optimizer=muon"])
def test_a_resumed_run(settings: str, tiny: Callable, tiny_process: Callable) -> None:
    settings = (settings, "model.tie_weights=true", "model.n_layer=2")
    tiny(*settings, "train.out_dir=whole")
    whole = sha256(Path("whole"))
    for place, stop in enumerate(STOPS.values()):
        folder = f"train.out_dir={place}"
        stopped = tiny_process(*settings, folder, **stop, signals=[signal.SIGTERM])
        assert stopped.status == 143
        assert tiny("--resume", folder).status == 0
        assert sha256(Path(str(place))) == whole


def test_a_resumed_run_ends_as_early(tiny: Callable, tiny_process: Callable) -> None:
    settings = ("train.patience=2", "train.eval_every=1", "train.max_steps=1000")
    early = tiny(*settings, "train.out_dir=whole")
    assert "ended early" in early.out
    steps = len(records(Path("whole")))
    for step in (1, steps - 1, steps):  # with no, one and two evaluations without a better loss
        folder = f"train.out_dir={step}"
        stop = {"at": "training.trainer.Trainer.update", "nth": step, "after": True}
        assert tiny_process(*settings, folder, **stop, signals=[signal.SIGINT]).status == 130
        assert tiny("--resume", folder).status == 0
        assert sha256(Path(str(step))) == sha256(Path("whole"))


def test_a_run_resumed_many_times(tiny_process: Callable) -> None:
    tiny_process("train.out_dir=whole")
    stop = {"at": "training.trainer.Trainer.update", "after": True, "signals": [signal.SIGTERM]}
    assert tiny_process(**stop).status == 143
    for _ in range(9):
        assert tiny_process("--resume", **stop).status == 143
    assert tiny_process("--resume").status == 0
    assert sha256(RUN) == sha256(Path("whole"))


@needs_posix
def test_another_process_goes_on(tiny: Callable, tiny_process: Callable) -> None:
    """Nothing of the first is in the second: that is a new Python, which hashes otherwise."""
    command = [sys.executable, TRAIN, "--device=cpu"]
    settings = ["--config=tiny.yaml", "optim.decay=none", "train.eval_every=20"]
    stop = {"at": "training.metrics.append", "signals": [signal.SIGTERM]}
    assert tiny_process(*settings[1:], "train.max_steps=20000", **stop).status == 143
    steps = torch.load(RUN / "last.pt")["progress"]["step"] + 3
    limit = f"train.max_steps={steps}"
    subprocess.run([*command, "--resume", limit], check=True, capture_output=True)
    tiny(*settings[1:], limit, "train.out_dir=whole")
    assert state(RUN) == state(Path("whole"))


def test_the_newest_run_goes_further(tiny: Callable, call: Callable) -> None:
    newer, older = Path("checkpoints/newer"), Path("checkpoints/older")
    for folder, time in ((newer, 2), (older, 1)):
        tiny(f"train.out_dir={folder}")
        for path in folder.glob("*.pt"):
            os.utime(path, (time, time))
    before = contents(older)
    status, out, _ = call(train.main, "--device=cpu", "--resume", "train.max_steps=14")
    assert status == 0 and str(newer) in out
    assert [record["step"] for record in records(newer)] == [4, 8, 10, 12, 14]
    assert torch.load(newer / "last.pt")["progress"]["step"] == 14
    assert "max_steps: 14" in (newer / "config.yaml").read_text()
    assert contents(older) == before
    call(train.main, "--device=cpu", "--resume", "train.max_steps=12", f"train.out_dir={older}")
    assert records(older)[-1]["step"] == 12


def test_a_finished_run(tiny: Callable) -> None:
    for settings in ([], ["train.patience=1", "train.eval_every=1", "train.max_steps=1000"]):
        tiny("--overwrite", *settings)
        before = state(RUN)
        assert tiny("--resume").status == 0
        assert state(RUN) == before


@pytest.mark.parametrize("setting", ["model.n_layer=3", "data.val_fraction=0.2"])
def test_what_a_run_keeps(setting: str, tiny: Callable, refusal: Callable) -> None:
    tiny()
    before = contents(RUN)
    kept = {"model.n_layer=3": "model.n_layer=1", "data.val_fraction=0.2": "data.val_fraction=0.25"}
    assert f"keeps {kept[setting]};" in refusal(train.main, "--resume", setting)
    message = refusal(train.main, "--resume", setting, "optim.optimizer=muon")
    assert f"keeps {kept[setting]} and optim.optimizer=adamw;" in message
    assert contents(RUN) == before


def test_a_changed_text(tiny: Callable, refusal: Callable) -> None:
    tiny()
    before = contents(RUN)
    Path("text.txt").write_text(TEXT[::-1])
    assert "--allow-data-change" in refusal(train.main, "--resume", "--device=cpu")
    assert contents(RUN) == before
    assert tiny("--resume", "--allow-data-change", "train.max_steps=12").status == 0
    assert records(RUN)[-1]["step"] == 12
    assert tiny("--resume", "train.max_steps=14").status == 0  # it is the run's text from now on
    Path("text.txt").write_text(TEXT + "é")
    assert "'é' (U+00E9)" in refusal(train.main, "--resume", "--device=cpu", "--allow-data-change")


# Which run


NAMED = {  # the run folder holds last.pt of step 10 and best.pt of step 8
    "--resume {run}": 10,
    "--resume {run}/": 10,
    "--resume={run}": 10,
    "--resume {run}/last.pt": 10,
    "--resume {run}/config.yaml": 10,
    "--resume {run}/best.pt": 8,
    "--resume {run}/best.pt --from-best": 8,
    "--resume {run} --from-best": 8,
    "--resume {run} train.out_dir={run}": 10,
    "--resume train.out_dir={run}": 10,
    "--config {run}/config.yaml --resume": 10,
    "--config {run}/config.yaml --resume {run}/best.pt": 8,
    "train.seed=3 --resume {run} train.seed=1": 10,
}


def test_a_run_is_named_by_a_path(tiny: Callable, call: Callable) -> None:
    run = Path("runs/older")
    tiny(f"train.out_dir={run}", "train.eval_every=2")
    best = torch.load(run / "last.pt")
    best["progress"]["step"] = 8
    forge(run / "best.pt", best)
    tiny()  # a newer one, which is not meant
    newer = contents(RUN)
    shutil.copytree(run, "kept")
    for line, begun in NAMED.items():
        shutil.copytree("kept", run, dirs_exist_ok=True)
        words = shlex.split(line.format(run=run))
        ended = call(train.main, "--device=cpu", *words, "train.max_steps=12")
        assert ended.status == 0, (line, ended.err)
        assert f"run    {run} from step {begun} on, {12 - begun} steps, " in ended.out, line
        assert records(run)[-1]["step"] == 12
        assert contents(RUN) == newer


UNNAMED = {
    "--resume gone": "there is no run gone in {cwd}; name a run folder or a file; of runs "
    "checkpoints/ has other, tiny",
    "--resume checkpoints": "checkpoints has no last.pt to resume; name one of checkpoints/other, "
    "checkpoints/tiny",
    "--resume empty": "empty has no last.pt to resume; start the run without --resume",
    "--resume onlybest": "onlybest has no last.pt to resume; best.pt is there, from which --from-",
    "--resume checkpoints/tiny/copy.pt": "and checkpoints/tiny/copy.pt is neither; put it into a "
    "folder of its own as last.pt, or start a new run with its weights, with train.init_from=check",
    "--resume checkpoints/tiny train.out_dir=other": "--resume checkpoints/tiny and "
    "train.out_dir=other name two runs",
    "--resume checkpoints/other --config tiny.yaml": "--resume checkpoints/other and --config "
    "tiny.yaml name two runs",
    "--resume checkpoints/tiny/last.pt --from-best": "--from-best goes on from best.pt, not from",
    "--resume checkpoints/tiny --overwrite": "--resume and --overwrite exclude each other",
    f"--resume {'x' * 300}": "there is no run xxx",
}


def test_a_path_that_names_no_run(tiny: Callable, refusal: Callable) -> None:
    tiny()
    shutil.copytree(RUN, "checkpoints/other")
    shutil.copy(RUN / "last.pt", RUN / "copy.pt")
    Path("empty").mkdir()
    Path("onlybest").mkdir()
    shutil.copy(RUN / "best.pt", "onlybest")
    before = contents(Path())
    for line, sentence in UNNAMED.items():
        said = refusal(train.main, "--device=cpu", *line.split())
        assert sentence.format(cwd=Path.cwd()) in said
    assert contents(Path()) == before


# Somewhere else


def sha256_of(text: str) -> str:
    """What a run of that text is known by."""
    return hashlib.sha256(text.encode()).hexdigest()


def weights(folder: Path) -> object:
    """What a run has learned."""
    return exact(torch.load(folder / "last.pt")["weights"])


LONGER = ("--resume", "train.max_steps=14")


@pytest.fixture
def longer(tiny: Callable) -> object:
    """The weights of the tiny run at the end of 14 steps, after it was resumed at step 10."""
    tiny("train.out_dir=whole")
    tiny("train.out_dir=whole", *LONGER)
    return weights(Path("whole"))


def test_a_text_that_moved(
    longer: object, tiny: Callable, call: Callable, refusal: Callable
) -> None:
    tiny()
    Path("other texts").mkdir()
    Path("back.txt").write_text(TEXT[::-1])
    moved = Path("text.txt").rename("other texts/b.txt")
    before = contents(Path())
    message = refusal(train.main, "--device=cpu", "--resume")
    assert f"data.dataset=text.txt is not there, neither in {Path.cwd()} nor in {RUN}" in message
    remedy = message.partition("say where the text is now: ")[2].replace("PATH", f"'{moved}'")
    wrong = [*shlex.split(remedy)[:-1], "data.dataset=back.txt"]
    said = refusal(train.main, "--device=cpu", *wrong)
    assert "the text back.txt changed since the run began, or is another one; --allow-data" in said
    assert "data.dataset=gone is not there" in refusal(train.main, "--resume", "data.dataset=gone")
    assert contents(Path()) == before
    ended = call(train.main, "--device=cpu", *shlex.split(remedy), "train.max_steps=14")
    assert (ended.status, weights(RUN)) == (0, longer)
    for settings in (
        torch.load(RUN / "last.pt")["settings"],
        yaml.safe_load((RUN / "config.yaml").read_text()),
    ):
        assert settings["data"]["dataset"] == str(moved)
    assert tiny("--resume").status == 0
    assert tiny("--resume", "data.dataset=back.txt", "--allow-data-change").status == 0


def test_whether_ids_are_mapped_may_change(longer: object, tiny: Callable) -> None:
    tiny()
    assert tiny(*LONGER, "data.map_above_mb=0").status == 0
    assert weights(RUN) == longer


@pytest.mark.parametrize("link", [False, True])
def test_a_run_goes_on_from_any_folder(
    link: bool, longer: object, tiny: Callable, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another text of that name is nearer; and after all was moved and copied."""
    Path("a/texts").mkdir(parents=True)
    Path("a/texts/my.txt").write_text(TEXT)
    monkeypatch.chdir("a")
    if link:  # to where there is more room
        Path("../room").mkdir()
        Path("checkpoints").symlink_to("../room")
    folder = "checkpoints/x"
    settings = ("--config=../tiny.yaml", "data.dataset=texts/my.txt", f"train.out_dir={folder}")
    assert call(train.main, "--device=cpu", *settings).status == 0
    monkeypatch.chdir("..")
    shutil.move("a", "moved")
    Path("b/texts").mkdir(parents=True)
    Path("b/texts/my.txt").write_text(TEXT[::-1])  # not that of the run
    monkeypatch.chdir("b")
    run = Path("../moved/checkpoints/x")
    ended = call(train.main, "--device=cpu", "--resume", run, "train.max_steps=14")
    assert ended.status == 0, ended.err
    assert weights(run) == longer
    for command in ("sample", "look"):
        assert f"python {command}.py --ckpt {run}\n" in ended.out
    settings = torch.load(run / "last.pt")["settings"]
    assert settings["train"]["out_dir"] == str(run)
    assert settings["data"]["dataset"] == "texts/my.txt"
    assert not Path("checkpoints").exists()


def change(path: Path, section: str, **settings: object) -> None:
    """Let the run of the checkpoint at `path` have been made with other settings."""
    content = torch.load(path)
    content["settings"][section] |= settings
    forge(path, content)


def test_a_run_that_was_made_on_windows(longer: object, tiny: Callable, refusal: Callable) -> None:
    Path("texts").mkdir()
    Path("text.txt").rename("texts/my.txt")
    tiny("data.dataset=texts/my.txt")
    change(RUN / "last.pt", "data", dataset="texts\\my.txt")
    change(RUN / "last.pt", "train", out_dir="checkpoints\\tiny", init_from="C:\\a.pt")
    assert tiny(*LONGER).status == 0
    assert weights(RUN) == longer
    assert torch.load(RUN / "last.pt")["settings"]["train"]["out_dir"] == "checkpoints/tiny"
    for gone in ("C:\\texts\\my.txt", "\\\\server\\my.txt", "/texts/gone.txt", "~/gone.txt"):
        change(RUN / "last.pt", "data", dataset=gone)
        said = f"data.dataset={gone} is not there; say where the text is now: --resume {RUN} data."
        assert said in refusal(train.main, "--resume")
    change(RUN / "best.pt", "data", dataset="gone")
    said = refusal(train.main, "--resume", "--from-best")
    assert f"--resume {RUN}/best.pt data.dataset=PATH" in said


def test_a_run_that_was_begun_before_folders_were_read_deep(
    tiny: Callable, call: Callable, refusal: Callable
) -> None:
    Path("texts/in").mkdir(parents=True)
    for name in ("a10", "a2", "in/b"):
        Path(f"texts/{name}.txt").write_text(f"{TEXT}{name}")
    tiny("data.dataset=texts", "data.folder=flat")
    content = torch.load(RUN / "last.pt")
    assert content["fingerprint"] == sha256_of(f"{TEXT}a10{TEXT}a2")
    del content["settings"]["data"]["folder"]
    forge(RUN / "last.pt", content)
    for steps in (12, 14):  # the second from what this version saved
        ended = call(train.main, "--device=cpu", "--resume", RUN, f"train.max_steps={steps}")
        assert ended.status == 0, ended.err
    assert torch.load(RUN / "last.pt")["fingerprint"] == content["fingerprint"]
    assert torch.load(RUN / "last.pt")["settings"]["data"]["folder"] == "flat"
    assert "keeps data.folder=flat" in refusal(train.main, "--resume", RUN, "data.folder=deep")


def test_each_text_of_a_list_is_found(
    tiny: Callable, call: Callable, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("texts").mkdir()
    Path("texts/x.txt").write_text(TEXT[:100])
    for folder, text in (("a", TEXT), ("a/b", TEXT[::-1])):  # the nearer one is another text
        Path(folder).mkdir()
        Path(folder, "my, own.txt").write_text(text)
    monkeypatch.chdir("a")
    listed = "data.dataset=[../texts,'my, own.txt',../texts/x.txt]"
    started = call(train.main, "--device=cpu", "--config=../tiny.yaml", listed)
    assert "       2 files, 1 left out: ../texts/x.txt (given twice)\n" in started.out
    fingerprint = torch.load(RUN / "last.pt")["fingerprint"]
    assert fingerprint == sha256_of(f"{TEXT[:100]}\n{TEXT}")
    monkeypatch.chdir("b")
    Path("../../texts").rename("../../moved")
    message = refusal(train.main, "--device=cpu", "--resume", f"../{RUN}")
    assert "data.dataset=../texts is not there, neither in" in message
    remedy = message.partition("say where the text is now: ")[2].replace("PATH", "../../moved")
    remedy = remedy.replace("../texts/x.txt", "../../moved/x.txt")
    ended = call(train.main, "--device=cpu", *shlex.split(remedy), "train.max_steps=12")
    assert ended.status == 0, ended.err
    assert torch.load(f"../{RUN}/last.pt")["fingerprint"] == fingerprint


def test_a_text_for_validation_may_move_but_not_change(
    tiny: Callable, call: Callable, refusal: Callable
) -> None:
    Path("val.txt").write_text(TEXT[:50])
    assert tiny("data.val_dataset=val.txt").status == 0
    fingerprint = torch.load(RUN / "last.pt")["fingerprint"]
    assert fingerprint == f"{sha256_of(TEXT)} {sha256_of(TEXT[:50])}"
    Path("val.txt").rename("moved.txt")
    message = refusal(train.main, "--device=cpu", "--resume")
    remedy = message.partition("say where the text is now: ")[2].replace("PATH", "moved.txt")
    assert "data.val_dataset=val.txt is not there" in message and "data.val_dataset=moved" in remedy
    ended = call(train.main, "--device=cpu", *shlex.split(remedy), "train.max_steps=12")
    assert ended.status == 0, ended.err
    assert torch.load(RUN / "last.pt")["fingerprint"] == fingerprint
    before = contents(RUN)
    assert "keeps data.val_dataset" in refusal(train.main, "--resume", "data.val_dataset=null")
    Path("moved.txt").write_text(TEXT[:49] + "a")
    message = refusal(train.main, "--device=cpu", "--resume")
    assert "the text moved.txt changed since" in message
    assert contents(RUN) == before


def test_a_spread_run_goes_on(tiny: Callable, refusal: Callable) -> None:
    """It is told what was done with its text, and to change nothing."""
    Path("text.txt").write_text("ab\r\n" * 70 + "xyz" * 30 + "é")
    spread = ("data.val_from=spread", "optim.decay=none")
    started = tiny(*spread, "train.out_dir=whole", "train.max_steps=12")
    assert "70 Windows line ends read as \\n; data.normalize" in started.out
    assert tiny(*spread).status == 0
    ended = tiny("--resume", "train.max_steps=12")
    assert "       70 Windows line ends read as \\n\n" in ended.out
    assert weights(RUN) == weights(Path("whole"))
    assert "keeps data.val_from=spread" in refusal(train.main, "--resume", "data.val_from=end")


def test_a_run_that_kept_its_line_ends_goes_on(tiny: Callable) -> None:
    """Before, that was the default, and the settings are saved."""
    Path("text.txt").write_bytes(TEXT.replace("\n", "\r\n").encode())
    tiny("data.normalize_newlines=false")
    content = torch.load(RUN / "last.pt")
    for name in ("folder", "val_from", "val_dataset", "min_count"):
        del content["settings"]["data"][name]
    forge(RUN / "last.pt", content)
    ended = tiny("--resume", "train.max_steps=12")
    assert ended.status == 0 and "read as" not in ended.out
    assert torch.load(RUN / "last.pt")["fingerprint"] == content["fingerprint"]


RULE = "chars: ab\nblock_size: 8\ndefault: a\nrules: {aa: b}\n"


def test_rules_are_found_as_texts_are(
    tiny: Callable, call: Callable, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rule.yaml").write_text(RULE)
    for name, rule in (("rule", "rules:rule.yaml"), ("example", "rules:abc.yaml")):
        assert tiny(f"data.dataset={rule}", f"train.out_dir={name}").status == 0
    Path("b").mkdir()
    monkeypatch.chdir("b")
    for run in ("../rule", "../example"):
        assert call(train.main, "--device=cpu", "--resume", run).status == 0
    Path("../rule.yaml").rename("r.yaml")
    assert "data.dataset=rules:rule.yaml is not there" in refusal(train.main, "--resume", "../rule")
    found = ("--resume", "../rule", "data.dataset=rules:r.yaml")
    assert call(train.main, "--device=cpu", *found).status == 0


def test_a_text_that_cannot_be_read_is_passed_over(
    longer: object, tiny: Callable, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny()
    Path("b").mkdir()
    monkeypatch.chdir("b")
    Path("text.txt").write_bytes(b"\xff")
    assert call(train.main, "--device=cpu", "--resume", f"../{RUN}", LONGER[1]).status == 0
    assert weights(".." / RUN) == longer


def test_what_another_machine_lacks(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with settings of a GPU goes on without one."""

    def compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler")

    tiny()
    change(RUN / "last.pt", "train", dtype="bfloat16", compile=True)
    monkeypatch.setattr(torch, "compile", compiler)
    ended = tiny("--resume", "train.max_steps=12")
    assert ended.status == 0 and "cpu, bfloat16\n" in ended.out
    assert ended.err == "torch.compile failed (no compiler); going on without it\n"
    assert records(RUN)[-1]["step"] == 12


def test_the_settings_file_of_a_run_that_moved_means_the_run(
    tiny: Callable, call: Callable
) -> None:
    tiny()
    RUN.rename("moved")
    line = ("--config=moved/config.yaml", "--resume", "--device=cpu", "train.max_steps=12")
    assert call(train.main, *line).status == 0
    assert records(Path("moved"))[-1]["step"] == 12
    assert not Path("checkpoints/config").exists()
