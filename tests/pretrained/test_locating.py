"""Where weights come from: files, folders, the hub, addresses; and what is said if they do not."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from pne_seg.errors import UserError
from pne_seg.pretrained import read_weights
from pne_seg.pretrained.locating import locate, shown_source
from tests.networks.reference import randomize
from tests.pretrained.web import COMMIT, Web, become_the_hub, serve
from tests.tiny_networks import same_tensors


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as running:
        yield running


@pytest.fixture
def hub(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Web:
    become_the_hub(web, monkeypatch, tmp_path / "cache")
    return web


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder as smp saves a network, and as it lies on the hub."""
    network = smp.FPN("resnet18", encoder_weights=None, classes=4)
    randomize(network)
    network.save_pretrained(tmp_path / "saved")
    torch.save(network.state_dict(), tmp_path / "state.pth")
    return tmp_path / "saved"


def test_a_repository_of_the_hub(
    hub: Web, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish("smp-hub/fpn", saved)
    expected = torch.load(tmp_path / "state.pth", weights_only=True)
    found = read_weights("hf://smp-hub/fpn").tensors
    assert same_tensors({name: found[name] for name in expected}, expected)
    assert len(found) == len(expected)
    file = locate("hf://smp-hub/fpn")
    cache = tmp_path / "cache" / "models--smp-hub--fpn" / "snapshots" / COMMIT
    assert file == cache / "model.safetensors"
    # From the cache alone, as its users know it.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert locate("hf://smp-hub/fpn") == file
    assert len(hub.asked) == asked


def test_revisions_and_files_of_the_hub(
    hub: Web, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.publish("smp-hub/fpn", saved, "v1.0")
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    hub.publish("older/fpn", saved, "refs%2Fpr%2F3")
    assert locate("hf://smp-hub/fpn@v1.0").name == "model.safetensors"
    assert locate("hf://smp-hub/fpn@v1.0/config.json").name == "config.json"
    assert locate("hf://older/fpn@refs/pr/3").name == "pytorch_model.bin"
    assert {token for _, _, token in hub.asked} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("missing", "the hub has no such repository, or it is private: .*HF_TOKEN"),
        ("gated", "the repository is gated. Accept its terms"),
        ("revision", "the repository has no revision v2"),
        ("entry", "the repository has no file model.safetensors or pytorch_model.bin"),
    ],
)
def test_what_the_hub_refuses_takes_a_line(hub: Web, why: str, message: str) -> None:
    hub.refusals["/some/one"] = why
    with pytest.raises(UserError, match=rf"^hf://some/one@v2: {message}") as caught:
        locate("hf://some/one@v2")
    assert "\n" not in str(caught.value)


def test_the_hub_out_of_reach(hub: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="not in the cache, and the hub cannot be reached"):
        locate("hf://smp-hub/fpn")


@pytest.mark.parametrize("name", ["hf://fpn", "hf://", "hf://a/b/", "hf://a@1/b"])
def test_names_that_no_repository_has(name: str) -> None:
    with pytest.raises(UserError, match="expected hf://OWNER/NAME"):
        locate(name)


# ---- addresses -------------------------------------------------------------------------------


@pytest.fixture
def torch_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_an_address_with_a_hash_in_its_name(
    web: Web, saved: Path, tmp_path: Path, torch_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (tmp_path / "state.pth").read_bytes()
    name = f"fpn_2020-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    web.files[f"/zoo/{name}"] = content
    expected = torch.load(tmp_path / "state.pth", weights_only=True)
    assert same_tensors(read_weights(f"{web.url}/zoo/{name}").tensors, expected)
    assert locate(f"{web.url}/zoo/{name}") == torch_home / name
    assert len(web.asked) == 1  # fetched once
    said = capsys.readouterr().err
    assert name in said
    assert re.search(r"/[\d.]+M \[", said)  # the size is shown


def test_an_address_whose_file_is_another(web: Web, torch_home: Path) -> None:
    web.files["/zoo/fpn-01234567.pth"] = b"PK\x03\x04 something else"
    with pytest.raises(UserError, match=r"its sha256 is .*, not 01234567"):
        locate(f"{web.url}/zoo/fpn-01234567.pth")
    assert not (torch_home / "fpn-01234567.pth").exists()
    with pytest.raises(UserError, match="answers 404"):
        locate(f"{web.url}/zoo/absent.pth")


def test_files_of_one_name_from_two_places(web: Web, torch_home: Path) -> None:
    for place in ("a", "b"):
        web.files[f"/{place}/model.pth"] = place.encode()
        web.files[f"/{place}/model-20210531.pth"] = place.encode()  # a date, not a hash
    for name in ("model.pth", "model-20210531.pth"):
        for place in ("a", "b", "a"):
            assert locate(f"{web.url}/{place}/{name}").read_bytes() == place.encode()


@pytest.mark.parametrize("path", ["", "/", "/zoo/", "/zoo/%2e%2e", "/zoo/.."])
def test_addresses_of_no_file(web: Web, path: str, torch_home: Path) -> None:
    with pytest.raises(UserError, match="the address names no file"):
        locate(web.url + path)


def test_an_address_cannot_leave_the_folder(web: Web, torch_home: Path) -> None:
    web.files["/zoo/%2e%2e%2fevil-01234567.pth"] = b"x"
    with pytest.raises(UserError, match="its sha256 is"):
        locate(f"{web.url}/zoo/%2e%2e%2fevil-01234567.pth")
    web.files["/zoo/%2e%2e%2fevil.pth"] = b"x"
    file = locate(f"{web.url}/zoo/%2e%2e%2fevil.pth")
    assert file.name == "evil.pth"
    assert torch_home in file.resolve().parents


def test_what_may_be_published_of_a_source() -> None:
    assert shown_source("https://me:pw@host:8/a/b.pth?token=s#x") == "https://host:8/a/b.pth"
    assert shown_source("hf://a/b@v1") == "hf://a/b@v1"


# ---- this machine ----------------------------------------------------------------------------


def test_folders(saved: Path, tmp_path: Path) -> None:
    assert locate(str(saved)) == saved / "model.safetensors"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither a run's nor a saved network's"):
        locate(str(tmp_path / "empty"))
    for source, message in [("", "No source of weights"), ("x" * 5000, "name too long")]:
        with pytest.raises(UserError, match=message):
            locate(source)
    with pytest.raises(UserError, match=r"no such file or folder\. For a repository .* hf://a-b/c"):
        locate("a-b/c")
