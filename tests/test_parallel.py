"""Several processes: the results are those of one, and no process is left waiting.

Needs mpi4py and the mpiexec of the same MPI; the programs that are started are in
parallel_program.py.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minicnn.testing import assert_close
from minicnn.training.checkpoint import newest_checkpoint

PROGRAM = Path(__file__).with_name("parallel_program.py")
# The one beside this Python belongs to its mpi4py, where both came from the package registry.
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
MISSING = [
    *(["mpi4py"] if importlib.util.find_spec("mpi4py") is None else []),
    *(["mpiexec"] if MPIEXEC is None else []),
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

ENVIRONMENT = {
    **os.environ,
    "MINICNN_BACKEND": "numpy",
    "OMP_NUM_THREADS": "1",
    # Open MPI refuses to start more processes than there are cores, and to start for root.
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}
DEADLINE = 30  # seconds, in which a job that has lost a process must end


def is_mpich():
    done = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=True)
    return "HYDRA" in done.stdout


def started(processes, *arguments):
    command = [sys.executable, *map(str, arguments)]
    if processes > 1:
        command = [MPIEXEC, "-n", str(processes), *command]
    return subprocess.Popen(
        command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(processes, *arguments):
    """Exit code and what was printed, on stdout and on stderr."""
    process = started(processes, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def found(case, folder, processes):
    code, out, err = finished(processes, PROGRAM, case, folder)
    assert code == 0, out + err
    return np.load(folder / f"{case}-{processes}.npz")


def both(case, folder):
    return found(case, folder, 1), found(case, folder, 2)


@pytest.mark.parametrize("case", ["training", "uneven"])
def test_two_processes_train_like_one(case, tmp_path):
    alone, together = both(case, tmp_path)
    assert alone.files == together.files
    for name in alone.files:
        largest = np.abs(alone[name]).max()
        assert np.abs(alone[name] - together[name]).max() < 1e-4 * largest, name


def test_synchronised_norms_are_those_of_the_whole_batch(tmp_path):
    alone, together = both("norms", tmp_path)
    assert alone.files == together.files
    for name in alone.files:
        # the largest mean is 1e3, of values that deviate by 10: that many digits cancel
        assert_close(together[name], alone[name], terms=80, condition=1e4)


def test_the_processes_divide_the_batches_of_one(tmp_path):
    alone, together = both("order", tmp_path)
    assert alone.files == together.files
    for name in alone.files:
        assert alone[name].tolist() == together[name].tolist()


def test_norms_of_each_process_keep_the_weights_equal(tmp_path):
    assert np.isfinite(found("local", tmp_path, 2)["0.weight"]).all()


def test_parameters_that_not_all_processes_use(tmp_path):
    gradients = found("absent", tmp_path, 2)
    assert gradients["a"].tolist() == [3.0, 3.0]  # 2 a + 1 at 1, half from each
    assert gradients["b"].tolist() == [0.5, 0.5]


def test_a_loss_that_is_not_finite_is_everybodys_error(tmp_path):
    message = str(found("not_finite", tmp_path, 2)["said"])
    assert "the first layer with a non-finite output is 4 Conv2d" in message
    assert "seen by process 1" in message


def test_weights_that_differ_are_noticed(tmp_path):
    assert found("diverged", tmp_path, 2)["noticed"] == 1


def test_an_exception_of_one_process_ends_all_with_its_reason(tmp_path):
    code, _, err = finished(2, PROGRAM, "raising", tmp_path)
    assert code != 0
    assert "minicnn: process 1 of 2" in err
    assert "ValueError: a reason of its own" in err


def test_a_process_that_does_not_come_is_given_up(tmp_path):
    code, _, err = finished(2, PROGRAM, "late", tmp_path)
    assert code != 0
    assert "process 0 of 2 has waited 2 s for the others, in a test" in err


# -- the command

SETTINGS = {
    "model": "lenet5",
    "source": "sample",
    "images": 3000,
    "batch-size": 100,
    "epochs": 2,
    "backend": "numpy",
    "checkpoint-seconds": 0.05,
    "augment": "flip-crop",
}


def train(output, name, **changed):
    settings = {**SETTINGS, "output": output, "name": name, **changed}
    return ["-m", "minicnn", "train", *(f"--{key}={value}" for key, value in settings.items())]


def children(pid):
    """All processes that one has started, directly or not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, waiting = [], [pid]
    while waiting:
        new = [child for child, parent in parents.items() if parent == waiting[-1]]
        waiting = waiting[:-1] + new
        found += new
    return found


def of_rank(mpiexec, rank):
    for pid in children(mpiexec.pid):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if {b"PMI_RANK=%d" % rank, b"OMPI_COMM_WORLD_RANK=%d" % rank} & set(variables):
            return pid
    raise AssertionError(f"no process has rank {rank}")


def wait_for_step(process, run):
    """Wait until a checkpoint from within the training is there."""
    while process.poll() is None:
        if any(not p.name.endswith("00000000") for p in run.glob("checkpoints/epoch-*[0-9]")):
            return
        time.sleep(0.02)
    raise AssertionError("ended too early: " + "".join(process.communicate()))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc, to find a rank")
def test_a_killed_process_ends_the_job_which_resumes(tmp_path):
    code, out, err = finished(1, *train(tmp_path, "alone"))
    assert code == 0, out + err
    job = started(2, *train(tmp_path, "killed"))
    run = tmp_path / "killed"
    wait_for_step(job, run)
    os.kill(of_rank(job, 1), signal.SIGKILL)
    job.communicate(timeout=DEADLINE)
    assert job.returncode != 0
    assert 0 < newest_checkpoint(run).meta["step"] < 54
    code, out, err = finished(2, "-m", "minicnn", "train", "--resume", run)
    assert code == 0, out + err
    assert "2 processes, 2 of them on this host" in out
    assert out.count("test accuracy") == 1
    alone, resumed = newest_checkpoint(tmp_path / "alone"), newest_checkpoint(run)
    assert alone.meta["step"] == resumed.meta["step"] == 54
    for name, weights in alone.weights.items():
        assert np.abs(weights - resumed.weights[name]).max() < 1e-4 * np.abs(weights).max(), name
    results = [
        json.loads((folder / "result.json").read_text()) for folder in (tmp_path / "alone", run)
    ]
    assert results[0]["test_accuracy"] == pytest.approx(results[1]["test_accuracy"], abs=1 / 2000)


@pytest.mark.usefixtures("heard")
def test_ctrl_c_saves_once_and_ends_all(tmp_path):
    job = started(2, *train(tmp_path, "stopped", epochs=50))
    run = tmp_path / "stopped"
    wait_for_step(job, run)
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=DEADLINE)
    if is_mpich():  # the launcher of Open MPI no longer passes on what is printed then
        assert err.count("interrupted and saved") == 1
    assert newest_checkpoint(run).meta["step"] > 0


def test_a_mistake_is_said_once_and_leaves_no_folder(tmp_path):
    code, out, err = finished(2, *train(tmp_path, "small", **{"batch-size": 1}))
    assert code != 0
    assert (out + err).count("smaller than the number of processes, 2") == 1
    assert list(tmp_path.iterdir()) == []
