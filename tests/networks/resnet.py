"""He et al. 2016: ResNet and plain networks for ImageNet."""

from networks import Known

STAGES = {
    "conv1": "conv1",
    "maxpool": "maxpool",
    **{f"conv{i + 1}_x": f"layer{i}" for i in range(1, 5)},
    "avgpool": "avgpool",
    "fc": "fc",
}
OPTIONS = {
    "_v1_stride_in_1x1": {"stride_in": "1x1"},
    "_shortcutA": {"shortcut": "A"},
    "_shortcutC": {"shortcut": "C"},
}

KNOWN = [
    *(
        Known(name, name, stages=STAGES, torchvision=name)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    ),
    *(
        Known(name, name + variant, options=OPTIONS[variant], stages=STAGES)
        for name, variant in (
            *((f"resnet{depth}", "_v1_stride_in_1x1") for depth in (50, 101, 152)),
            *(("resnet18", "_shortcutA"), ("resnet34", "_shortcutA"), ("resnet34", "_shortcutC")),
        )
    ),
    *(Known(name, name, stages=STAGES) for name in ("plain18", "plain34")),
]
