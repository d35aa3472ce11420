"""BN-Inception and Inception v3."""

from networks import Known

MODULES = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
STAGES_V2 = {
    "conv1 7x7/2": "features.conv1",
    "pool1": "features.pool1",
    "conv2": "features.conv3",
    "pool2": "features.pool2",
    **{f"inception_{name}": f"features.inception{name}" for name in MODULES},
    "avgpool": "avgpool",
    "fc": "fc",
}
KINDS = {"5b": "A", "5c": "A", "5d": "A", "6a": "B", "6b": "C", "6c": "C", "6d": "C", "6e": "C",
         "7a": "D", "7b": "E", "7c": "E"}  # fmt: skip
STAGES_V3 = {
    "1a 3x3/2": "Conv2d_1a_3x3",
    "2a 3x3": "Conv2d_2a_3x3",
    "2b 3x3 p1": "Conv2d_2b_3x3",
    "pool1": "maxpool1",
    "3b 1x1": "Conv2d_3b_1x1",
    "4a 3x3": "Conv2d_4a_3x3",
    "pool2": "maxpool2",
    **{f"Mixed_{name} ({kind})": f"Mixed_{name}" for name, kind in KINDS.items()},
    "avgpool": "avgpool",
    "fc": "fc",
}

KNOWN = [
    Known("inception_v2", "bn_inception_v2_plain", stages=STAGES_V2),
    Known(
        "inception_v2",
        "bn_inception_v2_slim",
        options={"separable_stem": True},
        stages=STAGES_V2,
    ),
    Known(
        "inception_v2",
        "bn_inception_v2_proj128_nobias",
        options={"pool_projection": 128},
        stages=STAGES_V2,
    ),
    Known(
        "inception_v2",
        "bn_inception_v2_proj128_convbias",
        options={"pool_projection": 128, "bias": True},
        stages=STAGES_V2,
    ),
    Known(
        "inception_v3",
        "inception_v3",
        stages=STAGES_V3,
        torchvision="inception_v3",
        auxiliary=("AuxLogits.",),
    ),
]
