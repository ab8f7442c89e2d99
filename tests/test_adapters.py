"""Operators in other toolkits, tested with the real ones. Absent toolkits skip their tests."""

import numpy
import pytest
import torch
from PIL import Image

import degrade
from degrade.adapters.diffusers import DiffusersGuidance
from degrade.movement import is_still, matrix, move_boxes, move_mask

from .conftest import rng

STILL = "gaussian:0.1 >> jpeg:50"
MOVES = "crop:2,3,16,12 >> turn:1,0"  # of an image of 24 × 20 pixels


def levels(*shape):
    return torch.randint(256, shape, generator=rng(), dtype=torch.uint8)


# Movement ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["crop:2,3,16,12", "turn:1,0", "turn:3,1", "shift:-4,5", MOVES, "resize:48x60,filter=nearest"],
)
def test_mask_moves_like_the_image(text):
    """A mask that follows the operator, and the mask degraded as an image, away from the border."""
    f = degrade.parse(text)
    mask = torch.zeros(24, 20, dtype=torch.int64)
    mask[8:14, 7:12] = 1
    moved = move_mask(f, mask, (1, 1, 24, 20))
    assert torch.equal(moved.float(), f(mask.float()[None, None])[0, 0])


@pytest.mark.parametrize("text", ["crop:2,3,16,12", "turn:1,0", "turn:2,1", "shift:-4,5", MOVES])
def test_box_stays_around_what_it_held(text):
    f = degrade.parse(text)
    x = torch.zeros(1, 1, 24, 20)
    x[..., 8:14, 7:12] = 1
    left, top, right, bottom = move_boxes(f, torch.tensor([[7, 8, 12, 14]]), x.shape)[0].int()
    y = f(x)
    assert y[..., top:bottom, left:right].all() and y.sum() == x.sum()


def test_resized_points_are_scaled():
    points = torch.tensor([[10.0, 12.0]])
    assert degrade.Downsample(2).moved(points, (1, 3, 24, 20)).tolist() == [[5, 6]]
    assert matrix(degrade.Downsample(2), (1, 3, 24, 20)).diag().tolist() == [0.5, 0.5, 1]


def test_place_moves_a_mask_into_its_area():
    f = degrade.Place((10, 0, 4, 0, 12, 6), (30, 20))
    moved = move_mask(f, torch.ones(24, 20), (1, 1, 24, 20))
    assert moved.sum() == 120 and moved[6:18, 4:14].all()


def test_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="the mask has 24×19 pixels, but the image 24×20; give"):
        move_mask(degrade.parse("turn:1,0"), torch.ones(24, 19), (1, 1, 24, 20))


def test_still_operators_are_known():
    shape = (1, 3, 24, 20)
    assert is_still(degrade.parse(STILL), shape)
    assert not is_still(degrade.parse("shift:1,0"), shape)
    with pytest.raises(ValueError, match="mixes all pixels"):
        matrix(degrade.parse("compressedsensing:0.5"), shape)


# torchvision -------------------------------------------------------------------------------------


def test_torchvision_keeps_types_and_gives_equal_draws():
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from degrade.adapters.torchvision import TorchvisionTransform

    image = tv_tensors.Image(levels(3, 24, 20))
    boxes = tv_tensors.BoundingBoxes([[2, 3, 9, 8]], format="XYXY", canvas_size=(24, 20))
    sample = {"image": image, "video": tv_tensors.Video(image[None]), "boxes": boxes, "label": 7}
    pipeline = v2.Compose([v2.RandomHorizontalFlip(0), TorchvisionTransform(STILL)])
    torch.manual_seed(3)
    first = pipeline(sample)
    torch.manual_seed(3)
    assert torch.equal(pipeline(sample)["image"], first["image"])
    assert not torch.equal(first["image"], image)
    assert torch.equal(first["video"][0], first["image"])
    for name, kind in [("image", tv_tensors.Image), ("video", tv_tensors.Video)]:
        assert isinstance(first[name], kind) and first[name].dtype == torch.uint8
    assert first["boxes"] is boxes and first["label"] == 7
    assert "jpeg:50" in repr(pipeline)


def test_torchvision_draws_with_another_default_device():
    from degrade.adapters.torchvision import TorchvisionTransform

    image = levels(3, 24, 20)
    torch.set_default_device("meta")  # stands for any device but the image's
    try:
        result = TorchvisionTransform(STILL)(image)
    finally:
        torch.set_default_device(None)
    assert result.device == image.device


