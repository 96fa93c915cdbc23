"""The mode ``pbr``: Gaussians with materials under a light that is found along with them.

Materials are attributes like all others. The light is trained beside them; the mesh that says where
Gaussians face and what hides light from them is not. Figures in brackets are sections of our
specification.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import Parameter

from vultus.data.relighting import light_to_world
from vultus.data.sequence import HeadSequence, LightSpace
from vultus.geometry.cameras import camera_centers
from vultus.geometry.mesh_sampling import SurfacePoints
from vultus.heads.base import HeadPose
from vultus.methods.relightable_blendshapes.appearance import ShadedGaussians, View
from vultus.methods.relightable_blendshapes.environment import (
    light_energy,
    light_variation,
    radiance_to_raw,
    raw_to_radiance,
)
from vultus.methods.relightable_blendshapes.material_config import MaterialConfig
from vultus.methods.relightable_blendshapes.material_frames import (
    MeshFrames,
    PosedMesh,
    TracedTrack,
    light_turns_by_timestep,
)
from vultus.methods.relightable_blendshapes.material_layers import LayerName, make_layers
from vultus.methods.relightable_blendshapes.material_mesh import ShadingMesh
from vultus.methods.relightable_blendshapes.material_objectives import (
    MaterialPriors,
    labelled_neighbors,
    material_terms,
)
from vultus.methods.relightable_blendshapes.materials import (
    activate_materials,
    face_labels,
    initial_materials,
)
from vultus.methods.relightable_blendshapes.mesh_binding import MeshBinding
from vultus.methods.relightable_blendshapes.posing import PosedGaussians
from vultus.methods.relightable_blendshapes.shading import (
    Visibility,
    encode_radiance,
    put_over_color,
    shade_gaussians,
    share_of_light,
    to_display,
)
from vultus.methods.relightable_blendshapes.start import FACE, StartPoints
from vultus.methods.relightable_blendshapes.visibility import visibility_ramp
from vultus.methods.saved_tensors import check_saved_indices, check_saved_tensors
from vultus.optim.schedules import exponential_decay
from vultus.render.lighting.resampling import resize_envmap
from vultus.render.lighting.texels import TexelGrid

__all__ = ["Light", "MaterialAppearance"]

_HIDDEN_OPACITY = 0.02
_CONSTANT_HARMONIC = 0.28209479177387814
"""Spherical harmonic of degree 0; colours are 0.5 above their sum."""


@dataclass(frozen=True)
class Light:
    """A map, and how it stands in each frame."""

    radiance: Float[Tensor, "3 h w"]
    """Linear, of the size of the trained light."""
    turns: Float[Tensor, "b 3 3"]
    """Rotations from its frame into the world."""


@dataclass(frozen=True)
class _Bound:
    """What is looked up again whenever Gaussians come, go or have moved far."""

    means: Float[Tensor, "n 3"]
    """Neutral; the trained parameter itself."""
    is_inside: Bool[Tensor, " n"]
    """See ``MeshFrames.bind``."""
    binding: MeshBinding
    probes: Int[Tensor, " p"]
    """What the binding looks up: all vertices that must be traced."""
    priors: MaterialPriors
    coarse: MeshBinding | None = None
    """Where visibility is looked up, if that is a decimated mesh."""


class MaterialAppearance:
    """Satisfies ``appearance.Appearance``."""

    def __init__(
        self,
        config: MaterialConfig,
        mesh: ShadingMesh,
        sequence: HeadSequence,
        device: torch.device | str = "cpu",
        radiance: Float[Tensor, "3 h w"] | None = None,
        initial_opacity: float = 0.1,
        geometry_digest: bytes = b"",
    ) -> None:
        """Bind nothing yet.

        Args:
            config: All settings.
            mesh: On the device.
            sequence: The capture; its ``light_space`` says what the light stands still in.
            device: Where everything lies.
            radiance: What the light starts as, of any size; ``None`` for even light.
            initial_opacity: Of Gaussians that are not covered at rest.
            geometry_digest: Of the mesh's file, so that checkpoints find the same one again; empty
                without a file.
        """
        self.config = config
        self._initial_opacity = initial_opacity
        rows = config.map_rows
        self.frames = MeshFrames(mesh, TexelGrid.build(rows, 2 * rows, device=device))
        background = torch.tensor(sequence.background, device=device)
        self._background = background[None, :, None, None]
        self._sequence = sequence
        self._track = sequence.pose.to(device)
        if radiance is None:
            radiance = torch.full((3, rows, 2 * rows), config.initial_light)
        light = resize_envmap(radiance[None].to(device), rows, 2 * rows)[0]
        self.light = Parameter(radiance_to_raw(light))
        # On the device, so that captured graphs see shadows grow.
        self._strength = torch.ones((), device=device)
        self._geometry_digest = torch.tensor(list(geometry_digest), dtype=torch.uint8).to(device)
        self._traced: TracedTrack | None = None
        self._known: _Bound | None = None

    def with_map_rows(self, rows: int) -> MaterialAppearance:
        """The materials of a finished avatar, lit by maps of another size; its light is resized.

        Raises:
            ValueError: If there are no rows.
        """
        other = copy.copy(self)
        other.config = replace(self.config, map_rows=rows)
        grid = TexelGrid.build(rows, 2 * rows, device=self.light.device)
        other.frames = self.frames.with_grid(grid)
        light = resize_envmap(self.radiance.detach()[None], rows, 2 * rows)[0]
        other.light = Parameter(radiance_to_raw(light))
        other._traced = None
        return other

    def with_occluder_faces(self, max_faces: int) -> MaterialAppearance:
        """The materials of a finished avatar, in shadows of a decimated mesh.

        Raises:
            ValueError: If ``max_faces`` is not positive, or the avatar casts no shadows.
        """
        if self.config.visibility == "none":
            raise ValueError("occluder faces are of avatars that cast shadows, this one has none")
        other, bound = copy.copy(self), self._bound
        other.frames = self.frames.with_occluder_faces(max_faces)
        coarse = other.frames.bind(bound.means.detach(), bound.is_inside)
        probes = coarse.probes(self.mesh.rest_vertices)
        other._known = replace(bound, probes=probes, coarse=coarse)
        other._traced = None
        return other

    @property
    def mesh(self) -> ShadingMesh:
        """What Gaussians are bound to."""
        return self.frames.mesh

    @property
    def light_space(self) -> LightSpace:
        """What the light stands still in."""
        return self._sequence.light_space

    @property
    def radiance(self) -> Float[Tensor, "3 h w"]:
        """The light as it is now."""
        return raw_to_radiance(self.light)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """What Gaussians are part of: places in ``SEMANTIC_GROUPS``, by the nearest mesh face."""
        return self._labels_of(self._bound.binding.face_index)

    @property
    def _bound(self) -> _Bound:
        assert self._known is not None, "gaussians_changed comes before shade"
        return self._known

    # ---- what the model asks for -----------------------------------------------------------

    def initial(self, start: StartPoints, generator: torch.Generator) -> dict[str, Tensor]:
        """Stored materials, as the mesh says, of points that lie on it."""
        mesh = self.mesh
        points = start.points.to(self.light)
        is_face = (start.part == FACE).to(points.device)
        means = torch.where(is_face[:, None], mesh.carried(points), points)
        found = self.frames.bind(means)
        surface = SurfacePoints(means, found.face_index, found.barycentrics)
        stored = initial_materials(
            surface, mesh.faces, mesh.albedo, mesh.labels, self.config.min_roughness
        )
        # What a closed mouth hides is dark; it must not shine through the lips.
        is_hidden = self.frames.is_covered[found.corners].all(dim=1)
        opacities = torch.where(is_hidden, _HIDDEN_OPACITY, self._initial_opacity)
        return {"means": means, "opacity_logits": opacities.logit(), **stored}

    def constants(self, neutral: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Which Gaussians belong to the inside of the mouth.

        Skin sinks by millimetres while it is trained; lips are no thicker. It would otherwise be
        bound to what lies behind them, where no light arrives and normals point the other way.
        """
        return {"is_inside": self.frames.is_bound_inside(self.frames.bind(neutral["means"]))}

    def parameters(self) -> dict[str, Parameter]:
        """The light, before its activation."""
        return {"light": self.light}

    def rates(self, step: int) -> dict[str, float]:
        """See ``Appearance.rates``."""
        rates = self.config.rates
        decay = rates.decay_steps
        neutral = {
            "albedo": exponential_decay(step, rates.albedo_init, rates.albedo_final, decay),
            "roughness": rates.roughness,
            "specular": rates.specular,
        }
        deltas = {f"{name}_deltas": rates.delta_factor * rate for name, rate in neutral.items()}
        light = exponential_decay(step, rates.light_init, rates.light_final, decay)
        is_trained = self.config.is_light_trained(step)
        return neutral | deltas | {"light": light if is_trained else 0.0}

    def start_step(self, step: int) -> None:
        """Give shadows their strength at a training step."""
        self._strength.fill_(visibility_ramp(step, self.config.shadow_ramp))

    def phase(self, step: int) -> Hashable:
        """Whether Gaussians shine, and whether the light is trained."""
        return self.config.has_specular(step), self.config.is_light_trained(step)

    def looks_anew_at(self, step: int) -> bool:
        """Whether ``gaussians_changed`` is due though their number has not changed."""
        return step % self.config.rebind_interval == 0

    def gaussians_changed(
        self, gaussians: Mapping[str, Tensor], constants: Mapping[str, Tensor]
    ) -> None:
        """Find the nearest points of the mesh, and neighbours for the priors."""
        means, is_inside = gaussians["means"], constants["is_inside"]
        binding = self.frames.bind(means.detach(), is_inside)
        pairs = labelled_neighbors(means, self._labels_of(binding.face_index))
        self._bind(means, is_inside, binding, pairs)

    def _bind(
        self, means: Tensor, is_inside: Tensor, binding: MeshBinding, pairs: Int[Tensor, "pairs 2"]
    ) -> None:
        priors = MaterialPriors.of(self._labels_of(binding.face_index), pairs)
        probes = binding.probes(self.mesh.rest_vertices)
        self._known = _Bound(means, is_inside, binding, probes, priors)

    def _labels_of(self, face_index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        return face_labels(self.mesh.labels, self.mesh.faces)[face_index]

    def shade(
        self, blended: Mapping[str, Tensor], posed: PosedGaussians, view: View
    ) -> ShadedGaussians:
        """Light the Gaussians as in the capture."""
        turns = light_to_world(view.camera, self.light_space)
        is_trained = self.config.is_light_trained(view.step)
        radiance = self.radiance if is_trained else self.radiance.detach()
        mesh = self.posed_mesh(view, turns)
        return self.relight(blended, posed, view, mesh, Light(radiance, turns))

    def relight(
        self,
        blended: Mapping[str, Tensor],
        posed: PosedGaussians,
        view: View,
        mesh: PosedMesh,
        light: Light,
        layers: Collection[LayerName] = (),
    ) -> ShadedGaussians:
        """Light the Gaussians by any map.

        Args:
            blended: Stored materials of every frame among its attributes.
            posed: The same Gaussians in the world.
            view: Of the frames.
            mesh: Of the frames, traced for the turns of the light.
            light: Of the frames.
            layers: What to tell beside the diffuse light, which terms of the loss look at.
        """
        is_finished = view.step is None
        binding = self._bound.binding
        if self.config.binding_gradients:
            binding = binding.following(self._bound.means, self.mesh.rest_vertices)
        materials = activate_materials(
            blended["albedo"], blended["roughness"], blended["specular"], self.config.min_roughness
        )
        visibility = None
        if mesh.words is not None:
            visibility = Visibility(
                mesh.words, None if is_finished else self._strength, self._bound.coarse
            )
        lights = self.frames.grid.lights(light.radiance, light.turns)
        shading, normals = shade_gaussians(
            posed.means,
            camera_centers(view.camera),
            binding,
            mesh.normals,
            materials,
            lights,
            visibility,
            has_specular=self.config.has_specular(view.step),
        )
        colors = shading.color
        if self.config.tonemap == "gaussian":
            colors = encode_radiance(colors, keeps_gradients=not is_finished)

        def seen() -> Float[Tensor, "b n 1"]:
            whole = None if visibility is None else replace(visibility, strength=None)
            shadows = None if whole is None else whole.shadows(binding)
            return share_of_light(normals, self.frames.grid.even_light(lights), shadows)

        found = make_layers({"diffuse", *layers}, materials, shading, normals, seen)
        return ShadedGaussians(colors, found)

    def picture(
        self, drawn: Float[Tensor, "b 3 h w"], alpha: Float[Tensor, "b 1 h w"], view: View
    ) -> Float[Tensor, "b 3 h w"]:
        """Encode radiance and put it before the capture's background."""
        keeps_gradients = view.step is not None
        tonemap = self.config.tonemap
        return put_over_color(
            drawn, alpha, self._background, tonemap, keeps_gradients=keeps_gradients
        )

    def terms(
        self, gaussians: Mapping[str, Tensor], shaded: ShadedGaussians, view: View
    ) -> dict[str, Tensor]:
        """Priors of materials, and of the light while it is trained."""
        weights, diffuse = self.config.weights, shaded.layers["diffuse"]
        terms = material_terms(
            weights, gaussians, diffuse, self._bound.priors, self.config.min_roughness
        )
        if not self.config.is_light_trained(view.step):
            return terms
        radiance = self.radiance
        if weights.light_variation > 0:
            terms["light_variation"] = weights.light_variation * light_variation(radiance)
        if weights.light_energy > 0:
            energy = light_energy(radiance, self.frames.grid.solid_angles)
            terms["light_energy"] = weights.light_energy * energy
        return terms

    def splat_colors(
        self, blended: Mapping[str, Tensor], posed: PosedGaussians, pose: HeadPose
    ) -> Float[Tensor, "b n 1 3"]:
        """Display values in the trained light as the first training camera sees them."""
        camera = self._sequence.split("train")[0].camera.to(self.light.device)
        colors = self.shade(blended, posed, View(pose, camera)).colors
        colors = to_display(colors, self.config.tonemap)
        return ((colors - 0.5) / _CONSTANT_HARMONIC)[:, :, None]

    def tensors(self) -> dict[str, Tensor]:
        """The light, and what was found at the last look at the Gaussians."""
        bound = self._bound
        return {
            "light": self.light.detach(),
            "bound_faces": bound.binding.face_index,
            "barycentrics": bound.binding.barycentrics,
            "geometry_digest": self._geometry_digest,
            "neighbors": bound.priors.pairs,
        }

    def check(self, tensors: Mapping[str, Tensor], num_gaussians: int) -> None:
        """Raise unless ``load`` can restore what so many Gaussians came with.

        Raises:
            ValueError: If the tensors were trained with another geometry file, or have another
                shape or type, or name faces or Gaussians that do not exist.
        """
        digest, own_digest = tensors["geometry_digest"], self._geometry_digest
        if digest.dtype != own_digest.dtype or not torch.equal(digest, own_digest):
            name = self.config.geometry or "the head model's own mesh"
            raise ValueError(f"{name}: must be the geometry that the checkpoint was trained with")
        binding, pairs = self._bound.binding, self._bound.priors.pairs
        fixed = {
            "light": self.light,
            "bound_faces": binding.face_index.new_empty(num_gaussians),
            "barycentrics": binding.barycentrics.new_empty(num_gaussians, 3),
        }
        check_saved_tensors(tensors, {"neighbors": pairs}, fixed)
        check_saved_indices("bound_faces", tensors["bound_faces"], len(self.mesh.faces))
        check_saved_indices("neighbors", tensors["neighbors"], num_gaussians)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore ``tensors``, which were checked."""
        with torch.no_grad():
            self.light.copy_(tensors["light"])
        rows = tensors["bound_faces"]
        binding = MeshBinding(rows, self.mesh.faces[rows], tensors["barycentrics"])
        self._bind(self._bound.means, self._bound.is_inside, binding, tensors["neighbors"])

    # ---- meshes ----------------------------------------------------------------------------

    def posed_mesh(self, view: View, turns: Float[Tensor, "b 3 3"]) -> PosedMesh:
        """Which way the mesh faces, and which texels it sees.

        Args:
            view: Of the frames.
            turns: Rotations from the map's frame into the world; those of the capture where
                ``view`` names its timesteps.
        """
        mode = self.config.visibility
        if mode == "none":
            return PosedMesh(self.frames.normals(view.pose), None)
        if mode == "live" or view.timesteps is None:
            return self.frames.traced(view.pose, turns, self._bound.probes)
        if self._traced is None:
            self._traced = self._trace_capture()
        return PosedMesh(self.frames.normals(view.pose), self._traced.at(view.timesteps))

    def _trace_capture(self) -> TracedTrack:
        turns = light_turns_by_timestep(self._sequence, self.light_space)
        return TracedTrack.trace(self.frames, self._track, turns, self.config.visibility_file)
