from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicnn.errors import ConfigError
from minicnn.training.config import TrainConfig, dump, field_types, load_config, resolve
from minicnn.training.setting_checks import Options

FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def problems_of(**values):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**values).validate()
    return str(caught.value)


# The fields --------------------------------------------------------------------------------------


def test_the_defaults_can_be_used():
    config = TrainConfig()
    assert config.validate() is config


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_has_a_type_a_default_and_help(name):
    field = FIELDS[name]
    kind = field_types()[name]
    assert kind in (str, int, float, bool, tuple[int, ...], Options)
    plain = kind in (str, int, float, bool)
    assert isinstance(field.default, kind if plain else tuple)
    assert field.metadata["help"]
    assert "%" not in field.metadata["help"]  # argparse would take it for a format
    assert field.metadata.keys() <= {"help", "choices", "minimum", "maximum", "above", "below"}


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3


def test_values_become_the_type_of_the_setting_where_nothing_is_lost():
    config = TrainConfig(
        lr=1, epochs=np.int64(3), gamma=np.float32(0.5), milestones=[1, 2], output=Path("a/b")
    )
    values = (config.lr, config.epochs, config.gamma, config.milestones, config.output)
    assert values == (1.0, 3, 0.5, (1, 2), str(Path("a/b")))
    assert [type(value) for value in values] == [float, int, float, tuple, str]
    assert hash(config) == hash(config.validate())


# Types and ranges --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("epochs", True, "epochs = True must be a whole number, not true or false"),
        ("epochs", 3.0, "epochs = 3.0 must be a whole number, not float"),
        ("epochs", "3", "epochs = '3' must be a whole number, not str"),
        ("epochs", None, "epochs = None must be a whole number, not NoneType"),
        ("epochs", 0, "epochs = 0 must be at least 1"),
        ("batch_size", -1, "batch_size = -1 must be at least 1"),
        ("seed", 2**63, "must be at most 9223372036854775807"),
        ("lr", False, "lr = False must be a number, not true or false"),
        ("lr", "fast", "lr = 'fast' must be a number, not str"),
        ("lr", 0, "lr = 0.0 must be above 0.0"),
        ("lr", float("nan"), "lr = nan must be finite"),
        ("lr", float("inf"), "lr = inf must be finite"),
        ("lr", 10**400, "must be finite"),
        ("lr", 1j, "must be a number, not complex"),
        ("momentum", 1, "momentum = 1.0 must be below 1.0"),
        ("validation", 1.0, "validation = 1.0 must be below 1.0"),
        ("nesterov", 1, "nesterov = 1 must be true or false, not int"),
        ("model", 3, "model = 3 must be text, not int"),
        ("epochs", 10**400, "must be at most 1000000000"),
        ("weights", "a\0", "weights = 'a\\x00' must be text without the character NUL"),
        ("name", "a\nb", "name = 'a\\nb' must be of one line"),
        ("output", "a\ud800", "must be text that UTF-8 can hold"),
        ("optimizer", "adma", "must be one of sgd, adam, adamw, rmsprop (did you mean 'adam'?)"),
        ("source", "zzz", "source = 'zzz' must be one of auto, full, sample."),
        ("augment", "flipcrop", "must be one of none, flip, flip-crop, flip-area (did you"),
        ("milestones", 3, "milestones = 3 must be a list of whole numbers"),
        ("milestones", [3, 4.5], "milestones = [3, 4.5] must be a list of whole numbers"),
        ("milestones", [3, True], "milestones = [3, True] must be a list of whole numbers"),
        ("milestones", [0, 4], "milestones = [0, 4] must be at least 1"),
        ("keep", 0, "keep = 0 must be at least 1"),
        ("name", "x" * 100 + "\ud800", "..."),
    ],
)
def test_values_that_cannot_be_used(name, value, problem):
    message = problems_of(**{name: value})
    assert message.startswith("TrainConfig: 1 setting cannot be used: ")
    assert problem in message


