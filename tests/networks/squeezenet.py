"""SqueezeNet: both versions, at both sizes of images, and the bypasses."""

from networks import Known

V1_0 = {
    "conv1": "features.0",
    "maxpool1": "features.2",
    "fire2": "features.3",
    "fire3": "features.4",
    "fire4": "features.5",
    "maxpool4": "features.6",
    "fire5": "features.7",
    "fire6": "features.8",
    "fire7": "features.9",
    "fire8": "features.10",
    "maxpool8": "features.11",
    "fire9": "features.12",
    "conv10": "classifier.1",
    "avgpool10": "classifier.3",
}
V1_1 = {
    "conv1": "features.0",
    "maxpool1": "features.2",
    "fire2": "features.3",
    "fire3": "features.4",
    "maxpool3": "features.5",
    "fire4": "features.6",
    "fire5": "features.7",
    "maxpool5": "features.8",
    "fire6": "features.9",
    "fire7": "features.10",
    "fire8": "features.11",
    "fire9": "features.12",
    "conv10": "classifier.1",
    "avgpool10": "classifier.3",
}


def entry(version, size, bypass="none", stages=V1_0):
    suffix = "" if bypass == "none" else f"_{bypass}_bypass"
    return Known(
        f"squeezenet1_{version}",
        f"squeezenet_v1_{version}{suffix}@{size}",
        options={"image_size": size, "bypass": bypass},
        stages=stages,
        torchvision="" if suffix else f"squeezenet1_{version}",
    )


KNOWN = [
    entry(0, 227),
    entry(0, 224),
    entry(1, 227, stages=V1_1),
    entry(1, 224, stages=V1_1),
    entry(0, 227, "simple"),
    entry(0, 227, "complex"),
]
