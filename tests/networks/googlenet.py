"""GoogLeNet in its four forms."""

from networks import Known

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
STAGES = {
    "conv1 7x7/2": "conv1",
    "pool1": "maxpool1",
    "conv2 reduce+3x3": "conv3",
    "pool2": "maxpool2",
    "pool3": "maxpool3",
    "pool4": "maxpool4",
    **{f"inception_{name}": f"inception{name}" for name in MODULES},
    "avgpool": "avgpool",
    "fc": "fc",
}
HEADS = ("aux1.", "aux2.")

KNOWN = [
    Known(
        "googlenet",
        "googlenet_bn_torchvision_3x3bug",
        stages=STAGES,
        torchvision="googlenet",
        auxiliary=HEADS,
    ),
    *(
        Known("googlenet", fact, options={"form": form}, stages=STAGES, auxiliary=HEADS)
        for form, fact in {
            "paper": "googlenet_paper",
            "batch_norm": "googlenet_bn_true5x5",
        }.items()
    ),
    Known(
        "googlenet",
        "googlenet_naive_modules",
        options={"form": "naive", "aux_logits": False},
        stages=STAGES,
    ),
]
