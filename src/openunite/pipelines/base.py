"""What all pipelines share: settings, seeds, labels, guidance, solving and precision."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openunite.batch import NOTHING, Evidence
from openunite.flow.guidance import NO_GUIDANCE, guide
from openunite.flow.random import seeded_normal
from openunite.flow.solvers import Callback, solve
from openunite.modality import Modality, get_modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.pipelines.asked import Asked, check_scales, conditions_of
from openunite.pipelines.habits import StepEnd, watched, without_cast_warning
from openunite.pipelines.inputs import (
    Generators,
    Labels,
    check_settings,
    class_indices,
    read_latents,
    refuse_unknown,
    seeds_of,
)
from openunite.pipelines.saving import SavedPipeline
from openunite.sampling import SOLVERS, Sampling

Scale = float | Mapping[str, float]  # of guidance: for all that is given, or by condition
FORMAT_VERSION = 2
_ENCODE_SEED = 0  # tokenizing draws its register noise from this seed, the same at every place
# Numbers in a layer of a guided batch up to which one pass for both branches is faster, by device:
# beyond, a CPU's cache is full (docs/LOG.md). Other devices have no such bound.
ONE_PASS = {"cpu": 2**15}
_HALF = (torch.bfloat16, torch.float16)


PLAIN = Sampling("heun", 50, 1.0, NO_GUIDANCE)  # of a pipeline that was given no settings


class UnitePipeline(SavedPipeline):
    """One encoder and one decoder, with the defaults of sampling; every call can override them.

    Saved and loaded with `save_pretrained`, `push_to_hub` and `from_pretrained` (a path or a hub
    id; `diffusers.DiffusionPipeline.from_pretrained` does not know classes of other packages).

    A pipeline in bfloat16 (`dtype=torch.bfloat16`, or `.to(torch.bfloat16)`) computes its matrix
    products in it; norms, tables of positions, the solver's state and all results are float32.
    """

    model_cpu_offload_seq = "encoder->decoder"

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        sampling: Sampling | Mapping[str, Any] | None = None,
        class_names: list[str] | None = None,
        size_histogram: list[int] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__()
        if type(format_version) is not int or not 1 <= format_version <= FORMAT_VERSION:
            raise ValueError(
                f"this pipeline has format {format_version!r:.100}, this openunite reads up to "
                f"{FORMAT_VERSION}; upgrade openunite"
            )
        self.register_modules(encoder=encoder, decoder=decoder)
        chosen = sampling or PLAIN
        chosen = chosen if isinstance(chosen, Sampling) else Sampling.from_dict(chosen)
        names, sizes = check_settings(class_names, size_histogram)
        self.register_to_config(
            sampling=chosen.to_dict(),
            class_names=names,
            size_histogram=sizes,
            format_version=FORMAT_VERSION,
        )
        self._keep_norms_exact()

    def to(self, *args: Any, **kwargs: Any) -> "UnitePipeline":
        """As diffusers does it, but tables (positions, angles, frequencies) keep their type:
        bfloat16 has no room for the angle of position 300."""
        modules = [m for part in (self.encoder, self.decoder) for m in part.modules()]
        tables = [(m, name, b) for m in modules for name, b in m.named_buffers(recurse=False)]
        with without_cast_warning():
            super().to(*args, **kwargs)
        for module, name, table in tables:
            setattr(module, name, table.to(getattr(module, name).device))
        self._keep_norms_exact()
        return self

    @property
    def sampling(self) -> Sampling:
        """The settings of sampling that calls start from."""
        return Sampling.from_dict(self.config.sampling)

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, empty if they have none."""
        return list(self.config.class_names)

    @cached_property
    def modality(self) -> Modality:
        """Both ends of the model, with their settings."""
        return get_modality(self.encoder.config.modality, self.encoder.config.modality_config)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(K, C); for atoms, K is the most there can be."""
        return self.encoder.config.num_registers, self.encoder.config.latent_channels

    # ---- what the modalities build on -----------------------------------------------------

    @torch.no_grad()
    def sample_latents(
        self,
        evidence: Evidence,
        seeds: Int[Tensor, " b"],
        mask: Bool[Tensor, "b k"] | None = None,
        *,
        callback: Callback | None = None,
        callback_on_step_end: StepEnd | None = None,
        guidance_scale: Scale | None = None,
        **options: Any,
    ) -> Float[Tensor, "b k c"]:
        """Equation (6) from one seed per sample; latent i is a function of seed i and evidence i.

        `guidance_scale` is a number, or one for some of the conditions by name. `options` change
        `self.sampling` for this call: solver, num_inference_steps, time_shift, guidance_interval,
        and the options of the solver by name. ValueError for what no sampler can do.
        """
        by_name = guidance_scale if isinstance(guidance_scale, Mapping) else None
        number = None if isinstance(guidance_scale, Mapping) else guidance_scale
        sampling = self.sampling.change(**options, guidance_scale=number)
        scale = float(sampling.guidance_scale) if by_name is None else by_name
        registers = self._registers(mask)

        def noise(seeds: Tensor, draw: int) -> Tensor:
            drawn = seeded_normal(seeds, *self.latent_shape, draw=draw)[:, :registers]
            return drawn.to(self._execution_device, self._state_dtype)

        there = seeds.to(self._execution_device)  # noise of every step is drawn where it is used
        low, high = sampling.guidance_interval
        return solve(
            self.denoiser(evidence, scale, (low, high), mask),
            noise(seeds, 0),
            sampling,
            noise_sampler=lambda step: noise(there, step),
            callback=watched(self, callback, callback_on_step_end),
        )

    def denoiser(
        self,
        evidence: Evidence,
        scale: Scale,
        interval: tuple[float, float],
        mask: Bool[Tensor, "b k"] | None = None,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Equation (4) as a function of (z_t, t), with guidance where `scale` is not 1.

        Without any condition there is nothing to guide by, and the scale does not matter. Scales
        by name take one pass more for each condition. ValueError for a name that is not given.
        """

        def showing(evidence: Evidence) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda z_t, t: self._encode(z_t, t, evidence, mask)

        def both(z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            second = torch.arange(2 * len(t), device=t.device) >= len(t)
            masks = None if mask is None else mask.repeat(2, 1)
            pair = z_t.repeat(2, 1, 1), t.repeat(2), evidence.repeat(2).drop(second)
            conditional, unconditional = self._encode(*pair, masks).chunk(2)
            return conditional, unconditional

        if isinstance(scale, Mapping):
            branches = [showing(evidence.without(name)) for name in scale]
            return guide(showing(evidence), branches, check_scales(scale, evidence), interval)
        scale = scale if evidence.conditions else NO_GUIDANCE
        batch = max((len(given.known) for given in evidence.conditions.values()), default=0)
        together = self.takes_one_pass(batch, self._registers(mask)) and not evidence.observed
        given, nothing = showing(evidence), showing(NOTHING)
        return guide(given, nothing, scale, interval, both if together else None)

    def takes_one_pass(self, batch: int, registers: int) -> bool:
        """Whether both branches of guidance go through the network together, as `ONE_PASS` says."""
        numbers = batch * registers * self.encoder.config.width
        return numbers <= ONE_PASS.get(self._execution_device.type, numbers)

    def _registers(self, mask: Tensor | None) -> int:
        """Of a batch; padded to its largest sample where there is a mask."""
        return self.latent_shape[0] if mask is None else mask.shape[1]

    @torch.no_grad()
    def tokenize(
        self,
        data: Tensor,
        generator: Generators | None = None,
        mask: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b k c"]:
        """Equation (1) at t = 0, for data in model form.

        Deterministic: the register noise comes from one fixed seed, the same at every batch
        position, unless a generator is given.
        """
        batch = len(data)
        if generator is None:
            noise = seeded_normal(torch.tensor([_ENCODE_SEED]), *self.latent_shape)
            noise = noise.expand(batch, -1, -1)
        else:
            noise = seeded_normal(seeds_of(batch, generator, None), *self.latent_shape)
        noise = noise if mask is None else noise[:, : mask.shape[1]]
        state = self._state_dtype
        t = torch.zeros(batch, device=self._execution_device)
        return self._encode(
            noise.to(self._execution_device, state), t, Evidence(observation=data.to(state)), mask
        )

    @torch.no_grad()
    def detokenize(
        self, latents: Float[Tensor, "b k c"], mask: Bool[Tensor, "b k"] | None = None
    ) -> Tensor:
        """Equation (2): what the decoder says, float32. ValueError for latents of another shape."""
        found = read_latents(latents, self.latent_shape, mask)
        with self._autocast():
            output: Tensor = self.decoder(found.to(self._execution_device, self._state_dtype), mask)
        return output.float()

    # ---- precision ------------------------------------------------------------------------

    @property
    def _state_dtype(self) -> torch.dtype:
        """Latents and data on their way in: never shorter than float32."""
        return torch.float64 if self._weight_dtype == torch.float64 else torch.float32

    @property
    def _weight_dtype(self) -> torch.dtype:
        _, denoiser = self.encoder.networks()
        return denoiser.register_input.weight.dtype

    def _autocast(self) -> torch.autocast:
        dtype = self._weight_dtype
        half = dtype in _HALF
        return torch.autocast(self._execution_device.type, dtype if half else None, enabled=half)

    def _encode(
        self,
        z: Tensor,
        t: Tensor,
        evidence: Evidence,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The Generative Encoder; its latents come back in the type of z."""
        with self._autocast():
            return self.encoder(z, t, evidence, mask).to(z.dtype)

    def _keep_norms_exact(self) -> None:
        for part in (self.encoder, self.decoder):
            for module in part.modules():
                weight = module.weight if isinstance(module, nn.LayerNorm) else None
                if weight is not None and weight.dtype in _HALF:
                    module.float()

    # ---- inputs ---------------------------------------------------------------------------

    def refuse_unknown(self, options: Mapping[str, Any], call: Callable, *others: str) -> None:
        """ValueError for an option that neither sampling nor this function has, nor `others`."""
        solver = SOLVERS.get(options.get("solver") or self.sampling.solver)
        settings = [f.name for f in fields(Sampling) if f.name != "options"]
        watching = ("callback", "callback_on_step_end")
        refuse_unknown(options, call, [*settings, *solver.options, *watching, *others])

    def _evidence(self, labels: Labels, count: int, asked: Asked = None) -> Evidence:
        """The classes and conditions that a user asks for, of `count` samples.

        ValueError for one that this model does not know.
        """
        found = self._classes(labels, count)
        if not asked:
            return found
        known: Any = self.encoder.config.conditions or {}
        given = conditions_of(known, asked, count)
        there = {name: values.to(self._execution_device) for name, values in given.items()}
        return Evidence({**found.conditions, **there})

    def _classes(self, labels: Labels, count: int) -> Evidence:
        if labels is None:
            return NOTHING
        num_classes, names = self.encoder.config.num_classes, list(self.config.class_names)
        chosen = torch.tensor(class_indices(labels, count, num_classes, names))
        return Evidence.of_classes(chosen.to(self._execution_device))
