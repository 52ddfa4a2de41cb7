import numpy as np
import numpy.typing as npt
import pytest

from pne_seg.data.scenes.renderer import IGNORE, draw_scene, render_scene, with_rim
from pne_seg.data.scenes.stage import SCENE_CLASSES, SCENE_PALETTE

Bytes = npt.NDArray[np.uint8]
SCENES = 200
THIN = tuple(SCENE_CLASSES.index(name) for name in ("pole", "person"))


def scene(*key: int, height: int = 96, width: int = 128) -> tuple[Bytes, Bytes]:
    return render_scene(np.random.default_rng(key), height, width)


@pytest.fixture(scope="module")
def labels() -> Bytes:
    return np.stack([scene(5, index)[1] for index in range(SCENES)])


@pytest.fixture(scope="module")
def full() -> Bytes:
    """The same scenes without their rim."""
    drawn = [draw_scene(np.random.default_rng((5, index)), 96, 128)[1] for index in range(SCENES)]
    return np.stack(drawn)


def test_a_scene_is_a_function_of_the_generators_state() -> None:
    image, label = scene(1, 2, 3)
    again_image, again_label = scene(1, 2, 3)
    assert image.tobytes() == again_image.tobytes()
    assert label.tobytes() == again_label.tobytes()
    for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3)):
        other_image, other_label = scene(*other)
        assert image.tobytes() != other_image.tobytes()
        assert label.tobytes() != other_label.tobytes()


def test_scenes_drawn_in_between_change_nothing() -> None:
    before = scene(7)
    scene(8, height=200, width=300)
    after = scene(7)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_one_generator_gives_scene_after_scene() -> None:
    generator = np.random.default_rng(0)
    first, second = render_scene(generator), render_scene(generator)
    assert (first[0] != second[0]).any()


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002 - the very thing under test
    scene(3)
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert before["state"]["pos"] == after["state"]["pos"]
    assert (before["state"]["key"] == after["state"]["key"]).all()


@pytest.mark.parametrize(
    ("height", "width"), [(96, 128), (32, 32), (33, 77), (101, 64), (64, 257), (256, 512)]
)
def test_any_size(height: int, width: int) -> None:
    for index in range(4):
        image, label = scene(index, height=height, width=width)
        assert image.shape == (height, width, 3)
        assert label.shape == (height, width)
        assert image.dtype == label.dtype == np.uint8
        assert image.std() > 5
        assert set(np.unique(label)) <= {*range(len(SCENE_CLASSES)), IGNORE}
        assert len(np.unique(label)) > 4


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 31), (0, 0)])
def test_too_small_a_size_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=rf"{height}×{width}.*at least 32×32"):
        scene(0, height=height, width=width)


def test_names_and_palette_agree() -> None:
    assert len(set(SCENE_CLASSES)) == len(SCENE_CLASSES) == len(SCENE_PALETTE)
    colors = np.array(SCENE_PALETTE, int)
    apart = np.abs(colors[:, None] - colors[None]).sum(-1) + 999 * np.eye(len(colors), dtype=int)
    assert apart.min() >= 60
    assert colors.min() >= 0
    assert colors.max() <= 255


def test_every_class_occurs_and_some_are_rare(labels: Bytes) -> None:
    counts = np.bincount(labels[labels != IGNORE], minlength=len(SCENE_CLASSES))
    shares = counts / counts.sum()
    assert counts.min() > 0
    assert shares.max() > 10 * shares.min()
    assert shares.max() < 0.5
    assert shares[list(THIN)].max() < 0.025
    assert shares[list(THIN)].min() > 0.002
    large = {SCENE_CLASSES[k] for k in np.argsort(-shares)[:3]}
    assert large == {"sky", "building", "road"}


def test_scenes_vary(labels: Bytes) -> None:
    """No layout prior gives the answer: the most frequent class of each place misses much."""
    hits = [(labels == k).sum(0) for k in range(len(SCENE_CLASSES))]
    best = np.max(hits, axis=0).sum() / (labels != IGNORE).sum()
    assert 0.3 < best < 0.75


def test_rim_is_narrow_and_only_where_classes_meet(labels: Bytes, full: Bytes) -> None:
    ignored = labels == IGNORE
    assert 0.03 < ignored.mean() < 0.08
    assert (full != IGNORE).all()
    assert (labels[~ignored] == full[~ignored]).all()
    meets = np.zeros(full.shape, bool)  # a nearer class above, below or beside
    meets[:, 1:] |= full[:, 1:] < full[:, :-1]
    meets[:, :-1] |= full[:, :-1] < full[:, 1:]
    meets[:, :, 1:] |= full[:, :, 1:] < full[:, :, :-1]
    meets[:, :, :-1] |= full[:, :, :-1] < full[:, :, 1:]
    assert (ignored == meets).all()


def test_each_border_has_a_rim(full: Bytes) -> None:
    rimmed = with_rim(full[0])
    beside = (full[0][:, 1:] != full[0][:, :-1]) & (rimmed[:, 1:] != IGNORE)
    assert (rimmed[:, :-1][beside] == IGNORE).all()


def test_thin_things_keep_their_pixels(labels: Bytes, full: Bytes) -> None:
    person, pole = max(THIN), min(THIN)
    assert ((labels == person) == (full == person)).all()  # nothing is nearer than people
    kept = (labels == pole).sum() / (full == pole).sum()
    assert kept > 0.9
    alone = np.full((40, 40), SCENE_CLASSES.index("road"), np.uint8)
    alone[5:35, 20] = pole
    assert (with_rim(alone)[5:35, 20] == pole).all()


def test_confusable_pairs_share_their_colors() -> None:
    """Road and pavement, grass and tree, bus and truck: color alone does not tell."""
    scenes = [scene(6, index) for index in range(120)]
    pixels = np.concatenate([image.reshape(-1, 3) for image, _ in scenes]).astype(int) // 32
    codes = pixels[:, 0] * 64 + pixels[:, 1] * 8 + pixels[:, 2]
    truth = np.concatenate([label.ravel() for _, label in scenes])

    def overlap(one: str, other: str) -> float:
        histograms = []
        for name in (one, other):
            of_class = codes[truth == SCENE_CLASSES.index(name)]
            histograms.append(np.bincount(of_class, minlength=512) / len(of_class))
        return float(np.minimum(*histograms).sum())

    for one, other in (("road", "pavement"), ("grass", "tree"), ("bus", "truck")):
        assert overlap(one, other) > 0.6, (one, other)
    assert overlap("sky", "tree") < 0.3


def test_colors_lie_where_labels_say() -> None:
    """Borders of the labels are edges of the image; one pixel beside them they are not (× 2)."""
    across, along = 0.0, 0.0
    for index in range(30):
        image, label = draw_scene(np.random.default_rng((4, index)), 96, 128)
        step = np.abs(np.diff(image.astype(int), axis=1)).sum(-1)
        border = label[:, 1:] != label[:, :-1]
        across += step[border].mean()
        along += step[~border].mean()
    assert across > 3.5 * along
