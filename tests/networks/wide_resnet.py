"""Zagoruyko and Komodakis 2016: wide residual networks."""

from networks import Known
from networks.resnet import STAGES as IMAGENET_STAGES

STAGES = {
    "conv1": "conv1",
    **{f"group{i}": f"layer{i}" for i in range(1, 4)},
    "bn+gap": "avgpool",
    "fc": "fc",
}
REGISTERED = ("16_4", "16_8", "28_10", "40_1", "40_2", "40_4")
BY_OPTIONS = (
    *((10, 1), (10, 2), (16, 1), (16, 2), (16, 10), (22, 8), (22, 10), (28, 2), (28, 12)),
    *((40, 8), (40, 10)),
)

KNOWN = [
    *(Known(f"wrn{form}", f"wrn_{form}", stages=STAGES) for form in REGISTERED),
    *(
        Known("wrn28_10", f"wrn_{depth}_{k}", None, {"depth": depth, "k": k}, STAGES)
        for depth, k in BY_OPTIONS
    ),
    *(
        Known(f"wrn{form}", f"wrn_{form}_c100", None, {"num_classes": 100}, STAGES)
        for form in ("16_8", "28_10", "40_4")
    ),
    *(
        Known(name, name, stages=IMAGENET_STAGES, torchvision=name)
        for name in ("wide_resnet50_2", "wide_resnet101_2")
    ),
]
