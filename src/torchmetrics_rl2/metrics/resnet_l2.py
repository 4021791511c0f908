"""ResNetL2, the torchmetrics metric."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchmetrics_rl2.distance.comparing import compare
from torchmetrics_rl2.distance.kinds import PARTS, Part, sums_of
from torchmetrics_rl2.distance.merging import check_same_weights
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.strata import with_strata
from torchmetrics_rl2.distance.sums import group_mean_variance
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import latents_of
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums, debias, distance, mean_variance
from torchmetrics_rl2.metrics.image_names import CLASSES, GROUPS, ImageNames
from torchmetrics_rl2.metrics.kept_sums import KeptSums, Key
from torchmetrics_rl2.rank_zero import rank_zero_warn

__all__ = ["ResNetL2"]


class ResNetL2(KeptSums):
    r"""Distance between the mean latents of real and generated histopathology patches.

    Images pass through a frozen ResNet-18 and a RealNVP flow that was fitted on real patches only. With :math:`z_r`
    and :math:`z_g` the latents of the two sets (Eqs. 3 and 4 of arXiv 2411.01034),

    .. math:: \mathrm{RL2} = \lVert \mathbb{E}[z_r] - \mathbb{E}[z_g] \rVert_2 .

    Only sums and counts are kept, so memory does not grow with the data and ranks are combined by addition. Finite
    samples add to the distance, values at different numbers of images do not compare; ``debiased=True`` removes that,
    and ``groups=True``, or ``uncertainty=True`` for independent images, lets :meth:`result` say how far the value can
    be trusted.

    As input to ``forward`` and ``update`` the metric accepts

    - ``imgs`` (:class:`~torch.Tensor`): a batch ``(N, 3, H, W)``, uint8, or floats in [0, 1] with ``normalize=True``
    - ``real`` (``bool``, or bool :class:`~torch.Tensor` or NumPy array): the side of the batch, or of each of its N
      images
    - ``groups`` (``str`` or ``int``, or a sequence of them, array or :class:`~torch.Tensor`): with ``groups=True``,
      the slide or patient of the batch, or of each of its N images
    - ``classes`` (as ``groups``): with ``classes=True``, the tissue, stain or label of the batch, or of each of its N
      images

    As output of ``forward`` and ``compute`` the metric returns

    - ``rl2`` (:class:`~torch.Tensor`): a float32 scalar; NaN while a side is empty, and where an image held NaN

    The network is held as ``metric.encoder``, outside of the metric's modules: parameters, checkpoints, ``train()`` and
    casts of a model that owns the metric do not meet it, and clones of the metric share its tensors. A checkpoint says
    in the metadata of its state dict which weights the metric had; loading it into a metric with others is refused,
    where that metadata was not stripped.

    Args:
        encoder: Name of weights, path of a weights file, or a module that maps images to ``(N, num_features)`` and
            has ``num_features``; it is called in evaluation mode and without gradients. It gets images as they are
            given and normalizes them itself, unless it has a ``pretrained_cfg`` with ``mean`` and ``std``, as models of
            timm do. A module may declare a ``weights_id`` that names its weights; without one its statistics cannot be
            saved.
        reference: What to measure from: ``None``, the real images given to ``update``; ``"weights"``, the real images
            inside the weights; a file of ``rl2 stats``; or :class:`Statistics`, as of ``other.statistics(real=True)``.
            With a reference, real images given to ``update`` are skipped before the network, so that one loop still
            serves FID, and ``reset_real_features`` has nothing to say.
        normalize: If ``True``, images are floats in [0, 1], else uint8.
        reset_real_features: If ``False``, ``reset`` forgets only the generated images; give real ones once.
        debiased: Return the signed root of the unbiased squared distance, which needs two images a side.
        uncertainty: Keep second moments too, 2.1 MB a side, from which :meth:`result` has interval, test and power. It
            takes images as independent, which patches of one slide are not.
        groups: Take slides, patients or whatever ``update`` names as units instead: :meth:`result` then has a p-value
            that holds for such patches, and ``debiased`` takes off what differs between them. What is kept are the sums
            of each group, 4 kB a group, and no second moments. Groups of one name are one group, over batches and
            processes.
        classes: Compare both sides within each class that ``update`` names too, such as what a conditional generator
            was asked for: :meth:`result` then has the ``strata`` of :func:`score` with ``real_classes`` and
            ``fake_classes``. ``compute`` stays the value of the whole. What is kept on each side are the sums of each
            class, 4 kB a class, which give values without intervals; with ``uncertainty=True`` its second moments too,
            2.1 MB a class; and with ``groups=True`` the sums of each group of it, 4 kB each, and no second moments.
            At most 100 classes. With a ``reference``, its classes are those it was made with, as by
            ``rl2 stats --classes`` or ``other.statistics(real=True)`` of a metric with classes.
        part: What to return: ``None``, the whole; ``"content"``, how far the mean latents differ in which tissue is
            shown; or ``"look"``, the rest. Needs weights with kinds of tissue; :meth:`result` has both parts anyway.
        kwargs: See :class:`torchmetrics.Metric`.

    Raises:
        RL2Error: If there are no such weights or statistics, they do not fit together, or weights have no kinds for a
            ``part``, or there are more than 100 classes, or a ``reference`` without classes for ``classes=True``.
        ValueError: If a module has no ``num_features``, or images, ``real``, ``groups`` or ``classes`` have another
            type, shape or length, or groups or classes are given without ``groups=True`` or ``classes=True``, or not
            given with it.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import ResNetL2
        >>> class Brightness(torch.nn.Module):
        ...     num_features = 3
        ...     def forward(self, imgs):
        ...         return imgs.float().mean((2, 3))
        >>> metric = ResNetL2(Brightness())
        >>> black = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute()
        tensor(1.7321)

        Slides as units:

        >>> metric = ResNetL2(Brightness(), groups=True)
        >>> for slide in range(6):
        ...     patches = black + slide
        ...     metric.update(patches, real=True, groups=f"slide {slide}")
        ...     metric.update(patches + 40, real=False, groups=f"generated {slide}")
        >>> result = metric.result()
        >>> result.groups_real, [round(end) for end in result.interval], result.p_value < 0.05
        (6, [65, 74], True)

        Class by class, where the whole does not see that two classes are swapped:

        >>> metric = ResNetL2(Brightness(), classes=True)
        >>> for name, real, fake in (("stroma", 40, 200), ("gland", 200, 40)):
        ...     metric.update(black + real, real=True, classes=name)
        ...     metric.update(black + fake, real=False, classes=name)
        >>> metric.compute()
        tensor(0.)
        >>> {one.name: (round(one.value), one.closest) for one in metric.result().strata}
        {'gland': (277, 'stroma'), 'stroma': (277, 'gland')}

        The same with the classes of a reference, which is made once:

        >>> later = ResNetL2(Brightness(), reference=metric.statistics(real=True), classes=True)
        >>> later.update(black + 200, real=False, classes="gland")
        >>> [(one.name, one.closest, one.withheld) for one in later.result().strata]
        [('gland', 'gland', ''), ('stroma', '', 'only real images')]

    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0

    fake_sum: Tensor
    fake_square_sum: Tensor
    fake_count: Tensor

    def __init__(
        self,
        encoder: str | Path | nn.Module = "histology",
        *,
        reference: str | Path | Statistics | None = None,
        normalize: bool = False,
        reset_real_features: bool = True,
        debiased: bool = False,
        uncertainty: bool = False,
        groups: bool = False,
        classes: bool = False,
        part: Part | None = None,
        **kwargs: Any,
    ) -> None:
        if part is not None and part not in PARTS:
            raise ValueError(f"ResNetL2 expects part to be None, 'content' or 'look', but got {part!r}.")
        super().__init__(encoder, uncertainty, groups, classes, **kwargs)
        self.normalize = normalize
        self.reset_real_features = reset_real_features
        self.debiased = debiased
        self.part = part
        if part is not None and self._kinds is None:
            raise RL2Error(
                f"ResNetL2(part={part!r}) needs weights with kinds of tissue, and {self._encoder_name()} has none. "
                "Leave part out, or make weights with kinds by 'rl2 fit'."
            )
        self._reference = None if reference is None else self._find_reference(reference)
        self._reference_of_part = self._reference.part(part) if self._reference and part else self._reference
        self._in_forward = False
        self._has_warned = False
        self._reals_kept = False
        self._sides_in_range: frozenset[str] = frozenset()
        if debiased:  # may be negative
            self.__dict__["plot_lower_bound"] = None

        # Metrics that differ, now or after a reset, must differ in their states, else a MetricCollection merges them.
        self._real_prefix = "real" if reset_real_features else "kept_real"
        self._add_sides(([self._real_prefix] if self._reference is None else []) + ["fake"])

    def update(
        self,
        imgs: Tensor,
        real: bool | Tensor,
        groups: ImageNames | None = None,
        classes: ImageNames | None = None,
    ) -> None:
        """Add images to one side, or each to its own.

        Args:
            imgs: A batch ``(N, 3, H, W)``, uint8, or floats in [0, 1] with ``normalize=True``.
            real: Whether the batch is real, or a bool tensor ``(N,)`` that says so of each image.
            groups: With ``groups=True``, the name of what is independent and the batch is of, or each image: slide or
                patient. A generated image that is like no other needs a name of its own.
            classes: With ``classes=True``, the name of the class of the batch, or of each image: what a real image
                shows, and what a conditional generator was asked for.

        """
        real = _side_or_mask(real)
        self._check(imgs, real)
        keys = self._check_names(groups, classes, real, len(imgs))
        if self._reals_kept and torch.as_tensor(real).any():
            self._warn_of_reals_again()
        sides = self._split(real)
        if self._reference is not None:
            fake = sides["fake"]
            if fake is False or not torch.as_tensor(fake).any():
                return
            imgs, keys = _chosen(imgs, fake), _chosen_keys(keys, fake)
            sides = {"fake": True}
        if self.normalize:
            self._warn_of_range(imgs, [side for side, chosen in sides.items() if chosen is not False])
        self._place(self.device)
        latents = latents_of(self.encoder, network_of(self.encoder), imgs)
        for side, chosen in sides.items():
            if chosen is not False:
                self._add(side, _chosen(latents, chosen), _chosen_keys(keys, chosen))

    def compute(self) -> Tensor:
        """RL2 of all images so far, or its part."""
        fake, reference = self._sums("fake"), self._reference_of_part
        if reference is None:
            real = self._of_part(self._sums(self._real_prefix))
        else:
            real = reference.sums.to(fake.sum.device, fake.sum.dtype)
        fake = self._of_part(fake)
        value = distance(real, fake)
        if self.debiased:
            noise = self._noise(self._real_prefix) if reference is None else reference.mean_variance
            value = debias(value, noise + self._noise("fake"))
        # Before the first update the base class warns.
        if self._update_count:
            self._warn_of_nan(value, real, fake)
        return value.float()

    def result(self, explain: bool = False) -> RL2Result:
        """RL2 of all images so far, and of each class, over all processes as in ``compute``, and how far to trust it.

        Call it on every process, and before the metric is reset: in ``on_validation_epoch_end`` in Lightning. Interval,
        power and explanation need ``groups=True`` or ``uncertainty=True``, and a p-value needs groups.

        Args:
            explain: Also say which known damage look is explained by, and how much of it.

        """
        with self._synced():
            real, fake = self._side(real=True), self._side(real=False)
            result = compare(real, fake)
            if self.classes:
                order = sorted({*real.classes, *fake.classes})
                result = with_strata(result, "classes", real.classes, fake.classes, order)
            self._warn_of_nan(torch.tensor(result.value), real.sums, fake.sums)
        if explain:
            from torchmetrics_rl2.explaining.run import explain as add_explanation

            network = network_of(self.encoder)
            signatures = network.signatures if isinstance(network, LatentEncoder) else None
            result = add_explanation(result, real, fake, signatures)
        return result

    def statistics(self, real: bool) -> Statistics:
        """What is known of one side, over all processes as in ``compute``: to save, or as another metric's reference.

        Args:
            real: Which side.

        """
        with self._synced():
            return self._side(real)

    @torch.jit.unused
    def forward(
        self,
        imgs: Tensor,
        real: bool | Tensor,
        groups: ImageNames | None = None,
        classes: ImageNames | None = None,
    ) -> Tensor:
        """Add images and return the value of this batch alone."""
        real = _side_or_mask(real)
        self._check(imgs, real)
        with self._unchanged_by_errors():
            self._in_forward = True
            value: Tensor = super().forward(imgs, real, groups, classes)
        self._in_forward = False
        return value

    def reset(self) -> None:
        """Forget all images, or only the generated ones with ``reset_real_features=False``."""
        # Forward resets, updates and adds the earlier states back: kept reals would count twice.
        keep = not self.reset_real_features and not self._in_forward and self._reference is None
        self._has_warned = self._has_warned and self._in_forward
        kept = {name: getattr(self, name) for name in self._defaults if keep and name.startswith(self._real_prefix)}
        super().reset()
        for name, value in kept.items():
            setattr(self, name, value)
        if keep:
            self._reals_kept = self._reals_kept or int(self._sums(self._real_prefix).count) > 0

    def plot(self, val: Tensor | Sequence[Tensor] | Sequence[RL2Result] | None = None, ax: Any = None) -> Any:
        """Plot a value, or several over time.

        For one result with its interval see :meth:`RL2Result.plot`.

        Args:
            val: What ``forward`` or ``compute`` returned, or a list of it; by default ``compute`` is called. Of a list
                of results RL2, content and look are drawn.
            ax: A matplotlib axis to draw on.

        """
        curves: Any = val
        if isinstance(val, Sequence):
            curves = [_curves(one) if isinstance(one, RL2Result) else one for one in val]
        return self._plot(curves, ax)

    def _described(self) -> str:
        generated = f"{int(self._sums('fake').count)} generated images"
        if self._reference is not None:
            return f", reference={self._reference!r}, {generated}"
        return f", {int(self._sums(self._real_prefix).count)} real and {generated}"

    def _check(self, imgs: Tensor, real: bool | Tensor) -> None:
        """Refuse wrong input by its shapes and dtypes alone."""
        if not isinstance(imgs, Tensor) or imgs.ndim != 4 or imgs.shape[1] != 3 or not len(imgs):
            got = str(tuple(imgs.shape)) if isinstance(imgs, Tensor) else type(imgs).__name__
            raise ValueError(f"ResNetL2 expects at least one color image, shape (N, 3, H, W), but got {got}.")
        if self.normalize and not imgs.is_floating_point():
            raise ValueError(
                f"ResNetL2(normalize=True) expects floats in [0, 1], got {imgs.dtype}; pass normalize=False for uint8."
            )
        if not self.normalize and imgs.dtype != torch.uint8:
            raise ValueError(
                f"ResNetL2 got {imgs.dtype} images but expects uint8; pass normalize=True for floats in [0, 1]."
            )
        is_mask = isinstance(real, Tensor) and real.dtype == torch.bool and real.shape == (len(imgs),)
        if not isinstance(real, bool) and not is_mask:
            is_array = isinstance(real, Tensor | np.ndarray)
            got = f"{real.dtype} of shape {tuple(real.shape)}" if is_array else repr(real)
            raise ValueError(
                f"ResNetL2 expects real as a bool or a bool tensor of shape ({len(imgs)},), but got {got}."
            )

    def _check_names(
        self, groups: ImageNames | None, classes: ImageNames | None, real: bool | Tensor, count: int
    ) -> list[Key]:
        """The key of each image, as far as the metric has groups or classes."""
        is_skipped = self._reference is not None and real is True
        columns = (
            CLASSES.check(classes, self.classes, self.classes and not is_skipped, count),
            GROUPS.check(groups, self.groups, self.groups and not is_skipped, count),
        )
        return list(zip(*filter(None, columns), strict=True))

    def _warn_of_range(self, imgs: Tensor, sides: list[str]) -> None:
        # Once a side, because looking at values makes a GPU wait.
        if self._sides_in_range.issuperset(sides):
            return
        low, high = (float(end) for end in imgs.detach().float().aminmax())
        if math.isnan(low):
            return
        self._sides_in_range = self._sides_in_range.union(sides)
        if low < -0.01 or high > 1.01:
            rank_zero_warn(
                f"ResNetL2(normalize=True) expects floats in [0, 1] and got {low:.3g} to {high:.3g}, which it clamps. "
                "Give (x + 1) / 2 of images in [-1, 1], and x / 255 of images in [0, 255]."
            )

    def _warn_of_nan(self, value: Tensor, real: LatentSums, fake: LatentSums) -> None:
        # One side alone is how FID's loop calls forward.
        if not self._in_forward and not self._has_warned and value.isnan():
            self._has_warned = True
            by_group = self.groups and self.debiased
            fewest = min(len(self._by_group(side)[0]) for side in self._sides) if by_group else 2
            rank_zero_warn(_why_nan(real, fake, self.debiased, fewest))

    def _warn_of_reals_again(self) -> None:
        self._reals_kept = False
        rank_zero_warn(
            "ResNetL2 was given real images again, after a reset that kept those before (reset_real_features=False). "
            "The same images would count twice, and make the interval too narrow. Give real images once, in Lightning "
            "with num_sanity_val_steps=0, or leave out reset_real_features=False."
        )

    def _split(self, real: bool | Tensor) -> dict[str, bool | Tensor]:
        """Which images go to which side: all, none, or those of a mask."""
        if isinstance(real, bool):
            return {self._real_prefix: real, "fake": not real}
        return {self._real_prefix: real, "fake": ~real}

    def _of_part(self, sums: LatentSums) -> LatentSums:
        return sums if self.part is None or self._kinds is None else self._kinds.part(sums, self.part)

    def _noise(self, side: str) -> Tensor:
        """What chance adds to the squared distance."""
        if self.groups:
            return group_mean_variance(self._of_part(self._by_group(side)[1]))
        return mean_variance(self._of_part(self._sums(side)))

    def _side(self, real: bool) -> Statistics:
        if real and self._reference is not None:
            return self._reference
        side = self._real_prefix if real else "fake"
        names, groups = self._by_group(side) if self.groups else ((), None)
        return Statistics(
            self._sums(side).to("cpu", torch.float64),
            groups.to("cpu", torch.float64) if groups else None,
            names,
            source=f"update(real={real})",
            classes=self._by_class(side) if self.classes else {},
            **self._described_latents(),
        )

    def _find_reference(self, reference: str | Path | Statistics) -> Statistics:
        network = network_of(self.encoder)
        if isinstance(reference, Statistics):
            found = reference
        elif reference != "weights":
            found = Statistics.load(reference)
        elif isinstance(network, LatentEncoder):
            found = network.reference_statistics
        else:
            raise RL2Error(
                f"ResNetL2(reference='weights') needs weights, but {self._encoder_name()} is a module; "
                "leave reference out and give real images to update, or give statistics."
            )
        ours = Statistics(
            sums_of(torch.empty(0, self.num_features), self._kinds), source="this metric", **self._described_latents()
        )
        check_same_weights(found, ours)
        if not len(found):
            raise RL2Error(f"ResNetL2 cannot measure from {found.source}: there are none yet.")
        if self.debiased and math.isnan(found.mean_variance):
            raise RL2Error(
                "ResNetL2(debiased=True) needs a reference of at least two images, and of two groups where it has "
                f"groups, but got {found!r}."
            )
        if (self.uncertainty or self.groups) and not found.has_uncertainty:
            raise RL2Error(
                f"ResNetL2({'groups' if self.groups else 'uncertainty'}=True) needs a reference with second moments or "
                f"groups, but that of {found.source} has sums alone. Make it with 'rl2 stats', or from a metric with "
                "groups=True or uncertainty=True."
            )
        if self.classes and not found.classes:
            raise RL2Error(
                f"ResNetL2(classes=True) needs the classes of the reference, but {found.source} has none. Make it with "
                "'rl2 stats --classes', or from a metric with classes=True; or leave reference out, and give real "
                "images with their classes to update, with reset_real_features=False once for all epochs."
            )
        return found


