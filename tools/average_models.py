"""Average the weights of a model with those of the model that its training started from.

`python tools/average_models.py lednet_town runs/NAME/NAME.yaml --weight 0.7 --out models` writes a model of
the second one's name. Between the two, a model often keeps what each of them knows (Wortsman et al., 2022,
Robust Fine-Tuning of Zero-Shot Models). Scores, temperature and profile are left out: they were measured
with other weights, and have to be measured again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from rt_segmentation.labels import store_label_set
from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.weights import compare_shapes, load_weights, save_model


def average(start: ModelManifest, end: ModelManifest, weight: float) -> dict[str, np.ndarray]:
    """Average the weights, `weight` of the end's and the rest of the start's.

    Raises:
        SystemExit: the two are not of one network, of the same options, classes and normalisation.
    """
    for what, one, other in (
        ("network", start.network, end.network),
        ("options", start.options, end.options),
        ("classes", start.labels().names, end.labels().names),
        ("mean", start.mean, end.mean),
        ("std", start.std, end.std),
    ):
        if one != other:
            raise SystemExit(f"the {what} of {start.name} and {end.name} differ: {one} and {other}")
    first, second = load_weights(start), load_weights(end)
    expected, found = ({key: array.shape for key, array in weights.items()} for weights in (second, first))
    problem = compare_shapes(expected, found, f"weights of {start.name}")
    if problem:
        raise SystemExit(problem)
    return {key: (1 - weight) * first[key] + weight * second[key] for key in second}


def averaged(start: ModelManifest, end: ModelManifest, weight: float, folder: Path) -> ModelManifest:
    """Write the model of the averaged weights into a folder; raises as `average`."""
    weights = average(start, end, weight)
    if Path(end.label_set).suffix in (".yaml", ".yml"):
        label_set = store_label_set(end.path.parent / end.label_set, folder, end.path.stem)
        end = replace(end, label_set=label_set)
    made = replace(
        end,
        path=folder / end.path.name,
        training={**end.training, "averaged_with": start.name, "weight": weight},
        scores=(),
        temperature=1.0,
        profile=None,
    )
    return save_model(made, weights)


def main() -> None:
    """Average, write, say where."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start", help="a model, or the path of a manifest")
    parser.add_argument("end", help="the same of the one that was trained from it")
    parser.add_argument("--weight", type=float, default=0.5, help="of the end, 0 to 1 (default 0.5)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new model")
    arguments = parser.parse_args()
    if not 0 <= arguments.weight <= 1:
        parser.error(f"--weight is {arguments.weight:g}; it must be from 0 to 1")
    start, end = find_model(arguments.start), find_model(arguments.end)
    print(averaged(start, end, arguments.weight, arguments.out).path)


if __name__ == "__main__":
    main()