@pytest.mark.parametrize("shape", [(8, 8), ()])
def test_torchvision_refuses_a_tensor_without_channels(shape):
    from degrade.adapters.torchvision import TorchvisionTransform

    with pytest.raises(ValueError, match=r"the image has shape .*; give \[C, H, W\]"):
        TorchvisionTransform(STILL)(torch.zeros(shape))


def test_torchvision_refuses_an_empty_batch():
    from degrade.adapters.torchvision import TorchvisionTransform

    with pytest.raises(ValueError, match=r"images have shape \[0, 3, 8, 8\]; give at least one"):
        TorchvisionTransform(STILL)(torch.zeros(0, 3, 8, 8))


def test_torchvision_moves_boxes_and_masks():
    from torchvision import tv_tensors

    from degrade.adapters.torchvision import TorchvisionTransform

    boxes = tv_tensors.BoundingBoxes([[7, 8, 5, 6]], format="XYWH", canvas_size=(24, 20))
    mask = tv_tensors.Mask(torch.zeros(1, 24, 20, dtype=torch.uint8))
    mask[:, 8:14, 7:12] = 4
    image = Image.fromarray(levels(24, 20, 3).numpy())
    moved_image, moved_boxes, moved_mask = TorchvisionTransform(MOVES)(image, boxes, mask)
    assert moved_image.size == (16, 12)
    assert moved_boxes.canvas_size == (12, 16) and moved_boxes.format == boxes.format
    left, top, width, height = moved_boxes[0].tolist()
    assert (moved_mask[0, top : top + height, left : left + width] == 4).all()
    assert (moved_mask == 4).sum() == 30 and isinstance(moved_mask, tv_tensors.Mask)


def test_torchvision_refuses_what_cannot_follow():
    from torchvision import tv_tensors

    from degrade.adapters.torchvision import TorchvisionTransform

    image = tv_tensors.Image(levels(3, 24, 20))
    turned = tv_tensors.BoundingBoxes([[5.0, 5, 4, 4, 30]], format="CXCYWHR", canvas_size=(24, 20))
    with pytest.raises(ValueError, match="rotated boxes cannot follow"):
        TorchvisionTransform(MOVES)(image, turned)
    assert TorchvisionTransform(STILL)(image, turned)[1] is turned
    boxes = tv_tensors.BoundingBoxes([[2, 3, 9, 8]], format="XYXY", canvas_size=(24, 20))
    with pytest.raises(ValueError, match="the sample has no image"):
        TorchvisionTransform(STILL)(boxes)
    with pytest.raises(ValueError, match=r"images of sizes \[\(8, 8\), \(24, 20\)\]"):
        TorchvisionTransform(STILL)(image, tv_tensors.Image(levels(3, 8, 8)))


# kornia ------------------------------------------------------------------------------------------


def test_kornia_sequential_repeats_with_its_parameters():
    import kornia.augmentation as K

    from degrade.adapters.kornia import KorniaTransform

    x = torch.rand(4, 3, 12, 10, generator=rng())
    mask = torch.ones(4, 1, 12, 10)
    pipeline = K.AugmentationSequential(
        KorniaTransform(STILL, p=0.5), data_keys=["input", "mask"], random_apply=False
    )
    torch.manual_seed(1)
    y, same_mask = pipeline(x, mask)
    changed = (y != x).flatten(1).any(1)
    assert 0 < changed.sum() < 4 and torch.equal(mask, same_mask)
    again, _ = pipeline(x, mask, params=pipeline._params)
    assert torch.equal(y, again)


def test_kornia_transform_equals_the_operator():
    from degrade.adapters.kornia import KorniaTransform

    x = torch.rand(3, 3, 12, 10, generator=rng())
    transform = KorniaTransform(STILL)
    y = transform(x)
    assert torch.equal(y, degrade.parse(STILL)(x, transform._params["seed"].tolist()))
    same = KorniaTransform(STILL, same_on_batch=True)(x[:1].repeat(2, 1, 1, 1))
    assert torch.equal(same[0], same[1])
    with pytest.raises(ValueError, match="moves pixels"):
        KorniaTransform("downsample:2")(x)
    assert repr(KorniaTransform("jpeg:50", p=0.5)) == (
        "KorniaTransform('jpeg:50', p=0.5, same_on_batch=False)"
    )