def _curves(result: RL2Result) -> dict[str, Tensor]:
    """RL2 and its parts, as torchmetrics draws them over time."""
    parts = {name: part.value for name in PARTS if (part := getattr(result, name))}
    return {name: torch.tensor(value) for name, value in ({"RL2": result.value} | parts).items()}


def _side_or_mask(real: Any) -> Any:
    """Bools of NumPy, tensors of one bool and arrays of bools as a bool or a tensor."""
    if isinstance(real, np.ndarray) and real.dtype == np.bool_:
        real = torch.from_numpy(real)
    is_one = isinstance(real, Tensor) and real.ndim == 0 and real.dtype == torch.bool
    return bool(real) if is_one or isinstance(real, np.bool_) else real


def _chosen(rows: Tensor, mask: bool | Tensor) -> Tensor:
    return rows if isinstance(mask, bool) else rows[mask]


def _chosen_keys(keys: list[Key], mask: bool | Tensor) -> list[Key]:
    if not keys or isinstance(mask, bool):
        return keys
    return [key for key, is_chosen in zip(keys, mask.tolist(), strict=True) if is_chosen]


def _why_nan(real: LatentSums, fake: LatentSums, debiased: bool, fewest_groups: int) -> str:
    counts = f"{int(real.count)} real and {int(fake.count)} generated images"
    least = 2 if debiased else 1
    if min(int(real.count), int(fake.count)) < least:
        return f"ResNetL2 is NaN: it needs at least {least} on each side, but has seen {counts} since it was reset."
    if fewest_groups < 2:
        return f"ResNetL2 is NaN: debiased, it needs at least 2 groups on each side, and one of {counts} has fewer."
    return f"ResNetL2 is NaN: among {counts} there are some with NaN pixels or latents."
