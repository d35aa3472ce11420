"""He et al. 2016 b: pre-activation ResNet."""

from networks import Known

IMAGENET_STAGES = {
    "maxpool": "maxpool",
    **{f"conv{i + 1}_x": f"layer{i}" for i in range(1, 5)},
    "bn+avgpool": "avgpool",
    "fc": "fc",
}
CIFAR_STAGES = {
    "conv1": "conv1",
    **{f"stage{i}": f"layer{i}" for i in range(1, 4)},
    "bn+gap": "avgpool",
    "fc": "fc",
}

KNOWN = [
    *(
        Known(f"preact_resnet{depth}", f"preact_resnet{depth}", stages=IMAGENET_STAGES)
        for depth in (18, 34, 50, 101, 152, 200)
    ),
    *(
        Known(f"preact_resnet{depth}", f"preact_resnet{depth}_cifar_optA", stages=CIFAR_STAGES)
        for depth in (20, 56, 110)
    ),
    *(
        Known(f"preact_resnet{depth}", f"preact_resnet{depth}_cifar_bottleneck", None, {},
              CIFAR_STAGES)
        for depth in (164, 1001)
    ),
]  # fmt: skip
