"""Loading a model: what is known of it, and what goes wrong."""

import importlib.metadata
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import transformers

from pipesd.engines.hf import Model
from pipesd.engines.store import fingerprint
from pipesd.errors import EngineError
from tests.engines.tiny_hf import CONTROL, TEMPLATE, save


def load(path: Path, **options: Any) -> Model:
    return Model(path, options.pop("numerics", "exact"), threads=1, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "tiny-llama")


def altered(folder: Path, tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """The folder with another content of one of its files."""
    copy = tmp_path / folder.name
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    content = json.loads((copy / file).read_text())
    change(content)
    (copy / file).write_text(json.dumps(content))
    return copy


def test_a_model_says_what_the_target_path_depends_on(folder: Path) -> None:
    model = load(folder, device="cpu")
    assert model.name == f"tiny-llama {fingerprint(folder)}"
    versions = [importlib.metadata.version(name) for name in ("transformers", "torch")]
    assert model.engine.startswith(f"transformers {versions[0]}, torch {versions[1]}")
    assert model.engine.endswith("cpu float32, threads 1")
    assert torch.get_num_threads() == 1
    assert model.numerics == "exact"
    assert model.context_tokens == 256
    assert model.begin_ids == ()
    assert model.end_ids == (1, 2)
    assert [model.tokenizer.vocabulary.pieces[token].decode() for token in model.control_ids] == list(CONTROL)
    assert model.template == TEMPLATE
    assert len(model.tokenizer.vocabulary) == 320


def test_the_ends_of_the_model_come_first(folder: Path, tmp_path: Path) -> None:
    ends = altered(
        folder, tmp_path, "generation_config.json", lambda content: content.update(eos_token_id=[9, 1])
    )
    assert load(ends, numerics="fast").end_ids == (1, 9, 2)


def test_what_stands_before_every_text_is_found(folder: Path, tmp_path: Path) -> None:
    def begin(content: dict[str, Any]) -> None:
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": CONTROL[0], "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {CONTROL[0]: {"id": CONTROL[0], "ids": [0], "tokens": [CONTROL[0]]}},
        }

    path = altered(folder, tmp_path, "tokenizer.json", begin)
    about = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**about, "bos_token": CONTROL[0]}))
    model = load(path, numerics="fast")
    assert model.begin_ids == (0,)
    assert model.tokenizer.encode("the") == load(folder, numerics="fast").tokenizer.encode("the")


def test_a_model_without_a_template_has_an_empty_one(folder: Path, tmp_path: Path) -> None:
    path = altered(folder, tmp_path, "config.json", lambda _: None)
    (path / "chat_template.jinja").unlink()
    assert load(path, numerics="fast").template == ""


def test_numbers_may_be_chosen(folder: Path) -> None:
    model = load(folder, numerics="fast", device="cpu", dtype="bfloat16")
    assert model.engine.endswith("cpu bfloat16, threads 1")
    assert model.numerics == "fast"


def test_experts_are_never_called_exact(tmp_path: Path) -> None:
    path = save(tmp_path / "experts", "mixtral", num_local_experts=4)
    assert load(path).numerics == "fast"


# --- what goes wrong ---


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(EngineError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_no_model_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert re.search(r"cannot be loaded \(.+\); check the folder$", refusal(tmp_path))
    without_weights = altered(folder, tmp_path, "config.json", lambda _: None)
    (without_weights / "model.safetensors").unlink()
    assert re.search(r"cannot be loaded \(.*safetensors.*\); check the folder$", refusal(without_weights))
    (without_weights / "model.safetensors").write_bytes(b"no weights at all")
    assert re.search(r"cannot be loaded \(.+\); check the folder$", refusal(without_weights))


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + bytes(4_000)])
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    assert re.search(r"broken\.gguf cannot be loaded \(.+\); check the file$", refusal(path))


def test_weights_that_could_hold_code_are_not_read(folder: Path, tmp_path: Path) -> None:
    path = altered(folder, tmp_path, "config.json", lambda _: None)
    (path / "model.safetensors").unlink()
    torch.save({}, path / "pytorch_model.bin")
    assert "cannot be loaded" in refusal(path)


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "was-run"

    def lure(content: dict[str, Any]) -> None:
        content["model_type"] = "own"
        content["auto_map"] = {
            "AutoConfig": "modeling_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnModel",
        }

    path = altered(folder, tmp_path, "config.json", lure)
    (path / "modeling_own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    assert "cannot be loaded" in refusal(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("mamba", {"state_size": 4, "num_hidden_layers": 1}, "it is recurrent, and its state cannot be cut"),
        ("bloom", {"n_layer": 1}, "its attention cannot be told which tokens belong together"),
    ],
)
def test_models_that_cannot_be_used_are_refused(
    tmp_path: Path, kind: str, settings: dict[str, Any], says: str
) -> None:
    path = save(tmp_path / kind, kind, **settings)
    assert re.search(rf"{kind} cannot be used, for {says}.*; choose another$", refusal(path))


def test_a_layer_that_remembers_otherwise_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = transformers.models.llama.modeling_llama.LlamaDecoderLayer
    whole = layer.forward

    def without_attention(self: Any, hidden_states: torch.Tensor, **others: Any) -> Any:
        return hidden_states if self.self_attn.layer_idx == 1 else whole(self, hidden_states, **others)

    monkeypatch.setattr(layer, "forward", without_attention)
    assert "not every layer of it keeps its memory in keys and values" in refusal(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named(folder: Path) -> None:
    assert refusal(folder, device="cuda") == (
        "torch finds no device cuda here; leave --device out, or install its driver"
    )


def test_memory_that_is_not_there_is_named_before_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    found = refusal(folder, device="cpu")
    assert re.search(
        r"needs 0 MB as torch.float32, but only 0 MB of memory are free; choose a smaller", found
    )


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")

    def without(*_: object, **__: object) -> None:
        raise ImportError("Loading a GGUF checkpoint requires gguf")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", without)
    assert refusal(path).endswith(
        "(Loading a GGUF checkpoint requires gguf); run pip install 'pipesd[torch]'"
    )


def test_a_processor_that_is_not_exact_is_not_called_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.modules["pipesd.engines.hf"], "block_of", lambda *_: None)
    assert load(folder).numerics == "fast"
    assert "not exact with this model on this machine" in caplog.text
