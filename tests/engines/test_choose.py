import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipesd.config import CloudConfig, EdgeConfig
from pipesd.engines.alone import answer_alone
from pipesd.engines.base import DraftEngine, TargetEngine, TargetIdentity
from pipesd.engines.caches import Room
from pipesd.engines.choose import DRAFT_CHUNK_TOKENS, cores, open_draft, open_solo, open_target, quantize
from pipesd.engines.manifest import Model, default_model, models
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.engines.store import HOME_VARIABLE, Store
from pipesd.engines.traces import shipped_traces
from pipesd.errors import EngineError, UsageError
from pipesd.values import Sampling

GREEDY = Sampling()


def draft_of(kind: str, **settings: Any) -> DraftEngine:
    return open_draft(EdgeConfig(engine=kind, **settings))  # type: ignore[arg-type]


def target_of(kind: str, **settings: Any) -> TargetEngine:
    sizes = {"context_tokens": 300, "chunk_tokens": 30}
    return open_target(CloudConfig(engine=kind, **{**sizes, **settings}))  # type: ignore[arg-type]


def solo_of(kind: str, **settings: Any) -> TargetEngine:
    return open_solo(EdgeConfig(engine=kind, **{"context_tokens": 300, **settings}))  # type: ignore[arg-type]


# --- toys and recordings ---


@pytest.mark.parametrize(
    ("kind", "draft", "target"),
    [("scripted", ScriptedDraft, ScriptedTarget), ("replay", ReplayDraft, ReplayTarget)],
)
def test_each_kind_has_its_pair(kind: str, draft: type[object], target: type[object]) -> None:
    engine = target_of(kind)
    assert isinstance(engine, target)
    assert (engine.identity.context_tokens, engine.identity.chunk_tokens) == (300, 30)
    guesser = draft_of(kind)
    assert isinstance(guesser, draft)
    assert guesser.tokenizer.vocabulary.hashes == engine.tokenizer.vocabulary.hashes


def test_the_scripted_pair_has_one_script() -> None:
    prompt = [1, 2, 3]
    target = target_of("scripted", script_seed=3)
    text, _ = answer_alone(target, prompt, sampling=GREEDY, seed=0, tokens_max=20)

    def hits(**settings: object) -> int:
        draft = draft_of("scripted", **settings)
        draft.extend(0, prompt)
        right = 0
        for token in text:
            right += draft.propose(0, GREEDY, 0).token == token
            draft.extend(0, [token])
        return right

    assert hits(script_seed=3, agreement=1.0) == len(text)
    assert hits(script_seed=3, agreement=0.0) == 0
    assert hits(script_seed=4, agreement=1.0) < len(text) // 2


@pytest.mark.parametrize(("kind", "prompt"), [("scripted", "Hello"), ("replay", "chat/2")])
def test_a_draft_by_itself_says_what_it_would_propose(kind: str, prompt: str) -> None:
    settings = {"agreement": 0.5, "script_seed": 3}
    solo, draft = solo_of(kind, **settings), draft_of(kind, **settings)
    tokens = solo.tokenizer.encode(prompt)
    said, _ = answer_alone(solo, tokens, sampling=GREEDY, seed=0, tokens_max=15)
    assert said == _proposals(draft, tokens, GREEDY, 15)
    assert "(draft)" in solo.identity.model
    assert (solo.identity.context_tokens, solo.identity.chunk_tokens) == (300, DRAFT_CHUNK_TOKENS)


def _proposals(draft: DraftEngine, prompt: list[int], sampling: Sampling, count: int) -> list[int]:
    draft.extend(0, prompt, prompt=True)
    said: list[int] = []
    while len(said) < count:
        said.append(draft.propose(0, sampling, 0).token)
        draft.extend(0, said[-1:])
    return said


def test_without_traces_the_shipped_ones_are_replayed() -> None:
    assert draft_of("replay").tokenizer.encode("chat/0")
    assert target_of("replay").tokenizer.encode("HumanEval/0")


def test_only_the_traces_that_were_chosen_are_replayed() -> None:
    chat = next(str(path) for path in shipped_traces() if path.stem == "chat")
    for choose in (draft_of, target_of, solo_of):
        engine = choose("replay", traces=(chat,))
        assert engine.tokenizer.encode("chat/0")
        with pytest.raises(UsageError, match="knows only the 12 prompts"):
            engine.tokenizer.encode("HumanEval/0")


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jsonl")
    for choose in (draft_of, target_of, solo_of):
        with pytest.raises(EngineError, match=r"none\.jsonl cannot be read"):
            choose("replay", traces=(missing,))


@pytest.mark.usefixtures("without_llama")
def test_what_concerns_another_kind_is_not_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "nothing"))
    assert isinstance(draft_of("scripted", traces=("none.jsonl",), draft="none.gguf"), ScriptedDraft)
    assert isinstance(draft_of("replay", agreement=1.0, draft="nobody"), ReplayDraft)
    assert isinstance(target_of("scripted", model="nobody", traces=("none.jsonl",)), ScriptedTarget)
    assert not (tmp_path / "nothing").exists()


