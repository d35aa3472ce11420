"""He et al. 2016: ResNet and plain networks for CIFAR-10."""

from networks import Known

STAGES = {
    "conv1": "conv1",
    **{f"stage{i}": f"layer{i}" for i in range(1, 4)},
    "gap": "avgpool",
    "fc": "fc",
}
BIAS = {"conv_bias": True}

KNOWN = [
    *(
        Known(f"resnet{depth}", f"resnet{depth}_cifar_optA", stages=STAGES)
        for depth in (20, 32, 44, 56, 110, 1202)
    ),
    *(
        Known("resnet20", f"resnet{depth}_cifar_optA", options={"depth": depth}, stages=STAGES)
        for depth in (8, 14)
    ),
    *(
        Known(f"resnet{depth}", f"resnet{depth}_cifar_optB", None, {"shortcut": "B"}, STAGES)
        for depth in (20, 56, 110)
    ),
    *(Known(f"plain{depth}", f"plain{depth}", stages=STAGES) for depth in (20, 32, 44, 56, 110)),
    Known("resnet110", "resnet110_cifar_optA_convbias", None, BIAS, STAGES),
    Known(
        "resnet110",
        "resnet110_cifar_optA_c100_convbias",
        options={**BIAS, "num_classes": 100},
        stages=STAGES,
    ),
]
