"""FractalNet, with the widths of the paper and thin ones."""

from networks import Known

STAGES = {**{f"block{i + 1}": f"blocks.{i}" for i in range(5)}, "fc": "fc"}
C100 = {"num_classes": 100}
THIN = {**C100, "widths": (16, 32, 64, 128, 128)}
OF_PAPER = "64-128-256-512-512"


def entry(fact, **options):
    return Known("fractalnet", f"fractalnet_{fact}", options=options, stages=STAGES)


KNOWN = [
    entry(f"C3_B5_{OF_PAPER}_c10"),
    entry(f"C3_B5_{OF_PAPER}_c10_bnaffine", affine=True),
    entry(f"C3_B5_{OF_PAPER}_c10_nobias_bnaffine", affine=True, bias=False),
    entry(f"C3_B5_{OF_PAPER}_c100", **C100),
    entry(f"C3_B5_{OF_PAPER}_c100_bnaffine", **C100, affine=True),
    entry(f"C1_B5_{OF_PAPER}_c10", columns=1),
    entry(f"C2_B5_{OF_PAPER}_c10", columns=2),
    entry(f"C4_B5_{OF_PAPER}_c100", **C100, columns=4),
    entry("C4_B5_16-32-64-128-128_c100", **THIN, columns=4),
    entry("C4_B5_16-32-64-128-256_c100", **C100, columns=4, widths=(16, 32, 64, 128, 256)),
    *(entry(f"thin_C{columns}_cifar100", **THIN, columns=columns) for columns in range(1, 7)),
]
