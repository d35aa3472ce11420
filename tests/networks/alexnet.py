"""AlexNet: of the paper, of the notes, and torchvision's."""

from networks import Known

BY_NAME = {
    **{name: f"features.{name}" for name in ("conv1", "conv2", "conv3", "conv4", "conv5")},
    **{name: f"features.{name}" for name in ("pool1", "pool2", "pool5")},
    **{"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"},
}

KNOWN = [
    Known("alexnet_2012", "alexnet_paper_two_gpu_groups2", stages=BY_NAME),
    Known("alexnet_notes", "alexnet_notes_single_tower", stages=BY_NAME),
    Known(
        "alexnet",
        "alexnet_one_weird_trick_torchvision",
        torchvision="alexnet",
        stages={
            "conv1": "features.0",
            "pool1": "features.2",
            "conv2": "features.3",
            "pool2": "features.5",
            "conv3": "features.6",
            "conv4": "features.8",
            "conv5": "features.10",
            "pool5": "features.12",
            "fc6": "classifier.1",
            "fc7": "classifier.4",
            "fc8": "classifier.6",
        },
    ),
]
