"""What the pages tell people to type: Python runs, commands are what the parser takes, cheap ones run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from rt_segmentation import cli
from rt_segmentation.models import find_model
from rt_segmentation.ros.parameters import accept
from rt_segmentation.ros.tables import NODES

if TYPE_CHECKING:
    from rt_segmentation.models import ModelManifest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / name
    for name in ("README.md", "CONTRIBUTING.md", "examples/README.md", "docs/benchmarks/README.md")
] + sorted((REPOSITORY / "docs").glob("*.md"))

# Commands of rt_seg that a test may run: no data set, no bag, no ROS, seconds. All others are parsed alone.
CHEAP = {
    ("models", "list"),
    ("models", "show"),
    ("cache", "list"),
    ("cache", "clear"),
    ("segment", "street.jpg"),
}
PARSED_ALONE = {
    "bag": "needs bags and a data set's images",
    "benchmark": "measures for minutes",
    "compare": "needs data; test_compare.py runs it",
    "dataset": "needs a data set",
    "evaluate": "needs a data set",
    "evaluate-bag": "needs bags",
    "export": "builds an engine, which test_engines.py does",
    "models check": "needs an ONNX graph and images",
    "models import": "needs a foreign checkpoint",
    "models install": "needs a model; test_models_install.py runs it",
    "models profile": "needs a data set; test_profiling.py runs it",
    "topics": "prints; test_topics_command.py runs it",
    "train": "trains for hours",
    "tune": "measures for minutes",
}
# Programs that are not ours: what is theirs in a line is not checked.
OTHERS = {
    "colcon": "builds a workspace",
    "cd": "a folder of the reader's",
    "echo": "installs torch2trt",
    "git": "clones from elsewhere",
    "python3": "makes an environment, or imports torch2trt",
    "rosdep": "needs ROS 2",
    "source": "a file of the reader's",
    "sudo": "installs ROS packages",
    "tools/gpu_day.sh": "test_gpu_day.py runs it",
    "touch": "a file of the reader's",
}
# Commands of ros2 whose rest names topics, services and packages of others.
ROS2_OTHERS = (
    ["launch", "foxglove_bridge"],
    ["run", "diagnostic_aggregator"],
    ["run", "rt_segmentation"],
    ["run", "web_video_server"],
    ["security", "create_keystore"],
    ["security", "generate_artifacts"],
    ["service", "call"],
    ["topic", "echo"],
    ["topic", "hz"],
)
# A block of Python that needs more than a test has says so: <!-- not run: REASON -->
_BLOCK = re.compile(
    r"^ *(?:<!-- not run: (?P<reason>.+?) -->\s+)?```(?P<kind>\w*)\n(?P<text>.*?)^ *```", re.M | re.S
)
_MODEL = re.compile(r'(?<=Segmenter\(")\w+')


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    kind: str
    text: str
    reason: str

    def __repr__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}: {self.text.strip().splitlines()[0]}"


def blocks(*kinds: str) -> Iterator[Block]:
    for page in PAGES:
        for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            if found["kind"] in kinds:
                yield Block(page, found["kind"], found["text"], found["reason"] or "")


def commands() -> list[list[str]]:
    """The words of each command in the blocks of commands, without comments and variables before it."""
    found = []
    for block in blocks("", "bash", "sh"):
        if "│" in block.text or "/images/0001.jpg" in block.text:
            continue  # a drawing, or a listing of files
        text = block.text.replace("\\\n", " ").replace("<this repository>", "REPOSITORY")
        # Words with an equals sign in front are the environment's.
        for line in text.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, "&&"]:
                if word in ("&&", ";", "|"):
                    while words and re.match(r"[A-Z_]+=", words[0]):
                        words.pop(0)
                    if words:
                        found.append(words)
                    words = []
                else:
                    words.append(word)
    return found


def own(words: list[str]) -> list[str] | None:
    """The arguments of a command of rt_seg, or None."""
    if words[0] in ("rt_seg", ".venv/bin/rt_seg"):
        return words[1:]
    if "rt_segmentation.cli" in words:
        return words[words.index("rt_segmentation.cli") + 1 :]
    return None


@cache
def parser_of_all() -> argparse.ArgumentParser:
    module: Any = cli
    parser: argparse.ArgumentParser = module.build_parser()
    return parser


def parse(arguments: list[str]) -> argparse.Namespace:
    try:
        return parser_of_all().parse_args(arguments)
    except SystemExit:
        pytest.fail(f"rt_seg does not take what a page says: rt_seg {shlex.join(arguments)}")


def test_commands_are_what_the_parser_takes() -> None:
    seen = set()
    for words in commands():
        arguments = own(words)
        if arguments is None:
            continue
        parsed = parse(arguments)
        names = [name for name in (" ".join(arguments[:2]), arguments[0]) if name in PARSED_ALONE]
        assert names or tuple(arguments[:2]) in CHEAP, f"say how this is tested: {shlex.join(arguments)}"
        seen.update(names[:1] if tuple(arguments[:2]) not in CHEAP else [])
        if parsed.command == "train" and parsed.recipe not in ("site.yaml", "own.yaml"):  # the reader's own
            name = (
                parsed.recipe if parsed.recipe.endswith(".yaml") else f"config/recipes/{parsed.recipe}.yaml"
            )
            assert (REPOSITORY / name).is_file(), name
    assert seen == set(PARSED_ALONE)


def test_commands_within_sentences_have_the_options_they_name() -> None:
    """`rt_seg evaluate-bag --resume` in a sentence: a command that there is, and options that it has."""
    count = 0
    for page in PAGES:
        prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
        for code in re.findall(r"`rt_seg ([^`]+)`", prose):
            parser, words = parser_of_all(), shlex.split(code.replace("…", ""))
            for word in words:
                children = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
                if word.startswith("--"):
                    known = word.split("=")[0] in parser._option_string_actions
                    assert known, f"{page.name}: rt_seg {code} has no {word}"
                elif children and word in children[0].choices:
                    parser = children[0].choices[word]
                else:
                    placeholder = word.isupper() or ":" in word or not children
                    assert placeholder, f"{page.name}: rt_seg {code} has no command {word}"
            count += 1
    assert count > 20


def test_commands_of_other_programs_name_what_is_there() -> None:
    for library in ("openvino", "torch"):
        pytest.importorskip(library, reason=f"some of these programs need {library}")
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    launch = (REPOSITORY / "launch" / "seg.launch.py").read_text()
    extras = set(re.findall(r'^        "(\w+)": \[', (REPOSITORY / "setup.py").read_text(), re.M))
    used = set()
    for words in commands():
        program = words[0]
        if own(words) is not None or program == "export":
            continue
        if program == "make":
            assert words[1].split("=")[0] in targets, words
        elif program == "pip":
            for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
                assert set(extra.split(",")) <= extras, words
        elif words[:3] == ["ros2", "param", "set"]:
            node, name, value = words[3:]
            (parameter,) = (p for p in NODES[node.lstrip("/")] if p.name == name)
            assert accept(parameter, value) == value and not parameter.read_only
        elif (program == "ros2" and words[1] != "launch") or "foxglove_bridge" in words:
            assert words[1:3] in ROS2_OTHERS, words
        elif program == "ros2":
            assert words[1:4] == ["launch", "rt_segmentation", "seg.launch.py"], words
            for argument in words[4:]:
                assert f'("{argument.split(":=")[0]}",' in launch.replace("(\n        ", "("), argument
        elif program in ("python", ".venv/bin/python"):
            check_program(words[1:])
        else:
            assert program in OTHERS, f"say how this is tested: {shlex.join(words)}"
            used.add(program)
            for word in words:
                if re.match(r"(tools|test|examples)/", word):
                    assert (REPOSITORY / word).exists(), word
    assert used == set(OTHERS)


def check_program(words: list[str]) -> None:
    """A program of this repository must be there, and have the options that a page gives it."""
    if words[:2] == ["-m", "pytest"]:
        assert (REPOSITORY / words[2]).exists()
        return
    start = words[:2] if words[0] == "-m" else words[:1]
    told = help_of(*start)
    unknown = [word for word in words if word.startswith("--") and word not in told]
    assert not unknown, f"{' '.join(start)} has no {unknown}"


@cache
def help_of(*start: str) -> str:
    """What a program of this repository says of itself."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *start, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_label_sets_and_recipes_of_the_pages_are_taken(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed: no recipe is read")
    from rt_segmentation.labels import load_label_set
    from rt_segmentation.training.recipe import load_recipe

    recipes = []
    for block in blocks("yaml"):
        content = yaml.safe_load(block.text)
        if "classes" in content:
            (tmp_path / f"{content['name']}_labels.yaml").write_text(block.text)
            assert load_label_set(tmp_path / f"{content['name']}_labels.yaml").names
        elif "base" in content:
            recipes.append(content["name"])
            (tmp_path / f"{content['name']}.yaml").write_text(block.text)
    for name in recipes:
        assert load_recipe(str(tmp_path / f"{name}.yaml")).name == name
    assert recipes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a picture, and a cache of engines that the pages' snippets share."""
    pytest.importorskip("torch", reason="torch is not installed: no network to run")
    import cv2

    from rt_segmentation.data.synthetic import StreetScene

    folder = tmp_path_factory.mktemp("pages")
    cv2.imwrite(str(folder / "street.jpg"), StreetScene(7, 160, 120).render(0.0)[0][..., ::-1])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patched.chdir(folder)
        yield folder


