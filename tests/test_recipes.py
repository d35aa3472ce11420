"""The papers' settings: each can be used as it is, and says what the paper says."""

import inspect
import tomllib

import numpy as np
import pytest

import minicnn
from minicnn import data, models, nn, optim
from minicnn.cli import main
from minicnn.errors import ArgumentError, ConfigError
from minicnn.training import build, recipes
from minicnn.training.config import TrainConfig, dump, load_config, resolve
from minicnn.training.run import new_run, resumed_run


@pytest.fixture(autouse=True)
def _numpy_kernels(monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with minicnn.use_backend("numpy"):
        yield


@pytest.fixture
def tiny_sample(monkeypatch):
    """Fashion-MNIST's loader, giving the first images of the bundled sample only."""
    source = build.DATA_SOURCES["fashion_mnist"]

    def load(split, source):
        whole = data.fashion_mnist(split, source="sample")
        return whole.subset(range(400 if split == "train" else 100))

    monkeypatch.setitem(
        build.DATA_SOURCES, "fashion_mnist", build.DataSource(load, source.mean, source.std)
    )


# The files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_complete_and_can_be_used(name):
    values = recipes.load(name)
    config = resolve(values)
    assert {"model", "lr", "batch_size", "weight_decay", "schedule", "momentum"} <= set(values)
    assert ("epochs" in values) != ("steps" in values)
    assert not {"data", "source", "preset", "seed", "output", "name"} & set(values)
    assert resolve(tomllib.loads(dump(config))) == config
    comment = recipes.text(name).split("\nmodel =")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert "arXiv" in comment or "sections 4 and 5" in comment


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_an_architecture_and_options_of_it(name):
    values = recipes.load(name)
    with nn.without_weights():
        models.create(values["model"], **dict(values.get("model_options", ())))


def test_every_paper_of_the_notes_has_a_recipe():
    papers = "alexnet zfnet vgg nin googlenet inception_v2 inception_v3 resnet resnet_cifar"
    papers += " preact_resnet wide_resnet resnext stochastic_depth fractalnet densenet squeezenet"
    assert set(papers.split()) <= set(recipes.names())


def rates(name, batches, epochs, drops=()):
    """The learning rate at the start of each epoch, in a run of so many batches an epoch."""
    config = resolve(recipes.load(name))
    parameter = nn.Parameter(np.zeros(2, np.float32))
    rule = optim.SGD([parameter], lr=config.lr)
    schedule, every = build.make_schedule(config, rule, batches)
    found = []
    for _ in range(epochs):
        found.append(rule.param_groups[0]["lr"])
        for _ in range(batches if every == "step" else 1):
            schedule.step()
    return found


@pytest.mark.parametrize(
    ("name", "batches", "expected"),
    [
        # epoch (from 0) -> rate, worked out from the papers' text
        ("resnet_cifar", 352, {0: 0.1, 90: 0.1, 91: 0.01, 136: 0.01, 137: 0.001}),
        ("wide_resnet", 2, {59: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("densenet_cifar", 2, {149: 0.1, 150: 0.01, 225: 0.001}),
        ("fractalnet", 2, {199: 0.02, 200: 0.002, 300: 2e-4, 350: 2e-5, 375: 2e-6}),
        ("googlenet", 2, {7: 0.01, 8: 0.0096, 16: 0.01 * 0.96**2}),
        ("inception_v3", 2, {1: 0.045, 2: 0.045 * 0.94, 4: 0.045 * 0.94**2}),
        ("stochastic_depth", 2, {249: 0.1, 250: 0.01, 375: 0.001}),
        ("nin", 1000, {99: 0.1, 100: 0.01}),
        ("squeezenet", 1000, {0: 0.04, 85: 0.02, 170: 0.0}),
    ],
)
def test_schedules_drop_where_the_paper_says(name, batches, expected):
    found = rates(name, batches, max(expected) + 1)
    for epoch, rate in expected.items():
        assert found[epoch] == pytest.approx(rate, rel=1e-9, abs=1e-12), epoch


def test_warm_up_rises_to_the_rate_and_does_not_move_the_drops():
    config = TrainConfig(
        lr=0.1, schedule="multistep", schedule_unit="step", milestones=(6, 8), warmup_steps=4
    ).validate()
    rule = optim.SGD([nn.Parameter(np.zeros(2, np.float32))], lr=config.lr)
    schedule, every = build.make_schedule(config, rule, 10)
    assert every == "step"
    found = []
    for _ in range(9):
        found.append(rule.param_groups[0]["lr"])
        schedule.step()
    expected = [0.01, 0.0325, 0.055, 0.0775, 0.1, 0.1, 0.01, 0.01, 0.001]
    assert found == pytest.approx(expected)


def test_shortened_keeps_the_shape():
    short = recipes.shortened(recipes.load("resnet_cifar"), 0.01)
    assert (short["steps"], short["milestones"]) == (640, (320, 480))
    tiny = recipes.shortened(recipes.load("resnet_cifar"), 1e-9)
    assert (tiny["steps"], tiny["milestones"]) == (1, (1,))
    assert resolve(tiny)
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="share is"):
            recipes.shortened({}, share)


def test_mistakes():
    with pytest.raises(ConfigError, match="no recipe 'resnet_cifr'; did you mean 'resnet_cifar'"):
        recipes.load("resnet_cifr")
    with pytest.raises(ConfigError, match=r"none\.toml could not be read"):
        recipes.load("none.toml")


# What recipes need of the settings ---------------------------------------------------------------


def test_steps_are_rounded_up_to_epochs_and_epochs_replace_them():
    assert build.total_epochs(TrainConfig(steps=11, epochs=3), 5) == 3
    assert build.total_epochs(TrainConfig(steps=10, epochs=3), 5) == 2
    assert build.total_epochs(TrainConfig(epochs=3), 5) == 3
    assert resolve({"steps": 64000}, {"epochs": 3}).steps == 0
    assert resolve({"steps": 64000}, {"epochs": 3, "steps": 5}).steps == 5
    assert resolve({"steps": 64000}, {"epochs": None}).steps == 64000


def test_options_of_the_model_are_a_table(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('model = "x"\n[model_options]\ndepth = 20\nform = "B"\nwidths = [1, 2]\n')
    values = load_config(path)
    assert values["model_options"] == (("depth", 20), ("form", "B"), ("widths", (1, 2)))
    joined = resolve(values, {"model_options": [("depth", 56), ("drop", 0.5)]})
    assert dict(joined.model_options) == {"depth": 56, "drop": 0.5, "form": "B", "widths": (1, 2)}
    assert resolve(tomllib.loads(dump(joined))) == joined
    assert hash(joined) == hash(resolve(tomllib.loads(dump(joined))))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (3, "must be a table of name = value lines"),
        ([3], "must be a table"),
        ({"a b": 1}, "has the name 'a b', which is no name of an option"),
        ({"a": float("nan")}, "has a = nan: use text, numbers"),
        ({"a": {"b": 1}}, "has a = .*: use text, numbers"),
        ({"a": [None]}, "has a = .*: use text, numbers"),
    ],
)
def test_bad_options(options, problem):
    with pytest.raises(ConfigError, match=problem):
        TrainConfig(model_options=options).validate()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"schedule": "plateau", "warmup_steps": 5}, "does not go with schedule = 'plateau'"),
        ({"schedule": "step", "warmup_steps": 5}, "needs schedule_unit = 'step'"),
        ({"augment": "flip-crop", "crop_padding": 0}, "needs crop_padding or crop_size"),
    ],
)
def test_settings_that_do_not_go_together(values, problem):
    with pytest.raises(ConfigError, match=problem):
        TrainConfig(**values).validate()


