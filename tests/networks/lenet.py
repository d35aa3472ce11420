"""LeNet-5: of 1998, of today, and Caffe's."""

from networks import Known

MNIST_IN_32x32 = {"image_size": 32, "padding": 0}

KNOWN = [
    Known(
        "lenet5_1998",
        "lenet5_1998_original",
        options=MNIST_IN_32x32,
        stages={
            "C1": "features.C1",
            "S2 (coeff+bias per map)": "features.S2",
            "C3 (60 kernels)": "features.C3",
            "S4": "features.S4",
            "C5": "classifier.C5",
            "F6": "classifier.F6",
            "RBF out (fixed)": "classifier.output",
        },
    ),
    Known(
        "lenet5",
        "lenet5_dense_c3",
        options=MNIST_IN_32x32,
        stages={
            "C1": "features.C1",
            "S2": "features.S2",
            "C3": "features.C3",
            "S4": "features.S4",
            "C5": "classifier.C5",
            "F6": "classifier.F6",
            "OUT": "classifier.output",
        },
    ),
    Known(
        "lenet_caffe",
        "lenet_caffe",
        stages={
            "conv1": "features.conv1",
            "pool1": "features.pool1",
            "conv2": "features.conv2",
            "pool2": "features.pool2",
            "ip1": "classifier.ip1",
            "ip2": "classifier.ip2",
        },
    ),
]
