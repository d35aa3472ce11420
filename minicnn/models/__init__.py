"""The architectures: one file a paper, the architecture as data, found by name.

>>> from minicnn import models
>>> models.create("notes_cnn").num_parameters()
29034
"""

from minicnn.models.alexnet import AlexNet, AlexNet2012
from minicnn.models.cifar_resnet import CifarResNet
from minicnn.models.densenet import DenseNet
from minicnn.models.fractalnet import FractalNet
from minicnn.models.googlenet import GoogLeNet, GoogLeNetOutputs
from minicnn.models.inception_v2 import InceptionV2
from minicnn.models.inception_v3 import InceptionOutputs, InceptionV3
from minicnn.models.lenet import LeNet5, LeNet5Original, LeNetCaffe
from minicnn.models.network import Network
from minicnn.models.nin import NiN
from minicnn.models.notes_cnn import NotesCNN
from minicnn.models.preact_resnet import PreActResNet
from minicnn.models.registry import (
    Architecture,
    Preset,
    create,
    find,
    names,
    nearest_preset,
    register,
)
from minicnn.models.resnet import ResNet
from minicnn.models.resnext import ResNeXt
from minicnn.models.squeezenet import SqueezeNet
from minicnn.models.stochastic_depth import StochasticDepthResNet
from minicnn.models.vgg import VGG
from minicnn.models.wide_resnet import WideResNet
from minicnn.models.zfnet import ZFNet

__all__ = [
    "VGG",
    "AlexNet",
    "AlexNet2012",
    "Architecture",
    "CifarResNet",
    "DenseNet",
    "FractalNet",
    "GoogLeNet",
    "GoogLeNetOutputs",
    "InceptionOutputs",
    "InceptionV2",
    "InceptionV3",
    "LeNet5",
    "LeNet5Original",
    "LeNetCaffe",
    "Network",
    "NiN",
    "NotesCNN",
    "PreActResNet",
    "Preset",
    "ResNeXt",
    "ResNet",
    "SqueezeNet",
    "StochasticDepthResNet",
    "WideResNet",
    "ZFNet",
    "create",
    "find",
    "names",
    "nearest_preset",
    "register",
]
