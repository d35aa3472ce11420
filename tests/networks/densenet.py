"""DenseNet, for ImageNet and for CIFAR."""

from networks import Known

STAGES = {
    **{f"denseblock{i}": f"features.denseblock{i}" for i in (1, 2, 3)},
    **{f"transition{i}": f"features.transition{i}" for i in (1, 2)},
    "bn+gap": "avgpool",
    "fc": "classifier",
}
IMAGENET = {
    **STAGES,
    "conv0+bn": "features.relu0",
    "pool0": "features.pool0",
    "transition3": "features.transition3",
    "denseblock4": "features.denseblock4",
}
CIFAR = {**STAGES, "conv0": "features.conv0"}

KNOWN = [
    *(
        Known(f"densenet{depth}", f"densenet{depth}", stages=IMAGENET, torchvision=theirs)
        for depth, theirs in {
            121: "densenet121",
            161: "densenet161",
            169: "densenet169",
            201: "densenet201",
            264: "",
        }.items()
    ),
    Known("densenet40", "densenet_L40_k12_init16", stages=CIFAR),
    Known("densenet40", "densenet_L40_k12_init24", options={"num_init_features": 24}, stages=CIFAR),
    Known("densenet100", "densenet_L100_k12_init16", stages=CIFAR),
    Known("densenet100", "densenet_L100_k24_init16", options={"growth_rate": 24}, stages=CIFAR),
    Known("densenet_bc40", "densenet_bc_L40_k12_init24", stages=CIFAR),
    Known("densenet_bc100", "densenet_bc_L100_k12_init24", stages=CIFAR),
    Known(
        "densenet_bc100",
        "densenet_bc_L100_k12_init24_c100",
        options={"num_classes": 100},
        stages=CIFAR,
    ),
    Known("densenet_bc190", "densenet_bc_L190_k40_init80", stages=CIFAR),
    Known("densenet_bc250", "densenet_bc_L250_k24_init48", stages=CIFAR),
]