# Albumentations ----------------------------------------------------------------------------------


def test_albumentations_moves_masks_boxes_and_keypoints():
    A = pytest.importorskip("albumentations", reason="needs albumentations")
    from degrade.adapters.albumentations import AlbumentationsTransform

    image = levels(24, 20, 3).numpy()
    mask = numpy.zeros((24, 20), "uint8")
    mask[8:14, 7:12] = 4
    pipeline = A.Compose(
        [AlbumentationsTransform(MOVES)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]),
        keypoint_params=A.KeypointParams("xy"),
        seed=3,
    )
    sample = {"bboxes": [[7, 8, 12, 14]], "labels": [1], "keypoints": [[7, 8]]}
    result = pipeline(image=image, mask=mask, **sample)
    assert result["image"].shape == (12, 16, 3) and (result["mask"] == 4).sum() == 30
    left, top, right, bottom = (round(side) for side in result["bboxes"][0])
    assert (result["mask"][top:bottom, left:right] == 4).all()
    x, y = (round(float(value)) for value in result["keypoints"][0])
    assert (result["image"][y, x] == image[8, 7]).all()


def test_albumentations_repeats_with_a_seed_and_keeps_its_text():
    A = pytest.importorskip("albumentations", reason="needs albumentations")
    from degrade.adapters.albumentations import AlbumentationsTransform

    image = levels(24, 20, 3).numpy()
    first, second = (
        A.Compose([AlbumentationsTransform(STILL)], seed=3)(image=image)["image"] for _ in range(2)
    )
    assert numpy.array_equal(first, second) and not numpy.array_equal(first, image)
    record = A.to_dict(A.Compose([AlbumentationsTransform(STILL)]))
    assert record["transform"]["transforms"][0]["f"] == STILL


# deepinv -----------------------------------------------------------------------------------------


def test_deepinv_physics_has_the_exact_adjoint_and_noise():
    pytest.importorskip("deepinv", reason="needs deepinv")
    from deepinv.physics import LinearPhysics

    f = degrade.parse("blur:gaussian,1.2 >> downsample:2 >> gaussian:0.05")
    physics = f.to_deepinv((3, 16, 12))
    x = torch.rand(2, 3, 16, 12, generator=rng())
    assert isinstance(physics, LinearPhysics)
    assert torch.equal(physics.A(x), f[:2](x))
    assert physics.adjointness_test(x) < 1e-5
    assert torch.equal(physics(x, seed=3), f[2](f[:2](x), 3))
    y = physics.A(x)
    solution = physics.A_dagger(y, solver="lsqr", max_iter=100, tol=1e-5)
    assert (physics.A(solution) - y).norm() < 0.02 * y.norm()


def test_deepinv_physics_of_a_codec_has_its_declared_gradient():
    pytest.importorskip("deepinv", reason="needs deepinv")
    from deepinv.physics import LinearPhysics

    f = degrade.parse("gamma:0.8 >> jpeg:50")
    physics = f.to_deepinv((3, 16, 16))
    x = torch.rand(1, 3, 16, 16, generator=rng())
    v = torch.randn(x.shape, generator=rng(1))
    assert not isinstance(physics, LinearPhysics)
    assert torch.equal(physics(x), f(x))
    _, gradient = torch.func.vjp(f, x)
    assert torch.equal(physics.A_vjp(x, v), gradient(v)[0])
    assert "gamma:0.8 >> jpeg:50" in repr(physics)
    with pytest.raises(ValueError, match=r"img_size=\(16, 16\) must be \(C, H, W\)"):
        f.to_deepinv((16, 16))
    with pytest.raises(ValueError, match=r"img_size=16 must be \(C, H, W\), such as"):
        f.to_deepinv(16)


# diffusers ---------------------------------------------------------------------------------------


class OneStep:
    """A pipeline without a decoder, as far as a callback sees it."""


def test_diffusers_guidance_is_a_step_of_the_norm():
    """Latents in [-1, 1] are the image: the gradient of the distance is known in closed form."""
    x = torch.rand(2, 3, 8, 6, generator=rng())
    y = torch.rand(1, 3, 4, 3, generator=rng(1))
    f = degrade.Pool(2)
    guide = DiffusersGuidance(f, y, strength=0.5)
    latents = 2 * x - 1
    with torch.no_grad():
        result = guide(OneStep(), 0, 10, {"latents": latents, "prompt_embeds": None})
    residual = f(x) - y
    unit = residual / residual.square().sum((1, 2, 3), keepdim=True).sqrt()
    expected = latents - 0.5 * f.adjoint(unit, x.shape) / 2
    assert torch.allclose(result["latents"], expected, atol=1e-6)
    assert result["prompt_embeds"] is None and not result["latents"].requires_grad


