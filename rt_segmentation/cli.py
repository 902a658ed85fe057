"""The command line `rt_seg`; what a command needs is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

# Each command's module in `rt_segmentation.commands`, and its function there.
COMMANDS = {
    "train": "train:run",
    "models": "models:run",
    "evaluate": "evaluate:run",
    "dataset": "dataset:run",
    "submit": "submit:run",
    "export": "engines:export",
    "cache": "engines:run_cache",
    "benchmark": "benchmark:run",
    "demo": "demo:run",
    "parameters": "parameters:run",
}


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="rt_seg", description="Real-time semantic segmentation for ROS 2.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network as a recipe says")
    train.add_argument("recipe", help="name of a recipe in config/recipes, or a file")
    train.add_argument("--data-root", type=Path, help="folder of the data set, for recipes that need one")
    train.add_argument("--out", type=Path, default=Path("runs"), help="where model, logs and checkpoints go")
    train.add_argument("--workers", type=int, default=1, help="processes that load and augment")
    train.add_argument("--init-from", metavar="MODEL", help="a model whose weights are the start")
    train.add_argument("--compile", action="store_true", help="faster steps by torch.compile, after minutes")
    _add_models(commands)
    _add_evaluate(commands)
    _add_dataset(commands)
    _add_submit(commands)
    _add_engines(commands)
    _add_benchmark(commands)
    _add_demo(commands)

    parameters = commands.add_parser("parameters", help="print the nodes' parameters")
    parameters.add_argument("format", choices=("yaml", "markdown"), help="a params file, or tables")
    return parser


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a model on a data set")
    evaluate.add_argument("--model", required=True, help="a model, or the path of a manifest")
    _add_data(evaluate)
    evaluate.add_argument("--engine", default="auto", help="what executes the model (default auto)")
    evaluate.add_argument("--precision", default="auto", help="arithmetic of the engine (default auto)")
    evaluate.add_argument("--json", type=Path, help="write the result into this file as well")
    evaluate.add_argument("--pictures", type=Path, help="folder for the best, median and worst frames")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="camvid", help="camvid, cityscapes, sunrgbd, folder or street")
    parser.add_argument("--data-root", type=Path, help="the data set's folder; the street has none")
    parser.add_argument("--split", default="val", help="of the data set (default val)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the data set, as label_set=site.yaml or annotation=coarse; may be repeated",
    )


def _add_dataset(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    dataset = commands.add_parser("dataset", help="look into a data set")
    actions = dataset.add_subparsers(dest="action", required=True, metavar="ACTION")
    stats = actions.add_parser("stats", help="frequencies, weights, mean and std, and what is wrong")
    _add_data(stats)
    stats.add_argument("--out", type=Path, help="write a picture of samples (.png)")
    stats.add_argument("--json", type=Path, help="write the numbers into this file as well")


def _add_submit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    submit = commands.add_parser("submit", help="write what a benchmark's server takes")
    submit.add_argument("benchmark", choices=("cityscapes",))
    submit.add_argument("--model", required=True, help="a model, or the path of a manifest")
    submit.add_argument("--data-root", type=Path, required=True, help="the data set's folder")
    submit.add_argument("--split", default="test", help="of the data set (default test)")
    submit.add_argument("--out", type=Path, required=True, help="folder for the label images")
    submit.add_argument("--engine", default="auto", help="what executes the model (default auto)")
    submit.add_argument("--precision", default="auto", help="arithmetic of the engine (default auto)")


def _add_engines(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="build a model's engine before it is needed")
    export.add_argument("--model", required=True, help="a model, or the path of a manifest")
    export.add_argument("--width", type=int, help="of the network's input [px] (default: the manifest's)")
    export.add_argument("--height", type=int, help="of the network's input [px] (default: the manifest's)")
    export.add_argument("--batch", type=int, default=1, help="frames at once (default 1)")
    export.add_argument("--engine", default="auto", help="what executes the model (default auto)")
    export.add_argument("--precision", default="auto", help="arithmetic of the engine (default auto)")
    export.add_argument("--out", type=Path, help="a folder for the graph as ONNX and its weights")

    cache = commands.add_parser("cache", help="engines kept on disk")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").add_argument(
        "--json", action="store_true", help="print JSON"
    )
    actions.add_parser("clear", help="delete all of it")


def _add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    benchmark = commands.add_parser("benchmark", help="time engines, or the whole node, on this machine")
    benchmark.add_argument("subject", choices=("engines", "node"), help="what to time")
    benchmark.add_argument(
        "--models", nargs="+", default=["enet", "linknet", "lednet"], help="models to time"
    )
    benchmark.add_argument("--sizes", nargs="+", default=["640x360"], help="of frames, WIDTHxHEIGHT [px]")
    benchmark.add_argument("--engines", nargs="+", default=[], help="engines (default: all that are here)")
    benchmark.add_argument("--precisions", nargs="+", default=[], help="precisions (default: all there are)")
    benchmark.add_argument("--compare", choices=("eager",), help="put each beside plain eager PyTorch, fp32")
    benchmark.add_argument("--data-root", type=Path, help="CamVid's folder, to measure the mean IoU lost")
    benchmark.add_argument("--minutes", type=float, default=10.0, help="of timing in all (default 10)")
    benchmark.add_argument(
        "--out", type=Path, default=Path("benchmark"), help="folder for JSON and Markdown (default benchmark)"
    )


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser("demo", help="camera, node and viewer over DDS, with tables and pictures")
    demo.add_argument("--model", default="enet", help="a model, or the path of a manifest (default enet)")
    demo.add_argument(
        "--seconds", type=float, default=20.0, help="how long the camera publishes (default 20)"
    )
    demo.add_argument("--rate", type=float, default=10.0, help="of the camera [Hz] (default 10)")
    demo.add_argument("--images", type=Path, help="a folder of images, or a video, instead of the street")
    demo.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for pictures and logs")


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    models = commands.add_parser("models", help="list, show and import models")
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="the models that come with the package")
    listing.add_argument("--json", action="store_true", help="print JSON")

    show = actions.add_parser(
        "show", help="one model, or a network without weights, beside the papers' numbers"
    )
    show.add_argument("name", help="a model, the path of a manifest, or a network as 'linknet'")
    show.add_argument("--classes", type=int, help="of a network without weights (default 19)")
    show.add_argument("--width", type=int, help="of its input [px] (default 640)")
    show.add_argument("--height", type=int, help="of its input [px] (default 360)")
    show.add_argument("--json", action="store_true", help="print JSON")

    slopes = actions.add_parser("slopes", help="draw an ENet's PReLU slopes by depth, as its paper's Fig. 2")
    slopes.add_argument("name", help="a model, or the path of a manifest")
    slopes.add_argument("--out", type=Path, default=Path("slopes.png"), help="the picture (slopes.png)")

    importing = actions.add_parser("import", help="make a model of a foreign checkpoint")
    importing.add_argument(
        "checkpoint", type=Path, help="state dict (.pth), .safetensors, .npz or Torch7 (.t7)"
    )
    importing.add_argument("--name", required=True, help="of the model, as enet_cityscapes")
    importing.add_argument("--out", type=Path, required=True, help="folder for manifest and weights")
    importing.add_argument("--labels", help="label set, by name or as a YAML file (default: its authors')")
    importing.add_argument("--width", type=int, help="of the input [px] (default: its authors')")
    importing.add_argument("--height", type=int, help="of the input [px] (default: its authors')")
    for statistic in ("mean", "std"):
        importing.add_argument(
            f"--{statistic}", type=float, nargs=3, metavar=("R", "G", "B"), help="of images in [0, 1]"
        )
    importing.add_argument("--license", help="of the training data, for the manifest")
    importing.add_argument("--json", action="store_true", help="print JSON")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 2 with one sentence on stderr for bad input."""
    arguments = build_parser().parse_args(argv)
    try:
        module_name, function = COMMANDS[arguments.command].split(":")
        module = importlib.import_module(f"rt_segmentation.commands.{module_name}")
        getattr(module, function)(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"rt_seg {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