@pytest.mark.parametrize("name", FIELDS)
def test_every_limit_is_enforced_and_reached(name):
    limits = FIELDS[name].metadata
    for limit, allowed, step in (
        ("minimum", True, -1),
        ("maximum", True, 1),
        ("above", False, 0),
        ("below", False, 0),
    ):
        if limit not in limits:
            continue
        edge, beyond = limits[limit], limits[limit] + step
        if field_types()[name] == tuple[int, ...]:
            edge, beyond = (edge,), (beyond,)
        assert name in problems_of(**{name: beyond})
        if allowed:
            fitting = {"schedule": "cosine"} if name == "warmup_steps" else {}
            TrainConfig(**{name: edge}, **fitting).validate()
    for choice in limits.get("choices", ()):
        TrainConfig(**{name: choice, "milestones": (1,)}).validate()


def test_all_problems_come_in_one_error():
    message = problems_of(epochs=0, optimizer="sgdd", lr="x", milestones=[0])
    assert message.startswith("TrainConfig: 4 settings cannot be used: epochs = 0 ")
    assert message.count("; ") == 3


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"schedule": "multistep"}, "schedule = 'multistep' needs milestones"),
        ({"milestones": (5, 5)}, "milestones = [5, 5] must increase"),
        ({"milestones": (5, 3)}, "milestones = [5, 3] must increase"),
        ({"early_stopping": 3, "validation": 0}, "early_stopping watches the validation loss"),
        ({"schedule": "plateau", "validation": 0}, "'plateau' watches the validation loss"),
        ({"name": "a/b"}, "name = 'a/b' must be the name of one folder"),
        ({"name": ".."}, "name = '..' must be the name of one folder"),
        ({"model": ""}, "model must not be empty"),
        ({"output": " "}, "output must not be empty"),
    ],
)
def test_settings_that_do_not_go_together(values, problem):
    assert problem in problems_of(**values)


# Files -------------------------------------------------------------------------------------------


def test_a_file_gives_what_it_names(tmp_path):
    path = written(tmp_path, 'lr = 1\nmilestones = [3, 5]\nname = "ü"\nnesterov = false')
    values = load_config(path)
    assert values == {"lr": 1.0, "milestones": (3, 5), "name": "ü", "nesterov": False}
    assert type(values["lr"]) is float
    assert load_config(str(path)) == values


@pytest.mark.parametrize("name", FIELDS)
def test_every_whole_number_has_an_end(name):
    if field_types()[name] in (int, tuple[int, ...]):
        assert FIELDS[name].metadata["maximum"] <= 2**63 - 1  # which TOML can hold


def test_a_file_may_begin_with_the_mark_of_its_encoding(tmp_path):
    path = tmp_path / "of_a_windows_editor.toml"
    path.write_bytes(b"\xef\xbb\xbfepochs = 3\r\n")
    assert load_config(path) == {"epochs": 3}


def test_an_empty_file_gives_nothing(tmp_path):
    assert load_config(written(tmp_path, "# all defaults\n")) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("batchsize = 3", "there is no setting 'batchsize' (did you mean 'batch_size'?)"),
        ("batch-size = 3", "there is no setting 'batch-size' (did you mean 'batch_size'?)"),
        ("qqqq = 3", "there is no setting 'qqqq'."),
        ("[train]\nepochs = 3", "[train] is a table, but settings stand at the top of the file"),
        ("epochs = true", "epochs = True must be a whole number, not true or false"),
        ("epochs = 2020-01-01", "must be a whole number, not date"),
        ("lr = inf", "lr = inf must be finite"),
        ("lr = nan", "lr = nan must be finite"),
        ("lr = " + "9" * 400, "must be finite"),
        ("milestones = [1, [2]]", "must be a list of whole numbers"),
        ("validation = -0.1", "validation = -0.1 must be at least 0.0"),
        ('schedule = "cosin"', "(did you mean 'cosine'?)"),
    ],
)
def test_settings_of_a_file_that_cannot_be_used(tmp_path, text, problem):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"load_config: {path}: 1 setting cannot be used: ")
    assert problem in str(caught.value)


