"""Network in Network: the authors' networks for CIFAR, MNIST and ImageNet."""

from networks import Known

THREE_BLOCKS = {
    "conv1": "features.mlpconv1.0",
    "cccp1-2": "features.mlpconv1",
    "pool1": "features.pool1",
    "conv2": "features.mlpconv2.0",
    "cccp3-4": "features.mlpconv2",
    "pool2": "features.pool2",
    "conv3": "features.mlpconv3.0",
    "cccp5-6": "features.mlpconv3",
    "gap": "avgpool",
}

KNOWN = [
    Known("nin", "nin_cifar10", stages=THREE_BLOCKS),
    Known("nin", "nin_cifar100", options={"num_classes": 100}, stages=THREE_BLOCKS),
    Known("nin", "nin_mnist", preset="mnist", stages=THREE_BLOCKS),
    Known(
        "nin",
        "nin_imagenet",
        preset="imagenet",
        stages={
            "mlpconv1": "features.mlpconv1",
            "pool1": "features.pool1",
            "mlpconv2": "features.mlpconv2",
            "pool2": "features.pool2",
            "mlpconv3": "features.mlpconv3",
            "pool3": "features.pool3",
            "mlpconv4": "features.mlpconv4",
            "gap": "avgpool",
        },
    ),
]