# --- real models ---

LLAMA = ("pipesd.engines.llama", "pipesd.engines.llama_pair")


@pytest.fixture
def without_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is without the extra: what needs llama.cpp cannot be imported."""
    for name in LLAMA:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delattr(name, raising=False)


IDENTITY = TargetIdentity(
    model="own 1234",
    engine="llama.cpp",
    numerics="exact",
    context_tokens=300,
    chunk_tokens=30,
    begin_ids=(),
    end_ids=(2, 1),
    template="{{ messages }}",
)


class Recorded:
    """Stands for a class of llama.cpp's modules; knows what it was made with."""

    def __init__(self, *given: object, **named: object) -> None:
        self.given = given
        self.named = named


@pytest.fixture
def fake_llama(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Llama.cpp's modules without llama.cpp; what was quantized."""
    quantized: list[tuple[object, ...]] = []
    llama, pair = (ModuleType(name) for name in LLAMA)
    vars(llama).update(Model=Recorded, quantize=lambda *given: quantized.append(given))
    vars(pair).update(
        LlamaDraft=type("LlamaDraft", (Recorded,), {}),
        LlamaTarget=type("LlamaTarget", (Recorded,), {"identity": IDENTITY}),
    )
    package = importlib.import_module("pipesd.engines")
    for module in (llama, pair):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(package, module.__name__.rpartition(".")[2], module, raising=False)
    return quantized


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a user's models, which is empty."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def pulled(folder: Path, model: Model) -> Path:
    """As after pulling: the store looks at the size and the first bytes."""
    path = folder / model.file
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(model.bytes)  # a hole, which takes no room
    return path


def gguf(path: Path) -> Path:
    path.write_bytes(b"GGUF and so on")
    return path


Choose = Callable[..., DraftEngine | TargetEngine]
both_sides = pytest.mark.parametrize(
    ("choose", "setting", "side"),
    [(draft_of, "draft", "edge"), (solo_of, "draft", "edge"), (target_of, "model", "cloud")],
)


@both_sides
@pytest.mark.usefixtures("without_llama")
def test_without_llama_it_is_said_how_to_have_it(choose: Choose, setting: str, side: str, home: Path) -> None:
    path = gguf(home / "own.gguf")
    with pytest.raises(EngineError, match=r"pip install 'pipesd\[llama\]'.* --engine replay$") as caught:
        choose("llama", **{setting: str(path)})
    assert str(caught.value).startswith("llama.cpp cannot be used (")
    assert "\n" not in str(caught.value)


@both_sides
@pytest.mark.usefixtures("without_llama")
def test_a_model_that_was_not_pulled_is_named_first(
    choose: Choose, setting: str, side: str, home: Path
) -> None:
    name = default_model("draft" if side == "edge" else "target").name
    with pytest.raises(EngineError, match=f"^the model {name} is not here; run pipesd-{side} pull {name}$"):
        choose("llama")
    with pytest.raises(UsageError, match=r"^no model is called 'nobody'"):
        choose("llama", **{setting: "nobody"})
    with pytest.raises(EngineError, match=r"none\.gguf"):
        choose("llama", **{setting: str(home / "none.gguf")})


@pytest.mark.parametrize(
    "failure",
    [
        ImportError("No module named 'llama_cpp'"),
        OSError("libgomp.so.1: cannot open shared object file"),
        RuntimeError("Failed to load shared library\nlibllama.so"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_library_that_cannot_be_loaded_is_one_sentence(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    class Broken:
        """Fails as the module would while it is imported."""

        def find_spec(self, name: str, *_: object) -> None:
            if name in LLAMA:
                raise failure

    for name in LLAMA:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    works: list[Callable[[], object]] = [
        lambda: draft_of("llama", draft=str(gguf(home / "own.gguf"))),
        lambda: target_of("llama", model=str(gguf(home / "own.gguf"))),
        lambda: solo_of("llama", draft=str(gguf(home / "own.gguf"))),
        lambda: quantize(home / "own.gguf", home / "small.gguf", "Q2_K", 1),
    ]
    for work in works:
        with pytest.raises(EngineError, match=re.escape(str(failure).partition("\n")[0])) as caught:
            work()
        assert "\n" not in str(caught.value)
        assert "pipesd[llama]" in str(caught.value)


@pytest.mark.usefixtures("fake_llama")
def test_a_draft_has_its_model_and_the_room_that_the_settings_give(home: Path) -> None:
    draft: Any = draft_of("llama", draft=str(gguf(home / "own.gguf")), numerics="fast", threads=3)
    model, room = draft.given
    assert type(draft).__name__ == "LlamaDraft"
    assert model.given == (home / "own.gguf", "fast")
    assert room == Room(context_tokens=8_192, slots=2, threads=3, chunk_tokens=DRAFT_CHUNK_TOKENS)


@pytest.mark.usefixtures("fake_llama")
def test_a_target_reads_prompts_in_the_chunks_that_it_was_told(home: Path) -> None:
    path = pulled(home, models()["smollm2-135m"])
    target: Any = target_of("llama", model="smollm2-135m", kv_sequences=7)
    model, room = target.given
    assert type(target).__name__ == "LlamaTarget"
    assert model.given == (path, "exact")
    assert room == Room(context_tokens=300, slots=7, threads=cores(), chunk_tokens=30)


@pytest.mark.usefixtures("fake_llama")
def test_a_draft_by_itself_is_its_file_opened_as_a_target(home: Path) -> None:
    solo: Any = solo_of("llama", draft=str(gguf(home / "own.gguf")), numerics="fast", threads=3)
    model, room = solo.given
    assert type(solo).__name__ == "LlamaTarget"
    assert model.given == (home / "own.gguf", "fast")
    assert room == Room(context_tokens=300, slots=2, threads=3, chunk_tokens=DRAFT_CHUNK_TOKENS)
    assert solo.identity == replace(IDENTITY, model="own 1234 (draft)"), "more than the name is another"


@pytest.mark.models
@pytest.mark.parametrize(
    ("sampling", "length"),
    [(GREEDY, DRAFT_CHUNK_TOKENS + 40), (Sampling(temperature=0.9, top_p=0.95), 30)],
    ids=["greedy, behind a long prompt", "sampled"],
)
def test_a_real_draft_by_itself_says_what_it_would_propose(sampling: Sampling, length: int) -> None:
    settings = {"draft": "smollm2-135m", "context_tokens": 700, "kv_sequences": 1, "threads": 2}
    solo = solo_of("llama", **settings)
    prompt = solo.tokenizer.encode("It was the best of times, it was the worst of times. " * 50)[:length]
    said, _ = answer_alone(solo, prompt, sampling=sampling, seed=0, tokens_max=25)
    solo.close()
    draft = draft_of("llama", **settings)
    assert said == _proposals(draft, prompt, sampling, len(said))
    draft.close()
    assert len(said) > 10


@pytest.mark.usefixtures("fake_llama")
def test_a_model_that_was_made_here_is_found_by_its_name(home: Path) -> None:
    path = gguf(home / "tiny-q2_k.gguf")
    draft: Any = draft_of("llama", draft="tiny-q2_k")
    assert draft.given[0].given == (path, "exact")
    assert Store.of_user(os.environ).names_here() == ("tiny-q2_k",)


def test_what_is_to_be_quantized_is_handed_on(fake_llama: list[tuple[object, ...]], tmp_path: Path) -> None:
    quantize(tmp_path / "large.gguf", tmp_path / "small.gguf", "Q2_K", 3)
    assert fake_llama == [(tmp_path / "large.gguf", tmp_path / "small.gguf", "Q2_K", 3)]


# --- torch ---

TORCH = ("pipesd.engines.hf", "pipesd.engines.hf_pair")


@pytest.fixture
def fake_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of torch without torch."""
    model, pair = (ModuleType(name) for name in TORCH)
    vars(model).update(Model=Recorded)
    target = type("CachedTarget", (Recorded,), {"identity": IDENTITY})
    vars(pair).update(torch_draft=type("CachedDraft", (Recorded,), {}), torch_target=target)
    package = importlib.import_module("pipesd.engines")
    for module in (model, pair):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(package, module.__name__.rpartition(".")[2], module, raising=False)


@both_sides
@pytest.mark.usefixtures("fake_torch")
def test_torch_is_given_a_folder_or_a_file_and_what_the_settings_say(
    choose: Choose, setting: str, side: str, home: Path
) -> None:
    folder = home / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for path in (folder, gguf(home / "own.gguf")):
        settings = {
            setting: str(path),
            "numerics": "fast",
            "threads": 3,
            "device": "cpu",
            "dtype": "bfloat16",
        }
        engine: Any = choose("torch", **settings)
        model, room = engine.given
        assert model.given == (path, "fast")
        assert model.named == {"device": "cpu", "dtype": "bfloat16", "threads": 3}
        chunk_tokens = 30 if choose is target_of else DRAFT_CHUNK_TOKENS
        slots = 4 if choose is target_of else 2
        assert (room.slots, room.threads, room.chunk_tokens) == (slots, 3, chunk_tokens)
    if choose is solo_of:
        assert engine.identity == replace(IDENTITY, model="own 1234 (draft)")


@both_sides
def test_without_torch_it_is_said_how_to_have_it(
    choose: Choose, setting: str, side: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TORCH:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delattr(name, raising=False)
    path = gguf(home / "own.gguf")
    with pytest.raises(
        EngineError, match=r"^torch cannot be used \(.* run pip install 'pipesd\[torch\]', or"
    ):
        choose("torch", **{setting: str(path)})
    with pytest.raises(UsageError, match=r"^no model is called 'nobody'"):
        choose("torch", **{setting: "nobody"})


@pytest.mark.usefixtures("fake_llama")
def test_llama_is_told_how_many_layers_to_put_on_a_gpu(home: Path) -> None:
    for layers in (0, 9):
        draft: Any = draft_of("llama", draft=str(gguf(home / "own.gguf")), gpu_layers=layers)
        assert draft.given[0].named == {"gpu_layers": layers}


def test_only_the_processors_that_may_be_used_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1
