"""The setting that allows TF32."""

import os
import subprocess
import sys

import pytest

import minicnn
from minicnn_kernels.precision import tf32_allowed


def test_it_is_set_at_once_and_put_back_at_the_end_of_a_block():
    before = tf32_allowed()
    with minicnn.allow_tf32(not before) as setting:
        assert tf32_allowed() is not before
        assert setting.previous is before
        with minicnn.allow_tf32(before):
            assert tf32_allowed() is before
        assert tf32_allowed() is not before
    assert tf32_allowed() is before


@pytest.mark.parametrize(("value", "allowed"), [(None, True), ("1", True), (" 0 ", False)])
def test_the_environment_chooses_the_start(value, allowed):
    environment = {k: v for k, v in os.environ.items() if k != "MINICNN_TF32"}
    if value is not None:
        environment["MINICNN_TF32"] = value
    code = "from minicnn_kernels.precision import tf32_allowed; print(tf32_allowed())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(allowed)
