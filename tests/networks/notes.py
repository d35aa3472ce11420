"""The notes' own network."""

from networks import Known

KNOWN = [
    Known(
        "notes_cnn",
        "notes_fashion_mnist_cnn",
        stages={
            "conv1+bn+relu": "features.2",
            "pool1": "features.3",
            "conv2+bn+relu": "features.6",
            "pool2": "features.7",
            "fc": "classifier",
        },
    ),
]
