"""VGG: the six configurations, and five of them with batch normalisation."""

from networks import FACTS, Known

LETTERS = {"11": "A", "13": "B", "16": "D", "16_c": "C", "19": "E"}


def stages(fact, layers_of_a_convolution, first_extra=0):
    """The names of the stages in facts.json, in order, with the path of each."""
    paths, position = {}, 0
    for stage in FACTS[fact]["stages"]:
        name = stage["stage"]
        if name.startswith("conv"):
            paths[name] = f"features.{position}"
            position += layers_of_a_convolution + (first_extra if name == "conv1_1" else 0)
        elif name.startswith("pool"):
            paths[name] = f"features.{position}"
            position += 1
    return paths | {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}


def entry(depth, letter, norm):
    fact = f"vgg_{letter}{norm}"
    return Known(
        f"vgg{depth}{norm}",
        fact,
        stages=stages(fact, 3 if norm else 2),
        torchvision="" if depth == "16_c" else f"vgg{depth}{norm}",
    )


KNOWN = [
    *(entry(depth, letter, norm) for depth, letter in LETTERS.items() for norm in ("", "_bn")),
    Known("vgg11_lrn", "vgg_A-LRN", stages=stages("vgg_A-LRN", 2, first_extra=1)),
]