def test_diffusers_guidance_reaches_the_observation():
    y = degrade.JPEG(60)(torch.rand(1, 3, 16, 16, generator=rng()))
    guide = DiffusersGuidance("jpeg:60", y, strength=4)
    latents = torch.zeros(1, 3, 16, 16)
    distances = []
    for step in range(30):
        distances.append((degrade.JPEG(60).predict(latents / 2 + 0.5) - y).norm())
        latents = guide(OneStep(), step, 0, {"latents": latents})["latents"]
    assert distances[-1] < distances[0] / 2


def test_diffusers_guidance_of_noise_draws_nothing():
    """Another draw than the observation's would only mislead."""
    y = torch.rand(1, 3, 8, 8, generator=rng())
    latents = {"latents": torch.zeros(1, 3, 8, 8)}
    noisy = DiffusersGuidance("gaussian:0.5", y)(OneStep(), 0, 0, latents)
    plain = DiffusersGuidance("identity", y)(OneStep(), 0, 0, latents)
    assert torch.equal(noisy["latents"], plain["latents"])


def test_diffusers_guidance_refuses_wrong_shapes():
    y = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"y has shape \[3, 8, 8\]; give \[B, C, H, W\]"):
        DiffusersGuidance("identity", y[0])
    with pytest.raises(ValueError, match="latents have shape .* whose latents are"):
        DiffusersGuidance("identity", y)(OneStep(), 0, 0, {"latents": torch.zeros(1, 16, 64)})
    with pytest.raises(ValueError, match=r"y has shape \[1, 3, 8, 8\], but pool:2 makes"):
        DiffusersGuidance("pool:2", y)(OneStep(), 0, 0, {"latents": y})


def tiny_stable_diffusion(diffusers):
    """A Stable Diffusion of random weights, of images of 16 × 16 pixels."""
    torch.manual_seed(0)
    blocks = ("DownEncoderBlock2D", "DownEncoderBlock2D"), ("UpDecoderBlock2D", "UpDecoderBlock2D")
    vae = diffusers.AutoencoderKL(
        down_block_types=blocks[0],
        up_block_types=blocks[1],
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=4,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=2,
        layers_per_block=1,
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=None,
        tokenizer=None,
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_diffusers_pipeline_is_pulled_to_the_observation():
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    pytest.importorskip("transformers", reason="needs transformers, as diffusers' pipelines do")
    pipeline = tiny_stable_diffusion(diffusers)
    f = degrade.parse("pool:2")
    y = torch.full((1, 3, 8, 8), 0.5)

    def distance(callback):
        result = pipeline(
            prompt_embeds=torch.zeros(1, 4, 8),
            guidance_scale=1.0,
            height=16,
            width=16,
            num_inference_steps=6,
            generator=rng(),
            output_type="pt",
            callback_on_step_end=callback,
        )
        return float((f.predict(result.images) - y).norm())

    alone = distance(None)
    guided = distance(DiffusersGuidance(f, y, strength=400))
    assert guided < 0.9 * alone


# datasets ----------------------------------------------------------------------------------------


def test_datasets_map_and_with_transform_take_the_transform():
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    pictures = [Image.fromarray(levels(12, 10, 3).numpy()) for _ in range(3)]
    rows = datasets.Dataset.from_dict({"image": pictures})
    transform = degrade.PictureTransform("gaussian:0.1 >> jpeg:50")

    def degraded(row, index):
        return {"low": transform(row["image"], index)}

    def on_the_fly(batch):
        return {"low": [transform(picture, i) for i, picture in enumerate(batch["image"])]}

    expected = [numpy.array(transform(picture, i)) for i, picture in enumerate(pictures)]
    features = datasets.Features({"image": datasets.Image(), "low": datasets.Image()})
    mapped = rows.map(degraded, with_indices=True, features=features)
    loaded = rows.with_transform(on_the_fly)[:]["low"]
    for i, picture in enumerate(expected):
        assert numpy.array_equal(numpy.array(mapped[i]["low"]), picture)
        assert numpy.array_equal(numpy.array(loaded[i]), picture)