def test_decay_on_weights_spares_biases_and_norms():
    model = models.create("notes_cnn")
    rule = build.make_optimizer(TrainConfig(decay="weights", weight_decay=0.5), model)
    decayed, spared = rule.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    assert len(build.make_optimizer(TrainConfig(), model).param_groups) == 1


def test_every_optimizer_gets_its_own_settings():
    model = models.create("notes_cnn")
    config = TrainConfig(optimizer="rmsprop", alpha=0.8, epsilon=1.0, momentum=0.5, lr=0.045)
    group = build.make_optimizer(config, model).param_groups[0]
    expected = {"alpha": 0.8, "eps": 1.0, "momentum": 0.5, "lr": 0.045}
    assert {name: group[name] for name in expected} == expected
    adam = build.make_optimizer(TrainConfig(optimizer="adam", epsilon=0.1), model)
    assert adam.param_groups[0]["eps"] == 0.1


def transform(images=None, **settings):
    config = TrainConfig(**settings).validate()
    source = build.DATA_SOURCES["fashion_mnist"]
    shape = build.input_shape((1, 28, 28), config)
    made = build.training_transform(config, source, shape)
    images = data.fashion_mnist("test", source="sample").images[:50] if images is None else images
    return made, made(images, np.random.default_rng(0))


def test_augmentation_is_what_the_settings_say():
    plain, still = transform(augment="none")
    assert [type(step).__name__ for step in plain.transforms] == ["ToFloat", "Normalize"]
    made, moved = transform(augment="flip-crop", crop_padding=4, padding_mode="reflect")
    assert made.transforms[1] == data.RandomCrop((28, 28), 4, "reflect")
    assert moved.shape == still.shape
    _, cropped = transform(augment="flip-crop", crop_size=24, crop_padding=0)
    assert cropped.shape == (50, 1, 24, 24)
    _, middle = transform(augment="none", crop_size=24)
    np.testing.assert_array_equal(middle, still[:, :, 2:26, 2:26])


