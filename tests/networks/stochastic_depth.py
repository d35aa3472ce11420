"""Huang et al. 2016: ResNet-110 with stochastic depth; its code gives convolutions biases."""

from networks import Known
from networks.cifar_resnet import STAGES

KNOWN = [
    Known("stochastic_depth_resnet110", "resnet110_cifar_optA_convbias", stages=STAGES),
    Known(
        "stochastic_depth_resnet110",
        "resnet110_cifar_optA_c100_convbias",
        options={"num_classes": 100},
        stages=STAGES,
    ),
]
