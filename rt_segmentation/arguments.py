"""What each command of `rt_seg` takes; nothing that a command needs is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path

from rt_segmentation import __version__


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="rt_seg", description="Real-time semantic segmentation for ROS 2.")
    parser.add_argument("--version", action="version", version=f"rt_segmentation {__version__}")
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="a network of your own that models may have; may be repeated",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_segment(commands)
    _add_train(commands)
    _add_models(commands)
    _add_evaluate(commands)
    _add_evaluate_bag(commands)
    _add_report(commands)
    _add_bag(commands)
    _add_dataset(commands)
    _add_submit(commands)
    _add_engines(commands)
    _add_benchmark(commands)
    _add_demo(commands)

    parameters = commands.add_parser("parameters", help="print the nodes' parameters")
    parameters.add_argument("format", choices=("yaml", "markdown"), help="a params file, or tables")
    topics = commands.add_parser("topics", help="print the nodes' topics")
    topics.add_argument("format", choices=("markdown", "sros2"), help="tables, or a security policy")
    return parser


def _add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    segment = commands.add_parser("segment", help="segment an image, a folder, a video or a camera's images")
    segment.add_argument(
        "source", help="an image, a folder, a video, or a camera: its number, or /dev/video0"
    )
    segment.add_argument("--model", default="enet", help="a model, or the path of a manifest (default enet)")
    segment.add_argument("--out", type=Path, default=Path("segmented"), help="folder (default segmented)")
    segment.add_argument(
        "--save",
        default="",
        metavar="WHAT",
        help="of labels,overlay,color,confidence,video, with commas between"
        " (default labels,overlay; of videos and cameras video)",
    )
    segment.add_argument("--show", action="store_true", help="show the overlay in a window; q ends")
    segment.add_argument("--frames", type=int, help="stop after this many")
    segment.add_argument("--overwrite", action="store_true", help="replace files that are there")
    segment.add_argument("--engine", default="auto", help="what executes the model (default auto)")
    segment.add_argument("--precision", default="auto", help="arithmetic of the engine (default auto)")
    _add_image_bits(segment)


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser("train", help="train a network as a recipe says, or go on with a training")
    train.add_argument("recipe", help="name of a recipe in config/recipes, or a file (.yaml)")
    train.add_argument("--data-root", type=Path, help="folder of the data set, for recipes that need one")
    train.add_argument(
        "--out", type=Path, default=Path("runs"), help="OUT/RECIPE holds model, logs and checkpoint (runs)"
    )
    train.add_argument("--init-from", default="", metavar="MODEL", help="a model whose weights are the start")
    train.add_argument(
        "--from-scratch", action="store_true", help="start at random, not from the recipe's model"
    )
    train.add_argument(
        "--folds", action="store_true", help="train and measure a model for each of the recipe's folds"
    )
    train.add_argument("--fold", default="", metavar="NAME", help="of these folds train this one alone")
    train.add_argument("--max-hours", type=float, help="train fewer epochs, if the recipe's take longer")
    train.add_argument("--dry-run", action="store_true", help="show a batch, weights and time; train nothing")
    train.add_argument("--workers", type=int, help="processes that load and augment (default: by cores)")
    train.add_argument("--precision", default="auto", help="auto (default), fp32, bf16; fp16 on GPUs")
    train.add_argument("--compile", action="store_true", help="faster steps by torch.compile, after minutes")
    train.add_argument(
        "--checkpoint-s", type=float, default=120.0, help="time between checkpoints in an epoch (120) [s]"
    )


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a model on a data set")
    evaluate.add_argument("--model", required=True, help="a model, or the path of a manifest")
    _add_data(evaluate)
    evaluate.add_argument("--engine", default="auto", help="what executes the model (default auto)")
    evaluate.add_argument("--precision", default="auto", help="arithmetic of the engine (default auto)")
    evaluate.add_argument("--json", type=Path, help="write the result into this file as well")
    evaluate.add_argument("--pictures", type=Path, help="folder for the best, median and worst frames")


def _add_evaluate_bag(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser("evaluate-bag", help="measure models on recorded bags, without ROS")
    evaluate.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="rosbag2, or a file of ROS 1")
    evaluate.add_argument(
        "--image-topic",
        metavar="T",
        help="of the images (default: the only one that is not of labels or depth)",
    )
    evaluate.add_argument("--label-topic", metavar="L", help="of label images, the ground truth")
    evaluate.add_argument("--labels", type=Path, metavar="DIR", help="label PNGs named by stamp in ns")
    evaluate.add_argument(
        "--void-id",
        type=int,
        action="append",
        default=[],
        choices=range(256),
        metavar="ID",
        help="an id that is unlabelled in the ground truth; ids of no class are anyway; may be repeated",
    )
    evaluate.add_argument(
        "--model", action="append", required=True, help="a model, or the path of a manifest; may be repeated"
    )
    evaluate.add_argument("--engine", default="auto", help="what executes the models (default auto)")
    evaluate.add_argument("--precision", default="auto", help="arithmetic of the engine (default auto)")
    evaluate.add_argument(
        "--mode",
        choices=("throughput", "realtime"),
        default="throughput",
        help="every frame as fast as it goes (default), or frames as they came, the newest wins",
    )
    evaluate.add_argument("--rate", type=float, default=1.0, help="speed of the bag's clock in real time")
    evaluate.add_argument("--out", type=Path, default=Path("bag_evaluation"), help="folder for all results")
    existing = evaluate.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace the evaluation in --out")
    existing.add_argument("--resume", action="store_true", help="go on with the evaluation in --out")
    evaluate.add_argument("--write-bag", action="store_true", help="write the masks as a bag (mcap)")
    evaluate.add_argument("--video", action="store_true", help="write the overlays as mp4")
    evaluate.add_argument("--jobs", type=int, metavar="N", help="processes, each with a bag at a time")
    evaluate.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster; 'local' starts one here")
    evaluate.add_argument(
        "--roi",
        type=int,
        nargs=4,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="part of the images that the models see, and are measured on [px]",
    )
    evaluate.add_argument(
        "--rotation",
        type=int,
        default=0,
        choices=(0, 90, 180, 270),
        help="degrees clockwise by which the images are turned upright for the models (default 0)",
    )
    _add_image_bits(evaluate)
    _add_thresholds(evaluate)


def _add_image_bits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-bits",
        default="auto",
        choices=("auto", "8", "10", "12", "14", "16"),
        help="that 16-bit images use; auto (default) guesses from the images, and says so",
    )


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="make the report of a bag evaluation again")
    report.add_argument("result", type=Path, metavar="RESULT", help="evaluation.json of rt_seg evaluate-bag")
    report.add_argument("--out", type=Path, help="folder for index.html and report.md (report beside RESULT)")
    _add_thresholds(report)


def _add_thresholds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fail-under-miou", type=float, metavar="X", help="exit with 1 below this mean IoU")
    parser.add_argument("--max-p95-ms", type=float, metavar="X", help="exit with 1 above this latency")
    parser.add_argument("--max-drop-rate", type=float, metavar="X", help="exit with 1 above this share")
    parser.add_argument("--junit", type=Path, metavar="F", help="write the verdicts as JUnit XML")


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


def _add_bag(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bag = commands.add_parser("bag", help="make a rosbag of images, or look into rosbags")
    actions = bag.add_subparsers(dest="action", required=True, metavar="ACTION")

    make = actions.add_parser("make", help="a bag of a folder, a video or the synthetic street")
    make.add_argument("out", type=Path, help="the bag's folder")
    make.add_argument("--images", required=True, help="a folder of images, a video, or 'street'")
    make.add_argument("--labels", default="", help="folder of label PNGs with the images' names")
    make.add_argument("--frames", type=int, help="at most (default: all; 100 of the street)")
    make.add_argument("--rate", type=float, help="of the images [Hz] (default: the video's, else 10)")
    make.add_argument("--topic", default="/camera/image", help="of the images (default /camera/image)")
    make.add_argument("--label-topic", default="/camera/label", help="of labels (default /camera/label)")
    make.add_argument("--compressed", choices=("jpeg", "png"), help="CompressedImage on TOPIC/compressed")
    make.add_argument("--start-time", type=float, help="of the first image, since the epoch [s] (now)")
    make.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="(default mcap)")
    make.add_argument("--seed", type=int, default=7, help="of the street (default 7)")
    make.add_argument("--overwrite", action="store_true", help="replace a bag that is there")
    _add_image_bits(make)

    info = actions.add_parser("info", help="topics, rates and damage of bags, read to their ends")
    info.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="rosbag2 folder, .mcap, .db3 or .bag")
    info.add_argument("--json", action="store_true", help="print JSON")


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
    calibration = export.add_mutually_exclusive_group()
    calibration.add_argument(
        "--calibrate", metavar="DATASET", help="first find int8 ranges on the train split of a data set"
    )
    export.add_argument("--data-root", type=Path, help="the data set's folder")
    calibration.add_argument(
        "--calibrate-images", type=Path, metavar="FOLDER", help="first find int8 ranges on a folder of images"
    )
    calibration.add_argument(
        "--calibrate-bag", type=Path, metavar="BAG", help="first find int8 ranges on a recorded bag's images"
    )
    export.add_argument(
        "--image-topic", metavar="T", help="of the bag (default: the only one that is not of labels or depth)"
    )
    export.add_argument(
        "--calibrate-frames", type=int, default=100, help="so many, evenly spread (default 100)"
    )
    _add_image_bits(export)

    tune = commands.add_parser("tune", help="time all engines here, so that auto takes the fastest")
    tune.add_argument("model", help="a model, or the path of a manifest")
    tune.add_argument(
        "--size", nargs="+", default=[], help="of the input, WIDTHxHEIGHT [px] (default: the manifest's)"
    )
    tune.add_argument("--seconds", type=float, default=30.0, help="of timing for each size (default 30)")
    tune.add_argument("--json", action="store_true", help="print JSON")

    cache = commands.add_parser("cache", help="engines kept on disk")
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").add_argument(
        "--json", action="store_true", help="print JSON"
    )
    actions.add_parser("clear", help="delete all of it")


def _add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    benchmark = commands.add_parser("benchmark", help="time engines, or the whole node, on this machine")
    benchmark.add_argument(
        "subject",
        nargs="?",
        default="engines",
        choices=("engines", "layers", "messages", "node", "startup"),
        help="what to time (default engines)",
    )
    benchmark.add_argument(
        "--models",
        nargs="+",
        default=[],
        help="models to time (default enet, linknet, lednet; for engines also segnet, with random weights)",
    )
    benchmark.add_argument(
        "--sizes", nargs="+", default=[], help="of frames, WIDTHxHEIGHT [px] (default 640x360)"
    )
    benchmark.add_argument(
        "--full", action="store_true", help="engines at all of the papers' sizes, an hour or more"
    )
    benchmark.add_argument("--engines", nargs="+", default=[], help="engines (default: all that are here)")
    benchmark.add_argument("--precisions", nargs="+", default=[], help="precisions (default: all there are)")
    benchmark.add_argument("--compare", choices=("eager",), help="put each beside plain eager PyTorch, fp32")
    benchmark.add_argument(
        "--batches", type=int, nargs="+", default=[1], help="frames that engines get at once (default 1)"
    )
    benchmark.add_argument("--data-root", type=Path, help="CamVid's folder, to measure the mean IoU lost")
    benchmark.add_argument(
        "--parallel",
        type=int,
        nargs="+",
        default=[1],
        help="the node's parallel_frames, one after the other (default 1)",
    )
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
