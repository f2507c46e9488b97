"""Check floors on a metrics.json: `check_floors.py metrics.json "recon_psnr_db >= 24" ...`."""

import json
import operator
import sys

COMPARISONS = {">=": operator.ge, "<=": operator.le}


def main(path: str, floors: list[str]) -> int:
    """Print every floor beside the measured value; the number of misses."""
    with open(path) as file:
        metrics = json.load(file)
    misses = 0
    for floor in floors:
        name, sign, bound = floor.split()
        name, _, divisor = name.partition("/")
        value = metrics[name] / (metrics[divisor] if divisor else 1.0)
        holds = COMPARISONS[sign](value, float(bound))
        misses += not holds
        print(f"{'ok  ' if holds else 'MISS'} {floor}: {value:.4f}")
    return misses


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]) > 0)