@pytest.mark.parametrize("block", blocks("python"), ids=repr)
def test_python_runs(
    block: Block, folder: Path, small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands, but for the model, which is a small one; the name that it has there is a model's."""
    if block.reason:
        pytest.skip(block.reason)
    from rt_segmentation import networks

    assert all(find_model(name) for name in _MODEL.findall(block.text))
    code = _MODEL.sub(str(small_model.path), block.text)

    # What a snippet registers is its own.
    monkeypatch.setattr(networks, "_registered", {})
    exec(compile(code, str(block), "exec"), {"__name__": "__main__"})


def test_cheap_commands_run(
    folder: Path, small_model: ModelManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = set()
    for words in commands():
        arguments = own(words) or [""]
        if tuple(arguments[:2]) in CHEAP and tuple(arguments) not in ran:
            model = parse(arguments).__dict__.get("model")
            assert model is None or find_model(model)
            small = [str(small_model.path) if word == model else word for word in arguments]
            assert cli.main(small) == 0, capsys.readouterr().err
            ran.add(tuple(arguments))
    assert {tuple(arguments[:2]) for arguments in ran} == CHEAP
    assert (folder / "masks").is_dir()


def test_messages_that_troubleshooting_quotes_are_those_of_the_code() -> None:
    code = " ".join(
        path.read_text(encoding="utf-8")
        for top in ("rt_segmentation", "launch")
        for path in (REPOSITORY / top).rglob("*.py")
    )
    # Sentences go over several literals.
    code = re.sub(r'"\s*\n?\s*f?"', "", code)
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    quoted = [quote for symptom in symptoms for quote in re.findall(r'"([^"]+)"', symptom)]
    parts = [part.strip(" ';:%") for quote in quoted for part in re.split(r"…|\d+x?\d*", quote)]
    wrong = [part for part in parts if len(part) > 4 and part not in code and "sensor_msgs" not in part]
    assert not wrong and len(quoted) > 20
