"""JanusFlow in the program: asked, drawn, quantized, served and listed as the other models are."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from janus_cli import imagine, weights
from janus_cli.engine.load import open_engine
from janus_cli.engine.shared import Shared
from janus_cli.errors import ModelError, UsageError
from janus_cli.png import read_settings
from janus_cli.schema import Failure, ImagineRequest, ModelChoice, Picture, Progress, Wish
from tests import flow_oracle
from tests.engines import answer
from tests.flow_checkpoints import SIZE, random_tensors, save_flow_checkpoint, save_vae
from tests.test_flow import drawing, latents

CHOICE = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_flow_checkpoint(tmp_path_factory.mktemp("flow") / "tinyflow")


@pytest.fixture(scope="module")
def engine(path):
    return open_engine(path, ModelChoice(**CHOICE))


def events(engine, *wishes):
    return list(imagine.run(ImagineRequest(wishes), engine))


def pictures(engine, *wishes):
    return [event for event in events(engine, *wishes) if isinstance(event, Picture)]


# Reading


def test_a_picture_begins_with_an_embedding_of_its_own(engine):
    """Over begin-of-image and the placeholders, as the authors have it."""
    writer, model = engine.writer, engine.model
    ids = writer.conversation(1, [], "how many?")
    pixels = torch.linspace(-1, 1, 3 * SIZE**2).view(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        found = model.embed_prompt(ids, pixels, writer.placeholder)[0]
        features = model.vision(pixels)[0]
    tensors = random_tensors()
    weight, bias = (tensors[f"vision_und_enc_aligner.{kind}"] for kind in ("weight", "bias"))
    first = ids.index(writer.placeholder)
    count = (SIZE // 16) ** 2
    torch.testing.assert_close(found[first], tensors["beg_of_und_embed"][0])
    expected = features @ weight.T + bias
    torch.testing.assert_close(found[first + 1 : first + 1 + count], expected)
    assert ids.count(writer.placeholder) == count + 1 and writer.begin_of_image not in ids
    assert ids[first + 1 + count] == writer.end_of_image
    words = tensors["language_model.model.embed_tokens.weight"]
    torch.testing.assert_close(found[first + 1 + count], words[writer.end_of_image])


def test_greedy_answers_are_those_of_the_whole_sequence(engine):
    """Of the decoder as flow_oracle.py derives it, without a cache."""
    writer = engine.writer
    ids = writer.conversation(1, [], "how many?")
    pixels = torch.linspace(-1, 1, 3 * SIZE**2).view(1, 3, SIZE, SIZE)
    tensors = {name: tensor.double() for name, tensor in random_tensors().items()}
    words = tensors["language_model.model.embed_tokens.weight"]
    with torch.inference_mode():
        x = engine.model.embed_prompt(ids, pixels, writer.placeholder)[0].double()
    said: list[int] = []
    for _ in range(5):
        states = flow_oracle.decode(tensors, x, [True] * len(x))
        said.append(int((tensors["language_model.lm_head.weight"] @ states[-1]).argmax()))
        x = torch.cat((x, words[said[-1:]]))
    assert answer(engine, ids, pixels, max_tokens=5) == said
    assert len(set(said)) > 1


def test_its_speakers_are_user_and_assistant(engine):
    text = engine.writer.decode(engine.writer.drawing("two"))
    assert text == "User: two\n\nAssistant:"


# Drawing


def test_picture_i_depends_on_seed_and_i_alone(engine):
    alone = [pictures(engine, Wish("two", seed=5 + i, steps=3))[0] for i in range(3)]
    together = pictures(engine, Wish("two", count=3, seed=5, steps=3))
    assert [p.pixels for p in together] == [p.pixels for p in alone]
    assert len({p.pixels for p in together}) == 3


def test_drawings_of_one_batch_are_those_drawn_alone(engine):
    wanted = [drawing(engine), drawing(engine, "two", 4), drawing(engine, "how many", 5, "red")]
    together = latents(engine, *wanted)
    for index, one in enumerate(wanted):
        assert torch.equal(together[:, index], latents(engine, one)[:, 0])


def test_a_picture_says_how_it_was_drawn(engine):
    (usual,) = pictures(engine, Wish("two", seed=1))
    assert (usual.guidance, usual.steps, usual.width, usual.height) == (2.0, 30, SIZE, SIZE)
    (other,) = pictures(engine, Wish("two", seed=1, guidance=3.5, steps=4))
    assert (other.guidance, other.steps) == (3.5, 4)
    assert len({usual.pixels, other.pixels}) == 2
    (again,) = pictures(engine, Wish("two", seed=1, guidance=2.0, steps=30))
    assert again.pixels == usual.pixels


def test_progress_counts_steps(engine):
    wishes = (Wish("two", count=2, steps=3), Wish("two", steps=5))
    told = [event for event in events(engine, *wishes) if isinstance(event, Progress)]
    assert {event.total for event in told} == {2 * 3 + 5}
    assert sorted({event.done for event in told}) == list(range(12))


@pytest.mark.parametrize(
    ("flag", "setting"),
    [("--top-k", {"top_k": 5}), ("--top-p", {"top_p": 0.5}), ("--temperature", {"temperature": 0})],
)
def test_settings_of_codes_are_refused_by_name(engine, flag, setting):
    with pytest.raises(UsageError, match=f"{flag}: tinyflow draws by a flow"):
        events(engine, Wish("two", **setting))
    told = events(engine, Wish("two", **setting), Wish("two", steps=2))
    kinds = {type(event): event for event in told}
    assert flag in kinds[Failure].error and kinds[Picture].steps == 2


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_steps_have_bounds(steps):
    with pytest.raises(UsageError, match="--steps: must lie in"):
        Wish("two", steps=steps)


def test_models_of_codes_have_no_steps(tiny_checkpoint):
    for backend in ("janus", "transformers"):
        other = open_engine(Path(tiny_checkpoint), ModelChoice(**CHOICE, backend=backend))
        with pytest.raises(UsageError, match="draws code by code and has none"):
            events(other, Wish("two", steps=3))


def test_a_shared_engine_draws_the_same(engine):
    expected = pictures(engine, Wish("two", count=2, seed=3, steps=3), Wish("how", steps=4))
    with closing(Shared(engine)) as shared, shared.session() as session:
        found = pictures(session, Wish("two", count=2, seed=3, steps=3), Wish("how", steps=4))
    assert [p.pixels for p in found] == [p.pixels for p in expected]


# Loading


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8", "int4", "nf4"])
def test_every_precision_draws_and_says_something_near(precision, tmp_path):
    """On a decoder whose sizes every kind of quantization takes."""
    path = save_flow_checkpoint(tmp_path / "tinyflow", width=64, inner=128)
    exact, near = (
        open_engine(path, ModelChoice(device="cpu", precision=name)) for name in ("fp32", precision)
    )
    assert near.precision == precision
    one = drawing(exact)
    expected, found = (latents(engine, one)[-1, 0] for engine in (exact, near))
    assert not torch.equal(found, expected)
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0).mean() > 0.95
    assert len(pictures(near, Wish("two", steps=2))) == 1


@pytest.mark.parametrize(
    ("lost", "added", "words"),
    [
        ("beg_of_und_embed", None, "lacks tensor beg_of_und_embed"),
        (None, "vision_gen_dec_model.out_convs.1.norm.weight", "has unknown tensor vision_gen_dec"),
    ],
)
def test_loading_is_strict(lost, added, words, path, tmp_path):
    from safetensors.torch import save_file

    tensors = random_tensors()
    if lost:
        del tensors[lost]
    if added:
        tensors[added] = torch.zeros(3)
    folder = save_flow_checkpoint(tmp_path / "model", vae=False)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=words):
        open_engine(folder, ModelChoice(**CHOICE))


def test_a_quantized_model_draws_the_same_and_keeps_its_vae(tmp_path):
    from janus_cli.engine.quantize import quantize_checkpoint

    path = save_flow_checkpoint(tmp_path / "tinyflow", width=64, inner=128)
    folder = tmp_path / "tinyflow-int8"
    for _ in quantize_checkpoint(path, folder, "int8", device=torch.device("cpu")):
        pass
    on_load = open_engine(path, ModelChoice(device="cpu", precision="int8"))
    written = open_engine(folder, ModelChoice(device="cpu"))
    assert written.precision == "int8" and written.model.config == on_load.model.config
    wish = Wish("two", steps=2)
    assert pictures(written, wish)[0].pixels == pictures(on_load, wish)[0].pixels
    ids = written.writer.conversation(1, [], "how many?")
    assert ids == on_load.writer.conversation(1, [], "how many?")


def test_transformers_has_no_janusflow(path):
    with pytest.raises(ModelError, match="--backend transformers"):
        open_engine(path, ModelChoice(**CHOICE, backend="transformers"))


# The VAE


def test_the_vae_is_diffusers_own(engine, path):
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(path / "vae")
    latent = torch.randn(1, 2, 4, SIZE // 8, SIZE // 8)  # (pictures, steps, ...): the last shows
    with torch.inference_mode():
        pixels = vae.decode(latent[:, -1] / 0.13025).sample.clamp(-1, 1)
    expected = ((pixels + 1) / 2 * 255).movedim(1, -1)
    assert (engine.paint(latent).float() - expected).abs().max() <= 1.01


def test_where_the_vae_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    model = save_flow_checkpoint(tmp_path / "shelf" / "tinyflow", vae=False)
    with pytest.raises(ModelError, match="fetch it: janus pull janusflow"):
        open_engine(model, ModelChoice(**CHOICE), vision=False)
    assert open_engine(model, ModelChoice(**CHOICE), drawing=False).model
    both = open_engine(model, ModelChoice(**CHOICE))
    with pytest.raises(ModelError, match="which is not on this machine"):
        events(both, Wish("two", steps=2))
    commit = "1" * 40
    pulled = tmp_path / "hub" / "models--stabilityai--sdxl-vae" / "snapshots" / commit
    for folder in (pulled, tmp_path / "shelf" / "sdxl-vae", model / "vae", tmp_path / "chosen"):
        save_vae(folder)
        if folder.name == "chosen":
            monkeypatch.setenv("JANUS_VAE", str(folder))
        assert weights.find_vae(model) == folder
    assert len(pictures(both, Wish("two", steps=2))) == 1
    monkeypatch.setenv("JANUS_VAE", str(tmp_path))
    with pytest.raises(ModelError, match="JANUS_VAE"):
        weights.find_vae(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latent_channels": 8}, "is a VAE of 8 channels"),
        ({"lost": "decoder.conv_in.bias"}, "lacks tensor decoder.conv_in.bias"),
        ({"damaged": True}, "cannot be read as a VAE"),
    ],
)
def test_a_wrong_vae_is_named_before_the_work(change, words, path, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    channels = {key: value for key, value in change.items() if key == "latent_channels"}
    folder = save_vae(tmp_path / "vae", **channels)
    file = folder / "diffusion_pytorch_model.safetensors"
    if "lost" in change:
        kept = {k: v for k, v in load_file(file).items() if k != change["lost"]}
        save_file(kept, file, metadata={"format": "pt"})
    if "damaged" in change:
        file.write_bytes(b"nothing of the kind")
    monkeypatch.setenv("JANUS_VAE", str(folder))
    engine = open_engine(path, ModelChoice(**CHOICE))
    told = imagine.run(ImagineRequest((Wish("two", steps=2),)), engine)
    assert next(told).done == 0
    with pytest.raises(ModelError, match=words):
        next(told)


def test_without_diffusers_one_line_says_how_to_get_it(path, monkeypatch):
    from janus_cli.engine import vae

    monkeypatch.setattr(vae.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install diffusers"):
        open_engine(path, ModelChoice(**CHOICE), vision=False)


# The program


def test_the_program_draws_resumes_and_lists(janus, path, folder):
    asked = ("imagine", "two", "--model", str(path), "--steps", "2", "--seed", "7", "-n", "2")
    ended = janus(*asked)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["two-7.png", "two-8.png"]
    settings = read_settings("two-7.png")
    drawn = {"seed": 7, "steps": 2, "guidance": 2.0, "model": "tinyflow"}
    assert drawn.items() <= settings.items()
    again = janus(*asked, "--resume")
    assert (again.code, again.out) == (0, "") and "2 of 2 were drawn before" in again.err
    usual = ("imagine", "two", "--model", str(path), "--seed", "7")
    assert janus(*usual, "--resume").code == 5  # what is there took two steps
    refused = janus("imagine", "two", "--model", str(path), "--top-k", "5")
    assert refused.code == 2 and "--top-k: tinyflow draws by a flow" in refused.err
    (folder / "weights").mkdir()
    (folder / "weights" / "tinyflow").symlink_to(path)
    shelf = {"JANUS_WEIGHTS": str(folder / "weights")}
    lines = janus("models", "--json", env=shelf).out.splitlines()
    (entry,) = [e for e in map(json.loads, lines) if e["name"] == "tinyflow"]
    assert (entry["family"], entry["error"], entry["precision"]) == ("janusflow", None, "fp32")
