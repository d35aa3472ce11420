"""ZFNet: both variants of the paper."""

from networks import Known
from networks.alexnet import BY_NAME

KNOWN = [
    Known("zfnet", "zfnet_paper_a", stages=BY_NAME),
    Known("zfnet", "zfnet_notes_512_1024_512", options={"variant": "b"}, stages=BY_NAME),
]
