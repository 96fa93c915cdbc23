"""What must hold for any generator of heads that can be lit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from relight_heads import TINY, built, matte_ball, visible
from vultus.data.camera_labels import labels_to_camera, look_at_labels
from vultus.geometry.rotations import quaternion_to_matrix
from vultus.kernels import dispatch
from vultus.methods.gsheadrelight.config import (
    SPLIT_COUNT,
    DiscriminatorConfig,
    GeneratorConfig,
    GSHeadRelightConfig,
    Parity,
)
from vultus.methods.gsheadrelight.gaussians import (
    HeadGaussians,
    Nodes,
    activate_heads,
    child_nodes,
)
from vultus.methods.gsheadrelight.generator import Generator
from vultus.methods.gsheadrelight.point_generator import head_scale_rule
from vultus.methods.gsheadrelight.rendering import (
    ShadeMode,
    label_camera,
    nearness,
    render_channels,
    shade,
)

LEVELS = (20, 80, 320, 1280)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return built()


@pytest.fixture(scope="module")
def labels() -> Tensor:
    angles = torch.tensor([-0.4, 0.5])
    target = torch.tensor([0.0, 0.0, 0.2])
    return look_at_labels(angles, 0.3 * angles, target=target, radius=2.7, focal=2.5)


@pytest.fixture(scope="module")
def ws(generator: Generator, labels: Tensor) -> Tensor:
    z = torch.randn(2, TINY.z_dim, generator=torch.Generator().manual_seed(1))
    return generator.map(z, labels).detach()


@pytest.fixture(scope="module")
def head(generator: Generator, ws: Tensor) -> HeadGaussians:
    with torch.no_grad():
        return generator.gaussians(ws)


def lights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def levels_of(values: Tensor) -> list[Tensor]:
    counts = [count for count in LEVELS if values.shape[1] == sum(LEVELS) or count != LEVELS[-1]]
    return list(values.split(counts, dim=1))


@torch.no_grad()
def test_children_lie_inside_their_parents_and_are_smaller(
    generator: Generator, ws: Tensor
) -> None:
    head, nodes = generator.gaussians_and_anchors(ws)
    head_levels = [levels_of(x) for x in (head.means, head.log_scales)]
    node_levels = [levels_of(x) for x in (nodes.means, nodes.log_scales, nodes.quats)]
    assert TINY.num_gaussians == sum(LEVELS)
    for level in range(1, TINY.num_levels):
        means, log_scales, quats = (
            values[level - 1].repeat_interleave(SPLIT_COUNT, dim=1) for values in node_levels
        )
        moved = (head_levels[0][level] - means)[..., None]
        local = (quaternion_to_matrix(quats).mT @ moved)[..., 0] / log_scales.exp()
        assert float(local.abs().max()) < 1.0 + 1e-3
        assert bool((head_levels[1][level] < log_scales).all())


def test_small_parents_keep_their_size() -> None:
    rule = head_scale_rule(TINY)
    parents = torch.tensor([[[-3.0, -3.1, -3.2], [-4.0, -4.1, -4.2]]])
    scales = rule.child_scales(parents, torch.full_like(parents, 40.0))
    assert TINY.finest_log_scale == pytest.approx(-3.4657, abs=1e-4)
    assert torch.allclose(scales[0, 0], parents[0, 0] - TINY.log_shrinkage)
    assert torch.allclose(scales[0, 1], parents[0, 1])


def test_children_inherit_values_by_addition() -> None:
    random = torch.Generator().manual_seed(3)
    parents = Nodes(*(torch.randn(1, 5, size, generator=random) for size in (3, 3, 17)))
    raw = torch.randn(1, 5, 23, generator=random)
    children = child_nodes(parents, raw, head_scale_rule(TINY))
    assert torch.equal(children.values, parents.values + raw[..., 6:])


@pytest.mark.parametrize("mode", ["lit", "albedo", "shading"])
@torch.no_grad()
def test_one_light_serves_all_heads(
    generator: Generator, head: HeadGaussians, labels: Tensor, mode: ShadeMode
) -> None:
    for light in (lights(1, 9, 3), lights(1, 2, 9, 1)):
        repeated = light.expand(2, *light.shape[1:])
        assert torch.equal(shade(head, light, mode), shade(head, repeated, mode))
        shared = generator.render(head, light, labels, mode=mode).image
        assert torch.equal(shared, generator.render(head, repeated, labels, mode=mode).image)
    assert not torch.equal(shared[0], shared[1])


def test_colors_are_linear_in_the_light(head: HeadGaussians) -> None:
    first, second = lights(2, 2, 9, 3)
    mixed = shade(head, 0.3 * first - 1.7 * second, is_clamped=False)
    expected = 0.3 * shade(head, first, is_clamped=False)
    expected = expected - 1.7 * shade(head, second, is_clamped=False)
    assert torch.allclose(mixed, expected, atol=1e-5)


def test_pictures_before_clamping_are_linear_in_the_light(
    head: HeadGaussians, labels: Tensor
) -> None:
    camera = labels_to_camera(labels, 32)

    def radiance(light: Tensor) -> Tensor:
        colors = shade(head, light, is_clamped=False)
        return 0.5 + 0.5 * render_channels(head, colors, camera).image

    first, second = lights(2, 2, 9, 3)
    mixed = radiance(0.3 * first - 1.7 * second)
    expected = 0.3 * radiance(first) - 1.7 * radiance(second)
    assert float(mixed.abs().max()) > 1e-2
    assert torch.allclose(mixed, expected, atol=1e-5)


def test_no_light_gives_black_pictures(
    generator: Generator, head: HeadGaussians, labels: Tensor
) -> None:
    image = generator.render(head, torch.zeros(2, 9, 1), labels).image
    assert torch.equal(image, torch.full_like(image, -1.0))


def test_a_background_shows_where_heads_do_not_cover(
    generator: Generator, head: HeadGaussians, labels: Tensor
) -> None:
    light, color = lights(2, 2, 9, 3), torch.tensor([0.2, 0.9, 0.4])
    on_black = generator.render(head, light, labels)
    on_color = generator.render(head, light, labels, background=color)
    behind = 2.0 * (1.0 - on_black.alpha) * color.repeat(2)[:, None, None]
    assert float(behind.max()) > 1.0
    assert torch.allclose(on_color.image, on_black.image + behind, atol=1e-5)


def test_swapped_channels_of_light_swap_those_of_shading(head: HeadGaussians) -> None:
    light = lights(2, 9, 3)
    order = [2, 0, 1]
    swapped = shade(head, light[..., order], "shading")
    assert torch.allclose(swapped, shade(head, light, "shading")[..., order])


def test_albedo_does_not_depend_on_light(head: HeadGaussians) -> None:
    first, second = lights(2, 2, 9, 3)
    albedo = shade(head, first, "albedo")
    assert torch.equal(albedo, shade(head, second, "albedo"))
    assert float(albedo.min()) >= 0.0
    assert float(albedo.max()) <= 1.0


@pytest.mark.parametrize("mode", ["lit", "albedo", "shading"])
def test_lights_of_one_pass_are_those_of_several(
    generator: Generator, head: HeadGaussians, labels: Tensor, mode: str
) -> None:
    light = lights(2, 4, 9, 3)
    together = generator.render(head, light, labels, mode=mode).image.unflatten(1, (4, 3))  # pyright: ignore[reportArgumentType]
    for number in range(4):
        alone = generator.render(head, light[:, number], labels, mode=mode)  # pyright: ignore[reportArgumentType]
        assert torch.allclose(together[:, number], alone.image, atol=1e-6)


@pytest.mark.parametrize("mode", ["lit", "albedo", "shading"])
@pytest.mark.parametrize("has_scenery", [False, True])
def test_activated_heads_give_the_same_pictures(
    generator: Generator,
    head: HeadGaussians,
    ws: Tensor,
    labels: Tensor,
    mode: ShadeMode,
    has_scenery: bool,
) -> None:
    scenery = generator.scenery(ws) if has_scenery else None
    light = lights(2, 3, 9, 1)
    once = activate_heads(head)
    found = generator.render(once, light, labels, mode=mode, scenery=scenery)
    wanted = generator.render(head, light, labels, mode=mode, scenery=scenery)
    assert torch.equal(found.image, wanted.image)
    assert torch.equal(found.depth, wanted.depth)
    camera = label_camera(labels, TINY.image_size)
    channels = shade(head, light, mode).movedim(2, 1).flatten(2)
    shown = render_channels(head, channels, camera, scenery=scenery)
    assert torch.equal(found.image, shown.image)
    second = generator.render(once.select(1), light[1:], labels[1:], mode=mode)
    alone = generator.render(head.select(1), light[1:], labels[1:], mode=mode)
    assert torch.equal(second.image, alone.image)


def test_a_transfer_for_each_color_lights_each_color_alone() -> None:
    config = replace(TINY, light_channels=3)
    values = torch.randn(1, 7, 27 + 11, generator=torch.Generator().manual_seed(4))
    sizes = [3, 3, 4, 1, 0, 27]
    assert config.transfer_dim == sizes[-1]
    parts = dict(
        zip(("means", "log_scales", "quats", "opacity_logits", "_", "transfer"),
            values.split(sizes, dim=2), strict=True)
    )  # fmt: skip
    del parts["_"]
    colored = HeadGaussians(albedo_dc=values[..., :3], **parts)
    light = lights(1, 9, 3)
    shaded = shade(colored, light, "shading", is_clamped=False)
    for channel in range(3):
        transfer = colored.transfer[..., 9 * channel : 9 * channel + 9]
        alone = replace(colored, transfer=transfer)
        expected = shade(alone, light[..., [channel]], "shading", is_clamped=False)
        assert torch.allclose(shaded[..., channel], expected[..., 0], atol=1e-5)


def test_heads_do_not_depend_on_others_of_the_batch(
    generator: Generator, ws: Tensor, head: HeadGaussians
) -> None:
    with torch.no_grad():
        alone = generator.gaussians(ws[1:])
    assert torch.allclose(alone.means, head.means[1:], atol=1e-5)
    assert torch.allclose(alone.transfer, head.transfer[1:], atol=1e-4)


def test_short_features_change_gradients_little_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, ws: Tensor
) -> None:
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    single, short = built(), built(replace(TINY, gradient_precision="bfloat16"))

    def gradient(generator: Generator) -> Tensor:
        head = generator.gaussians(ws)
        total = torch.stack([value.square().mean() for value in vars(head).values()]).sum()
        weights = [p for n, p in generator.head.named_parameters() if not n.startswith("heads.3")]
        found = torch.autograd.grad(total, weights)
        return torch.cat([each.flatten() for each in found]).double()

    exact, found = gradient(single), gradient(short)
    assert not torch.equal(found, exact)
    assert float(torch.cosine_similarity(found, exact, dim=0)) > 0.999
    with torch.no_grad():
        assert torch.equal(short.gaussians(ws).means, single.gaussians(ws).means)


def test_short_features_keep_the_direction_of_what_pictures_teach(
    monkeypatch: pytest.MonkeyPatch, labels: Tensor
) -> None:
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    config = replace(TINY, backend="cpu")
    made = []
    for precision in ("single", "bfloat16"):
        generator = visible(replace(config, gradient_precision=precision)).requires_grad_(True)
        z = torch.randn(2, TINY.z_dim, generator=torch.Generator().manual_seed(1))
        head = generator.gaussians(generator.map(z, labels))
        image = generator.render(head, lights(2, 9, 1), labels).image
        image.square().mean().backward()
        made.append((image.detach(), {n: p.grad for n, p in generator.named_parameters()}))
    (exact, expected), (short, found) = made
    assert 0.0 < float((short - exact).abs().max()) < 0.1
    for name, gradient in expected.items():
        # What is added to all logits of a softmax changes nothing.
        if gradient is None or name.endswith("weight_out.bias") or not gradient.any():
            continue
        assert found[name] is not None
        cosine = torch.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0)
        assert float(cosine) > 0.97, name


def test_a_seed_decides_all_weights() -> None:
    first, second, third = (
        Generator(TINY, torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.start"], third["head.start"])
    assert not first["head.levels.1.edge.scale.weight"].any()
    assert 0.05 < float(first["head.heads.0.weight"][3:10].std()) < 0.2


def test_gradients_reach_every_weight_that_is_used(generator: Generator, labels: Tensor) -> None:
    z = torch.randn(2, TINY.z_dim, generator=torch.Generator().manual_seed(1))
    ws = generator.map(z, labels)
    head, scenery = generator.gaussians(ws), generator.scenery(ws)
    values = [value for part in (head, scenery) for value in vars(part).values()]
    total = torch.stack([value.square().sum() for value in values]).sum()
    names = [name for name, _ in generator.named_parameters()]
    found = torch.autograd.grad(total, list(generator.parameters()), allow_unused=True)
    idle = {name for name, gradient in zip(names, found, strict=True) if gradient is None}
    idle |= {n for n, g in zip(names, found, strict=True) if g is not None and not g.any()}
    unused = {name for name in names if name.startswith("unused.")}
    # Coarse points behind the head stay where they start.
    moves = {name for name in names if name.startswith("background.levels.0.heads.move.")}
    assert idle == unused | moves


def test_official_cameras_differ_unless_they_look_at_the_origin() -> None:
    angles = torch.tensor([0.5])
    focal = 0.5 / 0.1993959684
    for target, is_same in ((torch.zeros(3), True), (torch.tensor([0.0, 0.0, 0.2]), False)):
        labels = look_at_labels(angles, angles, target=target, radius=2.7, focal=focal)
        fixed, official = (label_camera(labels, 64, parity) for parity in ("fixed", "official"))
        is_near = torch.allclose(fixed.world_to_camera, official.world_to_camera, atol=1e-5)
        assert is_near == is_same
        assert torch.allclose(fixed.intrinsics, official.intrinsics, rtol=1e-5)


@pytest.mark.parametrize("parity", ["fixed", "official"])
def test_cameras_are_made_without_copies_from_the_host(
    labels: Tensor, monkeypatch: pytest.MonkeyPatch, parity: Parity
) -> None:
    """A CUDA graph cannot hold such copies."""

    def refuse(*_: object, **__: object) -> Tensor:
        raise AssertionError("a list became a tensor")

    for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (Tensor, "new_tensor")):
        monkeypatch.setattr(owner, name, refuse)
    camera = label_camera(labels, 64, parity)
    assert float(camera.intrinsics[0, 0, 2]) == 32.0


@pytest.mark.parametrize("parity", ["fixed", "official"])
def test_what_is_nearer_is_brighter_in_pictures_of_depth(parity: Parity) -> None:
    """A small ball, moved along the view by known steps."""
    label = look_at_labels(
        torch.zeros(1), torch.zeros(1), target=torch.zeros(3), radius=2.7, focal=2.5
    )
    generator = Generator(replace(TINY, parity=parity)).eval()
    ball = matte_ball(500, 0.05)
    for shift, expected in ((0.35, 0.75), (0.0, 0.5), (-0.35, 0.25), (0.9, 1.0), (-0.9, 0.0)):
        moved = replace(ball, means=ball.means + torch.tensor([0.0, 0.0, shift]))
        seen = generator.render(moved, torch.ones(1, 9, 1), label, size=32)
        found = nearness(seen, label)[0, 0]
        assert float(seen.alpha[0, 0, 16, 16]) > 0.95
        assert float(found[16, 16] / seen.alpha[0, 0, 16, 16]) == pytest.approx(expected, abs=0.06)
        assert float(found[0, 0]) == 0.0


def test_fixed_position_tables_use_all_entries() -> None:
    generator = built()
    tables = generator.head.tables
    points = torch.linspace(-1.0, 1.0, 41)[:, None].expand(-1, 3)
    (gradient,) = torch.autograd.grad(tables(points).square().sum(), tables.tables)
    assert bool(gradient.abs().sum(dim=(0, 1)).gt(0).all())
    official = built(replace(TINY, parity="official")).head.tables
    (gradient,) = torch.autograd.grad(official(points).square().sum(), official.tables)
    assert int(gradient.abs().sum(dim=(0, 1)).gt(0).sum()) == 2


def test_contradictions_are_refused(generator: Generator, head: HeadGaussians) -> None:
    with pytest.raises(ValueError, match="channels must have at least 4 entries"):
        replace(TINY, channels=(16, 16, 8))
    with pytest.raises(ValueError, match="num_points must exceed num_neighbors 16, got 16"):
        replace(TINY, num_points=16)
    with pytest.raises(ValueError, match=r"discriminator\.image_size must be the generator's, 32"):
        GSHeadRelightConfig(generator=TINY)
    with pytest.raises(ValueError, match=r"discriminator\.light_dim must be 9"):
        GSHeadRelightConfig(discriminator=DiscriminatorConfig(light_dim=27))
    with pytest.raises(ValueError, match="ws must hold 7 styles per head, got 3"):
        generator.gaussians(torch.zeros(1, 3, TINY.w_dim))
    with pytest.raises(ValueError, match=r"light must end in the shape \(9, 1 or 3\)"):
        shade(head, torch.zeros(2, 9, 2))
    with pytest.raises(ValueError, match="the generator has no background"):
        built(replace(TINY, background_points=0)).scenery(torch.zeros(1, 7, TINY.w_dim))


@pytest.mark.slow
@torch.inference_mode()
def test_a_generator_of_the_published_size_makes_a_head(labels: Tensor) -> None:
    generator = Generator(GeneratorConfig(), torch.Generator().manual_seed(0))
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(1))
    head = generator.gaussians(generator.map(z, labels[:1]))
    assert head.means.shape == (1, 349_440, 3)
    assert all(bool(values.isfinite().all()) for values in vars(head).values())
    pictures = generator.render(head, lights(1, 9, 3), labels[:1], size=64)
    assert float(pictures.alpha.max()) > 0.5