def test_all_problems_of_a_file_come_in_one_error(tmp_path):
    with pytest.raises(ConfigError, match=r"2 settings cannot be used: epochs = 0 .*; .*'modle'"):
        load_config(written(tmp_path, 'epochs = 0\nmodle = "x"'))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("epochs = 3\nlr = \n", "line 2"),
        ("epochs = 3\nepochs = 4", "line 2"),
        ("\n\nlr == 3", "line 3"),
        ('name = "open', "line 1"),
        (b"\xff\xfe", "utf-8"),
        ("epochs = " + "9" * 5000, "is not valid TOML"),
        ("x = " + "[" * 100_000, "is not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path, text, line):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match="is not valid TOML") as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert line in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml could not be read: No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="could not be read: Is a directory"):
        load_config(tmp_path)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text("epochslr=.[]{}#'\"\n 10", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        assert load_config(path).keys() <= FIELDS.keys()


# Resolving and writing ---------------------------------------------------------------------------


def test_overrides_go_before_the_file_and_the_file_before_the_defaults():
    config = resolve({"epochs": 3, "lr": 0.5}, {"epochs": 5, "lr": None, "seed": None})
    assert config == TrainConfig(epochs=5, lr=0.5)
    assert resolve() == resolve({}, {}) == TrainConfig()


def test_an_override_of_zero_counts():
    assert resolve(
        {"validation": 0.2, "nesterov": True}, {"validation": 0.0, "nesterov": False}
    ) == (TrainConfig(validation=0.0, nesterov=False))


def test_resolve_judges_names_and_values():
    with pytest.raises(ConfigError, match=r"resolve: .*'epoch' \(did you mean 'epochs'\?\)"):
        resolve({}, {"epoch": 3})
    with pytest.raises(ConfigError, match="epochs = 0 must be at least 1"):
        resolve({"epochs": 0}, {})
    with pytest.raises(ConfigError, match="early_stopping watches"):
        resolve({"validation": 0.0}, {"early_stopping": 3})


@pytest.mark.parametrize(("value", "expected"), [("numpy", "numpy"), ("", "numba")])
def test_the_environment_chooses_the_kernel_set_of_a_run(value, expected):
    code = "from minicnn.training.config import TrainConfig; print(TrainConfig().backend)"
    environment = {**os.environ, "MINICNN_BACKEND": value}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == expected


def test_dump_is_toml_with_a_header_and_help():
    text = dump(TrainConfig())
    assert text.startswith("# The settings of a minicnn training run")
    assert list(tomllib.loads(text)) == list(FIELDS)
    for field in FIELDS.values():
        assert f"# {field.metadata['help']}" in text


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(str.strip)
SHARE = st.floats(0, 1, exclude_max=True)
CONFIGS = st.builds(
    TrainConfig,
    model=TEXT,
    data=TEXT,
    epochs=st.integers(1, 10**9),
    lr=st.floats(0, 1e300, exclude_min=True),
    momentum=SHARE,
    nesterov=st.booleans(),
    weight_decay=st.floats(0, 1e300),
    schedule=st.sampled_from(["constant", "step", "cosine", "onecycle"]),
    milestones=st.sets(st.integers(1, 10**6)).map(sorted).map(tuple),
    validation=SHARE,
    seed=st.integers(0, 2**63 - 1),
    output=TEXT,
    name=st.text().filter(
        lambda name: name not in (".", "..") and not set(name) & set("/\\") and name.isprintable()
    ),
)


@settings(deadline=None)
@given(CONFIGS)
def test_dump_and_load_are_inverse(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "dump.toml"
    path.write_text(dump(config), encoding="utf-8", newline="")
    assert resolve(load_config(path)) == config


def test_dump_refuses_what_load_would_refuse():
    with pytest.raises(ConfigError, match="epochs = 0"):
        dump(TrainConfig(epochs=0))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FIELDS)),
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.fractions()
    | st.lists(st.integers() | st.floats() | st.text())
    | st.dictionaries(st.text(), st.integers()),
)
def test_any_value_is_used_or_refused(name, value):
    config = TrainConfig(**{name: value})
    with contextlib.suppress(ConfigError):
        assert resolve(tomllib.loads(dump(config))) == config


def test_fractions_are_numbers():
    assert TrainConfig(lr=Fraction(1, 4)).lr == 0.25


def test_importing_does_not_import_toml_writers():
    code = "import sys, minicnn.training.config; sys.exit('tomli_w' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
