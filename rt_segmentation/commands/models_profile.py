"""`rt_seg models profile`: what a model's answers usually look like, and a temperature for its confidence."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from rt_segmentation.commands.options import add_data, add_engine, data_options, refuse_data, say
from rt_segmentation.commands.progress import progress
from rt_segmentation.files import check_file, user_path
from rt_segmentation.text import printable

if TYPE_CHECKING:
    from rt_segmentation.data.dataset import SegmentationDataset
    from rt_segmentation.models import ModelManifest

FEW_FRAMES = 30
"""Below so many, standard deviations of shares are no measure of what is usual."""
NO_SEQUENCE = 0.3
"""Where more pixels than this change from frame to frame, the frames do not follow one another."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", metavar="MODEL", help="model: a name, or the path of a manifest")
    add_data(parser)
    parser.set_defaults(dataset=None, split=None)
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="FOLDER",
        help="folder of unlabelled frames to use in place of a data set",
    )
    add_engine(parser)
    parser.add_argument(
        "--write", action="store_true", help="store the profile and the temperature in the model's manifest"
    )


def main(arguments: argparse.Namespace) -> None:
    """Measure, print, and write if that is asked for.

    Raises:
        ModelError, EngineError: the model cannot be run, or its manifest cannot be written.
        OptionError, DatasetError, SourceError: the data are not as they should be; or some images cannot be
            read, when the others are measured.
        EvaluationError: they have other classes than the model, or fewer than two frames.
        OSError: with --write, the manifest cannot be written.
    """
    from rt_segmentation.data.sources import FolderSource
    from rt_segmentation.evaluation.profiling import profile_of, read_answers
    from rt_segmentation.inference.engines import in_words, what_ran
    from rt_segmentation.inference.segmenter import Segmenter
    from rt_segmentation.models import ModelError, find_model, write_manifest

    refuse_data(arguments, "" if arguments.images is None else "--images")
    manifest = find_model(arguments.name)
    if arguments.write:
        check_file(manifest.path)
    if not manifest.has_confidence:
        raise ModelError(
            f"model '{manifest.name}' gives labels alone, and a profile needs confidence: export its graph"
            " without the argmax at its end"
        )
    lines: list[str] = []
    source: FolderSource | None = None
    if arguments.images is not None:
        source = FolderSource(arguments.images)
        images, count = (image.rgb for image in source), len(source.names)
        data = printable(arguments.images.resolve().name)
    else:
        dataset = _open(arguments, manifest)
        if getattr(dataset, "has_labels", True):
            manifest = _calibrated(manifest, dataset, lines)
        images, count = (dataset[i].image for i in range(len(dataset))), len(dataset)
        data = " ".join(filter(None, (arguments.dataset, arguments.split)))
    segmenter = Segmenter.build(manifest, arguments.engine, arguments.precision)
    profile = profile_of(list(progress(read_answers(segmenter, images), count)), data)
    engine = in_words(*what_ran(segmenter.config.engine))
    print(f"{manifest.name} on {data}, {profile.frames} frames, engine {engine}")
    for name, share, deviation in zip(manifest.labels().names, profile.shares, profile.shares_std):
        print(f"  {name:20} {share:7.2%} of the pixels, standard deviation {deviation:.2%}")
    print(f"  {'confidence':20} {profile.confidence:7.2%} in the mean, standard deviation", end=" ")
    print(f"{profile.confidence_std:.2%}")
    print(f"  {'changed pixels':20} {profile.changed:7.2%} from frame to frame at most (99 of 100)")
    print("\n".join(lines), end="\n" if lines else "")
    if profile.frames < FEW_FRAMES:
        say(
            f"{profile.frames} frames are few: what is usual varies more than they show; take {FEW_FRAMES} or"
            " more, of different places and light"
        )
    if profile.changed > NO_SEQUENCE:
        say(
            f"from one frame to the next {profile.changed:.0%} of the pixels change, as where the frames are"
            " no sequence: with this profile a node does not notice masks that flicker; take every frame of"
            " a recording, in its order"
        )
    if arguments.write:
        write_manifest(replace(manifest, profile=profile))
        say(f"written into {manifest.path}")
    if source is not None:
        source.check_all_read()


def _open(arguments: argparse.Namespace, manifest: ModelManifest) -> SegmentationDataset:
    from rt_segmentation.data.registry import open_dataset
    from rt_segmentation.evaluation.dataset import check_labels

    labels = manifest.labels()
    dataset = open_dataset(
        arguments.dataset, arguments.data_root, arguments.split, data_options(arguments, labels)
    )
    check_labels(labels, dataset.label_set)
    return dataset


def _calibrated(manifest: ModelManifest, dataset: SegmentationDataset, lines: list[str]) -> ModelManifest:
    """The model with a temperature fitted on the data; says what that gives."""
    if manifest.onnx is not None and manifest.onnx.gives != "logits":
        lines.append(f"no temperature: its graph gives {manifest.onnx.gives}, no logits")
        return manifest
    from rt_segmentation.evaluation.profiling import CALIBRATION_FRAMES, Calibrator
    from rt_segmentation.files import spread

    calibrator = Calibrator(manifest, dataset)
    chosen = spread(range(len(dataset)), CALIBRATION_FRAMES)
    for index in progress(chosen, len(chosen)):
        calibrator.add(dataset[index])
    found = calibrator.fit()
    lines += [
        f"temperature {found.temperature:.4f}: expected calibration error {found.error_after:.4f},"
        f" without it {found.error_before:.4f}"
    ]
    return replace(manifest, temperature=found.temperature)