def test_light_of_gray_pictures_moves_whole_pictures():
    _, still = transform(augment="none")
    _, lit = transform(augment="none", lighting=0.1)
    shift = (lit - still).reshape(50, -1)
    np.testing.assert_allclose(shift, shift[:, :1].repeat(784, 1), atol=1e-5)
    # In units of the normalised pixels: 0.1 * variance / deviation = 0.1 * deviation.
    spread = 0.1 * data.FASHION_MNIST_STD
    assert spread / 2 < shift[:, 0].std() < spread * 2
    _, jittered = transform(augment="none", color_jitter=0.4)
    assert not np.array_equal(jittered, still)


def test_training_uses_the_share_of_the_images_that_is_asked_for():
    whole = data.fashion_mnist("train", source="sample")
    used = build.used_images(whole, TrainConfig(images=500))
    assert used.class_counts().tolist() == [50] * 10
    assert build.used_images(whole, TrainConfig()) is whole
    with pytest.raises(ConfigError, match="images = 10,001 is more than the 10,000"):
        build.used_images(whole, TrainConfig(images=10_001))


def test_mistakes_in_building():
    with pytest.raises(ConfigError, match="crop_size = 29 is larger than the 28x28"):
        build.input_shape((1, 28, 28), TrainConfig(crop_size=29))
    with pytest.raises(ConfigError, match="model_options sets num_classes"):
        build.create_model("notes_cnn", range(3), (1, 28, 28), options=[("num_classes", 4)])
    with pytest.raises(ArgumentError, match="no option 'deph'"):
        build.create_model("notes_cnn", range(3), (1, 28, 28), options=[("deph", 4)])
    with pytest.raises(ArgumentError, match="no preset 'fashion-mnst'; did you mean"):
        build.create_model("notes_cnn", range(3), (1, 28, 28), preset="fashion-mnst")


# At the command line -----------------------------------------------------------------------------


def test_recipes_are_listed_and_shown(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()
    assert main(["recipes", "wide_resnet"]) == 0
    assert "milestones = [60, 120, 160]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["recipes", "vggg"], "did you mean 'vgg'"),
        (["train", "--recipe", "vggg"], "did you mean 'vgg'"),
        (["train", "--share", "0.1"], "name one with --recipe"),
        (["train", "--recipe", "vgg", "--share", "2"], "share is 2.0"),
        (["train", "--recipe", "vgg", "--resume", "x"], "--recipe starts a new run"),
        (["train", "--option", "depth"], "not of the form name=value"),
        (["train", "--option", "deph=3"], "no option 'deph'"),
        (["train", "--preset", "cifar"], "no preset 'cifar'"),
    ],
)
def test_mistakes_get_one_sentence(capsys, arguments, part, tiny_sample):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert part in capsys.readouterr().err


def test_a_recipe_trains_another_model_and_its_settings_are_kept(capsys, tiny_sample, tmp_path):
    arguments = ["train", "--recipe", "wide_resnet", "--model", "notes_cnn", "--share", "0.01"]
    arguments += ["--name", "a", "--backend", "numpy", "--option", "num_classes=3"]
    assert main(arguments) == 2
    assert "model_options sets num_classes" in capsys.readouterr().err
    assert main(arguments[:-2]) == 0
    kept = load_config(tmp_path / "runs" / "a" / "config.toml")
    assert (kept["epochs"], kept["milestones"], kept["padding_mode"]) == (2, (1, 2), "reflect")


def test_a_run_in_steps_with_options_resumes(tiny_sample, tmp_path):
    @models.register("hidden", {"fashion-mnist": models.Preset((1, 28, 28), 10)})
    class Hidden(models.Network):
        def __init__(self, num_classes, in_channels, image_size, units=4):
            super().__init__()
            side = in_channels * image_size**2
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(side, units), nn.ReLU())
            self.head = nn.Linear(units, num_classes)

        def forward(self, x):
            return self.head(self.body(x))

    assert "units" in inspect.signature(Hidden).parameters
    try:
        config = TrainConfig(
            model="hidden",
            model_options={"units": 7},
            steps=7,
            batch_size=90,
            schedule="poly",
            crop_size=20,
            images=200,
            backend="numpy",
            name="a",
        ).validate()
        run = new_run(config)
        run.fit()
        assert run.epochs == 4  # 180 images, two batches an epoch
        assert run.model.body[1].weight.shape == (7, 400)
        assert run.trainer.lr == 0.0
        again = resumed_run(run.folder, {})
        assert again.model.body[1].weight.shape == (7, 400)
        assert again.trainer.position.step == 8
        with pytest.raises(ConfigError, match="spread over 7 steps and cannot be stretched to 9 e"):
            resumed_run(run.folder, {"epochs": 9})
        with pytest.raises(ConfigError, match="cannot change images from 200 to 300"):
            resumed_run(run.folder, {"images": 300})
    finally:
        models.registry._architectures.pop("hidden")
