"""The tree keeps its shape: a test for every source file, nothing too long, nothing of one machine."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pipesd"
TESTS = ROOT / "tests"

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
DOCSTRING_LINES_MAX = 8

SOURCES_WITHOUT_TEST = {
    "pipesd/cli/cloud.py": "tests/end_to_end runs it as a user does",
    "pipesd/cli/edge.py": "tests/end_to_end runs it as a user does",
}
TESTS_WITHOUT_SOURCE = {
    "tests/test_layout.py": "about the tree",
    "tests/test_readme.py": "about README.md",
    "tests/test_examples.py": "about examples/",
    "tests/test_init.py": "about pipesd/__init__.py",
    "tests/session/test_foreign.py": "about both sides at once",
    "tests/engines/test_llama_exact.py": "about the numerics of llama.py and llama_pair.py together",
}
FOLDERS_WITHOUT_SOURCE = ("tests/contracts", "tests/end_to_end")
LONG_DOCSTRINGS = {
    "pipesd/__init__.py": "the map of the package",
    "pipesd/errors.py": "the tree of exceptions",
    "pipesd/engines/llama.py": "what makes numerics exact",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def product_files() -> list[Path]:
    return python_files("pipesd", "benchmarks", "examples")


def mirror_of(source: Path) -> Path:
    return TESTS / source.relative_to(PACKAGE).with_name(f"test_{source.name}")


def committed_files() -> list[Path]:
    """What is or would be committed; without git, everything that is not hidden."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
            "\0"
        )
    except (OSError, subprocess.CalledProcessError):
        walked = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        found = [str(path) for path in walked if not any(part.startswith(".") for part in path.parts)]
    return sorted(ROOT / name for name in found if name and (ROOT / name).is_file())


def test_every_source_file_has_its_test_file() -> None:
    modules = [path for path in python_files("pipesd") if path.stem not in ("__init__", "__main__")]
    missing = [
        f"{name_of(path)} has no {name_of(mirror_of(path))}"
        for path in modules
        if name_of(path) not in SOURCES_WITHOUT_TEST and not mirror_of(path).exists()
    ]
    assert missing == []


def test_every_test_file_has_its_source_file() -> None:
    sources = {mirror_of(path) for path in python_files("pipesd")}
    orphans = [
        name_of(path)
        for path in python_files("tests")
        if path.name.startswith("test_")
        and path not in sources
        and not path.with_name(path.name.removeprefix("test_")).exists()  # tests a helper of tests
        and name_of(path) not in TESTS_WITHOUT_SOURCE
        and not name_of(path).startswith(FOLDERS_WITHOUT_SOURCE)
    ]
    assert orphans == []


def test_an_exception_without_a_file_is_taken_out() -> None:
    gone = [name for name in (*SOURCES_WITHOUT_TEST, *LONG_DOCSTRINGS) if not (ROOT / name).exists()]
    assert gone == []


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in product_files()}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in product_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_every_module_says_briefly_what_it_is() -> None:
    silent, talkative = [], []
    for path in product_files():
        text = path.read_text()
        docstring = ast.get_docstring(ast.parse(text)) or ""
        lines = [line for line in docstring.splitlines() if line.strip()]
        if text.strip() and not lines:
            silent.append(name_of(path))
        if len(lines) > DOCSTRING_LINES_MAX and name_of(path) not in LONG_DOCSTRINGS:
            talkative.append(name_of(path))
    assert (silent, talkative) == ([], [])


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_an_ignored_error_is_named() -> None:
    nameless = [
        f"{name_of(path)}:{line}"
        for path in [*product_files(), *python_files("tests")]
        for line, comment in comments(path)
        if re.search(r"type:\s*ignore(?!\[)|noqa(?!:)", comment)
    ]
    assert nameless == []


def test_no_file_names_a_path_of_one_machine() -> None:
    pattern = re.compile(r"(?<![\w.~/\-])/(?:work|root|home|Users)(?![\w\-])")
    found = []
    for path in committed_files():
        if path.suffix == ".jsonl":  # recorded data, in which any letters may meet
            continue
        text = path.read_bytes().decode(errors="replace")
        found += [f"{name_of(path)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []
