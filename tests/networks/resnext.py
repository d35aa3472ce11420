"""Xie et al. 2017: ResNeXt for ImageNet and CIFAR."""

from networks import Known
from networks.cifar_resnet import STAGES as CIFAR_STAGES
from networks.resnet import STAGES

EQUAL_COST = ((1, 64), (2, 40), (4, 24), (8, 14))  # groups, width of a group

KNOWN = [
    *(
        Known(name, name, stages=STAGES, torchvision=name)
        for name in ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")
    ),
    Known("resnext101_32x4d", "resnext101_32x4d", stages=STAGES),
    *(
        Known(
            "resnext50_32x4d",
            f"resnext50_{groups}x{width}d",
            options={"groups": groups, "width_per_group": width},
            stages=STAGES,
        )
        for groups, width in EQUAL_COST
    ),
    *(
        Known(f"resnext29_{form}", f"resnext29_{form}_cifar", stages=CIFAR_STAGES)
        for form in ("8x64d", "16x64d")
    ),
    *(
        Known(
            f"resnext29_{form}",
            f"resnext29_{form}_cifar_c100",
            options={"num_classes": 100},
            stages=CIFAR_STAGES,
        )
        for form in ("8x64d", "16x64d")
    ),
    Known(
        "resnext29_8x64d",
        "resnext29_32x4d_cifar",
        options={"groups": 32, "width_per_group": 4},
        stages=CIFAR_STAGES,
    ),
]
