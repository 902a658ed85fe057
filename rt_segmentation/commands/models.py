"""`rt_seg models`: list, show, import, install, check and profile models."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rt_segmentation.commands import models_install, models_profile, onnx_models
from rt_segmentation.commands.options import at_least, to_json
from rt_segmentation.commands.outputs import check_output, check_outputs
from rt_segmentation.files import check_file, user_path
from rt_segmentation.networks import network_names
from rt_segmentation.networks.published import CONVENTION, published
from rt_segmentation.text import one_line, printable

if TYPE_CHECKING:
    from rt_segmentation.models import ModelManifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="the models that are found by name")
    listing.add_argument("--json", action="store_true", help="print JSON")

    show = actions.add_parser(
        "show", help="one model, or a network without weights, beside the papers' numbers"
    )
    show.add_argument("name", help="a model, the path of a manifest, or a network as 'linknet'")
    show.add_argument("--classes", type=at_least(1, int), help="of a network without weights (default 19)")
    show.add_argument("--width", type=int, help="of its input [px] (default 640)")
    show.add_argument("--height", type=int, help="of its input [px] (default 360)")
    show.add_argument("--json", action="store_true", help="print JSON")

    importing = actions.add_parser("import", help="make a model of a foreign checkpoint or ONNX file")
    importing.add_argument(
        "checkpoint", type=user_path, help="state dict (.pth), .safetensors, .npz, Torch7 (.t7), or any .onnx"
    )
    importing.add_argument("--name", required=True, help="of the model, as enet_cityscapes")
    importing.add_argument("--out", type=user_path, required=True, help="folder for manifest and weights")
    importing.add_argument(
        "--labels", "--label-set", help="label set, by name or as a YAML file (default: its authors')"
    )
    importing.add_argument("--width", type=int, help="of the input [px] (default: its authors')")
    importing.add_argument("--height", type=int, help="of the input [px] (default: its authors')")
    for statistic in ("mean", "std"):
        importing.add_argument(
            f"--{statistic}", type=float, nargs=3, metavar=("R", "G", "B"), help="of images in [0, 1]"
        )
    importing.add_argument("--license", help="of the training data, for the manifest")
    importing.add_argument("--json", action="store_true", help="print JSON")
    onnx_models.add_import_options(importing)

    models_install.add_arguments(
        actions.add_parser("install", help="put a model where nodes and commands find it by its name")
    )

    check = actions.add_parser("check", help="an ONNX model's labels with each usual way to normalise images")
    onnx_models.add_check_arguments(check)

    models_profile.add_arguments(
        actions.add_parser("profile", help="what its answers usually look like, to notice when they do not")
    )


def main(arguments: argparse.Namespace) -> None:
    """Run an action of `models` and print its result."""
    from rt_segmentation.models import list_models

    if arguments.action == "list":
        manifests = list_models()
        _print({"models": [describe(m) for m in manifests]} if arguments.json else _table(manifests))
    elif arguments.action == "show":
        _show(arguments)
    elif arguments.action == "check":
        onnx_models.check(arguments)
    elif arguments.action == "install":
        models_install.main(arguments)
    elif arguments.action == "profile":
        models_profile.main(arguments)
    else:
        manifest = _import(arguments)
        _print(describe(manifest) if arguments.json else _lines(describe(manifest)))


def describe(manifest: ModelManifest) -> dict[str, Any]:
    """All that a manifest says and whether its weights are what it says, as JSON's types.

    The keys are always the same: `kind` ('model'), the manifest's, `classes`, `weights_ok`, `weights_problem`
    (None or a sentence), `published` (the papers' rows) and `convention`.
    """
    from rt_segmentation.models import ModelError
    from rt_segmentation.weights import check_weights

    problem = None
    try:
        check_weights(manifest)
    except ModelError as error:
        problem = str(error)
    content = asdict(manifest)
    content["path"] = str(manifest.path)
    return {
        "kind": "model",
        **content,
        "classes": list(manifest.labels().names),
        "weights_ok": problem is None,
        "weights_problem": problem,
        **(_papers(manifest.network) if manifest.network else {"published": [], "convention": ""}),
    }


def describe_network(network: str, num_classes: int, width: int, height: int) -> dict[str, Any]:
    """Parameters and GMACs of an untrained network for one frame of width x height [px].

    The keys are always the same; `parameters` and `gmacs` are None, and `note` says why, without torch.
    """
    from rt_segmentation.models import ModelError

    if min(width, height) < 32:
        raise ModelError(f"width x height is {width} x {height}, both must be 32 or more")
    parameters: int | None = None
    gmacs: float | None = None
    note = None
    try:
        from rt_segmentation.networks import build_network
        from rt_segmentation.networks.complexity import count_gmacs, count_parameters

        module = build_network(network, num_classes)
        parameters, gmacs = count_parameters(module), round(count_gmacs(module, width, height), 3)
    except ModuleNotFoundError as error:
        note = f"not counted: {error.name} is not installed"
    return {
        "kind": "network",
        "network": network,
        "num_classes": num_classes,
        "width": width,
        "height": height,
        "parameters": parameters,
        "gmacs": gmacs,
        "note": note,
        **_papers(network),
    }


def _papers(network: str) -> dict[str, Any]:
    return {"published": [asdict(row) for row in published(network)], "convention": CONVENTION}


def _show(arguments: argparse.Namespace) -> None:
    from rt_segmentation.models import ModelError, find_model

    sizes = (arguments.classes, arguments.width, arguments.height)
    # A model's short name may be a network's name too: classes or sizes ask for the network.
    if arguments.name in network_names() and (
        any(size is not None for size in sizes) or not _is_model(arguments.name)
    ):
        content = describe_network(
            arguments.name,
            19 if arguments.classes is None else arguments.classes,
            640 if arguments.width is None else arguments.width,
            360 if arguments.height is None else arguments.height,
        )
    elif any(size is not None for size in sizes):
        raise ModelError(
            f"--classes, --width and --height are for a network ({', '.join(network_names())}),"
            f" '{arguments.name}' is none"
        )
    else:
        content = describe(find_model(arguments.name))
    _print(content if arguments.json else _lines(content))


def _is_model(name: str) -> bool:
    from rt_segmentation.models import list_models

    return any(name == m.name or name in m.aliases for m in list_models())


def _import(arguments: argparse.Namespace) -> ModelManifest:
    from rt_segmentation.models import ModelError, name_problem

    check_outputs(arguments, folders=("out",))
    if problem := name_problem(arguments.name):
        raise ModelError(problem)
    # The longest of the names that are made of it.
    check_output("out", arguments.out / f"{arguments.name}.safetensors", check_file)
    if arguments.checkpoint.suffix.lower() == ".onnx":
        return onnx_models.import_model(arguments)
    onnx_models.refuse_options(arguments)
    from rt_segmentation.training.importers import import_checkpoint, write_model

    return write_model(
        import_checkpoint(arguments.checkpoint),
        arguments.name,
        arguments.out,
        label_set=arguments.labels,
        width=arguments.width,
        height=arguments.height,
        mean=None if arguments.mean is None else tuple(arguments.mean),
        std=None if arguments.std is None else tuple(arguments.std),
        data_license=arguments.license,
    )


def _print(content: dict[str, Any] | list[str]) -> None:
    if isinstance(content, list):
        # A manifest may come from a stranger: what it says is no command to a terminal.
        print("\n".join(printable(one_line(line)) for line in content))
    else:
        print(to_json(content).decode(), end="")


def _table(manifests: list[ModelManifest]) -> list[str]:
    from rt_segmentation.resources import installed_models_dir

    if not manifests:
        return ["no models come with this installation; `rt_seg models import` and `rt_seg train` make some"]
    rows = [("NAME", "ALIASES", "NETWORK", "LABELS", "INPUT", "PARAMETERS", "GMACS", "SCORE")]
    installed = [m for m in manifests if m.path.parent == installed_models_dir()]
    for m in manifests:
        score = f"{m.scores[0].metric} {m.scores[0].value:.4f} on {m.scores[0].dataset}" if m.scores else "-"
        aliases = ", ".join(m.aliases) or "-"
        size = f"{m.width}x{m.height}"
        rows.append(
            (m.name, aliases, m.architecture, m.label_set, size, f"{m.parameters:,}", f"{m.gmacs:.3f}", score)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if installed:
        names = ", ".join(m.name for m in installed)
        lines.append(f"installed in {installed_models_dir()}: {names}; the others come with the package")
    return lines


def _lines(content: dict[str, Any]) -> list[str]:
    """The description as lines of a name and a value."""
    entries: list[tuple[str, str]] = []
    if content["kind"] == "model":
        options = ", ".join(f"{key}={value}" for key, value in content["options"].items())
        entries += [
            (
                "model",
                content["name"] + (f" ({', '.join(content['aliases'])})" if content["aliases"] else ""),
            ),
            ("manifest", content["path"]),
            (
                "network",
                _graph(content)
                if content["onnx"]
                else content["network"] + (f" ({options})" if options else ""),
            ),
            ("labels", f"{content['label_set']}: {', '.join(content['classes'])}"),
            (
                "input",
                f"{content['width']}x{content['height']} px, mean {content['mean']}, std {content['std']}",
            ),
            ("weights", content["weights"] + (" (sha256 ok)" if content["weights_ok"] else "")),
        ]
        if not content["weights_ok"]:
            entries.append(("problem", content["weights_problem"]))
        entries += [("training", f"{key}: {value}") for key, value in content["training"].items()]
        score = "{metric} {value:.4f} on {dataset} {split}, {width}x{height}, {precision}"
        entries += [("score", score.format(**one)) for one in content["scores"]]
        if content["temperature"] != 1:
            entries.append(("temperature", f"{content['temperature']} for the confidence"))
        if content["profile"] is not None:
            entries.append(("profile", "{data}, {frames} frames".format(**content["profile"])))
        entries.append(("licence", content["license"]))
    else:
        entries.append(("network", f"{content['network']}, {content['num_classes']} classes"))
        entries.append(("input", f"{content['width']}x{content['height']} px"))
    if content["parameters"] is None:
        entries.append(("note", content["note"]))
    else:
        entries.append(("parameters", f"{content['parameters']:,}"))
        entries.append(("GMACs", f"{content['gmacs']:.3f}"))
    entries += [("paper", _row(row)) for row in content["published"]]
    if content["convention"]:
        entries.append(("", content["convention"]))
    return [f"{name:<11} {value}" for name, value in entries]


def _graph(content: dict[str, Any]) -> str:
    """What an ONNX graph takes and gives."""
    onnx = content["onnx"]
    size = (
        "of this size alone" if onnx["fixed_size"] else f"of sides that are multiples of {onnx['multiple']}"
    )
    golden = f", must reproduce {onnx['golden']}" if onnx["golden"] else ""
    return (
        f"ONNX graph: {onnx['order']} {onnx['layout']} images {size} in '{onnx['input']}', {onnx['gives']} in"
        f" '{onnx['output']}'{golden}"
    )


def _row(row: dict[str, Any]) -> str:
    parts = [f"{row['parameters_millions']} M parameters"]
    if row["gflops"] is not None:
        parts.append(f"{row['gflops']} GFLOPs at {row['width']}x{row['height']}")
    if row["model_size_mb"] is not None:
        parts.append(f"{row['model_size_mb']} MB in fp16")
    if row["mean_iou"] is not None:
        parts.append(f"mean IoU {row['mean_iou']:.3f} on Cityscapes' test set")
    return f"{row['source']}: {', '.join(parts)}"
