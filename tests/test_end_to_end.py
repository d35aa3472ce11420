"""The main job on the bundled sample, as a user starts it: it learns, and survives being killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minicnn.training.checkpoint import newest_checkpoint

COMMAND = [sys.executable, "-m", "minicnn", "train", "--source", "sample"]


def train(folder, *options):
    done = subprocess.run(
        [*COMMAND, "--output", str(folder), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_five_epochs_reach_85_percent(tmp_path):
    out = train(tmp_path, "--epochs", "5", "--name", "a")
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["test_accuracy"] >= 0.85, out
    lines = (tmp_path / "a" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5]
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.slow
def test_killed_at_a_random_moment_and_resumed_gives_the_same_weights(tmp_path):
    options = ("--epochs", "2", "--batch-size", "250", "--augment", "flip-crop")
    train(tmp_path, "--name", "undisturbed", *options)
    command = [*COMMAND, "--output", str(tmp_path), "--name", "killed", *options]
    command += ["--checkpoint-seconds", "0.3"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run = tmp_path / "killed"
    while not (run / "checkpoints").exists() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(random.Random(os.getpid()).uniform(0.0, 6.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(2):  # the second resume finds a finished run and changes nothing
        subprocess.run(
            [sys.executable, "-m", "minicnn", "train", "--resume", str(run)],
            check=True,
            capture_output=True,
        )
    a = newest_checkpoint(tmp_path / "undisturbed")
    b = newest_checkpoint(run)
    assert a.meta["step"] == b.meta["step"] == 72
    assert a.weights.keys() == b.weights.keys()
    for name in a.weights:
        assert np.array_equal(a.weights[name], b.weights[name]), name
    lines = (run / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
